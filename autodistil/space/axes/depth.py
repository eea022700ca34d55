"""Depth: the number of Transformer layers. Which of the teacher's a student starts from, a layer map says."""

from autodistil.space.axes.axis import Axis

NUM_LAYERS = Axis("num_layers", (1, 512), letter="L", words="layers", heading="Layers", required=True)
