"""The cheapest student of all: one vector a token, made by model2vec's `distill` of the teacher.

A text is the weighted mean of its tokens' vectors (Minish Lab's Model2Vec: the teacher's output for each token alone,
principal components, weights by rank of the token), so that there is no layer to multiply by: its FLOPs are none. No
text is needed to make it. Settings are those of the library.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autodistil.evaluation.embedding import Encoder
from autodistil.utils import quiet
from quality_table.bench import Bench, Skip
from quality_table.rows import RowSpec
from quality_table.shapes import forward_flops

MODEL_TYPE = "model2vec"
_TOKENS = 3
"""Of the text that a token's vector is the teacher's answer to: itself and what the tokenizer puts around it."""


def make_static(bench: Bench, spec: RowSpec, folder: Path) -> dict[str, Any]:
    """Distil the teacher into `folder`; returns what the table says of it.

    Raises:
        Skip: model2vec is not installed, or the teacher is no local folder.
    """
    try:
        from model2vec.distill import distill
    except ImportError as error:
        raise Skip("it is made by model2vec; install it with: pip install 'autodistil[controls]'") from error
    teacher = bench.run.inputs.teacher
    if teacher.folder is None:
        raise Skip("the teacher is no local folder")
    with quiet("transformers"):
        model = distill(str(teacher.folder), device=str(bench.device))
        model.save_pretrained(folder)
    rows, width = model.embedding.shape
    cost = forward_flops(teacher.dims, teacher.encoder_shape, _TOKENS)
    return {
        "label": f"static, {width} dimensions",
        "id": "static",
        "flops": 0,
        "flops_share": 0.0,
        "params": rows * width,
        "size_mb": (folder / "model.safetensors").stat().st_size / 1e6,
        "steps": 0,
        "tokens": 0,
        "training_flops": float(rows * cost),
    }


def is_static(folder: Path) -> bool:
    """Whether a folder holds such a model."""
    path = folder / "config.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("model_type") == MODEL_TYPE


def static_encoder(folder: Path, max_length: int) -> Encoder:
    """Its embeddings (texts, dim) of texts that are cut after `max_length` tokens."""
    from model2vec import StaticModel

    with quiet():
        model = StaticModel.from_pretrained(folder)

    def encode(texts: Sequence[str]) -> np.ndarray:
        embeddings = model.encode(list(texts), max_length=max_length, use_multiprocessing=False)
        return np.asarray(embeddings, dtype=np.float32)

    return encode
