"""What a format is: what writes a student, what loads and runs it, what that needs, and how near it is to PyTorch."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from autodistil.errors import ProfileError
from autodistil.formats.inputs import Inputs
from autodistil.formats.parity import Case, with_embeddings
from autodistil.utils import optional_import

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Embed = Callable[["Tensor", "Tensor"], "Tensor"]
"""Last hidden states (batch, seq, hidden) and mask (batch, seq) -> sentence embeddings (batch, dim)."""


class Runtime(ABC):
    """A student, loaded.

    Args:
        path: what its format wrote.
        threads: of the CPU.
        device: `cpu` or `cuda`.
    """

    queued: ClassVar[bool] = False
    """Whether on CUDA its work is not done when it returns, so that it must be timed by events."""
    embeds: ClassVar[bool] = False
    """Whether it also gives the embeddings of a file that holds them (`Origin.embed`)."""

    @abstractmethod
    def __init__(self, path: Path, threads: int, device: str) -> None: ...

    @abstractmethod
    def work(self, inputs: Inputs) -> Callable[[], Any]:
        """One forward of these inputs, which lie where it reads them."""

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Last hidden states (batch, seq, hidden)."""
        states: NDArray[np.float32] = self.work(inputs)()
        return states

    def embed(self, inputs: Inputs) -> NDArray[np.float32]:
        """Sentence embeddings (batch, dim), where it `embeds`."""
        raise NotImplementedError

    def continued(self, inputs: Inputs) -> NDArray[np.float32]:
        """Logits (batch, seq, vocabulary) of whole texts, read token by token, of a decoder's file with a cache."""
        raise NotImplementedError


@dataclass(frozen=True)
class Origin:
    """What a format is written from."""

    model: PreTrainedModel
    """An encoder on the CPU, in eval mode."""
    cases: Sequence[Case]
    """What every file must answer as PyTorch does."""
    scratch: Path
    """A folder for files that several formats are made from."""
    embed: Embed | None = None
    """What makes embeddings of its states, of a sentence encoder: a further output of files that can hold it."""
    samples: Sequence[Inputs] = ()
    """Real texts or images, of which ranges of activations are taken."""

    @property
    def calibration(self) -> Sequence[Inputs]:
        """The samples; where there are none, what the cases read, which are few and partly random."""
        return self.samples or [case.inputs for case in self.cases]

    @property
    def embedding_cases(self) -> list[Case]:
        """The same inputs with their embeddings by PyTorch; none of a model that makes none."""
        return [] if self.embed is None else [with_embeddings(case, self.embed) for case in self.cases]


def files_of(path: Path) -> list[Path]:
    """What of a format lies at its path: a file, the one of its weights beside it (OpenVINO's .bin), or a folder's."""
    return sorted(path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.stem}.*"))


def check_cuda() -> None:
    """Refuse a machine without a CUDA device; PyTorch names it.

    Raises:
        ProfileError: there is none.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise ProfileError("device: got 'cuda', which only PyTorch's build finds; use --device cpu") from None
    if not torch.cuda.is_available():
        raise ProfileError("device: got 'cuda', which is not available here; allowed here: cpu; use --device cpu")


@dataclass(frozen=True)
class Format:
    """One form in which a student runs outside of the engine."""

    write: Callable[[Origin, Path], None]
    """Writes a student to a path, or raises a `ProfileError` where a library is not installed."""
    load: Callable[[Path, int, str], Runtime]
    """Path, threads and device -> the student."""
    libraries: tuple[str, ...]
    """Distributions that loading needs; their versions go into the table of a device."""
    install: str
    """The line that installs them."""
    writing: tuple[str, ...] = ()
    """Modules that writing needs beside those."""
    file: str | None = None
    """Within a student's folder, where its libraries look for it; None: it runs the Hugging Face files themselves."""
    measured: Format | None = None
    """Whose file it loads when it is measured; None: its own."""
    min_cosine: float | None = None
    """Smallest mean cosine of tokens with PyTorch: below it, something is broken. None: only rounding differs."""
    own_bits: bool = False
    """Its weights have the student's own bits; where not, students that differ in these are one."""
    ranges: bool = False
    """Holds ranges of activations, which are taken of `Origin.samples`."""
    devices: tuple[str, ...] = ("cpu", "cuda")
    check_cuda: Callable[[], None] = check_cuda

    def check_writing(self) -> None:
        """Import what writing needs: it comes last in an export, and the rest takes a while.

        Raises:
            ProfileError: one of them is not installed.
        """
        for library in (*self.libraries, *self.writing):
            optional_import(library, "this format", self.install, ProfileError)

    def check(self, device: str) -> None:
        """Import the libraries, and look for the device.

        Raises:
            ProfileError: one of them is not there.
        """
        for library in self.libraries:
            optional_import(library, "this runtime", self.install, ProfileError)
        if device not in self.devices:
            raise ProfileError(f"device: got {device!r}; this runtime knows: {', '.join(self.devices)}; choose one")
        if device == "cuda":
            self.check_cuda()

    def versions(self) -> dict[str, str]:
        """The versions of its libraries."""
        return {library: metadata.version(library) for library in self.libraries}
