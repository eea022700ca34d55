"""The command: its options, and the whole table of a tiny teacher, killed and taken up again."""

import json
import shutil

import numpy as np
import pytest
import torch
from quality import arguments as parser
from quality import main, settings_of
from quality_table.bench import Bench, with_fewer_scored
from quality_table.cells import cells
from quality_table.rows import KINDS
from quality_table.settings import FINETUNED, PROBES, SIMILARITY
from transformers import AutoTokenizer, BertConfig, BertModel

from autodistil.errors import ConfigError, TaskError
from autodistil.tasks.catalogue import load_task

SPACE = """
sub_spaces:
  narrow: {num_layers: [2, 3], hidden_size: [16, 32], head_size: 16, mlp_ratio: [2.0, 4.0]}
  wide: {num_layers: [2, 4], hidden_size: [32, 64], head_size: 16, mlp_ratio: [2.0, 4.0]}
"""
SENTENCE = "The river {} runs along the old wall of town number {} and the people cross the bridge every morning."


def settings(*options):
    return settings_of(parser().parse_args(list(options)))


def test_a_quick_look_needs_no_data_and_keeps_real_tables():
    quick = settings()
    assert quick.tasks == ()
    assert quick.rows == tuple(KINDS)
    assert quick.out.name == "quality-quick"
    assert quick.budgets == (20.0,)


def test_with_data_all_tasks_and_the_recipe_of_the_package(tmp_path):
    whole = settings("--data", str(tmp_path), "--train-minutes", "90", "--set", "batch_size=8")
    assert whole.tasks == (*SIMILARITY, *PROBES, *FINETUNED)
    assert whole.collections == ("med", "cacm", "stackfaq", "wikiqa")
    assert whole.training == {"train_minutes": 90.0, "batch_size": 8}
    assert whole.out.name == "quality"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "pick,hand-maid"], "did you mean 'hand-made'"),
        (["--budgets", "60,140"], "above 0 to 100"),
        (["--budgets", "60,x"], "is no list of numbers"),
        (["--set", "batch_size"], "is no OPTION=VALUE"),
    ],
)
def test_wrong_options_are_one_line(options, message):
    with pytest.raises(ConfigError, match=message):
        settings(*options)


def test_the_key_stands_for_what_decides_the_training(tmp_path):
    def key(*options):
        return Bench(settings("--work", str(tmp_path), *options)).key

    assert key() == key("--threads", "1", "--rows", "pick", "--seeds", "5", "--set", "seed=0")
    assert len({key(), key("--train-steps", "5"), key("--set", "seed=1"), key("--train-minutes", "1")}) == 4


# ---- the whole table of a tiny teacher


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with text, labelled tasks and collections."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("corpus", "glue/stsb", "glue/rte", "extra/cr"):
        (folder / name).mkdir(parents=True)
    for name in ("med", "wikiqa"):
        write_collection(folder / "retrieval" / name, reranked=name == "wikiqa")
    text = "\n\n".join(" ".join(SENTENCE.format(i, 7 * i + j) for j in range(5)) for i in range(600))
    (folder / "corpus" / "brown-000.txt").write_text(text)
    random = np.random.default_rng(0)
    for split in ("train", "dev", "test"):
        pairs = [(SENTENCE.format(i, i), SENTENCE.format(i, 2 * i)) for i in range(12)]
        scores = [f"{a}\t{b}\t{random.uniform(0, 5):.2f}" for a, b in pairs]
        classes = [f"{a}\t{b}\t{('entailment', 'not_entailment')[i % 2]}" for i, (a, b) in enumerate(pairs)]
        singles = [f"{a}\t{i % 2}" for i, (a, _) in enumerate(pairs)]
        for task, lines in (("glue/stsb", scores), ("glue/rte", classes), ("extra/cr", singles)):
            head = "text_a\tlabel" if task == "extra/cr" else "text_a\ttext_b\tlabel"
            (folder / task / f"{split}.tsv").write_text("\n".join([head, *lines]) + "\n")
    return folder


def write_collection(folder, reranked):
    (folder / "qrels").mkdir(parents=True)
    records = [{"_id": str(i), "text": SENTENCE.format(i, i)} for i in range(12)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "queries.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records[:4]))
    (folder / "qrels" / "test.tsv").write_text("q\td\tscore\n" + "".join(f"{i}\t{i}\t1\n" for i in range(4)))
    if reranked:
        pairs = "".join(f"{query}\t{document}\n" for query in range(4) for document in range(12))
        (folder / "candidates.tsv").write_text("q\td\n" + pairs)


def test_each_kind_of_cell_is_scored_without_training_the_encoder(data, tmp_path, quickstart_teacher_dir):
    options = ["--data", str(data), "--tasks", "stsb,stsb-test,cr", "--collections", "med,wikiqa"]
    bench = Bench(settings(*options, "--work", str(tmp_path)))
    bench.key = "tiny"  # no text is read
    found = {cell.name: cell for cell in cells(bench, bench.settings.tasks, bench.settings.collections)}
    assert {name: cell.mean for name, cell in found.items()} == {
        **{"heldout": None, "stsb": None, "stsb-test": "sts_mean"},
        **{"med": "retrieval_mean", "wikiqa": "rerank_mean", "cr": "probe_mean"},
    }
    measured = {name: cell.measure(quickstart_teacher_dir) for name, cell in found.items() if name != "heldout"}
    assert measured["med"]["value"] == measured["wikiqa"]["value"] == 1.0, "each query is its own document"
    metrics = ["spearman", "spearman", "ndcg@10", "map", "accuracy"]
    assert [one["metric"] for one in measured.values()] == metrics
    assert measured["stsb"]["value"] != measured["stsb-test"]["value"], "dev and test are two splits"


def test_a_collection_that_is_not_there_is_one_line(data, tmp_path):
    bench = Bench(settings("--data", str(data), "--tasks", "none", "--collections", "cacm", "--work", str(tmp_path)))
    bench.key = "tiny"
    with pytest.raises(TaskError, match="collection 'cacm' is not in --data"):
        cells(bench, (), bench.settings.collections)


def test_fewer_scored_rows_are_always_the_same(data):
    task = load_task("rte", data)
    part = with_fewer_scored(task, 5)
    assert len(part.evaluated) == 5
    assert part.evaluated.text_a == with_fewer_scored(task, 5).evaluated.text_a
    assert with_fewer_scored(task, 12) is task


@pytest.fixture(scope="module")
def options(tmp_path_factory, data, quickstart_teacher_dir):
    """Options of a table that is made in seconds."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    size = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256}
    BertModel(BertConfig(**size, max_position_embeddings=128)).save_pretrained(folder / "teacher")
    AutoTokenizer.from_pretrained(quickstart_teacher_dir).save_pretrained(folder / "teacher")
    shutil.copyfile(quickstart_teacher_dir / "modules.json", folder / "teacher" / "modules.json")
    shutil.copytree(quickstart_teacher_dir / "1_Pooling", folder / "teacher" / "1_Pooling")
    (folder / "space.yaml").write_text(SPACE)
    given = {"teacher": folder / "teacher", "space": folder / "space.yaml", "batch_size": 2, "seq_len": 16}
    given |= {"heldout_sequences": 4, "checkpoint_seconds": 0.0}
    shape = [f"--set={name}={value}" for name, value in given.items()]
    small = ["--train-steps=3", "--budgets=60,25", "--seeds=2", "--epochs=1", "--learning-rates=1e-3"]
    tasks = [
        "--tasks=stsb,stsb-test,cr,rte",
        "--collections=med,wikiqa",
        "--latency-rounds=2",
        "--max-eval=8",
        "--threads=1",
    ]
    return [*shape, *small, *tasks, f"--data={data}", f"--out={folder / 'out'}", f"--work={folder / 'work'}"]


@pytest.mark.slow
def test_one_row_and_then_the_whole_table(options, data, tmp_path_factory, monkeypatch, capsys):
    monkeypatch.setattr("autodistil.stages.reporting.write_png", lambda *_: None)
    monkeypatch.setattr("quality_table.picture.drawn", lambda figure: b"png")
    out = next(tmp_path_factory.getbasetemp().glob("tiny*")) / "out"
    assert main([*options, "--rows=pick"]) == 0
    rows = {path: path.read_bytes() for path in (out / "rows").iterdir()}
    assert len(rows) == 2

    assert main(options) == 0
    assert {path: path.read_bytes() for path in rows} == rows, "what is done is not done again"
    page = (out / "quality.md").read_text()
    reasons = {path.stem: json.loads(path.read_text())["skipped"] for path in (out / "rows").iterdir()}
    assert {reason for name, reason in reasons.items() if not name.startswith("pick-refined")} <= {
        None,
        "not one layer of full width fits into the budget",
        *(f"{n} students use 80 % to 100 % of the budget" for n in range(3)),
    }
    for kind in set(KINDS) - {"pick-refined"}:
        assert f"| {kind}" in page
    everything = page + "".join(path.read_text() for path in out.rglob("*.json"))
    assert str(data.parent) not in everything, "no path of the machine in what is published"
    assert "**yes**" in page or "**no**" in page
    capsys.readouterr()

    monkeypatch.setattr("quality_table.students.export_student", lambda *_, **__: pytest.fail("made again"))
    monkeypatch.setattr("quality_table.make.measured", lambda *_: pytest.fail("measured again"))
    assert main(options) == 0
