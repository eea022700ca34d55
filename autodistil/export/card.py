"""The model card of an exported student: what it is, what it costs, where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autodistil.costs.closed_form import KV_BYTES
from autodistil.models.teacher import Teacher
from autodistil.space.student import Candidate


def model_card(
    candidate: Candidate,
    teacher: Teacher,
    costs: Mapping[str, Any],
    facts: Mapping[str, str],
    sentence_transformers: bool,
    times: Times | None = None,
    repeat: Repeat | None = None,
) -> str:
    """The `README.md` of a student, with the front matter that the Hugging Face Hub reads.

    Args:
        candidate: the student.
        teacher: what it was distilled from.
        costs: its row of the cost table, `seq_len`, and the `teacher`'s costs.
        facts: what it was distilled on, its loss, how far to trust it.
        sentence_transformers: the folder is a sentence-transformers one.
        times: of a forward, where they were measured.
        repeat: what makes the student again.
    """
    return "\n".join(
        [
            "---",
            yaml.safe_dump(_front_matter(candidate, teacher, sentence_transformers), sort_keys=False).strip(),
            "---",
            "",
            f"# {candidate.id}",
            "",
            f"A student of `{teacher.source}`, found by autodistil without training each candidate: a slice of a "
            "weight-sharing SuperLM that was trained by task-agnostic distillation.",
            "",
            *_usage(sentence_transformers, candidate.config.free_attention, teacher),
            "",
            "## Architecture and costs",
            "",
            "| | student | teacher |",
            "|---|---|---|",
            *_architecture_rows(candidate, teacher),
            *_cost_rows(costs),
            *_time_rows(times),
            "",
            "FLOPs are multiply-adds of one sequence (batch 1) at the stated length, counted as fvcore does"
            + ("; of a prefill, which predicts one token." if teacher.family.causal else "."),
            *([f"Latency is the median with its 95 % interval: {times.where}."] if times else []),
            "",
            "## Where it comes from",
            "",
            *(f"- {key}: {value}" for key, value in facts.items()),
            "",
            *(repeat.section if repeat else []),
            "## Limits",
            "",
            *_limits(teacher, costs["seq_len"]),
            "",
            "## Licence",
            "",
            _licence_words(teacher),
            "",
        ]
    )


@dataclass(frozen=True)
class Times:
    """What one forward takes, batch 1."""

    student: tuple[float, float, float]
    """Milliseconds: the median, and its 95 % interval."""
    teacher: tuple[float, float, float]
    inputs: str
    """What was read, in words."""
    where: str
    """How and on what it was measured, in words."""


@dataclass(frozen=True)
class Repeat:
    """What makes a student again."""

    student: str
    options: Mapping[str, Any]
    """Of the run, those that are not the defaults."""
    refined: Mapping[str, Any] | None = None
    """`steps` and `learning_rate` of its refinement, where it has these weights."""

    @property
    def section(self) -> list[str]:
        """As Markdown."""
        refine = "".join(f" --{name.replace('_', '-')} {value}" for name, value in (self.refined or {}).items())
        return [
            "## How to repeat it",
            "",
            "With this as `run.yaml`, and the versions above:",
            "",
            "```yaml",
            yaml.safe_dump(dict(self.options), sort_keys=False, allow_unicode=True).strip(),
            "```",
            "",
            "```sh",
            "autodistil search --config run.yaml --run again",
            *([f"autodistil refine --run again --pick {self.student}{refine}"] if self.refined else []),
            f"autodistil export --run again --pick {self.student} --to my-student",
            "```",
            "",
            "On a CPU with as many threads that gives the same bits; elsewhere the order of sums may differ.",
            "",
        ]


def _licence_words(teacher: Teacher) -> str:
    """What the teacher's card says of its licence."""
    inherited = _teacher_front_matter(teacher.folder)
    name = inherited.get("license_name") or inherited.get("license")
    if not name:
        return (
            f"A student is made of its teacher's weights. No licence of `{teacher.source}` is at hand: look it up "
            "before you pass this student on."
        )
    link = f" ({inherited['license_link']})" if inherited.get("license_link") else ""
    return f"A student is made of its teacher's weights and carries the licence of `{teacher.source}`: {name}{link}."


def _time_rows(times: Times | None) -> list[str]:
    if times is None:
        return []
    cells = (f"{median:.2f} ms ({low:.2f} to {high:.2f})" for median, low, high in (times.student, times.teacher))
    return [f"| latency, {times.inputs} | {' | '.join(cells)} |"]


def _limits(teacher: Teacher, seq_len: int) -> list[str]:
    images = teacher.images is not None
    what, evaluated = (
        "images" if images else "text",
        ("Task results are on this card if `autodistil evaluate` was run on this folder, and hold for those tasks. "),
    )
    reads = (
        f"It reads {teacher.max_length:,} tokens at most, was distilled on texts of {seq_len:,} or fewer, and inherits"
    )
    return [
        f"Distilled on unlabelled {what} only. {'' if images else evaluated}"
        "The held-out loss says how near the student comes to its teacher, not how good it is at anything. "
        "Fine-tune or evaluate it on your task before use. "
        f"{'It inherits' if images else reads} the biases and the limits of its teacher and of the {what}.",
    ]


def _front_matter(candidate: Candidate, teacher: Teacher, sentence_transformers: bool) -> dict[str, Any]:
    inherited = _teacher_front_matter(teacher.folder)
    carried = ("language", "license", "license_name", "license_link")
    matter: dict[str, Any] = {key: inherited[key] for key in carried if key in inherited}
    if teacher.folder is None:
        matter["base_model"] = teacher.source  # an id on the Hub
    matter["library_name"] = "sentence-transformers" if sentence_transformers else "transformers"
    if sentence_transformers:
        matter["pipeline_tag"] = "sentence-similarity"
    if teacher.family.causal:
        matter["pipeline_tag"] = "text-generation"
    if teacher.images is not None:
        matter["pipeline_tag"] = "image-feature-extraction"
    model_type = "electra" if candidate.config.embedding_size is not None else teacher.model.config.model_type
    matter["tags"] = ["autodistil", "knowledge-distillation", model_type]
    return matter


def _teacher_front_matter(folder: Path | None) -> dict[str, Any]:
    """The front matter of the teacher's own card, where it is at hand."""
    card = folder / "README.md" if folder else None
    if card is None or not card.is_file():
        return {}
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    try:
        matter = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else {}
    except yaml.YAMLError:
        return {}
    return matter if isinstance(matter, dict) else {}


_GENERATION = (
    "from transformers import AutoModelForCausalLM, AutoTokenizer",
    'model, tokenizer = AutoModelForCausalLM.from_pretrained("PATH"), AutoTokenizer.from_pretrained("PATH")',
    'answer = model.generate(**tokenizer("The river", return_tensors="pt"), max_new_tokens=30)',
    "print(tokenizer.decode(answer[0]))",
)


def _usage(sentence_transformers: bool, own_architecture: bool, teacher: Teacher) -> list[str]:
    if teacher.family.causal:
        return ["```python", *_GENERATION, "```"]
    options = ", trust_remote_code=True" if own_architecture else ""
    if sentence_transformers:
        code = [
            "from sentence_transformers import SentenceTransformer",
            f'model = SentenceTransformer("PATH"{options})',
        ]
    else:
        load = f'model = AutoModel.from_pretrained("PATH"{options})'
        reader = "AutoTokenizer" if teacher.images is None else "AutoImageProcessor"
        code = [f"from transformers import {', '.join(sorted(('AutoModel', reader)))}", load]
    why = (
        "",
        "Its attention is wider or narrower than its hidden size, which no plain Hugging Face class has: the code of "
        "its architecture is in this folder (`modeling_wide_bert.py`), and runs when you say `trust_remote_code=True`.",
    )
    return ["```python", *code, "```", *(why if own_architecture else ())]


def _architecture_rows(candidate: Candidate, teacher: Teacher) -> list[str]:
    names = {
        "num_layers": "layers",
        "hidden_size": "hidden size",
        "num_heads": "attention heads",
        "head_size": "head size",
        "intermediate_size": "FFN size",
    }
    rows = [
        f"| {label} | {getattr(candidate.config, axis)} | {getattr(teacher.dims, axis)} |"
        for axis, label in names.items()
    ]
    if candidate.config.embedding_size is not None:
        rows.append(f"| embedding size | {candidate.config.embedding_size} | {teacher.dims.hidden_size} |")
    if candidate.config.vocab_size is not None:
        rows.append(f"| vocabulary | {candidate.config.vocab_size:,} | {teacher.model.config.vocab_size:,} |")
    return rows


def _cost_rows(costs: Mapping[str, Any]) -> list[str]:
    teacher = costs["teacher"]
    return [
        f"| FLOPs at length {costs['seq_len']} | {costs['flops'] / 1e6:,.1f} M | {teacher['flops'] / 1e6:,.1f} M |",
        f"| parameters | {costs['params'] / 1e6:.2f} M | {teacher['params'] / 1e6:.2f} M |",
        f"| without embeddings | {costs['params_no_embeddings'] / 1e6:.2f} M | "
        f"{teacher['params_no_embeddings'] / 1e6:.2f} M |",
        f"| model.safetensors | {costs['size_mb']:.1f} MB | {teacher['size_mb']:.1f} MB |",
        *_cache_rows(costs),
    ]


def _cache_rows(costs: Mapping[str, Any]) -> list[str]:
    if KV_BYTES not in costs:
        return []
    ours, theirs = costs[KV_BYTES], costs["teacher"][KV_BYTES]
    return [f"| KV cache in float16, a token | {ours / 1e3:.2f} KB | {theirs / 1e3:.2f} KB |"]
