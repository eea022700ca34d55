"""The section on trust: always there, words first, every name text, and a figure where students were trained alone."""

import json
import re
from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs
from report_helpers import with_candidates

from autodistil.costs.closed_form import cost_table
from autodistil.report import certificate_tables
from autodistil.report.page import page
from autodistil.report.rows import ReportData
from autodistil.report.style import DARK, LIGHT, resolve
from autodistil.space.files import load_space
from autodistil.space.shape import EncoderShape
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.certificate.assess import assess
from autodistil.student_search.certificate.measured import CertificateLosses
from autodistil.student_search.certificate.verdict import verdict
from autodistil.student_search.pick import best_id, knee_id
from autodistil.student_search.teacher_row import TeacherRow

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> %{x} $a$ ${title} var(--ink) 'q' \"q\" &amp;"


@pytest.fixture(scope="module")
def searched():
    """A report of a search that nobody certified."""
    shape = EncoderShape(30522, 514, None, pooler=True)
    table = cost_table(load_space("smoke").candidates, shape, 128).set_index("id", drop=False)
    table["feasible"] = table["flops"] <= 1e7
    ranked = CandidateTable(table, table[["flops"]]).scored({i: 1 + 1e6 / flops for i, flops in table["flops"].items()})
    return ReportData(
        title="teacher · space",
        table=ranked,
        training=pd.DataFrame([], columns=["sub_space", "step", "loss", "largest_loss", "smallest_loss"]),
        budgets=(),
        best=best_id(ranked),
        knee=knee_id(ranked),
        teacher=TeacherRow("teacher"),
        seq_len=128,
        objective="relation-kl",
        provenance={},
        notes=(),
        export_command="autodistil export",
    )


def certified(data, **more):
    """The report with every second student trained alone."""
    losses = data.candidates.set_index("id")["loss"]
    measured = CertificateLosses(alone=(losses[::2] - 0.1).to_dict(), tokens=64.0, **more)
    return replace(data, certificate=assess(data.table, measured, data.best))


def section(data):
    html = page(data).replace(get_plotlyjs(), "")
    return re.search(r"<h2>How far to trust this</h2>(.*?)</section>", html, re.DOTALL)[1]


def embedded(data):
    return json.loads(re.search(r'id="report-data">(.*?)</script>', page(data), re.DOTALL)[1])["figures"]


def test_a_report_without_certificate_says_what_is_free(searched):
    words = section(searched)
    assert words.lstrip().startswith('<div class="prose"><p><strong>Not certified')
    assert "pairs where one student contains the other" in words
    assert "trust" not in embedded(searched)
    assert verdict(certificate_tables.certificate(searched)) in page(searched)


def test_a_certified_report_has_words_tables_and_the_figure(searched):
    data = certified(searched)
    words = section(data)
    assert "Trust the pick" in words
    assert words.index("Trust the pick") < words.index("<table")
    for trial in data.certificate.trials:
        assert f"{trial.id}</td>" in words
        assert f"{trial.alone:.4f}" in words
    figure = embedded(data)["trust"]
    line, *points = figure["data"]
    assert line["x"] == line["y"], "the line of equal losses"
    assert sum(len(trace["x"]) for trace in points) == len(data.certificate.trials)
    go.Figure(figure)


def test_the_single_superlm_gets_a_column_only_where_there_is_one(searched):
    assert "in one SuperLM" not in section(certified(searched))
    in_one = dict.fromkeys(searched.candidates["id"], 2.0)
    assert "in one SuperLM" in section(certified(searched, in_one=in_one))


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_colours_are_in_both_schemes(searched, scheme):
    assert "var(--" not in json.dumps(resolve(certificate_tables.figures(certified(searched)), scheme))


def test_hostile_names_are_text(searched):
    candidates = searched.candidates.assign(sub_space=EVIL)
    candidates.loc[candidates.index[0], "id"] = EVIL
    data = certified(replace(with_candidates(searched, candidates), best=EVIL))
    html = page(data).replace(get_plotlyjs(), "")
    assert EVIL in {trial.id for trial in data.certificate.trials}
    assert html.count("<script") == html.count("</script") == 3
    assert "<img" not in html
    assert "%{x} $" not in json.dumps(embedded(data)["trust"]["data"][1]["customdata"])


def test_an_empty_space_still_has_the_section(searched):
    empty = replace(with_candidates(searched, searched.candidates.iloc[:0]), best=None, knee=None)
    assert "There is no pick to trust." in section(empty)
