"""What no Transformer at all would bring: model2vec's static model of the teacher, beside the students in a report.

It is a mean of one vector a token, made in seconds without text (Tulkens & van Dongen 2024, Model2Vec). Its FLOPs are
none, so it is the cheapest point there is. It has no relations, and so no held-out loss, but an agreement.

static.json     what was found, once asked for; reports show it from then on
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from autodistil.errors import ConfigError
from autodistil.evaluation.agreement import TEXTS, rsa_between, teacher_embeddings
from autodistil.run.run import Run
from autodistil.utils import optional_import, quiet, write_text

_INSTALL = "pip install 'autodistil[static]'"


@dataclass(frozen=True)
class StaticModel:
    """A static model of a teacher."""

    dimensions: int
    size_mb: float
    """Of its vectors, in MB of 1,000,000 bytes."""
    rsa: float
    rsa_error: float
    texts: int

    @property
    def words(self) -> str:
        """In a sentence."""
        return (
            f"Without a Transformer: model2vec's static model of the teacher, a mean of one vector a token "
            f"({self.dimensions} dimensions, {self.size_mb:.1f} MB, no FLOPs to speak of), has an agreement of "
            f"{self.rsa:.4f} ± {self.rsa_error:.4f}."
        )


def add_static(run: Run) -> StaticModel:
    """Distil the teacher into a static model, compare it on held-out text, and keep that for reports.

    Raises:
        ConfigError: the teacher gives no embeddings, or there are too few held-out texts.
        ProfileError: model2vec is not installed.
    """
    inputs = run.inputs
    if inputs.teacher.pooling is None or inputs.teacher.images is not None or len(inputs.heldout_texts) < 6:
        raise ConfigError(f"static: {inputs.teacher_name} embeds no text to compare with; leave --static out")
    model2vec = optional_import("model2vec.distill", "--static", _INSTALL, ConfigError)
    with (
        run.progress.track("distilling a static model", 0),
        quiet("transformers", "model2vec"),
        redirect_stderr(io.StringIO()),  # a bar of its own
    ):
        model = model2vec.distill(str(inputs.teacher.folder), device="cpu")
    heldout = inputs.read_embedded(None, TEXTS)
    order = np.concatenate(heldout.rows)
    ours = np.asarray(model.encode(inputs.decoded(inputs.heldout_texts[order]), use_multiprocessing=False))
    found = rsa_between(ours, teacher_embeddings(heldout))
    static = StaticModel(ours.shape[1], model.embedding.nbytes / 1e6, found.value, found.error, len(order))
    write_text(run.folder.static_path, json.dumps(asdict(static), indent=1) + "\n")
    return static


def read_static(path: Path) -> StaticModel | None:
    """What was found before; None where nobody asked, or the file is damaged, as it is found again in seconds."""
    try:
        return StaticModel(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
