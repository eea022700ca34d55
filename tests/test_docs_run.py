"""Every command and every block of Python of README and docs runs, page by page, on a small teacher."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from docs_runner import ROOT, Server, pieces, run_page, run_shell, script
from run_helpers import save_random_bert, write_corpus

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
TEACHERS = ("my-model", "my-bert", "my-bert-sst2", "google-bert/bert-base-uncased")
"""Folders that pages name as teachers, or ids that a folder stands in for."""
WORDS = ("red", "green", "blue", "old", "new", "small", "large", "quick")


def write_tasks(folder):
    """Small tasks by the names that the pages use: pairs with scores, pairs, texts and words with classes."""
    rows = {
        "stsb": [
            ("text_a", "text_b", "label"),
            *((f"a {a} house", f"a {b} house", 5.0 * (a == b)) for a, b in _pairs()),
        ],
        "mrpc": [("text_a", "text_b", "label"), *((f"a {a} house", f"a {b} house", int(a == b)) for a, b in _pairs())],
        "sst2": [("text_a", "label"), *((f"a {a} {b} film", int(a < b)) for a, b in _pairs())],
        "wnut17_ner": [("tokens", "tags"), *((f"in {a} {b} town", "O B-location I-location O") for a, b in _pairs())],
    }
    for task, lines in rows.items():
        (folder / "glue" / task).mkdir(parents=True)
        text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
        for split in ("train", "dev", "test"):
            (folder / "glue" / task / f"{split}.tsv").write_text(text)
    write_collection(folder / "scifact")
    asked = [(f"where is the {a} {b} house?", f"the {a} {b} house is near") for a, b in _pairs()]
    (folder / "questions.tsv").write_text("".join(f"{question}\t{passage}\n" for question, passage in asked))


def write_collection(folder):
    """A small collection to search: each query is about the document of its number."""
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        records = [{"_id": str(number), "text": f"the {word} house"} for number, word in enumerate(WORDS)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    judgments = [f"{number}\t{number}\t1" for number in range(len(WORDS))]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judgments]) + "\n")


def _pairs():
    return [(a, b) for a in WORDS for b in WORDS]


def write_teacher(folder, tokenizer_dir):
    """A small random BERT that is a sentence-transformers folder."""
    save_random_bert(folder, tokenizer_dir)
    (folder / "1_Pooling").mkdir()
    options = json.loads((tokenizer_dir / "1_Pooling" / "config.json").read_text())
    size = "word_embedding_dimension" if "word_embedding_dimension" in options else "embedding_dimension"
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({**options, size: 64}))
    shutil.copyfile(tokenizer_dir / "modules.json", folder / "modules.json")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """What runs the commands."""
    made = Server(tmp_path_factory.mktemp("server") / "log")
    yield made
    made.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory, quickstart_teacher_dir, server):
    """What a reader of a later page has: a teacher, texts, tasks, a searched run and students."""
    folder = tmp_path_factory.mktemp("docs")
    for name in TEACHERS:
        write_teacher(folder / name, quickstart_teacher_dir)
    write_corpus(folder / "texts.txt")
    (folder / "texts").mkdir()
    os.replace(folder / "texts.txt", folder / "texts" / "corpus.txt")
    write_tasks(folder / "tasks")
    code = """
autodistil search --budget 500MFLOPs --run runs/mine
autodistil export --run runs/mine --to my-student
autodistil export --run runs/mine --pick half --to another
"""
    status, output = run_shell(code, folder, server)
    assert status == 0, output
    for name in ("a", "b"):
        shutil.copytree(folder / "runs" / "mine", folder / "runs" / name)
    return folder


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_runs(page, place, tmp_path, server):
    wanted = [piece for piece in pieces(page) if piece.why_not is None]
    if not wanted:
        pytest.skip("the page shows nothing to run")
    folder = shutil.copytree(place, tmp_path / "here")
    if "--to my-student" in page.read_text(encoding="utf-8"):
        shutil.rmtree(folder / "my-student")
    if "--run runs/mine --train" in page.read_text(encoding="utf-8") or "--run runs/mine\n" in wanted[0].text:
        shutil.rmtree(folder / "runs" / "mine")
    assert run_page(page, folder, server) == len(wanted)


def test_what_is_not_run_says_why():
    left_out = [(page.name, piece) for page in PAGES for piece in pieces(page) if piece.why_not is not None]
    assert all(len(piece.why_not) > 10 for _, piece in left_out)
    blocks = [piece.text for _, piece in left_out if re.search("^autodistil ", piece.text, re.MULTILINE)]
    outside = ("runs/bert-base", "--gpus-per-worker", "--address", "postgresql", "ray:", "my-vit", "digits/", "smollm2")
    outside += ("minilm-l6-h384-quantised --budget 6MB", "--task squad")
    assert [text for text in blocks if not any(word in text for word in outside)] == []


def test_the_runner_shortens_and_keeps_what_counts():
    line = "autodistil search --teacher my-bert --corpus texts/ --budget 5GFLOPs --train-minutes 120 --run runs/mine"
    found = script(line).splitlines()[-1].split()
    assert found[:8] == "autodistil search --teacher my-bert --corpus texts/ --budget 5GFLOPs".split()  # noqa: SIM905
    assert "--train-minutes" not in found
    assert found[found.index("--train-steps") + 1] == "2"
    assert found.count("--teacher") == 1
    assert Path(sys.executable).name in script("")
