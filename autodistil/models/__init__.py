"""Models: the frozen teacher, families of architectures, and the SuperLM whose slices students are."""
