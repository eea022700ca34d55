"""Facts of a run in words, for reports and model cards: where its numbers come from."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from autodistil.config import rate_words
from autodistil.costs.closed_form import COST_COLUMNS, DECODER_COLUMNS, cost_table
from autodistil.data.batch import PADDING
from autodistil.data.tokens import special_affixes
from autodistil.evaluation.heldout import HeldOutScorer
from autodistil.models.pooling import vector_bytes
from autodistil.run.folder import RunFolder
from autodistil.run.inputs import TRAINED_ON, RunInputs
from autodistil.run.superlms import SuperLMs
from autodistil.space.student import Candidate, StudentConfig
from autodistil.utils import installed_versions, shown

PROXY = "proxy"
"""Key of what `run.yaml` says about the proxy task of the last search."""


def teacher_costs(inputs: RunInputs) -> dict[str, Any]:
    """The teacher's own costs, under the names of the cost table."""
    teacher = inputs.teacher
    table = cost_table([Candidate("teacher", teacher.dims)], teacher.encoder_shape, inputs.seq_len)
    return {key: table[key].iloc[0].item() for key in (*COST_COLUMNS, *DECODER_COLUMNS) if key in table}


def vocabulary_facts(inputs: RunInputs, scorer: HeldOutScorer, student: StudentConfig) -> dict[str, str]:
    """What to say about a pruned vocabulary; nothing of a whole one."""
    if student.vocab_size is None:
        return {}
    prefix, suffix = special_affixes(inputs.teacher.tokenizer)
    text = inputs.heldout_texts[inputs.heldout_texts != PADDING]
    text = text[~np.isin(text, [*prefix, *suffix])]
    share = inputs.vocabulary.coverage(text, student.vocab_size)
    whole = inputs.teacher.model.config.vocab_size
    means = [reading.means for reading in scorer.heldout_for(student).readings]
    stretch = sum(int((part > 0).sum()) for part in means) / sum(part[..., 0].numel() for part in means)
    return {
        "vocabulary": f"the {student.vocab_size:,} most used of {whole:,} tokens, {100 * share:.1f} % of the "
        f"held-out text; the rest is read as smaller pieces, which makes a text {stretch:.2f} times as long"
    }


def embedding_facts(inputs: RunInputs, student: StudentConfig) -> dict[str, str]:
    """What a stored embedding of a student takes; nothing of a teacher that makes none."""
    if inputs.teacher.pooling is None and inputs.output_teacher is None:
        return {}
    output = inputs.output_teacher if inputs.teacher.images is None else None
    dim = student.hidden_size if output is None else output.dim
    return {"embeddings": f"{dim} dimensions, {vector_bytes(dim):,} bytes a vector of float32"}


def perplexity_facts(inputs: RunInputs, scorer: HeldOutScorer, loss: float) -> dict[str, str]:
    """The perplexity of a student of this loss beside the teacher's; nothing where another measure ranks."""
    if not inputs.ranks_by_perplexity:
        return {}
    ours, theirs = math.exp(loss), scorer.teacher_perplexity
    return {"perplexity": f"{ours:,.2f} on held-out text, the teacher's {theirs:,.2f}"}


def provenance(inputs: RunInputs, superlms: SuperLMs) -> dict[str, str]:
    """What a run's numbers come from, by heading: teacher, space, text, training, measure, seed and versions."""
    config, text, space, resolved = inputs.config, inputs.text, inputs.space, inputs.folder.resolved()
    steps = resolved.get("train_steps", 0)
    read = "text" if inputs.teacher.images is None else "images"
    commit = f"commit {inputs.teacher.commit}, " if inputs.teacher.commit else ""
    return {
        "teacher": f"{shown(config.teacher)} ({commit}fingerprint {inputs.teacher.fingerprint})",
        "search space": f"{space.name}: {space.size_text} students in "
        + ", ".join(sub.name for sub in space.sub_spaces),
        read: ", ".join(shown(config.corpus)),
        "training": f"{steps} steps of {resolved.get('samples_a_step', text.batch_size)} {text.unit} "
        f"({steps * resolved.get('tokens_a_step', 0):,} tokens), "
        f"learning rate {rate_words(config.learning_rate)}, {config.precision}",
        "objective": f"{inputs.objective.name}, {inputs.objective.options.relation_heads} relation heads, "
        f"importance order {config.order}, layer map {config.layer_map}",
        **_teaching(inputs, superlms),
        f"held-out {read}": f"{text.num_heldout} {text.unit}"
        + ("; students that racing stopped before its end have no loss and no rank" if config.racing != "none" else ""),
        **({"ranked by": words} if (words := proxy_words(inputs.folder)) else {}),
        "seed": str(config.seed),
        "trained on": _machine_words(machines_of(inputs.folder)),
        "versions": ", ".join(f"{name} {number}" for name, number in installed_versions().items()),
    }


def machines_of(folder: RunFolder, names: Collection[str] | None = None) -> list[dict[str, Any]]:
    """`device`, `threads` and `workers` of what trained these SuperLMs and refined students, all unless given.

    Each is there once; none where an earlier release trained them.
    """
    trained_on = folder.resolved().get(TRAINED_ON, {})
    found = [one for name, ones in trained_on.items() if names is None or name in names for one in ones]
    return [one for place, one in enumerate(found) if one not in found[:place]]


def training_facts(folder: RunFolder, names: Collection[str]) -> tuple[dict[str, str], int | None]:
    """What trained a student in words, and the threads of it that give the same bits again; None where no number does.

    Args:
        folder: the run's.
        names: its SuperLM, what taught that and, where it has refined weights, its id.
    """
    machines = machines_of(folder, names)
    one = machines[0] if len(machines) == 1 else {}
    again = one.get("device") == "cpu" and not one.get("workers")
    return {"trained on": _machine_words(machines)}, one["threads"] if again else None


def _machine_words(machines: Sequence[Mapping[str, Any]]) -> str:
    """Such as `cpu, 2 threads`."""
    words = [
        f"{one['workers']} workers of a cluster"
        if one["workers"]
        else f"{one['device']}, {one['threads']} thread{'s' * (one['threads'] > 1)}"
        for one in machines
    ]
    return " and ".join(words) or "a machine that was not recorded"


def _teaching(inputs: RunInputs, superlms: SuperLMs) -> dict[str, str]:
    """Who taught whom and by which layer, where it is not the teacher by its last one."""
    config, facts = inputs.config, {}
    if config.assistant is not None:
        taught = [sub.name for sub in inputs.space.sub_spaces if sub.name in superlms.taught]
        facts["assistant"] = (
            f"{shown(config.assistant)} teaches {', '.join(taught)}; held-out losses are against the teacher"
        )
    if inputs.output_teacher is not None:
        names, dim = " and ".join(map(shown, config.output_teacher or ())), inputs.output_teacher.dim
        read_as = " of texts as its queries" if config.output_role == "query" else ""
        head = "by a linear head" + ", which is not exported" * (inputs.teacher.images is not None)
        facts["output teacher"] = f"{names}: embeddings of {dim} dimensions{read_as} in its space, {head}"
    if cuts := inputs.objective.options.cuts:
        dims, sizes = ", ".join(map(str, cuts)), ", ".join(f"{vector_bytes(cut):,}" for cut in cuts)
        facts["embeddings may be cut"] = (
            f"to {dims} dimensions ({sizes} bytes a vector of float32): "
            f"SentenceTransformer(..., truncate_dim={cuts[-1]})"
        )
    if config.teacher_layer is not None:
        depth = inputs.teacher.dims.num_layers
        facts["teacher layer"] = f"attention of layer {config.teacher_layer} of {depth} (from 0)"
    return facts


def proxy_words(folder: RunFolder) -> str | None:
    """What ranked the students of the last search, in words; None where the held-out loss did."""
    record = folder.resolved().get(PROXY)
    if not record:
        return None
    fitted = f" after fitting {record['fitted_rows']:,} others" if record["fitted_rows"] else ""
    return (
        f"{record['metric']} on {record['task']} ({record['origin']}) by {record['method']}: {record['scored_rows']:,} "
        f"rows of its train split{fitted}; {record['students']} students, those that the held-out loss left standing"
    )


def score_name(folder: RunFolder) -> str | None:
    """The name of the score that ranked, such as `stsb spearman`; None where the held-out loss did."""
    record = folder.resolved().get(PROXY)
    return f"{record['task']} {record['metric']}" if record else None
