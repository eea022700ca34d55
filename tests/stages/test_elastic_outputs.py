"""Students whose outputs may be cut and who may be left early: what a run trains, who reads them so, wrong input."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from run_helpers import run_options
from transformers import AutoModel

from autodistil import cli, pipeline
from autodistil.errors import ConfigError, TaskError, TeacherError
from autodistil.evaluation.embedding import PooledEncoder, folder_encoder
from autodistil.evaluation.evaluate import evaluate
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.run.run import Run
from autodistil.tasks.finetune import EvaluationSettings

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16, 32], head_size: 16, mlp_ratio: [2.0]}
"""
TEXTS = [f"the river {i} runs" for i in range(6)]


def options_of(folder, teacher):
    more = {"teacher": str(teacher), "train_steps": 4, "matryoshka": "8,16", "exits": True}
    return run_options(folder, teacher, SPACE, **more)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, sentence_folder):
    """A student of a run with both options; not to be changed."""
    folder = tmp_path_factory.mktemp("elastic")
    run = Run.open(folder / "run", options_of(folder, sentence_folder))
    assert run.inputs.objective.name == "relation-kl+20*embedding-cosine+matryoshka+20*exits"
    assert run.inputs.objective.options.cuts == (16, 8)
    pipeline.train(run)
    result = pipeline.search(run, ["1GFLOPs"])
    assert result.teacher.loss > 0, "its early layers are no embeddings of the last one's"
    return pipeline.export(run, "best", folder / "student")[1].path


@pytest.fixture
def student(exported, tmp_path):
    """A copy of it."""
    return shutil.copytree(exported, tmp_path / "student")


def encoder(folder, **options):
    return folder_encoder(EvaluatedModel.open(str(folder)), **options)


def test_all_who_read_embeddings_cut_them_alike(student):
    from sentence_transformers import SentenceTransformer

    card = (student / "README.md").read_text()
    assert "to 16, 8 dimensions (64, 32 bytes a vector of float32)" in card
    dim = encoder(student)(TEXTS).shape[1]
    assert f"embeddings: {dim} dimensions, {4 * dim} bytes a vector of float32" in card
    library = SentenceTransformer(str(student), device="cpu", truncate_dim=8).encode(TEXTS)
    np.testing.assert_allclose(encoder(student, truncate_dim=8)(TEXTS), library, atol=1e-5)
    np.testing.assert_allclose(encoder(student)(TEXTS)[:, :8], library, atol=1e-5)
    config = student / "config_sentence_transformers.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "truncate_dim": 8}))
    np.testing.assert_allclose(encoder(student)(TEXTS), library, atol=1e-5)
    np.testing.assert_allclose(SentenceTransformer(str(student), device="cpu").encode(TEXTS), library, atol=1e-5)
    with pytest.raises(TaskError, match="truncate_dim = 99999: embeddings have"):
        encoder(student, truncate_dim=99_999)(TEXTS)
    config.write_text(json.dumps({"truncate_dim": "many"}))
    with pytest.raises(TeacherError, match="is no number above 0"):
        encoder(student)


def test_a_student_left_early_is_the_plain_model_of_that_depth(student, tmp_path):
    early, whole = encoder(student, exit_layer=1)(TEXTS), encoder(student)(TEXTS)
    np.testing.assert_allclose(encoder(student, exit_layer=2)(TEXTS), whole, atol=1e-6)
    assert np.abs(early - whole).max() > 1e-3
    cut = shutil.copytree(student, tmp_path / "cut")
    AutoModel.from_pretrained(student, num_hidden_layers=1).save_pretrained(cut)
    np.testing.assert_allclose(encoder(cut)(TEXTS), early, atol=1e-5)
    modules = json.loads((cut / "modules.json").read_text())
    (cut / "modules.json").write_text(json.dumps([*modules, {**modules[-1], "type": "elsewhere.Special"}]))
    with pytest.raises(ConfigError, match="not for a pipeline that sentence-transformers runs"):
        encoder(cut, exit_layer=1)
    with pytest.raises(ConfigError, match=r"exit_layer = 3 of model .* is not there; allowed: 1 to 2"):
        encoder(student, exit_layer=3)


def test_wrong_input_is_one_line(sentence_folder, tmp_path):
    options = options_of(tmp_path, sentence_folder)
    inputs = Run.open(tmp_path / "run", options).inputs
    teacher = inputs.teacher
    inputs.__dict__["teacher"] = replace(teacher, family=replace(teacher.family, norms_first=True))
    with pytest.raises(ConfigError, match=r"'exits' needs layers that end in a norm, .* those of bert teachers begin"):
        _ = inputs.objective
    with pytest.raises(ConfigError, match="each once"):
        _ = Run.open(tmp_path / "other", {**options, "matryoshka": "8,8"}).inputs.objective


@pytest.fixture
def tasks(tmp_path):
    """Scored pairs, and a collection that answers each query with the document of its number."""
    folder, pets = tmp_path / "glue" / "stsb", tmp_path / "retrieval" / "pets"
    folder.mkdir(parents=True)
    rows = [f"a {a} house\tthe {a * 2} house\t{(7 * i) % 5}" for i, a in enumerate("redbluesky")]
    for split in ("train", "dev"):
        (folder / f"{split}.tsv").write_text("text_a\ttext_b\tlabel\n" + "\n".join(rows) + "\n")
    (pets / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        texts = ({"_id": str(i), "text": f"{name} of {word}"} for i, word in enumerate(("cats", "dogs", "birds")))
        (pets / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    judged = "".join(f"{i}\t{i}\t1\n" for i in range(3))
    (pets / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return tmp_path


@pytest.mark.parametrize("index_by", [False, True])
def test_several_cuts_are_the_single_ones_by_one_reading(student, sentence_folder, tasks, monkeypatch, index_by):
    index = str(shutil.copytree(sentence_folder, tasks / "another")) if index_by else None
    dims = encoder(student)(TEXTS).shape[1]
    settings = EvaluationSettings(index_by=index)
    cuts = [min(dims, 12), 8, 4]
    single = [
        evaluate(str(student), [task], tasks, settings=replace(settings, truncate_dim=cut)).results[0]
        for task in ("stsb", "pets")
        for cut in cuts
    ]
    read = []
    real = PooledEncoder.__call__
    monkeypatch.setattr(PooledEncoder, "__call__", lambda self, texts: read.append(texts) or real(self, texts))
    found = evaluate(str(student), ["stsb", "pets"], tasks, settings=settings, cuts=cuts)
    assert found.path is None
    assert len(read) == 3 + 2 * index_by, "pairs, documents, queries, and of two models a text to compare their widths"
    for one, alone, cut in zip(found.results, single, [*cuts, *cuts], strict=True):
        for metric, values in alone.metrics.items():
            np.testing.assert_allclose(one.metrics[metric], values, atol=1e-6)
        assert one.settings == alone.settings
        assert one.settings["truncate_dim"] == cut
        assert one.to_dict()["vector_bytes"] == 4 * cut


def run(*arguments):
    """Exit status of a command line in this process."""
    with pytest.raises(SystemExit) as caught:
        cli.main([*map(str, arguments)])
    return caught.value.code


def test_the_trade_is_a_row_a_cut(student, tasks, capsys):
    arguments = ["evaluate", student, "--task", "stsb", "--data", tasks, "--threads", "1"]
    assert run(*arguments, "--truncate-dim", "4,8", "--beside", student) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "stsb" in line and "spearman" in line]
    assert [[cell.strip() for cell in row.split("│")][5:7] for row in rows] == [["8", "32"]] * 2 + [["4", "16"]] * 2
    assert run(*arguments, "--no-write") == 0
    assert "bytes a vector" not in capsys.readouterr().out
    assert run(*arguments, "--truncate-dim", "8,none") == 2
    assert "truncate_dim = '8,none': dimensions are whole numbers from 1" in capsys.readouterr().err


def test_figures_of_cut_embeddings_are_not_kept(sentence_folder, tasks, tmp_path):
    settings = EvaluationSettings(truncate_dim=4)
    found = evaluate(str(sentence_folder), ["stsb"], tmp_path, settings=settings)
    assert found.path is None
    assert found.results[0].settings["truncate_dim"] == 4
    assert found.results[0].metrics != evaluate(str(sentence_folder), ["stsb"], tmp_path).results[0].metrics
    with pytest.raises(ConfigError, match="leave out --write"):
        evaluate(str(sentence_folder), ["stsb"], tmp_path, settings=settings, write=True)
    with pytest.raises(ConfigError, match="truncate_dim is of embeddings, which finetune makes none of"):
        evaluate(str(sentence_folder), ["stsb"], tmp_path, method="finetune", settings=settings)
