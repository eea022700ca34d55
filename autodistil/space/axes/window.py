"""Local attention (Longformer, arXiv 2004.05150): tokens that a layer attends to, and which layers see all the same.

An encoder's window lies around a token, half to either side of it (ModernBERT); a decoder's ends with it, itself
included (Mistral, arXiv 2310.06825). Local layers of encoders stay those of the teacher; of decoders all layers are
local, but for each `global_every`-th from the first on.
"""

from autodistil.space.axes.axis import Axis, Sizes


def _global_every(every: int, sizes: Sizes) -> Sizes:
    """Where the teacher's own attention is kept, no layer is made global."""
    return {**sizes, "global_every": every if sizes.get("window", True) else None}


WINDOW = Axis(
    "window",
    (2, 1_000_000),
    letter="W",
    words="window of local attention",
    heading="Window",
    of_teacher=lambda student, shape: shape.window,
    or_whole=True,
    shapes_weights=False,
    format=",",
)
GLOBAL_EVERY = Axis(
    "global_every",
    (1, 512),
    letter="G",
    words="layers to a global one",
    heading="Layers to a global one",
    apply=_global_every,
    of_teacher=lambda student, shape: 0,
    shapes_weights=False,
)
WINDOWS = (WINDOW.name, GLOBAL_EVERY.name)
"""Both axes."""
