"""Steps and trainings that tests run in one process and in several, and how to start these."""

import itertools
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from autodistil_helpers import RECIPE, objective_of, random_teacher, small_space
from torch import multiprocessing

from autodistil.models.superlm import SuperLM
from autodistil.training.trainer import SuperLMTrainer, train, train_step
from autodistil.training.workers import ALONE, DistributedWorkers

EVERY_TERM = (
    "relation-kl+2*relation-mse+scores-mse+minilm+embedding-similarity+3*embedding-cosine+10*last-hidden+hidden"
    "+matryoshka"
)
TEXTS = 5


def batches(padded, parts):
    """Micro-batches of five texts each, which two workers cannot share evenly."""
    generator = torch.Generator().manual_seed(7)
    for _ in range(parts):
        ids = torch.randint(1, 97, (TEXTS, 12), generator=generator)
        lengths = torch.tensor([12, 3, 7, 12, 5])
        mask = (torch.arange(12) < lengths[:, None]).long()
        yield {"input_ids": ids.where(mask.bool(), 0), "attention_mask": mask} if padded else {"input_ids": ids}


CASES = {
    f"{name}, {'padded' if padded else 'whole'}": (name, padded, 1, False)
    for name, padded in itertools.product(("relation-kl", EVERY_TERM, "embedding-similarity"), (False, True))
} | {"two micro-batches, in place": (EVERY_TERM, True, 2, True)}


def gradients(case, workers=ALONE):
    """Gradients by parameter name, and losses, of one step."""
    objective, padded, parts, in_place = CASES[case]
    trainer = new_trainer(objective, accumulate=parts, in_place=in_place)
    return gradients_of(trainer, batches(padded, parts), random_teacher(), workers)


def gradients_of(trainer, micro_batches, teacher, workers=ALONE):
    """Gradients by parameter name and losses of the trainer's next step, whose update is left out."""
    found = {}

    def update():
        found.update({name: p.grad for name, p in trainer.superlm.parameters.items() if p.grad is not None})
        return 0.0, 0.0

    trainer.update = update
    (row,) = train_step([trainer], teacher, micro_batches, None, workers)
    return found, torch.tensor([row.loss, row.largest_loss, row.smallest_loss])


def trained(workers=ALONE):
    """Weights and metrics of two SuperLMs trained side by side for some steps."""
    trainers = [new_trainer(EVERY_TERM, name) for name in ("one", "two")]
    rows = []
    train(trainers, random_teacher(), lambda step: batches(True, 1), rows.extend, workers=workers)
    weights = {f"{t.name}/{name}": value for t in trainers for name, value in t.superlm.state_dict().items()}
    return weights, [(row.sub_space, row.step, row.tokens, row.loss, row.grad_norm) for row in rows]


def new_trainer(objective, name="small", **recipe):
    teacher = random_teacher()
    superlm = SuperLM.from_teacher(teacher, small_space(teacher, name))
    return SuperLMTrainer(superlm, replace(RECIPE, steps=3, **recipe), objective_of(objective, cuts=(40, 3)))


def in_processes(function, size=2):
    """Run `function(workers)` in `size` processes that share a gloo group; what each returned, by rank."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_run, (size, folder, function), nprocs=size)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(size)]


def _run(rank, size, folder, function):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    try:
        torch.save(function(DistributedWorkers.current()), Path(folder) / f"{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()


def all_cases(workers):
    """Everything that is compared, so that processes are started once."""
    agreed = workers.agree([workers.rank == 1, False], torch.device("cpu"))
    return {"gradients": {case: gradients(case, workers) for case in CASES}, "trained": trained(workers), "any": agreed}
