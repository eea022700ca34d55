"""What does a student score under a budget in MB: of floats, of 8 bits, or of the bits that a search picks?

Each row is a search under a budget, its pick refined alone and scored by the file that is served: `floats`, with a
pruned vocabulary (model.safetensors); `8 bits`; `few bits`, embeddings of 2, 4 or 8 and layers of 4 or 8 bits, rounded
in every forward of the training (onnx/model_bits.onnx). `rounded` is the architecture of that pick, trained alone as
floats for as many steps and rounded afterwards, `floats before` is that student before. Goals: 4 bits at most 0.5
points below floats at a fifth of their bytes, 8 bits at most 0.1; at 5 MB 2 points above the best student of floats.
`--times` times files of the default teacher in turns. Goal: 4 bits no slower than 8.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
import yaml
from bench_common.options import arguments, common_settings, parse, record_path
from bench_common.record import print_table, write_record
from bench_common.timing import ratio, take_turns
from transformers import AutoModel

from autodistil.api import search
from autodistil.errors import BudgetError
from autodistil.evaluation.evaluate import evaluate
from autodistil.formats import FORMATS
from autodistil.formats.format import Origin
from autodistil.formats.onnx import OnnxRuntime
from autodistil.formats.onnx_bits import ONNX_BITS
from autodistil.formats.parity import parity_cases
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.space.files import load_space, space_to_dict
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.space.student import Candidate, StudentConfig
from autodistil.utils import Progress, write_text

HOME = Path("runs") / "benchmarks" / "quantised"
FILE = str(ONNX_BITS.file)
QUANTISED = "minilm-l6-h384-quantised"
SIZES = {"quick": {"budgets": [5], "train_steps": 2, "refine_steps": 2, "trials": 4}}


def written(space: SearchSpace, home: Path) -> str:
    """A space as a file that a run is given."""
    return str(write_text(home / f"{space.name}.yaml", yaml.safe_dump(space_to_dict(space), sort_keys=False)))


def space_of(way: str, home: Path) -> str:
    """The space of a way to spend bytes."""
    if way == "floats":
        return "minilm-l6-h384-small-vocab"
    whole = load_space(QUANTISED)
    bits = {"8 bits": ((8,), (8,)), "few bits": ((2, 4, 8), (4, 8))}[way]
    subs = tuple(sub.with_axes(embedding_bits=bits[0], layer_bits=bits[1]) for sub in whole.sub_spaces)
    return written(SearchSpace(way.replace(" ", "-"), way, subs), home)


class _Said(Progress):
    def say(self, message: str) -> None:
        print(message, flush=True)


class Bench:
    """Searches of one seed, each in a run folder of its own that goes on where it stopped."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        self.options, self.seed, self.home = options, seed, options.work / f"seed{seed}"

    def searched(self, name: str, space: str, budget: float, train_steps: int, refine_steps: int) -> Any:
        """The result of a search."""
        return search(
            self.home / name,
            budgets=[f"{budget:g}MB"],
            space=space,
            corpus=self.options.corpus,
            train_steps=train_steps,
            refine_steps=refine_steps,
            trials=self.options.trials,
            precision="bf16",
            seed=self.seed,
            threads=self.options.threads,
            resume=True,
            progress=_Said(),
        )

    def row(self, way: str, budget: float, student: str, folder: Path, file: str | None) -> dict[str, Any]:
        """What the file of a student scores and takes."""
        data, found = self.options.data, {}
        for split in ("dev", "test"):
            (result,) = evaluate(str(folder), ["stsb"], data, file=file, write=False, split=split).results
            found[f"STS-B {split}"] = 100 * result.metrics["spearman"][0]
        size = (folder / (file or "model.safetensors")).stat().st_size / 1e6
        return {"budget, MB": budget, "way": way, "seed": self.seed, "student": student, "MB": size, **found}

    def rows(self, budget: float) -> Iterator[dict[str, Any]]:
        """All ways under one budget."""
        steps = self.options.train_steps, self.options.refine_steps
        for way in ("few bits", "8 bits", "floats"):
            try:
                result = self.searched(way.replace(" ", "-"), space_of(way, self.options.work), budget, *steps)
            except BudgetError:  # word embeddings alone are more
                yield {"budget, MB": budget, "way": way, "seed": self.seed, "student": "none"}
                continue
            file = None if way == "floats" else FILE
            folder = result.run / "students" / result.best
            yield self.row(way, budget, result.best, folder, file)
            if way == "few bits":
                yield from self.rounded(budget, Candidate.of_id(result.best).config)

    def rounded(self, budget: float, student: StudentConfig) -> Iterator[dict[str, Any]]:
        """The same student, trained as floats and rounded afterwards."""
        plain = student.architecture
        sub_space = SubSpace.of_student("alone", plain)
        space = written(SearchSpace(plain.label, "one student", (sub_space,)), self.options.work)
        result = self.searched(f"alone-{plain.label}", space, 1000, self.options.refine_steps, 1)
        folder = result.run / "students" / result.best
        model = AutoModel.from_pretrained(folder).eval()
        model.config.weight_bits = student.weight_bits
        (folder / "onnx").mkdir(exist_ok=True)
        with TemporaryDirectory() as scratch:  # as it comes: an export would refuse one that has left its student
            ONNX_BITS.write(Origin(model, parity_cases(model), Path(scratch)), folder / FILE)
        yield self.row("floats before", budget, plain.label, folder, None)
        yield self.row("rounded", budget, student.label, folder, FILE)


SHAPES = ((1, 16), (1, 128), (8, 128))
"""(texts, tokens) of a forward that is timed."""


def timed(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of a forward of the default teacher by each file over that of its float32 one, and the files' sizes.

    `MatMulNBits` is ONNX Runtime's own way to 4 bits, with a scale for 32 inputs; `of 8 bits` has it quantise
    activations too (accuracy_level 4).
    """
    network = EvaluatedModel.open("all-MiniLM-L6-v2").encoder(torch.device("cpu"))
    with TemporaryDirectory() as scratch:
        home = Path(scratch)
        origin = Origin(network, parity_cases(network), home)
        files = {name: home / f"{name}.onnx" for name in ("onnx", "onnx-int8", "onnx-bits")}
        for name, path in files.items():
            FORMATS[name].write(origin, path)
        for name, level in (("MatMulNBits", 0), ("MatMulNBits of 8 bits", 4)):
            files[name] = home / f"{name}.onnx"
            _matmulnbits(files["onnx"], files[name], level)
        runtimes = {name: OnnxRuntime(path, options.threads or 1) for name, path in files.items()}
        rows: dict[str, dict[str, Any]] = {
            name: {"file": name, "MB": path.stat().st_size / 1e6} for name, path in files.items()
        }
        for batch, tokens in SHAPES:
            ids = np.random.default_rng(0).integers(1000, network.config.vocab_size, (batch, tokens))
            cases = {
                name: partial(_forwards, runtime, ids, max(1, 512 // (batch * tokens)))
                for name, runtime in runtimes.items()
            }
            seconds = take_turns(cases, options.rounds, clock=options.clock)
            for name in files:
                rows[name][f"time, {batch} x {tokens}"] = ratio(seconds, name, "onnx")
        return list(rows.values())


def _forwards(runtime: OnnxRuntime, ids: np.ndarray, times: int) -> None:
    for _ in range(times):
        runtime.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})


def _matmulnbits(source: Path, target: Path, accuracy_level: int) -> None:
    """Four bits by ONNX Runtime's own tool: linear maps and tables of embeddings."""
    tool: Any = importlib.import_module("onnxruntime.quantization.matmul_nbits_quantizer")
    config = tool.DefaultWeightOnlyQuantConfig(
        block_size=32,
        is_symmetric=True,
        accuracy_level=accuracy_level or None,
        op_types_to_quantize=("MatMul", "Gather"),
        quant_axes=(("MatMul", 0), ("Gather", 1)),
    )
    made = tool.MatMulNBitsQuantizer(onnx.load(source), algo_config=config)
    made.process()
    made.model.save_model_to_file(str(target))


def main() -> None:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--times", action="store_true", help="time files of the default teacher, and train nothing")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of tasks with glue/stsb")
    parser.add_argument("--corpus", default="python-docs", help="training text [%(default)s]")
    parser.add_argument("--work", type=Path, default=HOME, help="run folders [%(default)s]")
    parser.add_argument("--budgets", type=float, nargs="+", metavar="MB", help="budgets [20 10 5 3]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="seeds [0]")
    parser.add_argument("--train-steps", type=int, metavar="N", help="of SuperLMs [24]")
    parser.add_argument("--refine-steps", type=int, metavar="N", help="of picks alone [240]")
    parser.add_argument("--trials", type=int, metavar="N", help="students that are scored [48]")
    real = {"budgets": [20, 10, 5, 3], "train_steps": 24, "refine_steps": 240, "trials": 48}
    options = parse(parser, {**SIZES, "real": real})
    if options.times:
        found = timed(options)
        write_record(record_path(options, "quantised-times"), found, common_settings(options))
        print_table(found)
        return
    if options.data is None:
        parser.error("--data is needed to score students")
    options.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        for budget in options.budgets:
            rows += Bench(options, seed).rows(budget)
            settings = {"size": options.size, "train_steps": options.train_steps, "refine_steps": options.refine_steps}
            write_record(record_path(options, "quantised"), rows, {**settings, "trials": options.trials})
            print_table(rows)


if __name__ == "__main__":
    main()
