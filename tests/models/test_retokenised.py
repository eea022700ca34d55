"""Reading pieces and averaging them back: exact where nothing is dropped, and by the definition where something is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from autodistil_helpers import FAMILY_CONFIGS, RECIPE, objective_of, random_teacher, small_space
from hypothesis import given
from hypothesis import strategies as st

from autodistil.data.batch import PADDING
from autodistil.evaluation import heldout
from autodistil.evaluation.heldout import HeldOut
from autodistil.models.attention import AttentionStates, ModelStates
from autodistil.models.retokenised import fitting_length, read
from autodistil.models.superlm import SuperLM
from autodistil.space.space import OneStudent
from autodistil.training.trainer import SuperLMTrainer

OBJECTIVE = objective_of("relation-kl+last-hidden")
rows = st.lists(st.lists(st.integers(3, 12), min_size=5, max_size=5), min_size=1, max_size=4)
spellings = st.dictionaries(st.integers(3, 12), st.lists(st.integers(20, 40), min_size=1, max_size=4), max_size=6)


@given(rows, spellings)
def test_states_of_a_token_are_the_means_over_its_pieces(tokens, spelled):
    reading = read({"input_ids": torch.tensor(tokens)}, spelled, padding=0)
    pieces = reading.batch["input_ids"]
    mask = reading.batch.get("attention_mask", torch.ones_like(pieces))
    part = torch.randn(len(tokens), 2, pieces.shape[1], 3)
    output = torch.randn(len(tokens), pieces.shape[1], 6)
    states = reading.of_tokens(ModelStates(AttentionStates(part, part + 1, part - 1), output))
    for i, row in enumerate(tokens):
        expected = [spelled.get(token, [token]) for token in row]
        flat = [piece for pieces_of in expected for piece in pieces_of]
        assert pieces[i, mask[i] == 1].tolist() == flat
        assert not pieces[i, mask[i] == 0].any()
        ends = np.cumsum([len(pieces_of) for pieces_of in expected])
        for place, end in enumerate(ends):
            start = end - len(expected[place])
            torch.testing.assert_close(states.attention.query[i, :, place], part[i, :, start:end].mean(1))
            torch.testing.assert_close(states.output[i, place], output[i, start:end].mean(0))


@given(rows, spellings, st.integers(0, 12))
def test_what_fits_fits_and_one_more_does_not(tokens, spelled, limit):
    batch = np.array(tokens)
    length = fitting_length(batch, spelled, limit)
    assert batch.tolist() == tokens
    widths = [max(sum(len(spelled.get(t, [t])) for t in row[:n]) for row in tokens) for n in range(1, 6)]
    assert length == sum(width <= limit for width in widths)


def sequences(length=12):
    return np.random.default_rng(0).integers(3, 97, (5, length))


@pytest.fixture(params=sorted(FAMILY_CONFIGS))
def teacher(request):
    return random_teacher(request.param)


def test_without_a_dropped_token_the_loss_is_the_same_to_the_bit(teacher):
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    plain = HeldOut.build(teacher, sequences(), OBJECTIVE)
    spelled = HeldOut.build(teacher, sequences(), OBJECTIVE, spellings={})
    for student in superlm.sub_space.students[::7]:
        assert spelled.loss(superlm, student) == plain.loss(superlm, student)


def test_the_loss_does_not_depend_on_the_batches(teacher, monkeypatch):
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    spelled = {token: [3 + token % 5, 9, 4][: 1 + token % 3] for token in range(40, 70)}
    student = superlm.sub_space.smallest
    losses = []
    for size in (1, 2, 5):
        monkeypatch.setattr(heldout, "BATCH_SIZE", size)
        losses.append(HeldOut.build(teacher, sequences(), OBJECTIVE, spellings=spelled).loss(superlm, student))
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)
    assert losses[0] != HeldOut.build(teacher, sequences(), OBJECTIVE).loss(superlm, student)


def test_sequences_too_long_for_the_model_are_cut_for_both(teacher):
    """A student of full size that reads as the teacher does loses nothing, however much is cut."""
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    text = sequences(teacher.max_length)
    spelled = {int(token): [5, 6] for token in np.unique(text) if token % 2}
    built = HeldOut.build(teacher, text, OBJECTIVE, spellings=spelled)
    assert max(reading.batch["input_ids"].shape[1] for reading in built.readings) <= teacher.max_length
    lengths = {batch["input_ids"].shape[1] for batch in built.batches}
    assert lengths == {states.attention.query.shape[2] for states in built.teacher_states}
    assert max(lengths) < teacher.max_length
    cut = HeldOut.build(teacher, text[:, : max(lengths)], OBJECTIVE)
    assert cut.loss(superlm, teacher.dims) == pytest.approx(0, abs=1e-6)
    assert built.loss(superlm, teacher.dims) > 0


def test_padding_is_neither_spelled_nor_counted(teacher):
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    spelled = {token: [5, 6] for token in range(40, 70)}
    text = sequences()
    padded = np.concatenate([text, np.full((5, 3), PADDING)], axis=1)
    padded[0, 6:] = PADDING
    student = superlm.sub_space.smallest
    for spellings_ in (None, spelled):
        parts = [
            (size, HeldOut.build(teacher, part, OBJECTIVE, spellings=spellings_).loss(superlm, student))
            for size, part in ((6, text[:1, :6]), (4 * 12, text[1:]))
        ]
        together = HeldOut.build(teacher, padded, OBJECTIVE, spellings=spellings_).loss(superlm, student)
        expected = sum(size * loss for size, loss in parts) / sum(size for size, _ in parts)
        assert together == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("embedding", [False, True])
def test_a_pruned_student_is_trained_on_what_its_own_tokenizer_reads(embedding):
    """Dropped tokens get no gradient, their pieces do, and the loss is the one that it is scored by."""
    teacher = random_teacher("bert")
    objective = objective_of("relation-kl+last-hidden+embedding-similarity" if embedding else "relation-kl+last-hidden")
    spelled = {token: [3 + token % 5, 9][: 1 + token % 2] for token in range(40, 70)}
    batch = {"input_ids": torch.from_numpy(np.random.default_rng(0).integers(30, 97, (5, 12)))}
    superlm = SuperLM.from_teacher(teacher, OneStudent("one", replace(teacher.dims, vocab_size=60)))
    trainer = SuperLMTrainer(superlm, RECIPE, objective, read=lambda batch, size: read(batch, spelled, 0))
    states = teacher.states(batch, None, True, False)
    loss = trainer.add_gradients(batch, states)
    gradients = superlm.parameters[superlm.family.word_embeddings].grad.flatten(1)
    touched = set(torch.nonzero(gradients.abs().sum(1)).flatten().tolist())
    read_tokens = {piece for token in batch["input_ids"].flatten().tolist() for piece in spelled.get(token, [token])}
    assert touched == read_tokens
    assert not touched & spelled.keys()
    scored = HeldOut.build(teacher, batch["input_ids"].numpy(), objective, spellings=spelled)
    assert float(loss) == pytest.approx(scored.loss(superlm, trainer.students()[0]), rel=1e-5)


def test_a_batch_that_gets_longer_than_a_model_takes_is_read_in_the_teachers_tokens():
    teacher = random_teacher("bert")
    superlm = SuperLM.from_teacher(teacher, OneStudent("one", replace(teacher.dims, vocab_size=60)))
    batch = {"input_ids": torch.from_numpy(sequences())}
    states = teacher.states(batch, None, True, False)
    plain, unread = (
        SuperLMTrainer(superlm, RECIPE, OBJECTIVE, read=read).add_gradients(batch, states)
        for read in (None, lambda batch, size: None)
    )
    assert torch.equal(plain, unread)
