"""The samples of a run, texts or images: their order, their batches and what is held out."""

import numpy as np
import pytest
import torch
from image_helpers import PROCESSORS, write_images

from autodistil.config import RunConfig
from autodistil.data.batch import PADDING, TokenInputs
from autodistil.data.image_batches import RunImages
from autodistil.data.texts import RunText
from autodistil.errors import ConfigError, CorpusError, RunError
from autodistil.models.image_processor import reader_of
from autodistil.utils import Progress

UNITS = ["sequences", "sentences", "images"]


@pytest.fixture
def samples_of(tmp_path, minilm_tokenizer, prose, write_text):
    """The samples of a run by their unit."""
    text = write_text([f"{document}." for document in prose(400, 8)])
    images = write_images(tmp_path / "images", 40)

    def make(unit, **options):
        options = {"batch_size": 2, "seq_len": 16, "heldout_sequences": 2, **options}
        device = torch.device("cpu")
        if unit == "images":
            processor, channels = PROCESSORS["vit"]()
            reader = reader_of(processor, "teacher", channels)
            config = RunConfig(corpus=(str(images),), **options)
            return RunImages(config, reader.inputs, device, Progress(), reader, 17, 1)
        config = RunConfig(corpus=(text,), **options)
        return RunText(config, TokenInputs(0), device, Progress(), minilm_tokenizer, unit == "sentences")

    return make


@pytest.mark.parametrize("unit", UNITS)
def test_a_step_is_a_function_of_seed_and_step_alone(samples_of, unit):
    first, again, other = samples_of(unit), samples_of(unit), samples_of(unit, seed=1)
    assert first.unit == unit
    assert first.batch_size == first.num_heldout == (2 if unit == "sequences" else 8)
    for step in (5, 0):
        assert np.array_equal(first.step_samples(step), again.step_samples(step))
    assert not np.array_equal(first.step_indices(0), other.step_indices(0))


@pytest.mark.parametrize("unit", UNITS)
def test_micro_batches_are_the_inputs_of_a_step(samples_of, unit):
    run = samples_of(unit, accumulate=2)
    parts = np.split(run.step_samples(3), 2)
    for part, batch in zip(parts, run.micro_batches(3), strict=True):
        expected = run.inputs.batch(part)
        assert batch.keys() == expected.keys()
        assert all(torch.equal(batch[name], expected[name]) for name in batch)


@pytest.mark.parametrize("unit", UNITS)
def test_a_batch_larger_than_the_corpus_has_each_sample_once(samples_of, unit):
    said = []
    run = samples_of(unit, batch_size=2000, accumulate=4)
    run.progress.say = said.append
    samples, there = run.step_samples(3), len(run.train)
    assert len({row.tobytes() for row in samples}) == len(samples) == run.samples_a_step == there - there % 4
    assert len(list(run.micro_batches(3))) == 4
    assert [line for line in said if "each once" in line] == [
        f"the corpus has {there:,} different {unit} to train on: a step sees {len(samples):,} of them instead "
        f"of {run.batch_size:,}, each once"
    ]
    with pytest.raises(ConfigError, match=f"accumulate = 4000 is more than the corpus's {there} {unit}"):
        _ = samples_of(unit, batch_size=4000, accumulate=4000).samples_a_step


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_held_out_does_not_depend_on_the_seed_and_no_seed_trains_on_it(samples_of, unit, tmp_path):
    runs = [samples_of(unit, seed=seed) for seed in (0, 1, 7)]
    drawn = [run.draw_heldout(tmp_path / f"{number}.npy") for number, run in enumerate(runs)]
    assert all(np.array_equal(texts, drawn[0]) for texts in drawn)
    assert all(np.array_equal(run.sample(5), runs[0].sample(5)) for run in runs)
    held = {row[row != PADDING].tobytes() for row in drawn[0]}
    for run in runs:
        trained = {row[row != PADDING].tobytes() for step in range(20) for row in run.step_samples(step)}
        assert held.isdisjoint(trained)


@pytest.mark.parametrize("unit", UNITS)
def test_held_out_samples_are_drawn_once_and_never_trained_on(samples_of, unit, tmp_path):
    run, path = samples_of(unit), tmp_path / "heldout.npy"
    drawn = run.draw_heldout(path)
    assert len(drawn) == run.num_heldout
    assert np.array_equal(samples_of(unit, seed=1).draw_heldout(path), drawn)
    held, trained = ({row[row != PADDING].tobytes() for row in rows} for rows in (drawn, run.sample(10**6)))
    assert held.isdisjoint(trained)
    path.write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"is damaged \(its checksum differs.*restore it, or give another --run folder"):
        run.draw_heldout(path)


@pytest.mark.parametrize(
    ("unit", "limit", "remedy"),
    [
        ("sequences", " of 16 tokens at most", "give more text, or lower heldout_sequences or --seq-len"),
        ("sentences", " of 16 tokens at most", "give more text, or lower heldout_sequences or --seq-len"),
        ("images", ", a quarter at most", "give more images, or lower heldout_sequences"),
    ],
)
def test_messages_name_the_kind(samples_of, unit, limit, remedy, tmp_path):
    with pytest.raises(CorpusError) as caught:
        samples_of(unit, heldout_sequences=1000).draw_heldout(tmp_path / "heldout.npy")
    assert f"held-out {unit}{limit}" in str(caught.value)
    assert str(caught.value).endswith(remedy)
    assert not list(tmp_path.glob("*heldout*"))
    with pytest.raises(ConfigError, match=f"accumulate = 3 does not divide the . {unit} of a step"):
        _ = samples_of(unit, accumulate=3).batch_size
