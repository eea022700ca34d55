"""Standard errors beside scipy's and beside resampled rows; the baseline beside a count."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, bootstrap, pearsonr, sem
from sklearn.metrics import f1_score

from autodistil.evaluation.baseline import most_frequent_class
from autodistil.evaluation.evaluate import evaluate
from autodistil.evaluation.standard_error import standard_errors
from autodistil.tasks.catalogue import METRICS, load_task

SCORED = [("a cat", "a dog", "1.5"), ("a cat", "a cat", "5"), ("a river", "an old wall", "0.2"), ("a", "b", "2.5")]
RATES = st.floats(0.01, 0.99)


@given(RATES, st.integers(4, 5000))
def test_accuracy_is_binomial(p, rows):
    assert standard_errors({"accuracy": [p]}, rows)["accuracy"] == pytest.approx(binom(rows, p).std() / rows)


@given(st.floats(-0.99, 0.99), st.integers(5, 500))
def test_pearson_is_the_width_of_scipys_interval(slope, rows):
    """Both come from Fisher's z; ours is brought to the scale of r by the slope there."""
    draw = np.random.default_rng(rows)
    x, noise = draw.standard_normal((2, rows))
    found = pearsonr(x, slope * x + noise)
    low, high = found.confidence_interval(0.95)
    width = (math.atanh(high) - math.atanh(low)) / 2 / 1.959964
    ours = standard_errors({"pearson": [found.statistic]}, rows)["pearson"]
    assert ours == pytest.approx(width * (1 - found.statistic**2), rel=1e-4)


@given(st.lists(RATES, min_size=2, max_size=50, unique=True))
def test_means_over_queries_have_scipys_error(values):
    assert standard_errors({"map": [0.5]}, 999, {"map": values})["map"] == pytest.approx(sem(values))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.85])
@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_errors_of_correlations_are_those_of_resampled_rows(metric, correlation):
    draw = np.random.default_rng(0)
    x, noise = draw.standard_normal((2, 400))
    y = correlation * x + math.sqrt(1 - correlation**2) * noise
    again = bootstrap((x, y), METRICS[metric], n_resamples=1000, paired=True, vectorized=False, method="basic", rng=1)
    ours = standard_errors({metric: [METRICS[metric](x, y)]}, 400)
    assert ours[metric] == pytest.approx(again.standard_error, rel=0.15)


def test_accuracy_is_that_of_resampled_rows():
    hits = np.random.default_rng(0).random(300) < 0.8
    again = bootstrap((hits,), np.mean, n_resamples=2000, method="basic", rng=1)
    ours = standard_errors({"accuracy": [float(hits.mean())]}, 300)
    assert ours["accuracy"] == pytest.approx(again.standard_error, rel=0.1)


def test_errors_of_several_seeds_are_those_of_their_mean():
    assert standard_errors({"accuracy": [0.7, 0.9]}, 100) == {"accuracy": pytest.approx(math.sqrt(0.8 * 0.2 / 100))}


@pytest.mark.parametrize("metric", ["f1", "matthews", "v_measure"])
def test_metrics_without_a_sound_error_have_none(metric):
    assert standard_errors({metric: [0.5]}, 100) == {}


@pytest.mark.parametrize(
    ("metrics", "rows", "queries"),
    [
        ({"accuracy": [1.0], "spearman": [1.0], "pearson": [-1.0]}, 100, {}),
        ({"accuracy": [0.5], "spearman": [0.5], "pearson": [0.5]}, 3, {}),
        ({"map": [0.5]}, 1, {"map": [0.5]}),
        ({"map": [0.5]}, 2, {"map": [0.5, 0.5]}),
        ({"map": [0.0]}, 2, {"map": []}),
    ],
)
def test_there_is_no_error_of_0_and_none_of_next_to_no_rows(metrics, rows, queries):
    assert standard_errors(metrics, rows, queries) == {}


# ---- the most frequent class


def labelled(*labels):
    return [(f"text {i}", label) for i, label in enumerate(labels)]


def test_the_baseline_answers_what_is_frequent_in_training(write_task):
    tasks = write_task("extra/cr", train=labelled(*"11100"), dev=labelled(*"1000"))
    assert most_frequent_class(load_task("cr", tasks)) == {"accuracy": 1 / 4}


def test_without_training_it_answers_what_is_frequent_in_the_scored_split(write_task):
    assert most_frequent_class(load_task("mine", write_task("mine", dev=labelled(*"baab", "a")))) == {"accuracy": 3 / 5}


def test_of_equally_frequent_classes_the_first_is_answered(write_task):
    tasks = write_task("mine", train=labelled(*"baab"), dev=labelled(*"abb"))
    assert most_frequent_class(load_task("mine", tasks)) == {"accuracy": 1 / 3}


def test_each_metric_of_the_task_has_its_baseline(write_task):
    """F1 of always answering 1 is above half, which makes it look well; Matthews correlation is 0."""
    pairs = [(f"text {i}", "another", label) for i, label in enumerate("11100")]
    found = most_frequent_class(load_task("mrpc", write_task("glue/mrpc", train=pairs, dev=pairs)))
    assert found == {"f1": f1_score([1, 1, 1, 0, 0], [1] * 5), "accuracy": 3 / 5}
    single = labelled(*"11100")
    found = most_frequent_class(load_task("cola", write_task("glue/cola", train=single, dev=single)))
    assert found == {"matthews": 0.0, "accuracy": 3 / 5}


# ---- in results


def test_results_say_errors_and_baseline_of_probes(write_task):
    rows = [(f"the {w} is {q}", str(int(q == "good"))) for w in ("river", "road", "tree") for q in ("good", "bad")]
    tasks = write_task("extra/cr", train=rows, dev=[*rows, ("the cat is bad", "1")])
    (result,), *_ = evaluate("all-MiniLM-L6-v2", ["cr"], tasks)
    (accuracy,) = result.metrics["accuracy"]
    assert 0 < accuracy < 1
    assert result.standard_error == {"accuracy": pytest.approx(math.sqrt(accuracy * (1 - accuracy) / 7))}
    assert result.baseline == {"accuracy": 3 / 7}


def test_similarity_and_clusters_have_no_baseline(write_task):
    write_task("extra/cr", dev=[("a cat", "1"), ("a wall", "0"), ("a dog", "1"), ("a road", "0")])
    tasks = write_task("sts12", test=SCORED)
    (similar,), *_ = evaluate("all-MiniLM-L6-v2", ["sts12"], tasks)
    assert similar.standard_error == standard_errors(similar.metrics, 4)
    assert similar.standard_error["pearson"] > 0
    (clusters,), *_ = evaluate("all-MiniLM-L6-v2", ["cr"], tasks, method="cluster")
    assert (similar.baseline, clusters.baseline, clusters.standard_error) == ({}, {}, {})
