"""On-policy distillation: students learn on text that they write themselves (GKD, Agarwal et al., arXiv 2306.13649).

A share of the steps has its texts rewritten by the largest student of the SuperLM, as its weights stand then; the
teacher reads them, and all students of the step are compared with it there. No gradient goes through the sampling, as
in GKD. Departures: which steps is a pattern and no draw; the largest student writes for all of them, which share its
weights; and the first tokens, which come from the training text, count in the loss.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch

from autodistil.data.batch import Batch
from autodistil.models.generation import rewritten
from autodistil.models.superlm import SuperLM
from autodistil.training.recipe import Recipe
from autodistil.utils import evenly


def is_on_policy(recipe: Recipe, step: int) -> bool:
    """Whether students write the texts of a step."""
    return evenly(recipe.on_policy, step) > evenly(recipe.on_policy, step - 1)


def own_texts(superlm: SuperLM, batches: Sequence[Batch], recipe: Recipe, step: int) -> list[Batch]:
    """Batches of texts without padding, rewritten by the largest student: by weights, seed and step alone."""
    model = superlm.extract(superlm.sub_space.largest).to(superlm.device)  # type: ignore[arg-type]  # its wrapper
    head = model.get_output_embeddings().weight
    (seed,) = np.random.SeedSequence([recipe.seed, step, zlib.crc32(superlm.sub_space.name.encode())]).generate_state(1)
    generator = torch.Generator(superlm.device).manual_seed(int(seed))
    return [
        {**batch, "input_ids": rewritten(model.base_model, head, batch["input_ids"], generator)} for batch in batches
    ]
