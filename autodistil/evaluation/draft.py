"""A decoder as draft model of its teacher: speculative decoding (Leviathan et al. 2023, arXiv 2211.17192), greedy.

The draft writes a few tokens, the teacher reads them in one pass and keeps those that it would have written itself, and
one of its own after them. So the text is the teacher's, but for ties that rounding decides. transformers' assisted
generation does it; its passes are watched.

    acceptance         drafted tokens that were kept / drafted tokens, where those behind a refused one count as refused
    tokens a pass      new tokens / passes of the teacher

Leviathan's alpha is the chance of a token whose predecessors were kept; acceptance is below it where drafts are long.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autodistil.errors import ConfigError
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.utils import quiet, resolve_device

DRAFT_TOKENS = 5
"""Drafted at a time."""
NEW_TOKENS = 64
"""Written of each text."""
_PROMPT_TOKENS, _ROUNDS = 128, 3


@dataclass(frozen=True)
class DraftScores:
    """How well a decoder drafts for another."""

    texts: int
    new_tokens: int
    """Written by the teacher with the draft, of all texts."""
    passes: int
    """Of the teacher for them."""
    drafted: int
    accepted: int
    same_texts: int
    """Texts that are the teacher's own, token by token."""
    tokens_a_second: float
    """With the draft, median of rounds in which both ways take turns."""
    tokens_a_second_alone: float

    @property
    def acceptance(self) -> float:
        """Share of drafted tokens that were kept."""
        return self.accepted / max(1, self.drafted)

    @property
    def tokens_a_pass(self) -> float:
        """New tokens for each pass of the teacher."""
        return self.new_tokens / self.passes


def draft_scores(
    student: str, teacher: str, texts: Sequence[str], device: str = "auto", prompt_tokens: int | None = None
) -> DraftScores:
    """Let a student draft for its teacher.

    Args:
        student: a decoder: a folder, an id or a packaged name.
        teacher: another with the same tokens.
        texts: to be continued by `NEW_TOKENS`.
        device: `auto`, `cpu` or `cuda`.
        prompt_tokens: after which texts are cut; 128, or as many as they take, unless given.

    Raises:
        TeacherError: one is not there, damaged or no decoder.
        ConfigError: they number tokens otherwise, or the texts are too long for one of them.
    """
    names, where = (student, teacher), resolve_device(device)
    folders = [EvaluatedModel.open(name) for name in names]
    tokenizers = [folder.tokenizer() for folder in folders]
    if tokenizers[0].get_vocab() != tokenizers[1].get_vocab():
        raise ConfigError(f"models {student!r} and {teacher!r} number tokens otherwise; give the student's own teacher")
    draft, model = (folder.decoder(where) for folder in folders)
    longest = min(one.config.max_position_embeddings for one in (draft, model)) - NEW_TOKENS
    most = min(_PROMPT_TOKENS, longest) if prompt_tokens is None else prompt_tokens
    if not 1 <= most <= longest:
        raise ConfigError(f"max_length: got {most}; allowed here: 1 to {longest}, for {NEW_TOKENS} tokens follow")
    prompts = [_prompt(tokenizers[1], text, most).to(where) for text in texts]
    return score_drafts(draft, model, prompts, NEW_TOKENS, _ROUNDS)


def score_drafts(
    draft: PreTrainedModel,
    model: PreTrainedModel,
    prompts: Sequence[Tensor],
    new_tokens: int,
    rounds: int,
) -> DraftScores:
    """Let one decoder draft for another; prompts are ids (1, seq) on their device, `rounds` those of the timing."""
    draft.generation_config.num_assistant_tokens = DRAFT_TOKENS
    draft.generation_config.num_assistant_tokens_schedule = "constant"
    draft.generation_config.assistant_confidence_threshold = 0.0

    def written(prompt: Tensor, **options: Any) -> Tensor:
        """(1, seq), greedily continued."""
        found: Tensor = model.generate(  # type: ignore[operator]  # its mixin is not annotated
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=model.config.vocab_size,  # no token: the draft would not see those that it takes for padding
            **options,
        )
        return found

    with_draft = partial(written, assistant_model=draft)
    passes = drafted = accepted = new = same = 0
    with quiet("transformers.generation.utils"):  # of how its own parts call each other
        for prompt in prompts:
            with _drafts(model) as drafts:
                text = with_draft(prompt)
            passes, drafted = passes + len(drafts), drafted + sum(map(len, drafts))
            written_now = text[0, prompt.shape[1] :]
            new, accepted = new + len(written_now), accepted + _accepted(drafts, written_now)
            same += torch.equal(text, written(prompt))
        speeds = [[_speed(way, prompts) for way in (with_draft, written)] for _ in range(rounds)]
    medians = (statistics.median(of) for of in zip(*speeds, strict=True))
    return DraftScores(len(prompts), new, passes, drafted, accepted, same, *medians)


def _prompt(tokenizer: PreTrainedTokenizerBase, text: str, most: int) -> Tensor:
    ids: Tensor = tokenizer(text, truncation=True, max_length=most, return_tensors="pt")["input_ids"]
    return ids


@contextmanager
def _drafts(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """What a model is given to check, pass by pass, while it lasts: it is asked for that many logits and one more."""
    seen: list[Tensor] = []

    def watch(_: torch.nn.Module, __: tuple[Any, ...], given: dict[str, Any]) -> None:
        length = given["logits_to_keep"] - 1
        ids = given["input_ids"][0]
        seen.append(ids[len(ids) - length :])

    hook = model.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def _accepted(drafts: Sequence[Tensor], text: Tensor) -> int:
    """How many drafted tokens stand in the text (seq) that came of them: of each draft those before the first other."""
    accepted = at = 0
    for draft in drafts:
        there = text[at : at + len(draft)]
        kept = int((draft[: len(there)] == there).long().cumprod(0).sum())
        accepted, at = accepted + kept, at + kept + 1
    return accepted


def _speed(way: Callable[[Tensor], Tensor], prompts: Sequence[Tensor]) -> float:
    """New tokens a second."""
    begun = time.perf_counter()
    tokens = sum(way(prompt).shape[1] - prompt.shape[1] for prompt in prompts)
    if prompts[0].is_cuda:
        torch.cuda.synchronize()
    return tokens / (time.perf_counter() - begun)
