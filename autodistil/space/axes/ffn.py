"""Width of the FFN, written as intermediate size / hidden size; the intermediate size is rounded to a whole number."""

from autodistil.space.axes.axis import Axis

MLP_RATIO = Axis(
    "mlp_ratio",
    (0.01, 32),
    letter="F",
    words="FFN size",
    heading="Feed-forward size",
    size="intermediate_size",
    apply=lambda ratio, sizes: {
        **sizes,
        "intermediate_size": max(1, round(ratio * sizes["hidden_size"])) if ratio else 0,
    },
    number=float,
    required=True,
    by_layer=True,
)
