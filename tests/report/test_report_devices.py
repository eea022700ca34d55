"""The report's part on devices: advice keeps its word, layer types add up, a page with devices holds their figures."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.costs.budget import read_budget
from autodistil.costs.closed_form import cost_table
from autodistil.costs.units import cost_of
from autodistil.formats.setting import RuntimeSetting
from autodistil.profiling.device_costs import DeviceCost
from autodistil.profiling.latency_model import choose_students
from autodistil.profiling.latency_table import LatencyEntry
from autodistil.report.devices import advice, figures, flops_spread, guesses, layer_shares, sections, sentences
from autodistil.report.page import page
from autodistil.report.rows import ReportData
from autodistil.space.files import load_space
from autodistil.space.shape import EncoderShape
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pick import best_id, knee_id
from autodistil.student_search.teacher_row import TeacherRow

SHAPE = EncoderShape(30522, 514, None, pooler=True)
CANDIDATES = load_space("minilm-l6-h384").candidates
BUDGET = read_budget("9ms@<b>laptop</b>")


def entry_of(student, factor=1.0, busy=False):
    ms = factor * (0.5 + 0.4 * student.num_layers + 1e-6 * student.encoder_weights)
    return LatencyEntry(student, 1, 128, ms, 0.98 * ms, 1.02 * ms, 30, busy, 50.0, 10.0)


def device_of(finalists=(), budget=BUDGET, busy=False):
    design = tuple(entry_of(one, busy=busy) for one in choose_students([c.config for c in CANDIDATES]))
    return DeviceCost(budget, RuntimeSetting(), design, tuple(finalists), CANDIDATES, SHAPE)


def report_of(device):
    table = cost_table(CANDIDATES, SHAPE, 128).set_index("id", drop=False)
    table = table.join(device.columns)
    table["feasible"] = table[device.budget.column] <= device.budget.limit
    losses = {i: 1.0 + 1e7 / table.loc[i, "flops"] for i in table.index[table["feasible"]]}
    ranked = CandidateTable(table, table[[device.budget.column]]).scored(losses)
    training = pd.DataFrame(columns=["sub_space", "step", "loss", "largest_loss", "smallest_loss"])
    return ReportData(
        "title", ranked, training, (BUDGET,),
        best_id(ranked), knee_id(ranked), TeacherRow("teacher", costs={"flops": 1e9}), 128, "relation-kl", {}, (),
        "export", devices=(device,),
    )  # fmt: skip


DEVICE = device_of([entry_of(CANDIDATES[i].config, 1.1) for i in (3, 60)])
REPORT = report_of(DEVICE)


def test_advice_takes_the_best_student_within_each_budget():
    front = REPORT.candidates[REPORT.candidates["pareto"]].set_index("id")
    rows = advice(REPORT, DEVICE)
    assert rows
    for row in rows:
        within = front[front[BUDGET.column] <= row.cost]
        assert row.cost <= row.limit <= 1.11 * row.cost
        assert row.value == within["loss"].min()
        assert front.loc[row.student, BUDGET.column] == row.cost
    assert [row.cost for row in rows] == sorted(row.cost for row in rows)
    assert [row.value for row in rows] == sorted((row.value for row in rows), reverse=True)


def test_a_budget_stands_in_the_advice_once():
    def alike(student):
        ms = entry_of(student).median_ms
        return entry_of(student, (5 + ms / 20) / ms)

    device = replace(DEVICE, design=tuple(alike(entry.student) for entry in DEVICE.design), finalists=())
    limits = [row.limit for row in advice(report_of(device), device)]
    assert limits == sorted(set(limits))


def test_layer_types_add_up_to_the_prediction():
    shares = layer_shares(REPORT, DEVICE)
    np.testing.assert_allclose(shares.sum(axis=1), DEVICE.table.loc[shares.index, "predicted"])


def test_predictions_beside_measurements_never_saw_them():
    finalists = [guess for guess in guesses(DEVICE) if guess.finalist]
    assert [guess.error for guess in finalists] == pytest.approx([1 / 1.1 - 1] * 2, abs=0.02)
    assert len(guesses(DEVICE)) == len(DEVICE.design) + 2
    assert guesses(replace(DEVICE, finalists=DEVICE.design)) == guesses(device_of())  # a table from elsewhere


@given(st.lists(st.tuples(st.floats(1, 9), st.floats(1, 9)), min_size=1, max_size=20))
def test_the_spread_of_flops_is_that_of_the_worst_pair(rows):
    cost, flops = np.array(rows).T
    pairs = [max(a, b) / min(a, b) for i, a in enumerate(flops) for j, b in enumerate(flops) if _alike(cost, i, j)]
    assert flops_spread(cost, flops) == pytest.approx(max(pairs))


def _alike(cost, i, j):
    return cost[i] <= cost[j] <= cost[i] * 1.05


def test_the_page_has_a_section_a_device_and_treats_its_name_as_text():
    html = page(REPORT)
    keys = [f"device-0-{name}" for name in ("front", "model", "layers", "flops")]
    assert list(figures(REPORT)) == keys
    assert all(f'data-figure="{key}"' in html for key in keys)
    assert "Latency on &lt;b&gt;laptop&lt;/b&gt;" in html
    assert "<b>laptop</b>" not in html.split("<script>")[0]
    assert "For this budget take this" in html


def test_without_devices_there_is_nothing():
    data = replace(REPORT, devices=())
    assert (figures(data), sections(data)) == ({}, [])
    assert "For this budget take this" not in page(data)


def test_a_busy_machine_is_mentioned():
    assert any("busy" in line for line in sentences(REPORT, device_of(busy=True)))
    assert not any("busy" in line for line in sentences(REPORT, DEVICE))


def test_costs_of_devices_have_names_and_units():
    assert cost_of("ram_mb@cpu").text(61.23) == "61.2 MB"
    assert cost_of("flops").name == "FLOPs"
