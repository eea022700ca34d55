"""The axes of a search space."""
