"""The peers of the step: what they run, what of ours runs beside, and how their environments are made."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from bench_common.peers import Peer, PeerEnvironment, PeerMissing

from step_cases.setting import Setting
from step_cases.single import RELATION_HEADS, STUDENT

_TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class StepPeer:
    """A library and what it is compared with."""

    environment: PeerEnvironment
    script: str
    compares: str
    ours: str
    """Our case of the same work."""


PEERS = {
    # whittle has decoders only and no relations: its GPT gets the teacher's shape, replays the list of sub-networks of
    # our step, and the loss is the mean square of the last hidden states on both sides; no teacher, no update.
    # Its torchvision comes as a CUDA build that does not fit a CPU build of torch, and is optional to it.
    "whittle": StepPeer(
        PeerEnvironment("whittle-0.6.0", ["whittle==0.6.0", _TORCH], remove=["torchvision"]),
        "whittle_step.py",
        "students of a step to their end, forward + backward",
        "slices to the end",
    ),
    "bertdistiller": StepPeer(
        PeerEnvironment("bertdistiller-0.1.2", ["bertdistiller==0.1.2", _TORCH]),
        "bertdistiller_step.py",
        "step of one fixed student of 3 x 192, teacher and update included",
        "single",
    ),
}


def open_peers(
    options: argparse.Namespace, setting: Setting, stack: ExitStack
) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
    """Cases of the peers that are there, and of the others why not."""
    found: dict[str, Callable[[], float]] = {}
    missing: dict[str, str] = {}
    for name, peer in PEERS.items():
        try:
            if options.peers == "none":
                raise PeerMissing("left out by --peers none")
            settings = _settings(options, setting)
            running = stack.enter_context(
                Peer(peer.environment, peer.script, settings, options.peer_home, options.peers == "install")
            )
        except PeerMissing as reason:
            missing[name] = str(reason)
        else:
            found[name] = partial(running.run, "step")
    return found, missing


def _settings(options: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    dims = setting.teacher.dims
    return {
        "clock": options.clock,
        "ids": setting.inputs["input_ids"].tolist(),
        "teacher": str(setting.teacher.folder),
        "superlms": [asdict(sub.largest) for sub in setting.space.sub_spaces],
        "students": [[asdict(student) for student in students] for students in setting.students],
        "vocab_size": setting.teacher.model.config.vocab_size,
        "head_size": dims.head_size,
        "student": asdict(STUDENT),
        "relation_heads": RELATION_HEADS,
        "learning_rate": setting.recipe.peak_rate(STUDENT.hidden_size),
    }
