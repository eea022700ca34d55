"""Fine-tuned students on one page: how good, how sure, what is taken for what, and what answering less would bring."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autodistil.costs.units import significant
from autodistil.report.page import rendered
from autodistil.report.style import (
    TEXT,
    Cell,
    Scale,
    Spec,
    as_text,
    base_layout,
    identity_line,
    or_dash,
    rounded,
    series_colour,
    series_points,
)
from autodistil.tasks.classification import Classification

STUDENT, PLAIN, TEACHER = "student", "plain", "teacher"
_SHADES = [[0, "rgba(8,104,172,0)"], [1, "rgba(8,104,172,0.75)"]]
"""From no row to all rows of a label; translucent, so that it suits both schemes."""
_CURVE_FROM = 0.05
"""Coverage from which the risk decides the scale: below it a single error is a large share."""
_COUNTS_UP_TO, _NAMES_UP_TO = 12, 20
"""Classes, at most, whose counts stand in their fields, and whose names stand beside them."""


@dataclass(frozen=True)
class FineTunedModel:
    """A fine-tuned model as the page shows it."""

    name: str
    kind: str
    """`STUDENT`, `PLAIN` (the same on labels alone) or `TEACHER`."""
    series: int
    """Number of its colour and symbol."""
    metrics: Mapping[str, float]
    """The headline first."""
    standard_error: Mapping[str, float]
    """Of metrics that have one."""
    classification: Classification | None
    """None where scores are predicted."""
    costs: Mapping[str, float]
    """As of `export.adapted_folder.Adaptation`; empty where not known."""
    teacher: str | None = None
    abstention: Mapping[str, Any] | None = None
    """Where a threshold was asked for."""
    doubt: str | None = None
    """Of a student, `tasks.calibration.doubt` of its answers."""

    @property
    def label(self) -> str:
        """What it is called beside others."""
        return self.name + {STUDENT: "", PLAIN: ", labels alone", TEACHER: " (teacher)"}[self.kind]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        own = None if self.classification is None else self.classification.to_dict()
        return {**self.__dict__, "classification": own}


@dataclass(frozen=True)
class AdaptedComparison:
    """Fine-tuned students, scored on the same rows, with their teachers."""

    task: str
    split: str
    rows: int
    classes: tuple[str, ...]
    """Empty where scores are predicted."""
    models: tuple[FineTunedModel, ...]
    """Each student with its plain one, then each teacher once."""

    @property
    def students(self) -> list[FineTunedModel]:
        """The students themselves."""
        return [model for model in self.models if model.kind == STUDENT]

    @property
    def drawn(self) -> list[tuple[FineTunedModel, Classification]]:
        """Students and teachers whose classes are known."""
        return [(model, model.classification) for model in self.models if model.classification and model.kind != PLAIN]

    @property
    def headline(self) -> str:
        """The metric that counts."""
        return next(iter(self.models[0].metrics))

    @property
    def doubts(self) -> list[str]:
        """Of each student whose probabilities are not what they say, how, and what helps."""
        return [f"{model.name} is {model.doubt}" for model in self.students if model.doubt]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.__dict__, "classes": list(self.classes), "models": [model.to_dict() for model in self.models]}


def adapted_page(found: AdaptedComparison) -> str:
    """The page as HTML, in one file that needs no network."""
    confusion = {f"confusion-{i}": confusion_figure(found, of) for i, (_, of) in enumerate(found.drawn)}
    curves = {"reliability": reliability_figure(found), "risk": risk_figure(found)} if found.drawn else {}
    return rendered(
        "adapted.html",
        {"figures": {**curves, **confusion}, "students": []},
        title=f"{' · '.join(model.name for model in found.students)} on {found.task}, {found.split}",
        headline=lead(found),
        rows=f"{found.rows:,}",
        tokens=sorted({int(model.costs["tokens"]) for model in found.models if "tokens" in model.costs}),
        models=[list(_model_cells(found, model)) for model in found.models],
        curves=bool(curves),
        doubts=found.doubts,
        confusion=[model.label for model, _ in found.drawn],
        classes=[list(_class_cells(found, number, name)) for number, name in enumerate(found.classes)],
    )


def lead(found: AdaptedComparison) -> str:
    """Who is ahead, in one sentence; a lead within twice the standard error is none."""
    metric, place = found.headline, f"on {found.task}, {found.split}"
    first, *others = sorted(found.students, key=lambda model: -model.metrics[metric])
    if not others:
        teachers = [f"; its teacher {100 * m.metrics[metric]:.1f}" for m in found.models if m.kind == TEACHER]
        return f"{first.name}: {100 * first.metrics[metric]:.1f} {metric} {place}{''.join(teachers)}."
    error = max(model.standard_error.get(metric, 0.0) for model in found.students)
    gap = first.metrics[metric] - others[0].metrics[metric]
    if gap < 2 * error or not gap:
        level = [m.name for m in (first, *others) if m.metrics[metric] >= first.metrics[metric] - 2 * error]
        return f"{' and '.join(level)} are level {place}: what lies between them is within twice the standard error."
    return f"{first.name} is ahead: {100 * first.metrics[metric]:.1f} {metric} {place}."


# ---- figures


def _share_axis(title: str, low: float = 0.0, high: float = 1.0) -> Spec:
    return Scale.over([low, high], pad_low=0.03, pad_high=0.03, may_be_log=False).axis(title, tickformat=".0%")


def _layout(xaxis: Spec, yaxis: Spec) -> Spec:
    legend = {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 13, "color": "var(--ink)"}}
    return base_layout(margin={"l": 68, "r": 20, "t": 14, "b": 60}, xaxis=xaxis, yaxis=yaxis, legend=legend)


def _line(model: FineTunedModel) -> Spec:
    return {"color": series_colour(model.series), "width": 2, "dash": "dot" if model.kind == TEACHER else "solid"}


def reliability_figure(found: AdaptedComparison) -> Spec:
    """Accuracy over mean confidence of each bin; the larger a mark, the more rows."""
    traces = []
    for model, of in found.drawn:
        sizes = [6 + 14 * math.sqrt(part.rows / found.rows) for part in of.reliability]
        trace = series_points(
            [part.confidence for part in of.reliability],
            [part.accuracy for part in of.reliability],
            model.label,
            model.series,
            9,
            mode="lines+markers",
            line=_line(model),
            customdata=[f"{part.rows:,}" for part in of.reliability],
            hovertemplate=f"<b>{as_text(model.label)}</b><br>%{{y:.1%}} of %{{customdata}} rows right, "
            "%{x:.1%} confident<extra></extra>",
        )
        trace["marker"]["size"] = rounded(sizes)
        traces.append(trace)
    lowest = min(part.confidence for _, of in found.drawn for part in of.reliability)
    layout = _layout(_share_axis("Confidence", low=math.floor(10 * lowest) / 10), _share_axis("Accuracy"))
    return {"data": [identity_line([0, 1]), *traces], "layout": layout}


def risk_figure(found: AdaptedComparison) -> Spec:
    """The risk over the coverage, and where the thresholds that were asked for stand."""
    traces = []
    for model, of in found.drawn:
        said = f"<b>{as_text(model.label)}</b><br>answers from %{{customdata:.3f}} on: %{{x:.1%}} of rows, %{{y:.1%}} "
        drawn = {"mode": "lines", "line": _line(model), "hovertemplate": f"{said}of them wrong<extra></extra>"}
        x, y = ([point.coverage for point in of.curve], [point.risk for point in of.curve])
        thresholds = rounded(point.threshold for point in of.curve)
        traces.append(series_points(x, y, model.label, model.series, 7, customdata=thresholds, **drawn))
    traces += [mark for model, _ in found.drawn for mark in _threshold_mark(model)]
    highest = max(point.risk for _, of in found.drawn for point in of.curve if point.coverage >= _CURVE_FROM)
    layout = _layout(_share_axis("Rows answered"), _share_axis("Answers wrong", high=highest or 0.01))
    return {"data": traces, "layout": layout}


def _threshold_mark(model: FineTunedModel) -> Iterator[Spec]:
    """A star where the threshold of a student stands on the reported rows."""
    rule = model.abstention
    if rule is None or rule["threshold"] is None or rule["reported"]["error"] is None:
        return
    at, name = rule["reported"], f"{model.label}, threshold for {100 * rule['risk']:g} % wrong"
    said = f"<b>{as_text(name, 60)}</b><br>{rule['threshold']:.3f}: %{{x:.1%}} of rows, %{{y:.1%}} wrong<extra></extra>"
    mark = series_points([at["coverage"]], [at["error"]], name, model.series, 15, hovertemplate=said)
    mark["marker"]["symbol"] = "star"
    yield {**mark, "name": as_text(name, 60)}


def confusion_figure(found: AdaptedComparison, of: Classification) -> Spec:
    """Rows by label and answer, shaded by their share of the label's rows."""
    numbers, names = list(range(len(found.classes))), [as_text(name, 24) for name in found.classes]
    shares = [[count / max(sum(row), 1) for count in row] for row in of.confusion]
    few = len(numbers) <= _NAMES_UP_TO
    axis = {"tickvals": numbers if few else [], "ticktext": names if few else [], "showgrid": False, "automargin": True}
    scale = Scale(-0.5, len(numbers) - 0.5, log=False)
    trace = {
        "type": "heatmap",
        "x": numbers,
        "y": numbers,
        "z": [rounded(row) for row in shares],
        "zmin": 0,
        "zmax": 1,
        "colorscale": _SHADES,
        "showscale": False,
        "xgap": int(few),
        "ygap": int(few),
        "customdata": [
            [[label, answer, f"{count:,}"] for answer, count in zip(names, row, strict=True)]
            for label, row in zip(names, of.confusion, strict=True)
        ],
        "hovertemplate": "%{customdata[0]} answered %{customdata[1]}:<br>%{customdata[2]} rows, %{z:.1%}"
        "<extra></extra>",
    }
    if len(numbers) <= _COUNTS_UP_TO:
        counts = [[f"{count:,}" for count in row] for row in of.confusion]
        trace |= {"text": counts, "texttemplate": "%{text}", "textfont": {"color": "var(--ink)"}}
    layout = base_layout(
        margin={"l": 12, "r": 12, "t": 10, "b": 12},
        xaxis=scale.axis("Answer", **axis),
        yaxis=scale.axis("Label", **axis),
        showlegend=False,
    )
    layout["yaxis"]["range"] = layout["yaxis"]["range"][::-1]  # the first class is on top
    return {"data": [trace], "layout": layout}


# ---- tables


def metric_name(metric: str) -> str:
    """A metric as heads of tables call it."""
    return {"ece": "ECE", "entity_f1": "Entity F1"}.get(metric, metric.capitalize())


def answered_text(model: FineTunedModel) -> str:
    """What its threshold comes to: the share of rows that it answers, and of these answers that are wrong."""
    rule = model.abstention
    if rule is None:
        return "–"
    if rule["threshold"] is None:
        return f"all: none holds {100 * rule['risk']:g} %"
    error = rule["reported"]["error"]
    return f"{100 * rule['reported']['coverage']:.1f} %" + ("" if error is None else f", {100 * error:.1f} % wrong")


def _model_cells(found: AdaptedComparison, model: FineTunedModel) -> Iterator[Cell]:
    drawn = model.kind != PLAIN and model.classification is not None
    yield Cell("Model", model.label, model.label, TEXT, model.series if drawn else None)
    for metric, value in model.metrics.items():
        yield Cell(metric_name(metric), f"{100 * value:.1f}", value)
        if metric == found.headline:
            error = model.standard_error.get(metric)
            yield Cell("± error", "–" if error is None else f"{100 * error:.1f}", or_dash(error, ".6f", ""))
    if found.classes:
        own = model.classification
        yield Cell("AURC", "–" if own is None else f"{100 * own.aurc:.1f}", "" if own is None else own.aurc)
    for head, cost, unit in (("M params", "params", 1e6), ("MFLOPs", "flops", 1e6), ("MB", "size_mb", 1.0)):
        of = model.costs.get(cost)
        yield Cell(head, "–" if of is None else significant(of / unit), or_dash(of, "f", ""))
    yield Cell("Teacher", model.teacher or "–", model.teacher or "", TEXT)
    if any(one.abstention for one in found.models):
        yield Cell("Answers", answered_text(model))


def _class_cells(found: AdaptedComparison, number: int, name: str) -> Iterator[Cell]:
    """F1 by class of each drawn model; of one student precision and recall too."""
    if not found.drawn:
        return
    yield Cell("Class", name, name, TEXT)
    support = sum(found.drawn[0][1].confusion[number])
    yield Cell("Rows", f"{support:,}", support)
    for model, of in found.drawn:
        scores = of.per_class[name]
        both = model.kind == STUDENT and len(found.students) == 1
        more = (("Precision", scores.precision), ("Recall", scores.recall)) if both else ()
        for head, value in (*more, ("F1", scores.f1)):
            yield Cell(f"{head} {model.label}", f"{100 * value:.1f}", value)
