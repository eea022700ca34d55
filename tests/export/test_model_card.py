"""The model card: latency with its device, how to repeat it, the teacher's licence."""

from pathlib import Path
from types import SimpleNamespace

import yaml
from card_helpers import COSTS, card_teacher

from autodistil.costs.speed import Speed
from autodistil.export.card import Repeat, _front_matter, model_card
from autodistil.export.student_folder import _copy_licences
from autodistil.space.student import Candidate, StudentConfig

CANDIDATE = Candidate("small", StudentConfig(2, 32, 2, 16, 64))


def card_of(teacher=None, **more):
    """A card with little in it."""
    return model_card(CANDIDATE, teacher or card_teacher(None), COSTS, {}, False, **more)


def test_latency_stands_on_the_card_with_how_it_was_measured():
    speed = Speed((1.0, 0.9, 1.2), (3.0, 2.9, 3.2), "1 x 128 tokens", "PyTorch on a CPU, 2 threads")
    lines = card_of(speed=speed).splitlines()
    assert "| latency, 1 x 128 tokens | 1.00 ms (0.90 to 1.20) | 3.00 ms (2.90 to 3.20) |" in lines
    assert (
        "Latency is the median with its 95 % interval, timed in turns: PyTorch on a CPU, 2 threads. "
        "There the student is 3.0 x as fast as its teacher." in lines
    )
    assert "latency" not in card_of().lower()


def test_the_lines_that_load_it_name_its_folder_and_work_when_copied():
    lines = card_of(folder='a "b"')
    (line,) = (line for line in lines.splitlines() if line.startswith("model = "))
    called = []
    exec(line, {"AutoModel": SimpleNamespace(from_pretrained=called.append)})
    assert called == ['a "b"']


def test_a_packaged_teacher_is_named_as_the_hub_calls_it():
    teacher = card_teacher(None)
    teacher.source, teacher.hub_id = "all-MiniLM-L6-v2", None
    assert _front_matter(CANDIDATE, teacher, True)["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    teacher.source = "/home/me/teacher"
    assert "base_model" not in _front_matter(CANDIDATE, teacher, True)


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
