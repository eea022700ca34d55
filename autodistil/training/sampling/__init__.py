"""Which students a training step draws."""
