"""The model card: latency with its device, how to repeat it, the teacher's licence."""

from pathlib import Path

import torch
import yaml
from autodistil_helpers import random_teacher
from card_helpers import COSTS, card_teacher
from transformers import ViTConfig, ViTModel

from autodistil.export.card import Repeat, Times, _front_matter, model_card
from autodistil.export.student_folder import _copy_licences
from autodistil.profiling.forward_time import ROUNDS, ForwardTimes, forward_times
from autodistil.profiling.stopwatch import Timing
from autodistil.space.student import Candidate, StudentConfig

CANDIDATE = Candidate("small", StudentConfig(2, 32, 2, 16, 64))


def card_of(teacher=None, **more):
    """A card with little in it."""
    return model_card(CANDIDATE, teacher or card_teacher(None), COSTS, {}, False, **more)


def test_times_name_the_device_and_come_from_rounds_in_turns():
    teacher = random_teacher().model
    state = torch.random.get_rng_state()
    found = forward_times(teacher, teacher, 8)
    assert torch.equal(state, torch.random.get_rng_state())  # drawing the plain teacher leaves no trace
    for timing in (found.student, found.teacher):
        assert 0 < timing.low_ms <= timing.median_ms <= timing.high_ms
        assert timing.rounds == ROUNDS
    assert f"PyTorch {torch.__version__} on " in found.where
    assert "1 thread," in found.where
    assert found.inputs == "1 x 8 tokens"


def test_images_are_timed_at_the_size_that_the_model_reads():
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4
    )
    model = ViTModel(config, add_pooling_layer=False).eval()
    assert forward_times(model, model, 5).inputs == "one image of 8 x 8"


def test_a_busy_machine_is_said():
    times = ForwardTimes(
        Timing(1.0, 0.9, 1.2, 10, busy=True), Timing(3.0, 2.9, 3.2, 10, False), "1 x 128 tokens", "a CPU", 2
    )
    assert times.where.endswith(" on a CPU, 2 threads, 10 rounds in turns, while other work disturbed it")
    lines = card_of(times=Times((1.0, 0.9, 1.2), (3.0, 2.9, 3.2), times.inputs, times.where)).splitlines()
    assert "| latency, 1 x 128 tokens | 1.00 ms (0.90 to 1.20) | 3.00 ms (2.90 to 3.20) |" in lines
    assert f"Latency is the median with its 95 % interval: {times.where}." in lines
    assert "latency" not in card_of().lower()


def test_what_repeats_a_student_is_yaml_and_commands():
    options = {"teacher": "all-MiniLM-L6-v2", "budgets": ["500MFLOPs"], "train_steps": 24, "seed": 0}
    text = card_of(repeat=Repeat("small-x", options, {"steps": 12, "learning_rate": 0.001}))
    assert yaml.safe_load(text.split("```yaml\n")[1].split("```")[0]) == options
    assert "autodistil refine --run again --pick small-x --steps 12 --learning-rate 0.001" in text
    assert "autodistil export --run again --pick small-x --to my-student" in text
    assert "refine" not in card_of(repeat=Repeat("small-x", options))
    assert "How to repeat it" not in card_of()


def test_a_card_tells_no_folders_and_promises_only_bits_that_it_can():
    options = {
        "teacher": "/home/me/teacher",
        "corpus": ("/data/customers/*.txt",),
        "study_storage": "postgresql://me@db/x",
    }
    elsewhere = card_teacher(Path("/home/me/teacher"))
    elsewhere.source = "/home/me/teacher"
    text = card_of(elsewhere, repeat=Repeat("a", options, same_bits=False))
    assert not [word for word in ("/home", "/data", "me@", "db/", "gives the same bits") if word in text]
    assert "A student of `teacher`" in text
    assert "say where they lie" in text
    assert "say where they lie" not in card_of(repeat=Repeat("a", {"corpus": ("python-docs",)}))


def test_the_licence_of_the_teacher_is_carried_over(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nlicense: other\nlicense_name: own\nlicense_link: https://example.org/own\nlanguage: en\n---\ntext\n"
    )
    (tmp_path / "LICENSE").write_text("words")
    (tmp_path / "NOTICE.txt").write_text("more")
    (tmp_path / "license.py").mkdir()
    teacher = card_teacher(tmp_path)
    assert card_of(teacher).endswith("the licence of `a/teacher`: own (https://example.org/own).\n")
    matter = _front_matter(CANDIDATE, teacher, sentence_transformers=False)
    assert {key: matter[key] for key in ("license", "license_name", "license_link", "language")} == {
        "license": "other",
        "license_name": "own",
        "license_link": "https://example.org/own",
        "language": "en",
    }
    assert "base_model" not in matter
    student = tmp_path / "student"
    student.mkdir()
    _copy_licences(tmp_path, student)
    assert {path.name for path in student.iterdir()} == {"LICENSE", "NOTICE.txt"}


def test_an_unknown_licence_is_said_and_a_teacher_of_the_hub_is_linked(tmp_path):
    assert "A student is made of its teacher's weights. No licence of" in card_of(card_teacher(tmp_path))
    assert _front_matter(CANDIDATE, card_teacher(None), sentence_transformers=True)["base_model"] == "a/teacher"
    _copy_licences(None, tmp_path)
