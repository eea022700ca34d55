"""`certify` end to end on a small teacher: equal starts, exact resume, nothing trained twice, words in the report."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from autodistil_helpers import RECIPE, objective_of, random_teacher, small_space
from run_helpers import run_options, stop_after
from safetensors.torch import load_file

from autodistil import cli, pipeline
from autodistil.errors import ConfigError, RunError
from autodistil.models.superlm import SuperLM
from autodistil.pipeline import certify
from autodistil.run.run import Run
from autodistil.space.space import JoinedSubSpaces, OneStudent, SubSpace
from autodistil.stages.certifying import draw_shares
from autodistil.stages.training import memory_groups, num_parameters
from autodistil.student_search.certificate.measured import read_measured
from autodistil.training.trainer import SuperLMTrainer

pytestmark = pytest.mark.usefixtures("no_picture")

SPACE = """
sub_spaces:
  lone: {num_layers: 2, hidden_size: 16, head_size: 16, mlp_ratio: 2.0}
  many: {num_layers: [2, 3], hidden_size: [32, 64], head_size: 16, mlp_ratio: 2.0}
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    """Options of a run: a random BERT of 4 layers x 64 with a real tokenizer, some text, a space of 1 + 4 students."""
    folder = tmp_path_factory.mktemp("inputs")
    return run_options(
        folder, quickstart_teacher_dir, SPACE, train_steps=4, checkpoint_seconds=0.0, budgets=["1MFLOPs"]
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory, options):
    """A run that was searched under a budget that keeps the largest student out."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    pipeline.search(Run.open(folder, options))
    return folder


@pytest.fixture(scope="module")
def certified(tmp_path_factory, searched):
    """A copy of it that was certified."""
    folder = tmp_path_factory.mktemp("certified") / "run"
    shutil.copytree(searched, folder)
    certify(Run.open(folder), one=True)
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


def weights_of(folder):
    return {
        str(path.relative_to(folder)): load_file(path)
        for path in [*folder.rglob("alone/*/superlm.safetensors"), *folder.rglob("one/superlm.safetensors")]
    }


def words_of(page):
    html = page.read_text(encoding="utf-8")
    return re.search(r"<h2>How far to trust this</h2>(.*?)</section>", html, re.DOTALL)[1]


# ---- what every search leaves


def test_a_search_scores_the_ends_and_says_what_is_free(searched):
    content = json.loads((searched / "certificate.json").read_text())
    opened = Run.open(searched)
    largest = f"many-{opened.inputs.space.sub_space('many').largest.label}"
    assert set(content["measured"]["in_superlm"]) == {largest}, "the largest is over budget, the smallest is not"
    many = next(found for found in content["findings"]["sub_spaces"] if found["name"] == "many")
    assert many["monotonicity"]["largest"] == largest
    assert many["monotonicity"]["largest_excess"] is not None
    assert many["monotonicity"]["pairs"] == 3  # one of the four students is over budget and no end
    words = words_of(searched / "report.html")
    assert "Not certified" in words
    assert "of 3 pairs where one student contains the other" in words
    assert "data-figure" not in words


# ---- students alone


@pytest.mark.parametrize("name", ["lone", "many"])
def test_a_student_alone_starts_as_in_its_superlm(searched, name):
    opened = Run.open(searched)
    sub = opened.inputs.space.sub_space(name)
    shared = opened.superlms.new(sub)
    for student in sub.students:
        alone = opened.superlms.new(OneStudent("alone", student)).weights(student)
        theirs = shared.weights(student)
        assert alone.keys() == theirs.keys()
        assert all(torch.equal(alone[key], theirs[key]) for key in alone)


def test_a_student_that_shares_with_nobody_trains_alone_to_the_same_bits(certified):
    """A SuperLM of one student is that student alone: no interference, whatever the objective and the recipe."""
    ours = load_file(certified / "superlm" / "lone" / "superlm.safetensors")
    (alone,) = (certified / "alone").glob("lone-*")
    theirs = load_file(alone / "superlm.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    found = json.loads((certified / "certificate.json").read_text())["findings"]["sub_spaces"][0]
    assert found["name"] == "lone"
    assert found["interference"]["mean"] == 0.0


def test_the_certificate_covers_the_sample_and_says_its_effort(certified):
    content = json.loads((certified / "certificate.json").read_text())
    measured, findings = content["measured"], content["findings"]
    assert len(measured["alone"]) == len(measured["start"]) == len(measured["in_one"]) == len(measured["draws"]) == 5
    assert measured["tokens"] == 4 * 2 * 16
    assert measured["students_a_step"] == {"lone": 1.0, "many": 4.0, "": 4.0}
    assert [found["agreement"]["n"] for found in findings["sub_spaces"]] == [1, 4]
    assert findings["pooled"]["n"] == findings["one"]["n"] == 5
    assert findings["verdict"]


def test_report_and_model_card_say_how_far_to_trust(certified, tmp_path):
    words = words_of(certified / "report.html")
    for text in ("Kendall tau", "n = 4", "Each student trained alone took 128 tokens", "A SuperLM each against one"):
        assert text in words
    assert 'data-figure="trust"' in words
    assert run("export", "--run", certified, "--to", tmp_path / "student") == 0
    assert "how far to trust it:" in (tmp_path / "student" / "README.md").read_text()


def test_nothing_is_trained_twice(certified, monkeypatch):
    def refuse(*_):
        raise AssertionError("trained again")

    before = (certified / "certificate.json").read_bytes()
    monkeypatch.setattr("autodistil.stages.training.train_with_checkpoints", refuse)
    certify(Run.open(certified), one=True)
    assert (certified / "certificate.json").read_bytes() == before
    (certified / "certificate.json").unlink()  # the weights are still there
    certify(Run.open(certified), one=True)
    ours, theirs = json.loads(before)["measured"], read_measured(certified / "certificate.json").to_dict()
    assert ours["alone"] == theirs["alone"]
    assert ours["in_one"] == theirs["in_one"]


def test_an_interrupted_certification_resumes_to_the_same_bits(searched, certified, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(searched, folder)

    with monkeypatch.context() as patch:
        stop_after(patch, 8)  # in the second group
        with pytest.raises(KeyboardInterrupt):
            certify(Run.open(folder), one=True)
    assert list(folder.rglob("checkpoint.safetensors"))
    with pytest.raises(RunError, match="was interrupted; go on with --resume"):
        certify(Run.open(folder), one=True)
    certify(Run.open(folder), one=True, resume=True)
    ours, theirs = weights_of(folder), weights_of(certified)
    assert ours.keys() == theirs.keys()
    assert len(ours) == 6
    assert all(torch.equal(ours[path][name], theirs[path][name]) for path in ours for name in ours[path])
    assert (folder / "certificate.json").read_bytes() == (certified / "certificate.json").read_bytes()


# ---- bad input


def test_the_command_line_prints_words_or_json(certified, capsys):
    assert run("certify", "--run", certified, "--one") == 0
    assert "Kendall tau" in capsys.readouterr().out
    assert run("certify", "--run", certified, "--sample", "2", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content) == {"measured", "findings", "certificate", "report"}


def test_a_run_that_was_not_searched_is_refused(tmp_path, options):
    opened = Run.open(tmp_path / "run", options)
    pipeline.train(opened)
    with pytest.raises(RunError, match="was not searched yet"):
        certify(Run.open(tmp_path / "run"))


def test_one_superlm_needs_all_sub_spaces_trained(searched, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(searched, folder)
    shutil.rmtree(folder / "superlm" / "lone")
    with pytest.raises(RunError, match=r"no trained SuperLM of lone; train it with: autodistil train"):
        certify(Run.open(folder), one=True)


def test_a_sample_without_ranks_is_refused(searched):
    with pytest.raises(ConfigError, match="allowed: at least 2"):
        certify(Run.open(searched), sample=1)


@pytest.mark.parametrize("verb", [["report"], ["certify"], ["export", "--to", "x"]])
def test_a_damaged_certificate_is_one_line(searched, tmp_path, capsys, verb):
    folder = tmp_path / "run"
    shutil.copytree(searched, folder)
    (folder / "certificate.json").write_text('{"measured": {"alone": ')
    assert run(*verb, "--run", folder) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "certificate.json' is damaged" in lines[0]


# ---- parts


def test_joined_sub_spaces_are_their_union():
    one = SubSpace("a", {"num_layers": (2,), "hidden_size": (32, 64), "head_size": (16,), "mlp_ratio": (2.0,)})
    other = SubSpace("b", {"num_layers": (4,), "hidden_size": (64,), "head_size": (16,), "mlp_ratio": (1.0, 2.0)})
    shared = SubSpace("c", {"num_layers": (2,), "hidden_size": (64,), "head_size": (16,), "mlp_ratio": (2.0,)})
    joined = JoinedSubSpaces("one", (one, other, shared))
    assert joined.students == tuple(sorted({*one.students, *other.students}))
    assert joined.smallest == one.smallest
    assert joined.largest == other.largest
    assert joined.envelope == other.largest


def test_a_superlm_of_joined_sub_spaces_holds_every_student():
    teacher = random_teacher("bert")
    sub = small_space(teacher)
    other = SubSpace("other", {"num_layers": (1,), "hidden_size": (16,), "head_size": (16,), "mlp_ratio": (2.0,)})
    joined = JoinedSubSpaces("one", (sub, other))
    superlm = SuperLM.from_teacher(teacher, joined)
    for student in (sub.largest, sub.smallest, other.largest):
        model = superlm.extract(student)
        assert model.config.num_hidden_layers == student.num_layers


def test_draw_shares_add_up_to_the_students_of_a_step():
    sub = small_space(random_teacher("bert"))
    shares = draw_shares(sub, replace(RECIPE, steps=50))
    assert sum(shares.values()) == pytest.approx(4)
    assert shares[sub.largest] == shares[sub.smallest] == 1


def test_groups_keep_the_order_and_the_limit():
    teacher = random_teacher("bert")
    superlms = [SuperLM.from_teacher(teacher, OneStudent("x", s)) for s in small_space(teacher).students[:5]]
    limit = 2 * max(map(num_parameters, superlms))
    trainers = [SuperLMTrainer(superlm, RECIPE, objective_of("relation-kl")) for superlm in superlms]
    groups = [[trainer.superlm for trainer in group] for group in memory_groups(trainers, limit)]
    assert [superlm for group in groups for superlm in group] == superlms
    assert all(sum(map(num_parameters, group)) <= limit for group in groups)
    assert [len(group) for group in memory_groups(trainers, 1)] == [1] * 5
