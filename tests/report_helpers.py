"""Reports that several tests draw: a search of a shipped space with made-up losses, and one with hostile names."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from autodistil import cli
from autodistil.costs.budget import Budget
from autodistil.costs.closed_form import cost_table
from autodistil.report.rows import ReportData
from autodistil.space.files import load_space
from autodistil.space.shape import EncoderShape
from autodistil.space.student import Candidate, StudentConfig
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pick import best_id, knee_id
from autodistil.student_search.teacher_row import TeacherRow

SHAPE = EncoderShape(30522, 514, None, pooler=True)
SIZES = {"num_layers": 6, "hidden_size": 384, "num_heads": 12, "head_size": 32, "intermediate_size": 1536}
TEACHER = TeacherRow("all-MiniLM-L6-v2", axes=SIZES, costs={"flops": 1.4378e9, "params": 22.7e6, "size_mb": 90.9})
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> %{x} $a$ ${title} var(--ink) 'q' \"q\" &amp;"


def exit_status(*arguments):
    """The status with which a command ends."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


def assert_only_text(html):
    """A page of ours without plotly's code: nothing that a name smuggled in runs or is fetched."""
    assert html.count("<script") == html.count("</script") == 3
    assert "<img" not in html
    assert not re.search(r"""(src|href)\s*=\s*["']|@import|url\(|https?:""", html)


def with_candidates(data, candidates):
    """The report with other rows in the place of its candidates."""
    return replace(data, table=CandidateTable(candidates.set_index("id", drop=False)))


def with_latency(data):
    return with_candidates(data, data.candidates.assign(**{"ms@laptop": data.candidates["flops"] / 1e8}))


def report_of(candidates, limit=5e8, training=True, scored=True, tasked=(), losses=None):
    """A report under two budgets; students within them have a loss that falls with FLOPs, unless `losses` are given."""
    table = cost_table(candidates, SHAPE, 128).set_index("id", drop=False)
    table["feasible"] = table["flops"] <= limit
    if losses is None:
        losses = {i: 1.0 + 1e7 / table.loc[i, "flops"] for i in table.index[table["feasible"]]} if scored else {}
    scores = {i: 0.9 - 2e7 / table.loc[i, "flops"] for i in tasked}
    ranked = CandidateTable(table, table[["flops"]]).scored(losses, scores=scores)
    steps = [
        {"sub_space": sub, "step": step, "loss": 2 / step, "largest_loss": 1 / step, "smallest_loss": 3 / step}
        for sub in dict.fromkeys(table["sub_space"])
        for step in range(1, 9)
    ]
    columns = ["sub_space", "step", "loss", "largest_loss", "smallest_loss"]
    some = len(ranked.front) > 0
    return ReportData(
        title="teacher · space",
        table=ranked,
        training=pd.DataFrame(steps if training else [], columns=columns),
        budgets=(Budget("flops", limit, None, "500MFLOPs"), Budget("params", 2e7, None, "20Mparams")),
        best=best_id(ranked) if some else None,
        knee=knee_id(ranked) if some else None,
        teacher=TEACHER,
        seq_len=128,
        objective="relation-kl",
        provenance={"teacher": "all-MiniLM-L6-v2"},
        notes=("a note",),
        export_command="autodistil export --run runs/x --pick best --to y",
        score_name="stsb spearman" if tasked else None,
    )


def usual_report():
    """A search of the shipped space for MiniLM."""
    return report_of(load_space("minilm-l6-h384").candidates)


def hostile_report(usual=None):
    """The same, or another report, with names that are markup."""
    usual = usual or usual_report()
    candidates = usual.candidates.assign(sub_space=EVIL)
    candidates.loc[candidates["id"] == usual.best, "id"] = EVIL
    return replace(
        with_candidates(usual, candidates),
        title=EVIL,
        training=usual.training.assign(sub_space=EVIL),
        best=EVIL,
        teacher=replace(usual.teacher, name=EVIL),
        notes=(EVIL,),
        provenance={EVIL: EVIL},
        export_command=EVIL,
        budgets=(Budget("flops", 5e8, None, EVIL),),
        objective=EVIL,
    )


def many(count):
    """Students of a space of any size."""
    return [
        Candidate("base", StudentConfig(n % 50 + 1, 32 * (n // 50 % 10 + 1), n // 50 % 10 + 1, 32, 64 + n))
        for n in range(count)
    ]


def noisy(count):
    """A search of many students with losses that fall with FLOPs, and noise."""
    data = report_of(many(count), limit=1e12)
    noise = np.random.default_rng(0).random(count)
    return with_candidates(data, data.candidates.assign(loss=data.candidates["loss"] + noise))
