"""A search for the cheapest student that keeps a share of the teacher's score: which one it is, what is refused."""

import json
import math
import re

import pandas as pd
import pytest
from hub_helpers import save_sentence_encoder
from hypothesis import given
from hypothesis import strategies as st
from run_helpers import one_line, run_options

import autodistil
from autodistil import cli, pipeline
from autodistil.errors import BudgetError
from autodistil.evaluation.agreement import Rsa
from autodistil.run.run import Run
from autodistil.stages.agreeing import Similarity
from autodistil.stages.exporting import exported_weights
from autodistil.stages.keeping import MOST_REFINED, Kept, _looked_at, check_measurable, read_kept, read_share
from autodistil.stages.ranking_by_task import score_of_teacher
from autodistil.stages.searching import last_search

pytestmark = pytest.mark.usefixtures("no_picture")

SPACE = """
sub_spaces:
  tiny: {num_layers: [1, 2], hidden_size: [16], head_size: 16, mlp_ratio: [2.0]}
  base: {num_layers: [1, 2], hidden_size: [32], head_size: 16, mlp_ratio: [1.0, 2.0]}
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    """Options of a run: a random sentence encoder of 2 layers x 32, some text, a space of 2 + 4 students."""
    folder = tmp_path_factory.mktemp("keeping")
    found = run_options(folder, quickstart_teacher_dir, SPACE, train_steps=4, heldout_sequences=8)
    rows = [f"a man walks in town {i}\tpeople walk in {'town' if i % 3 else 'Quito'}\t{i % 6}.5" for i in range(20)]
    (folder / "tasks" / "glue" / "stsb").mkdir(parents=True)
    (folder / "tasks" / "glue" / "stsb" / "train.tsv").write_text("\n".join(["text_a\ttext_b\tlabel", *rows]) + "\n")
    encoder = save_sentence_encoder(folder / "encoder", quickstart_teacher_dir)
    return {**found, "teacher": str(encoder), "data": str(folder / "tasks")}


@pytest.fixture(scope="module")
def searched(tmp_path_factory, options):
    """A run that was searched under a wide budget, and what every student of the front of loss and FLOPs keeps as a
    slice, cheapest first: looked at before another search changes the budgets of the run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run = Run.open(folder, options, {"budgets": ["1GFLOPs"]})
    pipeline.search(run)
    problem, table = last_search(run.inputs)
    similarity = Similarity(run)
    candidates = [problem.candidates[student] for student in table.within_budgets.staircase("flops").ids]
    assert len(candidates) > 2
    return folder, {one.id: similarity.of(run.superlms.of(one), one.config).value for one in candidates}


@pytest.fixture(scope="module")
def run_folder(searched):
    return searched[0]


@pytest.fixture(scope="module")
def shares(searched):
    return searched[1]


# ---- what is asked for


@pytest.mark.parametrize(("typed", "share"), [("97%", 0.97), (" 97.5 % ", 0.975), ("0.97", 0.97), (0.97, 0.97)])
def test_a_share_is_read(typed, share):
    assert read_share(typed) == pytest.approx(share)


@pytest.mark.parametrize("typed", ["0", "100%", "1", "97", "-3%", "nan", "most", "", "97%%", "9" * 400, "٩٧%", None])
def test_what_is_no_share_is_one_line(typed):
    with pytest.raises(BudgetError, match=r"^keep: got [^\n]{2,65}; allowed: a share [^\n]*$"):
        read_share(typed)


def test_a_percentage_without_its_sign_is_put_right():
    with pytest.raises(BudgetError, match=re.escape("got '97' (did you mean 97%?); allowed")):
        read_share("97")


# ---- who is looked at


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=12), st.floats(0.05, 0.95))
def test_slices_are_looked_at_from_the_cheapest_to_the_first_that_keeps_enough(shares, asked):
    ladder = {str(rung): 2.0**rung for rung in range(len(shares))}
    found = _looked_at(ladder, lambda one: Rsa(shares[int(one)], 0.0), None, asked)
    holding = [one for one in ladder if shares[int(one)] >= asked]
    assert [one for one in found if found[one].value >= asked] == holding[:1]
    assert list(found) == list(ladder)[: len(found)]


@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0.0, 1.0), st.floats(1, 100)), min_size=1, max_size=20),
    st.floats(0.05, 0.95),
)
def test_refined_students_close_in_on_the_cheapest_that_keeps_enough(rungs, asked):
    """Whatever refining does to a slice, as long as the costlier student keeps more."""
    shares, left, flops = zip(*rungs, strict=True)
    before, ladder = sorted(shares), dict(zip(map(str, range(len(flops))), sorted(flops), strict=True))
    after = sorted(1 - part * (1 - share) for part, share in zip(left, before, strict=True))
    looked: list[str] = []

    def refined(one):
        assert one not in looked
        looked.append(one)
        return Rsa(after[int(one)], 0.0)

    found = _looked_at(ladder, lambda one: Rsa(before[int(one)], 0.0), refined, asked)
    assert list(found) == looked
    assert len(looked) <= MOST_REFINED
    holding = [int(one) for one in looked if found[one].value >= asked]
    assert bool(holding) == (after[-1] >= asked)
    if holding and len(looked) < MOST_REFINED:
        assert min(holding) == next(rung for rung, share in enumerate(after) if share >= asked)


# ---- the search


def test_without_refining_it_is_the_first_of_the_front_that_keeps_enough(run_folder, shares):
    asked = sorted(shares.values())[len(shares) // 2] - 1e-4
    wanted = next(one for one, share in shares.items() if share >= asked)
    result = autodistil.search(run_folder, keep=asked)
    assert result.best == wanted == result.kept.student
    assert result.kept.share == pytest.approx(shares[wanted])
    assert 0 < result.kept.error < 0.5
    assert all(share < asked for share in result.kept.cheaper.values())
    within = result.candidates["feasible"]
    assert result.candidates.loc[within, "flops"].max() == result.table[wanted].costs["flops"]
    assert result.candidates.loc[~within, "loss"].notna().any()  # the page shows what more would bring
    assert result.kept.words in result.notes
    assert result.kept.words.replace("'", "&#39;") in result.report.read_text()
    assert last_search(Run.open(run_folder, {}).inputs)[1].front.best_first.ids[0] == wanted  # as an export finds it


@pytest.mark.slow
def test_it_holds_beside_budgets_and_forgets_those_of_earlier_searches(run_folder, shares):
    low = min(shares.values()) / 2
    cheapest = autodistil.search(run_folder, keep=low).best
    costs = pd.read_csv(run_folder / "candidates.csv").set_index("id")
    assert cheapest == costs["flops"].idxmin()
    high = autodistil.search(run_folder, keep=max(shares.values()) - 1e-9)
    assert costs["flops"][high.best] > costs["flops"][cheapest]
    narrow = f"{costs['params'][cheapest]}params"
    held = autodistil.search(run_folder, keep=low, budgets=[narrow])
    assert held.best == cheapest
    assert held.budgets[0] == narrow
    with pytest.raises(BudgetError, match="no student keeps"):
        autodistil.search(run_folder, keep=0.999999, budgets=[narrow])


def test_a_later_search_without_a_share_says_nothing_of_it(run_folder):
    autodistil.search(run_folder, keep=0.001)
    assert isinstance(read_kept(Run.open(run_folder, {}).folder), Kept)
    result = autodistil.search(run_folder, budgets=["1GFLOPs"])
    assert result.kept is None
    assert read_kept(Run.open(run_folder, {}).folder) is None
    assert "was asked for" not in result.report.read_text()


def test_the_pick_is_refined_and_its_share_is_that_of_what_is_exported(run_folder):
    run = Run.open(run_folder, {"budgets": (), "refine_top": 1, "refine_steps": 3})
    result = pipeline.search(run, keep="5%")
    candidate = last_search(run.inputs)[0].candidates[result.best]
    weights = exported_weights(run.folder, run.superlms, candidate)
    assert weights.refinement is not None
    exported = Similarity(run).of(weights.superlm, candidate.config)
    assert result.kept.share == pytest.approx(exported.value)
    assert result.agreement.rsa == pytest.approx(exported.value)


def test_no_student_that_keeps_so_much_is_one_line_and_the_run_stays(run_folder, shares, capsys):
    nearest = max(shares, key=lambda student: shares[student])
    assert run("search", "--run", run_folder, "--keep", "99.9999%", "--refine-top", "0") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("autodistil: no student keeps 99.9999 % of the teacher's agreement of embeddings (RSA, ")
    assert f"the nearest is {nearest} (" in line
    assert f"FLOPs), {100 * shares[nearest]:.1f} %. All is kept in" in line
    assert "ask for less there, or train longer than 4 steps" in line
    assert autodistil.search(run_folder, keep=min(shares.values()) / 2, refine_top=0).kept is not None


def test_with_a_proxy_task_it_is_a_share_of_the_teachers_score(run_folder, options):
    run = Run.open(run_folder, {"budgets": (), "proxy": "stsb", "data": options["data"], "proxy_top": 0})
    result = pipeline.search(run, keep=0.05)
    scores = result.table.known("score")
    task = pipeline.open_proxy(run.folder, run.config, run.inputs.teacher)
    theirs = score_of_teacher(run, task)
    assert result.kept.share == pytest.approx(scores[result.best] / theirs)
    assert result.kept.measure == "stsb score as a slice of its SuperLM"
    assert math.isfinite(theirs)


@pytest.mark.slow
def test_the_command_line_says_what_is_kept(run_folder, capsys):
    arguments = ["search", "--run", run_folder, "--keep", "1%", "--proxy", "none", "--refine-top", "0"]
    assert run(*arguments) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "of the teacher's agreement of embeddings (RSA, 32 held-out texts), 1 % was asked for." in out
    assert run(*arguments, "--json") == 0
    kept = json.loads(capsys.readouterr().out)["kept"]
    assert (kept["asked"], kept["student"]) == (0.01, "tiny-L1-H16-A1-F32")


@pytest.mark.slow
def test_a_new_run_can_ask_for_a_share(options, tmp_path):
    result = pipeline.search(Run.open(tmp_path / "run", options, {"train_steps": 1}), keep="1%")
    assert result.kept.student == "tiny-L1-H16-A1-F32"


def test_what_is_asked_first_leaves_a_run_that_goes_on(options, tmp_path):
    run = Run.open(tmp_path / "run", options)
    check_measurable(run, None)
    assert run.folder.heldout_path.is_file()
    assert Run.open(tmp_path / "run").folder.resolved()["corpus_content"] == run.inputs.text.corpus.content_hash


def test_a_teacher_without_embeddings_asks_for_a_task(tmp_path, quickstart_teacher_dir, capsys):
    options = run_options(tmp_path, quickstart_teacher_dir, SPACE.replace("[1, 2]", "[2]"), train_steps=1)
    with pytest.raises(BudgetError, match=r"gives no embeddings .* --proxy TASK$"):
        pipeline.search(Run.open(tmp_path / "run", options), keep="97%")
    assert not (tmp_path / "run" / "superlm").exists()
    capsys.readouterr()  # bars of libraries, where no command has silenced them yet
    assert run("search", "--keep", "150%", "--run", tmp_path / "other") == 2
    assert "keep: got '150%'; allowed:" in one_line(capsys)


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code
