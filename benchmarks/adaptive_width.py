"""What does a feed-forward network whose width each token chooses save in milliseconds, beside what it saves in FLOPs?

    python benchmarks/adaptive_width.py                   hidden 384, a layer's FFN alone
    python benchmarks/adaptive_width.py --size real       hidden 384 and 768, 16 to 2,048 tokens

Four learners of a quarter of the units each, and a gate of 16 units that says how many of them a token gets (adaptive
computation modules, Wojcik et al. 2024, arXiv 2312.10193). Tokens want 1 to 4 learners with shares 0.4, 0.3, 0.2 and
0.1, 2 in the mean: half of the multiply-adds. The gates are random, so what is timed is what any training of such a
student would have to live with. Beside it: the whole network, and a plain one of half the units, which a search picks.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial

import torch
from bench_common.options import arguments, common_settings, parse, record_path
from bench_common.record import Row, print_table, write_record
from bench_common.timing import ratio, take_turns
from torch import Tensor, nn
from torch.nn.functional import gelu

LEARNERS = 4
GATE_UNITS = 16
SHARES = (0.4, 0.3, 0.2, 0.1)
"""Of the tokens that want 1, 2, 3 and 4 learners."""


@dataclass(frozen=True)
class Shape:
    """Tokens that go through one feed-forward network together, of four times as many units as it is wide."""

    hidden: int
    tokens: int

    @property
    def label(self) -> str:
        """Name of the row."""
        return f"hidden {self.hidden}, {self.tokens} tokens"


SIZES = {
    "quick": [Shape(384, 128)],
    "real": [Shape(hidden, tokens) for hidden in (384, 768) for tokens in (16, 128, 512, 2048)],
}


class AdaptiveWidth(nn.Module):
    """A feed-forward network in quarters, of which each token takes the first ones."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(LEARNERS)])
        self.outer = nn.ModuleList([nn.Linear(hidden, hidden, bias=number == 0) for number in range(LEARNERS)])
        self.gate = nn.Sequential(nn.Linear(hidden, GATE_UNITS), nn.ReLU(), nn.Linear(GATE_UNITS, LEARNERS))

    def forward(self, states: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Output (tokens, hidden) of `states` (tokens, hidden) by the first `wanted` (tokens,) learners; the gate's."""
        chosen = self.gate(states).argmax(1) + 1
        chosen = chosen if wanted is None else wanted  # the gate has been paid for
        output = self.outer[0](gelu(self.inner[0](states)))
        for number in range(1, LEARNERS):
            rows = (chosen > number).nonzero()[:, 0]
            output.index_add_(0, rows, self.outer[number](gelu(self.inner[number](states[rows]))))
        return output


def plain(hidden: int, units: int) -> nn.Module:
    """A feed-forward network of all units for all tokens."""
    return nn.Sequential(nn.Linear(hidden, units), nn.GELU(), nn.Linear(units, hidden))


def wanted_learners(tokens: int) -> Tensor:
    """How many learners each token wants, (tokens,), by `SHARES` and in random order."""
    counts = torch.tensor([max(1, round(share * tokens)) for share in SHARES])
    wanted = torch.repeat_interleave(torch.arange(1, LEARNERS + 1), counts)[:tokens]
    wanted = torch.nn.functional.pad(wanted, (0, tokens - len(wanted)), value=1)
    return wanted[torch.randperm(tokens, generator=torch.Generator().manual_seed(0))]


@torch.inference_mode()
def measured(shape: Shape, rounds: int, clock: str, work: int = 1_000_000) -> Row:
    """Its row: times against the whole network, beside multiply-adds against it; `work` numbers a timing."""
    torch.manual_seed(0)
    states, wanted = torch.randn(shape.tokens, shape.hidden), wanted_learners(shape.tokens)
    adaptive = AdaptiveWidth(shape.hidden).eval()
    calls = max(1, work // (shape.tokens * shape.hidden))

    def many(run: partial[Tensor]) -> None:
        for _ in range(calls):
            run()

    whole, half = plain(shape.hidden, 4 * shape.hidden), plain(shape.hidden, 2 * shape.hidden)
    cases = {
        "whole": partial(many, partial(whole, states)),
        "half": partial(many, partial(half, states)),
        "adaptive": partial(many, partial(adaptive, states, wanted)),
    }
    seconds = take_turns(cases, rounds, clock=clock)
    per_token = 2 * shape.hidden**2 * float(wanted.double().mean()) + GATE_UNITS * (shape.hidden + LEARNERS)
    return {
        "FFN": shape.label,
        "FLOPs, of the whole": per_token / (8 * shape.hidden**2),
        "ms, of the whole": ratio(seconds, "adaptive", "whole"),
        "half the units, ms of the whole": ratio(seconds, "half", "whole"),
    }


def main() -> int:
    """Measure, print and keep."""
    parser = arguments(__doc__)
    options = parse(parser)
    rows = [measured(shape, options.rounds, options.clock) for shape in SIZES[options.size]]
    print_table(rows)
    print(write_record(record_path(options, "adaptive-width"), rows, common_settings(options)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
