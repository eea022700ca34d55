"""Corpora as arrays: sources, tokenised cache, packed sequences, images, and the order of training."""
