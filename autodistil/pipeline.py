"""The method on one page: teacher and text -> K SuperLMs -> search under budgets -> report and students.

    teacher, space, text = ...                 # frozen encoder; K sub-spaces of students; held-out share
    for each sub-space: SuperLM = leading slices of the teacher
    train:  one teacher forward a step; each SuperLM distils largest, smallest and random students from it
    search: held-out loss of feasible students, Pareto front over loss and budgeted costs
    export: the picked student as an ordinary Hugging Face model
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from autodistil.attention import Batch
from autodistil.config import RunConfig
from autodistil.costs import Budget, cost_table, parse_budget
from autodistil.data import PackedSequences, TokenizedCorpus, batch_indices, special_affixes, tokenize_corpus
from autodistil.errors import ConfigError, CorpusError, RunError
from autodistil.evaluation.heldout import HeldOut
from autodistil.export import ExportedStudent, check_flops, export_student
from autodistil.objectives import Objective, resolve_objective
from autodistil.progress import Progress
from autodistil.report import BudgetLine, ReportData, write_html, write_png
from autodistil.run import RunFolder, merge_with_run
from autodistil.search.pick import best_id, knee_id, pick_student, rank_candidates
from autodistil.search.study import Search, SearchProblem, choose_sampler, describe_cost, num_evaluations
from autodistil.spaces import (
    Candidate,
    SearchSpace,
    StudentConfig,
    SubSpace,
    auto_space,
    check_fits,
    load_space,
    space_from_dict,
    space_to_dict,
)
from autodistil.superlm import SuperLM
from autodistil.teacher import Teacher, load_config, load_teacher
from autodistil.training.checkpoint import CHECKPOINT, WEIGHTS, load_weights, restore_checkpoint, save_checkpoint
from autodistil.training.metrics import MetricsLog, read_metrics
from autodistil.training.recipe import Recipe
from autodistil.training.trainer import StepMetrics, SuperLMTrainer, train_step
from autodistil.training.trainer import train as train_superlms
