"""The page is self-contained, shows what it must and treats every name as text; the picture never fails a run."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from autodistil import report
from autodistil.costs import EncoderShape, cost_table
from autodistil.errors import RunError
from autodistil.report import (
    BudgetLine,
    ReportData,
    find_chrome,
    front_rows,
    page,
    summary_lines,
    write_html,
    write_png,
)
from autodistil.search.pick import best_id, knee_id, rank_candidates
from autodistil.spaces import Candidate, StudentConfig, load_space

SHAPE = EncoderShape(30522, 514, None, pooler=True)
TEACHER = {"flops": 1.4378e9, "params": 22.7e6, "size_mb": 90.9}


def report_of(candidates, limit=5e8, training=True, scored=True):
    table = cost_table(candidates, SHAPE, 128).set_index("id", drop=False)
    table["feasible"] = table["flops"] <= limit
    losses = {i: 1.0 + 1e7 / table.loc[i, "flops"] for i in table.index[table["feasible"]]} if scored else {}
    ranked = rank_candidates(table, losses, table[["flops"]])
    rows = [
        {"sub_space": sub, "step": step, "loss": 2 / step, "largest_loss": 1 / step, "smallest_loss": 3 / step}
        for sub in dict.fromkeys(table["sub_space"])
        for step in range(1, 9)
    ]
    columns = ["sub_space", "step", "loss", "largest_loss", "smallest_loss"]
    return ReportData(
        title="teacher · space",
        candidates=ranked.reset_index(drop=True),
        training=pd.DataFrame(rows if training else [], columns=columns),
        budgets=(BudgetLine("500MFLOPs", "flops", limit), BudgetLine("20Mparams", "params", 2e7)),
        best=best_id(ranked) if scored else None,
        knee=knee_id(ranked) if scored else None,
        teacher_costs=TEACHER,
        seq_len=128,
        objective="relation-kl",
        provenance={"teacher": "all-MiniLM-L6-v2"},
        notes=("a note",),
        export_command="autodistil export --run runs/x --pick best --to y",
    )


@pytest.fixture(scope="module")
def usual():
    return report_of(load_space("minilm-l6-h384").candidates)


def without_plotly(html):
    return html.replace(report.plotly.offline.get_plotlyjs(), "")


def test_page_needs_no_network_and_shows_the_front(usual):
    html = without_plotly(page(usual))
    assert not re.search(r"""(src|href)\s*=|@import|url\(""", html)
    for student in front_rows(usual)["id"]:
        assert student in html
    for text in ("500MFLOPs", "20Mparams", "a note", "multiply-adds", usual.export_command):
        assert text in html


def test_summary_names_the_best_and_its_share_of_the_teacher(usual):
    first = summary_lines(usual)[0]
    best = usual.candidates[usual.candidates["id"] == usual.best].iloc[0]
    assert usual.best in first
    assert f"{best['flops'] / TEACHER['flops']:.0%}" in first


def test_hostile_names_are_text(usual):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    candidates = usual.candidates.assign(sub_space=evil)
    candidates.loc[candidates["id"] == usual.best, "id"] = evil
    data = replace(
        usual,
        title=evil,
        candidates=candidates,
        best=evil,
        notes=(evil,),
        provenance={evil: evil},
        export_command=evil,
        budgets=(BudgetLine(evil, "flops", 5e8),),
        objective=evil,
    )
    html = without_plotly(page(data))
    assert "<script>alert" not in html
    assert "<img" not in html


@pytest.mark.parametrize("count", [1, 5000])
def test_sizes_from_one_student_to_thousands(count):
    candidates = [
        Candidate("base", StudentConfig(n % 50 + 1, 32 * (n // 50 % 10 + 1), n // 50 % 10 + 1, 32, 64 + n))
        for n in range(count)
    ]
    assert len(page(report_of(candidates, limit=1e12)).encode()) < 6_000_000


def test_a_run_without_scores_or_training_still_has_a_page():
    html = page(report_of(load_space("smoke").candidates, training=False, scored=False))
    assert "No training metrics" in html


def test_a_failed_write_keeps_the_old_page(usual, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(RunError, match="disk is full"):
        write_html(usual, path)
    assert path.read_text() == "old"


def test_no_chrome_no_picture(usual, tmp_path, monkeypatch):
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert write_png(usual, tmp_path / "x.png") is None
    assert list(tmp_path.iterdir()) == []


def test_budget_lines_are_where_the_budget_is(usual):
    figure = report.front_figure(usual, report.AXES["flops"])
    assert 500.0 in [shape.x0 for shape in figure.layout.shapes]
    assert any(np.isclose(note.x, np.log10(500.0)) for note in figure.layout.annotations)


@pytest.mark.slow
@pytest.mark.skipif(find_chrome() is None, reason="no Chrome or Chromium is installed")
def test_a_browser_draws_the_figures(usual, tmp_path):
    path = write_html(usual, tmp_path / "report.html")
    command = [
        str(find_chrome()),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--enable-logging=stderr",
        "--virtual-time-budget=5000",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.count('class="main-svg"') >= 3
    assert "Uncaught" not in done.stderr
