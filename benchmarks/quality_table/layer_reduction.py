"""Layer reduction, what users of sentence-transformers would do instead of a search, made by that library itself.

A student keeps some of the teacher's layers at full width and learns its embeddings by their mean squared error, with
the settings of the library's example model_distillation_layer_reduction (`MSELoss`, AdamW with a peak learning
rate of 1e-4, a tenth of the steps to warm up, linear decay, one epoch, fp16 on GPUs), from
https://github.com/huggingface/sentence-transformers/tree/main/examples/sentence_transformer/training/distillation

It sees the sentences of our SuperLMs' training, step by step in the same order: those of a step are of like length, so
that little is padding, and the teacher embeds each once for all rows. The example keeps evenly spread layers; here all
choices are tried, or where there are many those that the example names and the one from the first to the last layer.
The choice whose embeddings are nearest to the teacher's on held-out sentences before any training is taken, so nothing
that is reported decides it.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn
from torch.utils.data import SequentialSampler

from autodistil.data.batch import PADDING
from autodistil.evaluation.embedding import Encoder, remembering
from autodistil.space.student import Candidate
from autodistil.stages.refining import refining_recipe
from autodistil.stages.training import recipe_of
from quality_table.bench import Bench, Skip
from quality_table.compute import own_step_cost, run_cost
from quality_table.drafts import budget_of, student_facts
from quality_table.rows import RowSpec
from quality_table.shapes import truncated

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LEARNING_RATE, WARMUP = 1e-4, 0.1
"""Those of the example."""
MOST_CHOICES = 100
"""Choices of layers up to which all are tried: 20 of 3 out of 6 are, 495 of 4 out of 12 are not."""


def make_layer_reduction(bench: Bench, spec: RowSpec, folder: Path) -> dict[str, Any]:
    """Write the student of a row to `folder`; returns what the table says of it.

    Raises:
        Skip: not one whole layer fits, or the library is not there.
    """
    run, teacher = bench.run, bench.run.inputs.teacher
    dims = truncated(teacher.dims, teacher.encoder_shape, run.config.seq_len, bench.limit(budget_of(spec)))
    if dims is None:
        raise Skip("not one layer of full width fits into the budget")
    source, embed = sentence_transformer(bench)
    bench.trained()
    heldout = _texts(bench, run.inputs.heldout_texts)
    layers, error = best_layers(source, heldout, layer_choices(teacher.dims.num_layers, dims.num_layers))
    steps, a_step = bench.steps, own_step_cost(run, {dims: 1.0})
    if spec.kind == "layer-reduction-equal-compute":
        steps = max(1, round(_cost_of_a_pick(bench, budget_of(spec)) / a_step))
    rate = LEARNING_RATE
    if spec.kind == "layer-reduction-our-rate":
        rate = recipe_of(run.config, steps).peak_rate(dims.hidden_size)
    text = run.inputs.training_text
    texts = [one for step in range(steps) for one in _texts(bench, text.step_samples(step))]
    student = reduced(source, layers)
    with bench.progress.track(f"layer reduction to {', '.join(map(str, layers))}", steps) as advance:
        train(student, texts, embed(texts), text.samples_a_step, rate, run.config.seed, lambda: advance(1))
    student.save(str(folder), create_model_card=False)
    tokens = steps * int(run.folder.resolved()["tokens_a_step"])
    facts = {"steps": steps, "tokens": tokens, "training_flops": steps * a_step, "learning_rate": rate}
    return {**student_facts(run, Candidate(spec.kind, dims)), **facts, "layers": layers, "untrained_mse": error}


def _cost_of_a_pick(bench: Bench, budget: float) -> float:
    """Multiply-adds of our pick: its part of all SuperLMs, and its refinement."""
    run = bench.run
    alone = refining_recipe(run.config, run.folder.resolved()).steps * own_step_cost(
        run, {bench.pick(budget).config: 1.0}
    )
    return run_cost(run) / len(bench.settings.budgets) + alone


def sentence_transformer(bench: Bench) -> tuple[SentenceTransformer, Encoder]:
    """The teacher as sentence-transformers loads it, and its embeddings, of which each text has one for all rows."""
    teacher = bench.run.inputs.teacher
    if teacher.folder is None or teacher.family.causal or teacher.images is not None:
        raise Skip("sentence-transformers reads no such teacher")
    try:
        import accelerate  # noqa: F401  what the trainer of transformers asks for
        import sentence_transformers  # noqa: F401
    except ImportError as error:
        raise Skip(f"{error.name} is not installed: pip install 'autodistil[controls]'") from error
    return _loaded(str(teacher.folder), str(bench.device), bench.run.config.seq_len)


@lru_cache(maxsize=1)
def _loaded(folder: str, device: str, max_length: int) -> tuple[SentenceTransformer, Encoder]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device=device, trust_remote_code=False)
    model.max_seq_length = max_length
    return model, remembering(lambda texts: model.encode(list(texts), show_progress_bar=False))


def layer_choices(layers: int, kept: int) -> list[tuple[int, ...]]:
    """The choices of `kept` out of the teacher's layers that are tried."""
    if math.comb(layers, kept) <= MOST_CHOICES:
        return list(combinations(range(layers), kept))
    stride = layers / kept
    even = [[int(i * stride + offset) for i in range(kept)] for offset in (0, (stride - 1) / 2, stride - 1)]
    return list(dict.fromkeys(map(tuple, [*even, [round(i * (layers - 1) / (kept - 1)) for i in range(kept)]])))


def best_layers(
    teacher: SentenceTransformer, texts: Sequence[str], choices: Iterable[tuple[int, ...]]
) -> tuple[tuple[int, ...], float]:
    """The layers whose embeddings of `texts` are nearest to the teacher's without training, and their squared error."""
    wanted = teacher.encode(list(texts), show_progress_bar=False)

    def error(layers: tuple[int, ...]) -> float:
        embeddings = reduced(teacher, layers).encode(list(texts), show_progress_bar=False)
        return float(np.mean((embeddings - wanted) ** 2))

    found = min((error(layers), layers) for layers in choices)
    return found[1], found[0]


def reduced(teacher: SentenceTransformer, layers: Iterable[int]) -> SentenceTransformer:
    """A copy of the teacher that keeps some of its layers."""
    student, kept = copy.deepcopy(teacher), set(layers)
    model = student.transformers_model
    assert model is not None, "loaded from a folder of transformers"
    depth = model.config.num_hidden_layers
    stack = next(part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)
    for layer in reversed(range(depth)):
        if layer not in kept:
            del stack[layer]
    model.config.num_hidden_layers = len(kept)
    return student


def train(
    student: SentenceTransformer,
    texts: Sequence[str],
    labels: np.ndarray,
    batch_size: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[], None],
) -> None:
    """One epoch of the library's own trainer over `texts`, in their order, towards the teacher's embeddings of them."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer.losses import MSELoss
    from transformers import PrinterCallback, TrainerCallback

    class Steps(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            on_step()

    on_cpu = student.device.type == "cpu"
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=batch_size,
            learning_rate=learning_rate,
            warmup_steps=WARMUP,
            batch_sampler=lambda data, **options: DefaultBatchSampler(SequentialSampler(data), **options),
            fp16=student.device.type == "cuda",
            use_cpu=on_cpu,
            dataloader_pin_memory=not on_cpu,
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SentenceTransformerTrainer(
            model=student,
            args=arguments,
            train_dataset=Dataset.from_dict({"sentence": list(texts), "label": labels}),
            loss=MSELoss(student),
            callbacks=[Steps()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    student.eval()


def _texts(bench: Bench, samples: np.ndarray) -> list[str]:
    """Token ids (texts, tokens) as text, for a library that tokenises again."""
    rows = [[int(token) for token in row if token != PADDING] for row in samples]
    texts: list[str] = bench.run.inputs.teacher.tokenizer.batch_decode(rows, skip_special_tokens=True)
    return texts
