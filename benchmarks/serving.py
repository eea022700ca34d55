r"""What does a classifier cost in use: milliseconds a text, MB, and how often it is right?

    python benchmarks/serving.py --task cr --data tasks/ --model my-cr-teacher --model my-cr \
        --model my-cr/onnx/model_qint8.onnx --threads 1

Texts of the task's reported split, tokenized and answered one at a time, by PyTorch or, of a file, by ONNX Runtime on
one thread. Each round takes every model once. Rows have no goal: what a loss is worth its user says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common.options import arguments, common_settings, parse, record_path
from bench_common.record import print_table, write_record
from bench_common.timing import Spread, take_turns
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from autodistil.formats.onnx import OnnxRuntime
from autodistil.tasks.catalogue import Split, load_task

Answer = Callable[[str, str | None], np.ndarray]
"""A text, and a second one of pairs -> logits (classes,)."""


def answering(source: Path, length: int) -> tuple[Answer, float]:
    """How a folder, or an ONNX file in one, answers a text, and its MB."""
    folder, file = (source.parents[1], source) if source.suffix == ".onnx" else (source, source / "model.safetensors")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    read = partial(tokenizer, truncation=True, max_length=length)
    if source.suffix == ".onnx":
        run = OnnxRuntime(source).run

        def by_file(first: str, second: str | None) -> np.ndarray:
            batch = read(first, second, return_tensors="np")
            return run({name: batch[name] for name in ("input_ids", "attention_mask")})[0]

        return by_file, file.stat().st_size / 1e6
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    @torch.inference_mode()
    def by_weights(first: str, second: str | None) -> np.ndarray:
        return network(**read(first, second, return_tensors="pt")).logits[0].numpy()

    return by_weights, file.stat().st_size / 1e6


def answers(answer: Answer, split: Split) -> np.ndarray:
    """Of each text, one at a time, (rows, classes)."""
    return np.stack([answer(*pair) for pair in zip(split.text_a, split.text_b or [None] * len(split), strict=True)])


def main() -> int:
    """Measure, print and keep."""
    parser = arguments(__doc__)
    parser.add_argument("--task", required=True, metavar="NAME", help="a task of classes")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of tasks")
    parser.add_argument("--model", type=Path, action="append", required=True, metavar="DIR|FILE", help="repeatable")
    parser.add_argument("--max-length", type=int, default=128, metavar="N", help="tokens of a text [%(default)s]")
    options: argparse.Namespace = parse(parser)
    data = load_task(options.task, options.data)
    split, rows, cases = data.evaluated, [], {}
    for source in options.model:
        answer, size = answering(source, options.max_length)
        row: dict[str, Any] = {
            "model": str(source),
            "accuracy": 100 * data.scores(split, answers(answer, split).argmax(1))["accuracy"],
        }
        rows.append({**row, "MB": size})
        cases[str(source)] = partial(_work, answer, split)
    seconds = take_turns(cases, options.rounds, clock=options.clock)
    rows = [{**row, "ms a text": Spread.of([1e3 * one / len(split) for one in seconds[row["model"]]])} for row in rows]
    print_table(rows)
    more = {"task": options.task, "texts": len(split), "max_length": options.max_length}
    print(write_record(record_path(options, "serving"), rows, common_settings(options) | more))
    return 0


def _work(answer: Answer, split: Split) -> None:
    answers(answer, split)


if __name__ == "__main__":
    sys.exit(main())
