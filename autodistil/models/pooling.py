"""Embeddings of texts and images: how a teacher's or student's last hidden states become one vector each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize as normalized

from autodistil.errors import TeacherError, one_line_named
from autodistil.utils import file_sum, is_below, short

Pooling = Callable[[Tensor, "Tensor | None"], Tensor]
"""(hidden states (batch, seq, hidden), mask (batch, seq) or None) -> embeddings (batch, hidden)."""


def mean_pooling(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the real tokens, special ones included (Sentence-BERT, arXiv 1908.10084)."""
    if mask is None:
        return hidden.mean(1)
    weights = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def cls_pooling(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """The first token, which is real wherever padding comes last."""
    return hidden[:, 0]


def max_pooling(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Largest value of each dimension over the real tokens."""
    if mask is not None:
        hidden = hidden.masked_fill(~mask.bool().unsqueeze(-1), -1e9)
    return hidden.amax(1)


POOLINGS: Mapping[str, Pooling] = {"mean": mean_pooling, "cls": cls_pooling, "max": max_pooling}
POOLER = "pooler"
"""The model's own pooled output: a dense layer on the class token, which vision encoders are trained to use."""
POOLING_FLAGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
"""Flag of a sentence-transformers pooling module -> our name."""


def pool(pooling: str | None, hidden: Tensor, pooled: Tensor | None, mask: Tensor | None) -> Tensor:
    """Embeddings (batch, hidden) from last hidden states, or `pooled` where the model pools by itself.

    Args:
        pooling: a key of `POOLINGS`, or `POOLER`; the mean unless given.
        hidden: last hidden states (batch, seq, hidden).
        pooled: the model's pooled output (batch, hidden), for `POOLER`.
        mask: (batch, seq), None where there is no padding.
    """
    if pooling == POOLER:
        assert pooled is not None, "the model has no pooler"
        return pooled
    return POOLINGS[pooling or "mean"](hidden, mask)


def embedded(
    hidden: Tensor,
    mask: Tensor | None,
    pooling: str = "mean",
    head: Tensor | None = None,
    normalize: bool = False,
    dim: int | None = None,
) -> Tensor:
    """Sentence embeddings (batch, dim) of last hidden states (batch, seq, hidden), as a pipeline makes them.

    Args:
        hidden: the states.
        mask: (batch, seq), None where there is no padding.
        pooling: a key of `POOLINGS`.
        head: map (dim, hidden) of the pooled states.
        normalize: scale them to length 1.
        dim: leading dimensions to keep, all unless given; they are not scaled again, as in sentence-transformers.
    """
    pooled = POOLINGS[pooling](hidden, mask)
    pooled = pooled if head is None else pooled @ head.to(pooled).T
    pooled = normalized(pooled, dim=-1) if normalize else pooled
    return pooled[:, :dim]


MODULES = "modules.json"
"""The file that makes a folder one of sentence-transformers."""
PIPELINE_FILES = ("config_sentence_transformers.json", "sentence_bert_config.json")
"""Further files of such a folder, of which it may have both, one or none."""
PLAIN_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})
"""Modules of a sentence-transformers pipeline that are a model, a pooling and a scaling to length 1, no more."""
_LIBRARY = "sentence_transformers."
_HEADED = (("Transformer", "Pooling", "Dense"), ("Transformer", "Pooling", "Dense", "Normalize"))
"""Kinds of the modules of a pipeline with a linear layer, in their order."""


class Module(NamedTuple):
    """A module of a sentence-transformers pipeline."""

    type: str
    """Its class, such as `sentence_transformers.models.Pooling`."""
    path: str
    """Its folder inside the pipeline's, empty for the one itself."""

    @property
    def kind(self) -> str:
        """The name of its class, such as `Pooling`; whole where that is not one of the library."""
        return self.type.rsplit(".", 1)[-1] if self.type.startswith(_LIBRARY) else self.type


def read_modules(folder: Path | None) -> tuple[Module, ...]:
    """The modules of a sentence-transformers folder; none where it is no such folder.

    Raises:
        TeacherError: modules.json is damaged, names a folder elsewhere, or another folder as that of the model.
    """
    if folder is None or not (folder / MODULES).is_file():
        return ()
    advice = "restore it, or remove it to use the folder as a plain encoder"
    try:
        entries = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        modules = tuple(Module(str(entry["type"]), str(entry["path"])) for entry in entries)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = one_line_named(error, 100)
        raise TeacherError(f"modules.json of {str(folder)!r} cannot be read ({reason}); {advice}") from error
    for module in modules:
        if not is_below(module.path) or (module.kind == "Transformer" and module.path):
            raise TeacherError(
                f"modules.json of {str(folder)!r} has its {module.kind} in {short(module.path)}; allowed: folders "
                f"inside, and for a Transformer the folder itself; {advice}"
            )
    return modules


def module_kinds(folder: Path | None) -> tuple[str, ...]:
    """Kinds of a sentence-transformers folder's modules, such as `Pooling`; none where it is no such folder.

    Raises:
        TeacherError: modules.json is damaged.
    """
    return tuple(module.kind for module in read_modules(folder))


def read_pooling(folder: Path | None) -> str | None:
    """The pooling of a sentence-transformers folder (a key of `POOLINGS`); None where it is no such folder.

    Raises:
        TeacherError: its files are damaged, or it pools in another way.
    """
    modules = read_modules(folder)
    if folder is None or not modules:
        return None
    try:
        path = next(module.path for module in modules if module.kind == "Pooling")
        options = json.loads((folder / path / "config.json").read_text(encoding="utf-8"))
        modes = (
            [options["pooling_mode"]]
            if "pooling_mode" in options
            else [n for f, n in POOLING_FLAGS.items() if options[f]]
        )
    except (OSError, ValueError, KeyError, TypeError, StopIteration, RecursionError) as error:
        raise TeacherError(
            f"sentence-transformers folder {str(folder)!r} has no readable pooling ({one_line_named(error, 100)}); "
            "restore it, or remove modules.json to use it as a plain encoder"
        ) from error
    if len(modes) != 1 or str(modes[0]) not in POOLINGS:
        raise TeacherError(f"{str(folder)!r} pools by {modes}; allowed: one of {', '.join(POOLINGS)}")
    return modes[0]


def linear_head(folder: Path | None) -> Tensor | None:
    """The map (dim, hidden) of a folder whose modules are a model, a pooling, a linear layer and, if any, a scaling.

    Raises:
        TeacherError: its files are damaged.
    """
    modules = read_modules(folder)
    if folder is None or tuple(module.kind for module in modules) not in _HEADED:
        return None
    path = folder / modules[2].path
    try:
        options = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if options.get("bias", True) or not str(options.get("activation_function", "")).endswith("Identity"):
            return None
        weights: Tensor = load_file(path / "model.safetensors")["linear.weight"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        reason = one_line_named(error, 100)
        raise TeacherError(f"the Dense module of {str(folder)!r} cannot be read ({reason}); restore it") from error
    return weights


def folder_embedding(folder: Path) -> Callable[[Tensor, Tensor], Tensor] | None:
    """What makes of states and mask the embeddings of a sentence-transformers folder (`embedded`).

    None of a folder that is none, or has further modules.

    Raises:
        TeacherError: its files are damaged.
    """
    kinds, head, pooling = module_kinds(folder), linear_head(folder), read_pooling(folder)
    if pooling is None or not (PLAIN_MODULES.issuperset(kinds) or head is not None):
        return None
    dim, scaled = read_truncate_dim(folder), "Normalize" in kinds
    return partial(embedded, pooling=pooling, head=head, normalize=scaled, dim=dim)


def read_prompts(folder: Path) -> dict[str, str]:
    """What a sentence-transformers folder puts before a `query` and before a `document`; nothing unless it says so.

    Raises:
        TeacherError: its configuration is damaged.
    """
    prompts = _pipeline_options(folder).get("prompts") or {}
    if not isinstance(prompts, dict):
        raise TeacherError(f"prompts of {str(folder / PIPELINE_FILES[0])!r} are no mapping; restore it")
    names = {"query": ("query",), "document": ("document", "passage", "corpus")}
    return {kind: next((str(prompts[n]) for n in spelt if prompts.get(n)), "") for kind, spelt in names.items()}


def vector_bytes(dim: int, bits: int = 32) -> int:
    """Bytes of a stored embedding of so many dimensions, of so many bits each: float32 unless given."""
    return -(-dim * bits // 8)


def read_truncate_dim(folder: Path) -> int | None:
    """To how many leading dimensions a sentence-transformers folder cuts its embeddings; None where to none.

    Raises:
        TeacherError: its configuration is damaged.
    """
    dim = _pipeline_options(folder).get("truncate_dim")
    if dim is not None and (not isinstance(dim, int) or dim < 1):
        raise TeacherError(f"truncate_dim = {dim!r} of {str(folder / PIPELINE_FILES[0])!r} is no number above 0")
    return dim


def pipeline_fingerprint(folder: Path) -> str:
    """Hash of what a sentence-transformers folder makes of its model's states; "" of a plain folder."""
    modules = read_modules(folder)
    names = [path for module in modules if module.path for path in sorted((folder / module.path).rglob("*"))]
    known = [file_sum(path) for path in names if path.is_file() and path.suffix in (".json", ".safetensors")]
    kinds = [module.kind for module in modules]
    return "-".join([*kinds, str(read_truncate_dim(folder) or "whole"), *known]) if modules else ""


def _pipeline_options(folder: Path) -> dict[str, Any]:
    """Those of a sentence-transformers folder as a whole; none where it has no such file."""
    path = folder / PIPELINE_FILES[0]
    try:
        options: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return dict(options)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise TeacherError(f"{str(path)!r} cannot be read ({one_line_named(error, 100)}); restore it") from error
