"""Stored vectors: codes are sentence-transformers', scores those of its rescoring, and `evaluate` has a row each."""

import json
import shutil
from dataclasses import replace
from itertools import product
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from run_helpers import one_line
from scipy.stats import spearmanr
from sentence_transformers import quantize_embeddings

from autodistil import cli
from autodistil.errors import ConfigError, TaskError
from autodistil.evaluation.embedding import PooledEncoder, embed_texts, folder_encoder
from autodistil.evaluation.evaluate import METHODS, evaluate
from autodistil.evaluation.ranking import retrieval_scores
from autodistil.evaluation.vector_codes import VECTOR_CODES, ranges_of, stored
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.pooling import vector_bytes
from autodistil.tasks.catalogue import load_task
from autodistil.tasks.collection import Collection
from autodistil.tasks.finetune import EvaluationSettings
from autodistil.utils import Progress

WAYS = ("float32", "int8", "binary")
EMBEDDINGS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=40),
    elements=st.integers(-4096, 4096).map(lambda number: number / 1024),  # no steps of next to nothing
)


@given(EMBEDDINGS, EMBEDDINGS)
def test_codes_are_those_of_sentence_transformers(embeddings, calibration):
    ranges = ranges_of(embeddings)
    for name, code in VECTOR_CODES.items():
        np.testing.assert_array_equal(code.encode(embeddings, ranges), quantize_embeddings(embeddings, name))
    bits = VECTOR_CODES["binary"].encode(embeddings, ranges).view(np.uint8) ^ 0x80
    np.testing.assert_array_equal(bits, quantize_embeddings(embeddings, "ubinary"))
    dim = min(embeddings.shape[1], calibration.shape[1])
    codes = VECTOR_CODES["int8"].encode(embeddings[:, :dim], ranges_of(calibration[:, :dim]))
    theirs = quantize_embeddings(embeddings[:, :dim], "int8", calibration_embeddings=calibration[:, :dim])
    np.testing.assert_array_equal(codes, theirs)


@pytest.mark.parametrize("name", VECTOR_CODES)
@given(embeddings=EMBEDDINGS)
def test_a_code_takes_the_bytes_it_says_and_is_of_its_own_text(name, embeddings):
    code, ranges = VECTOR_CODES[name], ranges_of(embeddings)
    codes = code.encode(embeddings, ranges)
    assert codes[0].nbytes == vector_bytes(embeddings.shape[1], code.bits)
    np.testing.assert_array_equal(code.encode(embeddings[1:], ranges), codes[1:])
    back = code.decode(codes, ranges)
    assert (back.shape, back.dtype) == (embeddings.shape, np.float32)
    np.testing.assert_array_equal(back, stored(embeddings, name))


@given(EMBEDDINGS)
def test_what_comes_back_is_what_the_library_rescores(embeddings):
    np.testing.assert_array_equal(stored(embeddings, "float32"), embeddings)
    least, steps = embeddings.min(0), (embeddings.max(0) - embeddings.min(0)) / 255
    above = quantize_embeddings(embeddings, "int8").astype(np.float64) + 128
    library = above * np.where(steps == 0, 1, steps) + least
    np.testing.assert_allclose(stored(embeddings, "int8"), library, atol=1e-5)
    assert (np.abs(embeddings - library) <= steps + 1e-5).all()
    query = embeddings[0]
    bits = np.unpackbits(quantize_embeddings(embeddings, "ubinary"), axis=-1)[:, : embeddings.shape[1]]
    np.testing.assert_allclose(stored(embeddings, "binary") @ query, 2 * (bits @ query) - query.sum(), atol=1e-3)


@pytest.mark.parametrize("reranked", [False, True])
def test_a_float_query_meets_stored_documents(reranked):
    """The second document is nearer to the query, and the signs of the first one are.

    By its own signs, (1, 1), the query would find the first document in both.
    """
    vectors = {"q": (1.0, 0.1), "first": (0.6, 0.8), "second": (1.0, -0.05)}
    candidates = (np.array([0, 1]),) if reranked else None
    data = Collection("pets", ("first", "second"), ("q",), ({1: 1.0},), candidates, "here", "0")

    def encode(texts):
        return 7 * np.array([vectors[text] for text in texts], dtype=np.float32)

    found = {way: retrieval_scores(data, encode, encode, Progress(), way) for way in WAYS}
    name, lost = ("map", 1 / 2) if reranked else ("ndcg@10", 1 / log2(3))
    assert [found[way][name] for way in WAYS] == [[1.0], [1.0], [pytest.approx(lost)]]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Scored pairs, texts of classes, and a collection of as many documents as queries; not to be changed."""
    folder = tmp_path_factory.mktemp("tasks")
    words = ("river", "road", "tree", "house", "sky", "boat", "hill", "cat", "dog", "fire", "rain", "stone")
    texts = [f"the {a} and the {b}" for a, b in product(words, words) if a < b]
    pairs = [f"{text}\t{texts[(7 * i) % 60]}\t{(7 * i) % 5}" for i, text in enumerate(texts)]
    rows = {"stsb": ("text_a\ttext_b\tlabel", pairs), "cr": ("text_a\tlabel", [f"{t}\t{len(t) % 2}" for t in texts])}
    for name, (head, lines) in rows.items():
        (folder / name).mkdir()
        for split in ("train", "dev"):
            (folder / name / f"{split}.tsv").write_text("\n".join([head, *lines]) + "\n")
    pets = folder / "retrieval" / "pets"
    (pets / "qrels").mkdir(parents=True)
    for name, said in (("corpus", "{} by night"), ("queries", "where is {}")):
        lines = [json.dumps({"_id": str(i), "text": said.format(text)}) for i, text in enumerate(texts)]
        (pets / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    judged = [f"{i}\t{i}\t1" for i in range(len(texts))]
    (pets / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n")
    return folder


@pytest.mark.parametrize("index_by", [False, True])
def test_every_cut_has_every_way_by_one_reading(sentence_folder, tasks, tmp_path, monkeypatch, index_by):
    index = str(shutil.copytree(sentence_folder, tmp_path / "another")) if index_by else None
    settings = EvaluationSettings(index_by=index)
    asked = [*product(("stsb", "pets"), (8, 4), WAYS)]
    single = {
        (cut, way, one.task): one
        for cut, way in ((8, "int8"), (4, "binary"))
        for one in evaluate(
            str(sentence_folder), ["stsb", "pets"], tasks, settings=replace(settings, truncate_dim=cut, vectors=way)
        ).results
    }
    read = []
    real = PooledEncoder.__call__
    monkeypatch.setattr(PooledEncoder, "__call__", lambda self, texts: read.append(texts) or real(self, texts))
    found = evaluate(str(sentence_folder), ["stsb", "pets"], tasks, settings=settings, cuts=(8, 4), vectors=WAYS)
    assert found.path is None
    assert len(read) == len({(index_by and "by night" in of[0], *of) for of in read}) + index_by
    assert len({one.metrics["ndcg@10"] for one in found.results[6:]}) > 4
    for one, (task, cut, way) in zip(found.results, asked, strict=True):
        assert (one.task, one.dimensions, one.settings["truncate_dim"], one.vectors) == (task, cut, cut, way)
        assert one.to_dict()["vector_bytes"] == {"float32": 4 * cut, "int8": cut, "binary": 1}[way]
        alone = single.get((cut, way, task), one)
        assert {**one.metrics} == {name: pytest.approx(values, abs=1e-6) for name, values in alone.metrics.items()}
        assert (one.settings, one.details) == (alone.settings, alone.details)


def test_float32_is_what_there_is_without_the_option(sentence_folder, tasks):
    plain = evaluate(str(sentence_folder), ["stsb", "pets"], tasks).results
    stored_whole = evaluate(str(sentence_folder), ["stsb", "pets"], tasks, vectors=["float32"]).results
    for whole, one in zip(plain, stored_whole, strict=True):
        assert one.metrics == whole.metrics
        assert one.to_dict()["vector_bytes"] == 4 * one.details["dimensions"]
        assert "vector_bytes" not in whole.to_dict()
        assert "vectors" not in whole.settings


def test_pairs_of_bits_are_as_near_as_many_are_the_same(tasks):
    (result,) = evaluate("all-MiniLM-L6-v2", ["stsb"], tasks, vectors=["binary"]).results
    split = load_task("stsb", tasks, ("dev",)).evaluated
    encode = folder_encoder(EvaluatedModel.open("all-MiniLM-L6-v2"))
    bits = [quantize_embeddings(of, "ubinary") for of in embed_texts(split, encode)]
    same = -np.unpackbits(bits[0] ^ bits[1], axis=-1).sum(1, dtype=int)
    assert result.metrics["spearman"] == (pytest.approx(spearmanr(same, split.labels).statistic, abs=1e-6),)


def run(*arguments):
    """Exit status of a command line in this process."""
    with pytest.raises(SystemExit) as caught:
        cli.main([*map(str, arguments)])
    return caught.value.code


def test_the_trade_is_a_row_a_way(sentence_folder, tasks, capsys):
    command = ["evaluate", sentence_folder, "--task", "pets", "--data", tasks, "--threads", 1]
    more = ["--truncate-dim", "16,8", "--beside", sentence_folder]
    assert run(*command, "--vectors", "float32, int8,binary", *more) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "pets" in line and "ndcg" in line]
    cells = [[cell.strip() for cell in row.split("│")][5:8] for row in rows]
    wanted = [("16", "float32", "64"), ("16", "int8", "16"), ("16", "binary", "2")]
    wanted += [("8", "float32", "32"), ("8", "int8", "8"), ("8", "binary", "1")]
    assert cells == [[*row] for row in wanted for _ in range(2)]
    assert run(*command, "--json", "--vectors", "binary") == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["settings"]["vectors"] == "binary"
    assert result["vector_bytes"] == result["details"]["dimensions"] / 8


@pytest.mark.parametrize("vectors", ["int5", "int8,int8", "", "INT8"])
def test_unknown_ways_are_one_line(vectors, sentence_folder, tasks, capsys):
    assert run("evaluate", sentence_folder, "--task", "pets", "--data", tasks, "--vectors", vectors) == 2
    assert "allowed: float32, int8, binary, each once" in one_line(capsys)


def test_where_nothing_is_stored_it_is_refused(sentence_folder, tasks, tmp_path):
    for method in sorted(METHODS.keys() - {"retrieval", "rerank", "similarity"}):
        task = "stsb" if method == "finetune" else "cr"
        with pytest.raises(ConfigError, match=f"vectors = int8: method '{method}' .* allowed: retrieval, rerank"):
            evaluate(str(sentence_folder), [task], tasks, method, vectors=["int8"])
    with pytest.raises(ConfigError, match="leave out --write"):
        evaluate(str(sentence_folder), ["pets"], tasks, vectors=["int8"], write=True)


def test_an_index_of_another_width_is_refused_as_it_is_without(sentence_folder, tasks):
    settings = EvaluationSettings(index_by="all-MiniLM-L6-v2")
    for vectors in ((), ("int8",)):
        with pytest.raises(TaskError, match="dimensions, documents by 'all-MiniLM-L6-v2' 384"):
            evaluate(str(sentence_folder), ["pets"], tasks, settings=settings, vectors=vectors)
