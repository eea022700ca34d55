"""The stages of a run, a file each. Their entry points take a `Run`, what they call takes the pieces that it needs."""
