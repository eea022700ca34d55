"""Width of the FFN, written as intermediate size / hidden size; the intermediate size is rounded to a whole number."""

from autodistil.space.axes.axis import Axis, Sizes


def _intermediate(ratio: float, sizes: Sizes) -> Sizes:
    return {**sizes, "intermediate_size": max(1, round(ratio * sizes["hidden_size"]))}


MLP_RATIO = Axis(
    "mlp_ratio",
    (0.01, 32),
    letter="F",
    words="FFN size",
    heading="Feed-forward size",
    size="intermediate_size",
    apply=_intermediate,
    number=float,
    required=True,
)
