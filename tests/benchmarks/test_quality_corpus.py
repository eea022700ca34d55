"""The weighted text: the same each time, within its size, in the asked shares, a smaller one inside a larger one."""

import lzma

import pytest
from quality_table.corpus import find_shards, short_texts, weighted_text

from autodistil.errors import CorpusError

WEIGHTS = {"whole": 1.0, "half": 0.5}


@pytest.fixture
def folder(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for source in ("whole", "half", "unnamed"):
        text = "\n\n".join(f"Document {i} of the source {source} says this and that at length." for i in range(400))
        with lzma.open(corpus / f"{source}-000.txt.xz", "wt", encoding="utf-8") as file:
            file.write(text)
    (corpus / "heldout.txt").write_text("not a shard")
    return corpus


def documents(text):
    return text.path.read_text().split("\n\n")[:-1]


def test_shares_follow_the_weights_and_only_named_sources_go_in(folder, tmp_path):
    text = weighted_text(folder, tmp_path / "to", 10, weights=WEIGHTS)
    found = documents(text)
    assert sum("source whole" in document for document in found) == 400
    assert 150 < sum("source half" in document for document in found) < 250
    assert not any("unnamed" in document for document in found)
    assert sum(text.bytes_by_source.values()) == text.path.stat().st_size
    assert text.description.startswith("0.0 MB: whole 6")


def test_a_smaller_text_is_part_of_a_larger_one(folder, tmp_path):
    large = weighted_text(folder, tmp_path / "to", 10, weights=WEIGHTS)
    small = weighted_text(folder, tmp_path / "to", 0.01, weights=WEIGHTS)
    assert small.path.stat().st_size <= 10_000 < large.path.stat().st_size
    assert set(documents(small)) < set(documents(large))
    shares = [text.bytes_by_source["half"] / text.path.stat().st_size for text in (small, large)]
    assert shares[0] == pytest.approx(shares[1], abs=0.15), "every source is thinned out alike"


def test_it_is_made_once_and_depends_on_the_text_and_the_seed_alone(folder, tmp_path, monkeypatch):
    first = weighted_text(folder, tmp_path / "to", 10, weights=WEIGHTS)
    again = weighted_text(folder, tmp_path / "elsewhere", 10, weights=WEIGHTS)
    assert first.content == again.content
    assert weighted_text(folder, tmp_path / "to", 10, seed=1, weights=WEIGHTS).content != first.content
    monkeypatch.setattr("quality_table.corpus.candidates", lambda *_: pytest.fail("made again"))
    assert weighted_text(folder, tmp_path / "to", 10, weights=WEIGHTS) == first


def test_a_folder_without_the_sources_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="holds no text of the benchmark; allowed: files <source>"):
        find_shards(tmp_path)


def test_short_texts_are_those_of_training_rows_less_what_is_scored(folder, tmp_path):
    def write(name, split, texts):
        path = tmp_path / "extra" / name / f"{split}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text_a\tlabel\n" + "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(texts)))

    write(
        "subj",
        "train",
        ["A sentence about a river", "a SENTENCE about a river", "short", "x" * 400, "Scored in a test"],
    )
    write("mpqa", "train", ["a sentence about a river", "Another one about a road"])
    write("mpqa", "dev", ["A text of a dev split, not to be read"])
    write("scored", "test", ["scored in a test", "whatever else there is"])
    found = short_texts(tmp_path, ["scored"])
    assert sorted(text.lower() for text in found) == ["a sentence about a river", "another one about a road"]
    plain = weighted_text(folder, tmp_path / "to", 10, weights=WEIGHTS)
    mixed = weighted_text(folder, tmp_path / "to", 10, weights=WEIGHTS, short=found)
    assert set(found) < set(documents(mixed))
    assert 60 < sum("source whole" in document for document in documents(mixed)) < 140
    assert set(documents(mixed)) - set(found) < set(documents(plain))
    assert weighted_text(folder, tmp_path / "to", 10, weights=WEIGHTS).content == plain.content
