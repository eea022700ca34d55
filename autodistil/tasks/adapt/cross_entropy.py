"""Plain fine-tuning: the labels alone (Devlin et al. 2019)."""

from autodistil.tasks.adapt.method import Method, supervised

CROSS_ENTROPY = Method(supervised, spans=True)
