"""Find a student of a teacher under a budget and use it: python examples/search_students.py [options as key=value]."""

from __future__ import annotations

import sys

import torch
import yaml
from transformers import AutoModel, AutoTokenizer

import autodistil


def main(arguments: list[str]) -> None:
    """Search with the embedded defaults unless told otherwise, such as `budgets=[300MFLOPs] train_steps=20`."""
    options = {"budgets": ["500MFLOPs"], "train_steps": 20}
    options |= {key: yaml.safe_load(value) for key, value in (argument.split("=", 1) for argument in arguments)}
    result = autodistil.search(options.pop("run", None), **options)
    print(result.pareto[["flops", "params", "loss"]])
    print(f"best: {result.best}, exported to {result.student.path}")

    model = AutoModel.from_pretrained(result.student.path)
    tokenizer = AutoTokenizer.from_pretrained(result.student.path)
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "The stock market fell on Monday."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    embeddings = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    print("cosine similarities to the first sentence:", (embeddings @ embeddings[0]).tolist())


if __name__ == "__main__":
    main(sys.argv[1:])
