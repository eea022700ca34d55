"""The pieces of a run: what is recorded, what a worker opens of it, and a scorer that is sent away."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from ray import cloudpickle
from run_helpers import run_options

from autodistil.errors import RunError
from autodistil.run.facts import training_facts
from autodistil.run.run import Run
from autodistil.space.student import Candidate
from autodistil.stages.training import _files, _portable, open_on_worker, recipe_of, train_missing

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16, 32], head_size: 16, mlp_ratio: [2.0], vocab_size: [2000]}
  base: {num_layers: [3], hidden_size: [48], head_size: 16, mlp_ratio: [2.0]}
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    return run_options(tmp_path_factory.mktemp("run"), quickstart_teacher_dir, SPACE, train_steps=1)


@pytest.fixture(scope="module")
def trained(options, tmp_path_factory):
    run = Run.open(tmp_path_factory.mktemp("trained") / "run", options)
    train_missing(run, run.inputs.space.sub_spaces, resume=False)
    return run


def test_a_record_keeps_what_was_resolved_before(trained):
    before = trained.folder.record()
    trained.inputs.write_record(proxy="a task")
    after = trained.folder.record()
    assert after.resolved == {**before.resolved, "proxy": "a task"}
    assert (after.created, after.options, after.config) == (before.created, before.options, trained.config)
    assert set(after.resolved["trained_on"]) == {"tiny", "base"}
    assert trained.folder.identity() == Run.open(trained.folder.path).folder.identity()


def test_what_trained_a_student_is_recorded_whoever_exports_it(options, tmp_path, monkeypatch):
    inputs = Run.open(tmp_path / "run", options).inputs
    assert training_facts(inputs.folder, {"tiny"}) == ({"trained on": "a machine that was not recorded"}, None)
    for threads in (1, 1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        inputs.write_trained_on(["tiny"] if threads == 1 else ["base", "tiny-refined"])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert training_facts(inputs.folder, {"tiny"}) == ({"trained on": "cpu, 1 thread"}, 1)
    assert (
        training_facts(inputs.folder, {"tiny", "tiny-refined"})[0]["trained on"] == "cpu, 1 thread and cpu, 3 threads"
    )
    assert training_facts(inputs.folder, {"tiny", "tiny-refined"})[1] is None
    monkeypatch.setattr(inputs, "device", torch.device("cuda"))
    inputs.write_trained_on(["tiny"])
    assert training_facts(inputs.folder, {"tiny"}) == ({"trained on": "cpu, 1 thread and cuda, 64 threads"}, None)


def test_another_value_than_the_recorded_one_is_refused_and_an_unrecorded_one_is_not(trained):
    trained.folder.check_unchanged("never recorded", 1, "thing")
    trained.folder.check_unchanged("teacher_fingerprint", trained.inputs.teacher.fingerprint, "teacher")
    with pytest.raises(RunError, match=r"was made with another teacher; give another --run folder"):
        trained.folder.check_unchanged("teacher_fingerprint", "other", "teacher")


def sent(driver, folder, names, begun=None):
    """What a worker opens in a folder of its own."""
    folder.mkdir()
    for name, content in _files(driver.inputs).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return open_on_worker(folder, _portable(driver.config), names, recipe_of(driver.config, 1), begun)


def test_a_worker_opens_what_the_driver_would_train(options, trained, tmp_path):
    space = shutil.copyfile(options["space"], tmp_path / "named-by-its-file.yaml")
    driver = Run.open(tmp_path / "driver", {**options, "space": str(space)})
    driver.inputs.write_record()
    trainers, teacher, batches, layer, device = sent(driver, tmp_path / "worker", ["tiny", "base"])
    assert [trainer.name for trainer in trainers] == ["tiny", "base"]
    for trainer in trainers:
        ours = driver.superlms.new(driver.inputs.space.sub_space(trainer.name)).state_dict()
        assert ours.keys() == trainer.superlm.state_dict().keys()
        assert all(torch.equal(value, ours[name]) for name, value in trainer.superlm.state_dict().items())
    for ours, theirs in zip(driver.inputs.text.micro_batches(3), batches(3), strict=True):
        assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert teacher.fingerprint == driver.inputs.teacher.fingerprint
    assert (layer, device) == (None, driver.inputs.device)


def test_a_worker_is_sent_the_assistant_that_teaches_there(options, tmp_path):
    driver = Run.open(tmp_path / "driver", {**options, "objective": "relation-kl", "assistant": "base"})
    train_missing(driver, driver.inputs.space.sub_spaces, resume=False)
    (trainer,), *_ = sent(driver, tmp_path / "worker", ["tiny"], driver.folder.superlms_path)
    ours, theirs = driver.superlms.targets_for("tiny"), trainer.targets
    assert theirs.student == ours.student
    assert all(torch.equal(value, ours.superlm.state_dict()[key]) for key, value in theirs.superlm.state_dict().items())


def test_a_scorer_that_was_sent_away_scores_alike_and_holds_no_more(trained):
    tiny, base = (Candidate(sub.name, sub.smallest) for sub in trained.inputs.space.sub_spaces)
    buffer = io.BytesIO()
    torch.save(trained.scorer.loaded([tiny]), buffer, pickle_module=cloudpickle)
    sent = torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    np.testing.assert_array_equal(sent.blocks_of(tiny)(0), trained.scorer.blocks_of(tiny)(0))
    whole = trained.scorer.loss(trained.superlms.of(tiny), tiny.config)
    assert sent.loss(sent.superlm_of("tiny"), tiny.config) == whole
    with pytest.raises(KeyError):
        sent.blocks_of(base)


@pytest.mark.slow
def test_runs_of_other_seeds_are_scored_alike_and_those_of_other_measures_are_not(options, tmp_path):
    """Seeds decide the training; texts, blocks, measure and the order that cuts heads decide the loss."""

    def scored_by(name, **changed):
        return Run.open(tmp_path / name, {**options, **changed}).inputs.scored_by

    first = scored_by("first")
    assert scored_by("seed", seed=3, learning_rate=1e-4, random_students=1) == first
    for number, (changed, what) in enumerate(
        [
            ({"heldout_sequences": 5}, {"held-out text"}),
            ({"seq_len": 24}, {"length", "held-out text", "importance order"}),
            ({"objective": "last-hidden"}, {"measure"}),
            ({"relation_heads": 1}, {"measure"}),
            ({"teacher_layer": 1, "space": "auto"}, {"teacher layer", "importance order"}),
            ({"order": "none"}, {"importance order"}),
        ]
    ):
        other = scored_by(f"other-{number}", **changed)
        assert {name for name in first if other[name] != first[name]} <= what
        assert other != first


def test_a_derived_space_stays_that_of_the_run_whatever_a_release_derives(options, tmp_path, monkeypatch):
    run = Run.open(tmp_path / "run", {**options, "space": "auto"})
    run.inputs.write_record()
    smaller = replace(run.inputs.space, sub_spaces=run.inputs.space.sub_spaces[:1])
    monkeypatch.setattr("autodistil.run.inputs.auto_space", lambda *_, **__: smaller)
    assert Run.open(tmp_path / "run").inputs.space == run.inputs.space
    assert Run.open(tmp_path / "new", {**options, "space": "auto"}).inputs.space == smaller


def test_a_run_folder_never_says_which_cluster_to_join(options, tmp_path):
    run = Run.open(tmp_path / "run", {**options, "address": "10.0.0.1:6379"})
    run.inputs.write_record()
    assert Run.open(tmp_path / "run").config.address is None
    assert Run.open(tmp_path / "run", {"address": "auto"}).config.address == "auto"
