"""What embeddings of texts and images are worth without training the encoder: cosine similarity, and a linear probe.

Similarity: Spearman and Pearson correlation of the cosine of two embeddings with people's scores (SentEval, Conneau &
Kiela 2018, arXiv 1803.05449). Linear probe: a linear model on frozen embeddings; a pair is [u, v, |u - v|, u * v], as
in InferSent (Conneau et al. 2017, arXiv 1705.02364).

Everything here works on an `Encoder`, so the same code scores a folder and a SuperLM's student that is no folder yet.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from autodistil.data.batch import Batch
from autodistil.errors import ConfigError, TaskError, TeacherError
from autodistil.models.hf_folder import EvaluatedModel, model_errors, usable_length
from autodistil.models.image_processor import load_image_encoder, load_image_reader
from autodistil.models.model_folder import WEIGHTS, weight_files
from autodistil.models.pooling import (
    PLAIN_MODULES,
    embedded,
    linear_head,
    module_kinds,
    read_modules,
    read_pooling,
    read_truncate_dim,
)
from autodistil.models.superlm import SuperLM
from autodistil.space.student import StudentConfig
from autodistil.tasks.batching import BATCH_SIZE, TextBatcher
from autodistil.tasks.catalogue import Split, TaskData, score
from autodistil.tasks.file_forward import Forward, file_forward
from autodistil.tasks.image_batching import ImageBatcher

Encoder = Callable[[Sequence[str]], np.ndarray]
"""texts, or paths of image files -> embeddings (texts, dim)."""

DEFAULT_LENGTH = 128
"""Tokens after which a text is cut."""
DEFAULT_PROBE_ROWS = 10_000
"""Training rows of a probe; more change little and take long."""
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Weights of the summed loss against the L2 penalty that a probe chooses from."""


# ---- encoders


@dataclass(frozen=True)
class PooledEncoder:
    """An `Encoder` that pools the last hidden states of `forward`; a text is run once, however often it comes."""

    forward: Forward
    batches: TextBatcher | ImageBatcher
    pooling: str = "mean"
    """A key of `POOLINGS`."""
    normalize: bool = False
    """Scale embeddings to length 1."""
    head: Tensor | None = None
    """Map (dim, hidden) into the space of an output teacher, applied before they are scaled."""
    truncate_dim: int | None = None
    """Leading dimensions to keep, all unless given; they are not scaled again, as in sentence-transformers."""

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings (texts, dim) of float32, in the order of `texts`."""
        batches, places = self.batches(texts)
        parts = []
        for batch in batches:
            states, mask = self.forward(batch), batch.get("attention_mask")
            pooled = embedded(states, mask, self.pooling, self.head, self.normalize)
            if self.truncate_dim is not None and self.truncate_dim > pooled.shape[1]:
                raise TaskError(
                    f"truncate_dim = {self.truncate_dim}: embeddings have {pooled.shape[1]} dimensions; give fewer"
                )
            parts.append(pooled[:, : self.truncate_dim].float().cpu().numpy())
        return np.concatenate(parts)[places]


def folder_encoder(
    model: EvaluatedModel,
    device: torch.device | str = "cpu",
    max_length: int = DEFAULT_LENGTH,
    truncate_dim: int | None = None,
    exit_layer: int | None = None,
) -> Encoder:
    """The encoder of a Hugging Face folder: pooled as its sentence-transformers pipeline says, else by the mean.

    Of images it is the class token of the last layer, after the model's last norm; an image is run once.

    Args:
        model: the folder.
        device: where to compute.
        max_length: tokens after which a text is cut.
        truncate_dim: leading dimensions to keep; as the pipeline says, or all, unless given.
        exit_layer: how many of its first layers to run; all unless given.

    Raises:
        TeacherError: it cannot be loaded.
        ConfigError: there are no such layers, or not in a file or pipeline.
    """
    kinds, head = module_kinds(model.folder), linear_head(model.folder)
    truncate_dim = truncate_dim or read_truncate_dim(model.folder)
    plain = PLAIN_MODULES.issuperset(kinds) or head is not None
    if exit_layer is not None and (model.file or not plain):
        what = f"file {model.file!r}" if model.file else "a pipeline that sentence-transformers runs"
        raise ConfigError(f"exit_layer = {exit_layer} is for a model's own weights, not for {what}; leave it out")
    if model.reads_images:
        return _image_encoder(model, torch.device(device), truncate_dim, exit_layer)
    if not plain:
        return _library_encoder(model, device, max_length, truncate_dim)
    tokenizer = model.tokenizer()  # first: it refuses models that read no text before their weights are read
    encoder = model.skeleton() if model.file else model.encoder(torch.device(device), exit_layer)
    return PooledEncoder(
        forward=file_forward(model) if model.file else lambda b: encoder(**b).last_hidden_state,
        batches=TextBatcher(tokenizer, usable_length(encoder, tokenizer, max_length), torch.device(device)),
        pooling=read_pooling(model.folder) or "mean",
        normalize="Normalize" in kinds,
        head=head,
        truncate_dim=truncate_dim,
    )


def _image_encoder(
    model: EvaluatedModel, device: torch.device, truncate_dim: int | None, exit_layer: int | None
) -> Encoder:
    """The encoder of a vision encoder; of a file no weights are read."""
    if model.file is not None:
        reader = load_image_reader(model.folder, model.source, model.config, what="model")
        forward = file_forward(model)
    else:
        encoder, reader = load_image_encoder(model, device, exit_layer)

        def forward(batch: Batch) -> Tensor:
            states: Tensor = encoder(**batch).last_hidden_state
            return states

    return remembering(PooledEncoder(forward, ImageBatcher(reader, device), "cls", truncate_dim=truncate_dim))


def remembering(encode: Encoder) -> Encoder:
    """An encoder that embeds a text, or an image file, once, however often and in whatever company it comes.

    It keeps all that it made.
    """
    known: dict[str, np.ndarray] = {}

    def encoder(texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, encode(new), strict=True))
        return np.stack([known[text] for text in texts])

    return encoder


def student_encoder(
    superlm: SuperLM,
    student: StudentConfig,
    batches: TextBatcher | ImageBatcher,
    pooling: str = "mean",
    normalize: bool = False,
) -> Encoder:
    """The encoder of a SuperLM's student, without exporting it; of the weights as they are now.

    Args:
        superlm: a SuperLM.
        student: one of its students.
        batches: made with the student's own tokenizer, a pruned one where its vocabulary is, or image processor.
        pooling: a key of `POOLINGS`.
        normalize: scale embeddings to length 1.
    """
    kept = superlm.kept_tokens(student)
    teacher_ids = None if kept is None else kept.to(superlm.device)
    with torch.no_grad():
        weights = superlm.weights(student)

    def forward(batch: Batch) -> Tensor:
        inputs = batch if teacher_ids is None else {**batch, "input_ids": teacher_ids[batch["input_ids"]]}
        output = superlm.forward(student, inputs, weights, output=True).output
        assert output is not None
        return output

    head = None if isinstance(batches, ImageBatcher) else superlm.output_head(student)  # an export of images has none
    return PooledEncoder(forward, batches, pooling, normalize, head)


def _library_encoder(
    model: EvaluatedModel, device: torch.device | str, max_length: int, truncate_dim: int | None
) -> Encoder:
    """A pipeline with further modules (a dense layer, say), run by sentence-transformers itself.

    Raises:
        TeacherError: it has code of other origin or a pickle, or sentence-transformers is not installed.
    """
    modules = read_modules(model.folder)
    foreign = [module.type for module in modules if module.kind == module.type]
    if foreign:
        raise TeacherError(
            f"model {model.source!r} has the module {foreign[0]!r}; allowed: those of sentence_transformers, "
            "no code of other origin is run"
        )
    for index in model.folder.rglob("*.index.json"):
        weight_files(index.parent)
    own = [path for module in modules if module.path for path in sorted((model.folder / module.path).rglob("*.bin"))]
    pickles = [path for path in own if not (path.parent / WEIGHTS).is_file()]
    if pickles:
        raise TeacherError(
            f"model {model.source!r} has weights in {pickles[0].relative_to(model.folder)}, which is a pickle; "
            "allowed: safetensors; save it again with a current sentence-transformers"
        )
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise TeacherError(
            f"model {model.source!r} has modules that only sentence-transformers runs; "
            "install it with: pip install 'autodistil[sentence-transformers]'"
        ) from error
    with model_errors(model.source):
        pipeline = SentenceTransformer(
            str(model.folder),
            device=str(device),
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
            truncate_dim=truncate_dim,
        )
        pipeline.encode(["one text"], show_progress_bar=False)
    pipeline.max_seq_length = min(max_length, pipeline.max_seq_length or max_length)

    return lambda texts: np.asarray(pipeline.encode(list(texts), batch_size=BATCH_SIZE, show_progress_bar=False))


def check_reads(model: str, reads_images: bool, task: str, images: bool) -> None:
    """Make sure that a model reads what a task is of, images or text; both are as messages call them.

    Raises:
        TaskError: it reads the other.
    """
    if reads_images != images:
        ours, theirs = ("images", "text")[:: 1 if images else -1]
        raise TaskError(f"{task} is of {ours}, {model} reads {theirs}; give one that fits")


# ---- similarity


def embedding_similarity(data: TaskData, encode: Encoder) -> dict[str, float]:
    """Correlation of the cosine of each pair's embeddings with its score, on the evaluated split.

    Returns:
        The task's metrics, in [-1, 1].

    Raises:
        TaskError: the task is not one of scored pairs.
    """
    check_scored_pairs(data)
    first, second = embed_texts(data.evaluated, encode)
    return score(data.task.metrics, data.evaluated.labels, cosines(first, second))


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of two embeddings each, (rows,); 0 with one of zeros."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    found: np.ndarray = (first * second).sum(1) / np.maximum(norms, 1e-12)
    return found


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings (rows, dim) of length 1; those of no length stay."""
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def check_scored_pairs(data: TaskData, instead: str = "--method probe or --finetune") -> None:
    """Make sure that a task has what similarity needs.

    Raises:
        TaskError: it has not.
    """
    if not (data.task.pairs and data.task.regression):
        raise TaskError(f"task {data.task.name!r} has no scored pairs, which similarity needs; use {instead}")


def embed_texts(split: Split, encode: Encoder) -> tuple[np.ndarray, ...]:
    """Embeddings (rows, dim) of the first and, in a task of pairs, of the second texts."""
    if split.text_b is None:
        return (encode(split.text_a),)
    both = encode([*split.text_a, *split.text_b])
    return both[: len(split)], both[len(split) :]


# ---- linear probe


def linear_probe(
    data: TaskData, encode: Encoder, seed: int = 0, max_train: int | None = DEFAULT_PROBE_ROWS, labels: float = 1.0
) -> dict[str, float]:
    """Train logistic (or ridge) regression on frozen embeddings and score it on the evaluated split.

    The penalty is chosen on a fifth of the training rows, never on the evaluated split; then all of them are fitted.

    Args:
        data: the task.
        encode: gives the embeddings.
        seed: decides which rows are left out where there are more than `max_train`.
        max_train: training rows at most, all where None.
        labels: share of these rows that is trained on, of each class.

    Returns:
        The task's metrics.

    Raises:
        TaskError: there is no training split.
    """
    train = data.train(max_train, seed, labels)
    features = _features(train, encode)
    model = _fit(data, features, train.labels, _choose_strength(data, features, train.labels))
    return score(data.task.metrics, data.evaluated.labels, model.predict(_features(data.evaluated, encode)))


def _features(split: Split, encode: Encoder) -> np.ndarray:
    """Inputs of the linear model: (rows, dim), of pairs (rows, 4 * dim)."""
    first, *second = embed_texts(split, encode)
    return np.concatenate([first, *(part for v in second for part in (v, np.abs(first - v), first * v))], axis=1)


def _choose_strength(data: TaskData, features: np.ndarray, labels: np.ndarray) -> float:
    held_out = every_nth(5, labels, data.task.regression)
    if not held_out.any() or len(np.unique(labels[~held_out])) < 2:
        return _STRENGTHS[len(_STRENGTHS) // 2]

    def quality(strength: float) -> float:
        model = _fit(data, features[~held_out], labels[~held_out], strength)
        return score(data.task.metrics[:1], labels[held_out], model.predict(features[held_out]))[data.task.headline]

    return max(_STRENGTHS, key=quality)


def every_nth(n: int, labels: np.ndarray, regression: bool) -> np.ndarray:
    """Every n-th row, of each class where there are classes; (rows,) of bool."""
    groups = np.zeros(len(labels)) if regression else labels
    return (pd.Series(groups).groupby(groups).cumcount() % n == n - 1).to_numpy()


def _fit(data: TaskData, features: np.ndarray, labels: np.ndarray, strength: float) -> Pipeline:
    """A linear model on standardised features."""
    model: Any = Ridge(alpha=1 / strength) if data.task.regression else LogisticRegression(C=strength, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 300 iterations rank students well enough
        return make_pipeline(StandardScaler(), model).fit(features, labels)
