"""Retrieval, reranking and clusters: the metrics beside other counts of them, and what is ranked by what."""

import json
from collections import Counter
from math import log2, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from autodistil.evaluation.evaluate import default_method, evaluate
from autodistil.evaluation.ranking import average_precision, cluster_scores, ndcg, recall, retrieval_scores
from autodistil.models.pooling import read_prompts
from autodistil.tasks.catalogue import load_task
from autodistil.tasks.collection import Collection
from autodistil.utils import Progress

GRADES = st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.0]), min_size=2, max_size=40).filter(any)


def graded(grades):
    return {document: grade for document, grade in enumerate(grades) if grade}


@given(GRADES, st.randoms(use_true_random=False), st.integers(1, 12))
def test_ndcg_is_that_of_scikit_learn(grades, random, depth):
    ranking = random.sample(range(len(grades)), len(grades))
    scores = np.zeros(len(grades))
    scores[ranking] = -np.arange(len(grades))
    assert ndcg(graded(grades), ranking, depth) == pytest.approx(ndcg_score([grades], [scores], k=depth))


@given(GRADES, st.randoms(use_true_random=False))
def test_average_precision_is_that_of_scikit_learn(grades, random):
    ranking = random.sample(range(len(grades)), len(grades))
    scores = np.zeros(len(grades))
    scores[ranking] = -np.arange(len(grades))
    assert average_precision(graded(grades), ranking) == pytest.approx(
        average_precision_score(np.array(grades) > 0, scores)
    )


def test_figures_by_hand():
    grades = {7: 3.0, 2: 1.0, 5: 0.0}
    assert ndcg(grades, [5, 7, 9]) == pytest.approx((3 / log2(3)) / (3 / log2(2) + 1 / log2(3)))
    assert recall(grades, [5, 7, 9], 2) == 0.5
    assert recall(grades, [5, 9, 7], 2) == 0.0


def collection(documents, queries, grades, candidates=None):
    return Collection("pets", tuple(documents), tuple(queries), tuple(grades), candidates, "here", "0")


def letters(texts):
    """Counts of letters as embeddings."""
    return np.array([[Counter(text)[letter] for letter in "abcd"] for text in texts], dtype=np.float32)


def test_documents_are_ranked_by_cosine_and_not_by_length():
    data = collection(["aaaaaaab", "ab", "cd"], ["ab"], [{1: 1.0}])
    assert retrieval_scores(data, letters, letters, Progress()) == {"ndcg@10": [1.0], "recall@100": [1.0]}


def test_only_candidates_are_reranked_and_settled_queries_are_left_out():
    documents = ["ab", "abb", "cd", "d"]
    candidates = (np.array([1, 2]), np.array([0, 1]), np.array([2, 3]))
    data = collection(documents, ["ab", "ab", "c"], [{2: 1.0}, {0: 1.0, 1: 1.0}, {2: 2.0}], candidates)
    assert retrieval_scores(data, letters, letters, Progress()) == {"map": [1 / 2, 1.0]}


def test_the_order_of_the_file_does_not_decide_between_equal_documents():
    """All documents are the same; those named first would win if ties stayed in their order."""
    data = collection(["a"] * 200, ["a"] * 50, [{0: 1.0}] * 50)
    assert np.mean(retrieval_scores(data, letters, letters, Progress())["ndcg@10"]) < 1
    last = collection(["a"] * 200, ["a"] * 50, [{199: 1.0}] * 50)
    assert np.mean(retrieval_scores(last, letters, letters, Progress())["ndcg@10"]) < 1


def test_clusters_of_separate_classes_are_found_and_of_none_are_not(write_task):
    rows = [(text, label) for text, label in (("a", "x"), ("b", "y"), ("c", "z")) for _ in range(20)]
    data = load_task("letters", write_task("letters", test=rows))
    assert cluster_scores(data, letters, seeds=2) == [{"v_measure": pytest.approx(1.0)}] * 2
    assert cluster_scores(data, lambda texts: np.ones((len(texts), 2)))[0]["v_measure"] < 0.1


@pytest.fixture
def pets(tmp_path):
    """A data folder with a collection of three documents."""
    folder = tmp_path / "tasks" / "pets"
    (folder / "qrels").mkdir(parents=True)
    texts = {"cat": "A cat sleeps on the sofa.", "market": "Shares fell on Tuesday.", "trip": "The train to Paris."}
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"_id": k, "text": t}) + "\n" for k, t in texts.items()))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "Where does the cat sleep?"}))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tcat\t1\n")
    return tmp_path / "tasks"


def test_a_collection_is_evaluated_by_its_name(pets):
    (result,), *_ = evaluate("all-MiniLM-L6-v2", ["pets"], pets)
    assert result.metrics == {"ndcg@10": (1.0,), "recall@100": (1.0,)}
    assert (result.method, result.split, result.rows, result.train_rows) == ("retrieval", "test", 1, 0)
    assert (result.standard_error, result.baseline) == ({}, {})  # of one query nothing is known


@pytest.mark.parametrize("reranked", [False, True])
def test_the_error_of_a_ranking_is_that_of_the_mean_of_its_queries(reranked, pets):
    """The first query is answered at once; the second one finds what it is not judged by before what it is."""
    folder = pets / "pets"
    with (folder / "queries.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"_id": "r", "text": "Which shares fell on Tuesday?"}))
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("r\tcat\t1\nr\ttrip\t1\n")
    if reranked:
        pairs = [f"{query}\t{document}\n" for query in "qr" for document in ("cat", "market")]
        (folder / "candidates.tsv").write_text("".join(["query-id\tcorpus-id\n", *pairs]))
    (result,), *_ = evaluate("all-MiniLM-L6-v2", ["pets"], pets)
    metric, second = ("map", 1 / 2) if reranked else ("ndcg@10", (1 / log2(3) + 1 / log2(4)) / (1 + 1 / log2(3)))
    assert result.metrics[metric] == (pytest.approx((1 + second) / 2),)
    # the sample standard deviation of two numbers is their distance / sqrt(2); recall is the same for both
    assert result.standard_error == {metric: pytest.approx((1 - second) / sqrt(2) / sqrt(2))}


@pytest.mark.parametrize(("candidates", "method"), [(None, "retrieval"), ((np.array([0]),), "rerank")])
def test_candidates_make_it_a_reranking(candidates, method):
    assert default_method(collection(["a"], ["a"], [{0: 1.0}], candidates)) == method


def test_prompts_are_those_of_the_pipeline(tmp_path):
    assert read_prompts(tmp_path) == {"query": "", "document": ""}
    prompts = {"prompts": {"query": "query: ", "passage": "passage: ", "document": ""}}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    assert read_prompts(tmp_path) == {"query": "query: ", "document": "passage: "}
