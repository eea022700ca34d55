"""Width: the hidden size, dimensions of the residual stream."""

from autodistil.space.axes.axis import Axis

HIDDEN_SIZE = Axis("hidden_size", (1, 32_768), letter="H", words="hidden size", heading="Hidden size", required=True)
