"""Training of SuperLMs. Needs torch, transformers and numpy only."""
