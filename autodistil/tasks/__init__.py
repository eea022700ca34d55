"""Labelled tasks: data, metrics and fine-tuning."""
