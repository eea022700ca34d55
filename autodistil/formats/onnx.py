"""A student as an ONNX file: one graph for all batch sizes and lengths, compared with PyTorch before it is called done.

Exported with `torch.onnx.export(dynamo=True)` at opset 20 (the first with a `Gelu` operator). Inputs are `input_ids`
and `attention_mask` (batch, sequence), or `pixel_values` (batch, channels, height, width) with only the batch free; the
output is `last_hidden_state` (batch, sequence, hidden), or of a model with a head `logits` (batch, outputs), of words
(batch, sequence, outputs): the names that Hugging Face uses. A decoder's are those of the next token (batch, sequence,
vocabulary); its [cache](kv_cache.py) is among inputs and outputs. Of a sentence encoder a second one is
`sentence_embedding` (batch, dim), Optimum's name: pooled, mapped and scaled as its pipeline does it. Readers of the
first output see no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autodistil.errors import ProfileError
from autodistil.formats.format import Embed, Format, Origin, Runtime, check_cuda
from autodistil.formats.inputs import Axes, Inputs, inputs_of
from autodistil.formats.kv_cache import PAST, Heads, cached_decoder, token_by_token, whole
from autodistil.formats.parity import Case, Parity, agreement, answer_of, check_agreement, parity_cases
from autodistil.utils import atomic_path, copy_file, optional_import, quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

OPSET = 20
EMBEDDING = "sentence_embedding"
"""Name of the output of embeddings."""
INSTALL = "pip install 'autodistil[onnx]'"
WRITING = ("onnx", "onnxscript")
"""What exporting needs beside ONNX Runtime."""


def export_onnx(
    model: PreTrainedModel, path: Path, cases: Sequence[Case] | None = None, embed: Embed | None = None
) -> Parity:
    """Write a model to an ONNX file, whole and checked or not at all.

    Args:
        model: an encoder, one with a head or a decoder, on the CPU, in eval mode.
        path: of the file.
        cases: what it must answer as PyTorch does; `parity_cases` unless given.
        embed: what makes sentence embeddings of its states, a second output.

    Returns:
        How close ONNX Runtime comes to PyTorch.

    Raises:
        ProfileError: onnx, onnxscript or onnxruntime is not installed.
        IntegrityError: the outputs differ.
        RunError: the disk refuses.
    """
    for library in (*WRITING, "onnxruntime"):
        require(library)
    program = _export(model, embed)
    with atomic_path(path) as temporary:
        for node in program.model.graph:
            node.metadata_props.clear()  # where in the source each one comes from: as large as a small student
        program.save(str(temporary), external_data=False)
        found = agreement(OnnxRuntime(temporary).run, parity_cases(model) if cases is None else cases)
        return check_agreement(found, f"the ONNX export {path.name!r}")


def onnx_file(origin: Origin) -> Path:
    """The ONNX file of a student, exported by the first format that is made from it."""
    path = origin.scratch / "model.onnx"
    if not path.is_file():
        export_onnx(origin.model, path, origin.cases, origin.embed)
    return path


def write_onnx(origin: Origin, path: Path) -> None:
    """Export a student."""
    copy_file(onnx_file(origin), path)


def require(module: str) -> Any:
    """A module of the extra `onnx`.

    Raises:
        ProfileError: it is not installed, with the line that installs it.
    """
    return optional_import(module, "ONNX", INSTALL, ProfileError)


def _export(model: PreTrainedModel, embed: Embed | None) -> Any:
    """The graph of a model, without what else Hugging Face returns (a pooler not in the file would be random)."""
    import torch  # the runner for phones holds this file too

    if model.can_generate():
        cached = cached_decoder(model)
        return _traced(cached.module, cached.example, cached.axes, cached.outputs)
    answer, kind = answer_of(model), inputs_of(model)

    class Answer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model

        def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            """Inputs in the order of `kind.axes` -> (batch, sequence, hidden), (batch, [sequence,] outputs).

            And embeddings (batch, dim), where there are some.
            """
            inputs = dict(zip(kind.axes, values, strict=True))
            states: torch.Tensor = getattr(self.encoder(**inputs), answer)
            return (states,) if embed is None else (states, embed(states, inputs["attention_mask"]))

    arrays = kind.random(2, 8)
    example = {name: torch.from_numpy(arrays[name]) for name in kind.axes}
    return _traced(Answer().eval(), example, kind.axes, [answer, *([] if embed is None else [EMBEDDING])])


def _traced(module: torch.nn.Module, example: Mapping[str, torch.Tensor], axes: Axes, outputs: Sequence[str]) -> Any:
    """The graph of a module whose `forward(*values)` takes inputs in the order of the example."""
    import torch

    with quiet("root", "torch.onnx"), torch.no_grad():
        return torch.onnx.export(
            module,
            tuple(example.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(example),
            output_names=list(outputs),
            dynamic_shapes={"values": tuple(axes[name] for name in example)},
            verbose=False,
        )


class OnnxRuntime(Runtime):
    """ONNX Runtime, all graph optimisations."""

    embeds = True

    def __init__(self, path: Path, threads: int = 1, device: str = "cpu") -> None:
        onnxruntime = require("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Threads that spin after a forward would take the processor from the reference kernel.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
        self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        past = [one for one in self.session.get_inputs() if one.name.startswith(PAST)]
        self._heads: Heads = {one.name: (one.shape[1], one.shape[3]) for one in past}

    def work(self, inputs: Inputs) -> Callable[[], Any]:
        """One forward, padded or not; of a decoder over whole texts, with a past of no tokens."""
        given = whole(inputs, self._heads) if self._heads else inputs
        return lambda: self.session.run(None, given)[0]

    def continued(self, inputs: Inputs) -> NDArray[np.float32]:
        """Logits (batch, seq, vocabulary) of a decoder's whole texts, read token by token through its cache."""
        return token_by_token(lambda given: self.session.run(None, given), inputs, self._heads)

    def embed(self, inputs: Inputs) -> NDArray[np.float32]:
        """Sentence embeddings (batch, dim)."""
        found: NDArray[np.float32] = self.session.run([EMBEDDING], inputs)[0]
        return found


def check_provider() -> None:
    """Refuse a build without CUDA, and a machine without it.

    Raises:
        ProfileError: it is one.
    """
    if "CUDAExecutionProvider" not in require("onnxruntime").get_available_providers():
        raise ProfileError(
            "device: got 'cuda', which this onnxruntime has no provider for; "
            "run: pip install onnxruntime-gpu, or use --device cpu"
        )
    check_cuda()


ONNX = Format(
    write_onnx,
    OnnxRuntime,
    ("onnxruntime",),
    INSTALL,
    writing=WRITING,
    file="onnx/model.onnx",
    check_cuda=check_provider,
)
"""The file is what Optimum and sentence-transformers (`backend="onnx"`) open."""
