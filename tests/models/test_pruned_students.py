"""Students with a pruned vocabulary: sliced = extracted = reloaded, exact costs, one training, a search."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from autodistil_helpers import FAMILY_CONFIGS, RECIPE, own_inputs, random_teacher, small_space
from tokenizers_helpers import TEXTS, byte_level_bpe, packaged, unigram, vocabulary_of
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel
from variants import slow_but

from autodistil import cli
from autodistil.costs.closed_form import cost_table, flops, parameters, size_mb
from autodistil.costs.fvcore_check import count_flops
from autodistil.errors import SpaceError
from autodistil.export.student_folder import export_student
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import load_teacher
from autodistil.models.vocabulary import Vocabulary
from autodistil.space.files import space_from_dict, space_to_dict
from autodistil.space.fit import fit_vocabulary
from autodistil.space.space import OneStudent, SearchSpace, SubSpace
from autodistil.space.student import Candidate, StudentConfig
from autodistil.training.sampling import SAMPLINGS, draw_students

ORDER = np.random.default_rng(0).permutation(np.arange(3, 97))
VOCABULARY = Vocabulary(np.concatenate([[2, 0, 1], ORDER]), 3)
GRID = {"num_layers": [2, 3], "hidden_size": [32, 64], "head_size": 16, "mlp_ratio": [1.0, 2.0]}


def pruned_superlm(kind):
    teacher = random_teacher(kind)
    sub_space = small_space(teacher).with_axes(vocab_size=(10, 50, None))
    return SuperLM.from_teacher(teacher, sub_space, vocabulary=VOCABULARY)


# ---- the model


@pytest.mark.parametrize("kind", sorted(FAMILY_CONFIGS))
@torch.no_grad()
def test_sliced_on_the_teachers_ids_is_extracted_on_its_own(kind, tmp_path):
    superlm = pruned_superlm(kind)
    generator = torch.Generator().manual_seed(0)
    for student in superlm.sub_space.students[::4]:
        model = superlm.extract(student)
        ids, mask, batch = own_inputs(superlm, student, generator)
        theirs = model(input_ids=ids, attention_mask=mask).last_hidden_state
        ours = superlm.forward(student, batch, output=True).output
        assert torch.equal(theirs[mask == 1], ours[mask == 1])
    model.save_pretrained(tmp_path)
    reloaded = AutoModel.from_pretrained(tmp_path).eval()
    again = reloaded(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(again[mask == 1], theirs[mask == 1])


@pytest.mark.parametrize("kind", sorted(FAMILY_CONFIGS))
def test_token_ids_of_the_config_are_renumbered(kind):
    superlm = pruned_superlm(kind)
    student = next(student for student in superlm.sub_space.students if student.vocab_size == 10)
    config, base = superlm.extract(student).config, superlm.base_config
    assert config.vocab_size == 10
    kept = superlm.kept_tokens(student).tolist()
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        old, new = getattr(base, name, None), getattr(config, name, None)
        assert (old is None and new is None) or kept[new] == old
    assert superlm.base_config.vocab_size == 97


@pytest.mark.parametrize("kind", slow_but(["bert", "mpnet", "modernbert"], sorted(FAMILY_CONFIGS)))
def test_costs_are_those_of_the_exported_file(kind, tmp_path):
    superlm = pruned_superlm(kind)
    shape = random_teacher(kind).encoder_shape
    for student in superlm.sub_space.students[::5]:
        model = superlm.extract(student)
        assert parameters([student], shape)[0] == sum(p.numel() for p in model.parameters())
        assert flops([student], shape, 24)[0] == count_flops(superlm.meta_model(student), 24)
        assert flops([student], shape, 24) == flops([student.architecture], shape, 24)
        model.save_pretrained(tmp_path)
        size = (tmp_path / "model.safetensors").stat().st_size / 1e6
        assert size <= size_mb([student], shape)[0] <= size + 0.02


@torch.no_grad()
def test_a_pruned_student_alone_is_the_student_of_its_superlm():
    superlm = pruned_superlm("bert")
    for student in superlm.sub_space.students[:3]:
        alone = superlm.alone(student)
        assert alone.sub_space.students == (student,)
        states = [model.extract(student).state_dict() for model in (alone, superlm)]
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


# ---- the axis


def test_the_axis_changes_neither_architectures_nor_shared_weights():
    plain = small_space(random_teacher("bert"))
    pruned = plain.with_axes(vocab_size=(10, 50))
    assert len(pruned.students) == 2 * len(plain.students) == 2 * len(pruned.architectures)
    assert (pruned.largest, pruned.smallest, pruned.envelope) == (plain.largest, plain.smallest, plain.envelope)
    for sampling in SAMPLINGS:
        draws = [draw_students(sub, replace(RECIPE, sampling=sampling), 5) for sub in (plain, pruned)]
        assert draws[0] == [student.architecture for student in draws[1]]
    states = [SuperLM.from_teacher(random_teacher("bert"), sub).state_dict() for sub in (plain, pruned)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def space_of(**axes):
    return space_from_dict({"name": "x", "description": "", "sub_spaces": {"base": {**GRID, **axes}}}, "x.yaml")


def test_a_space_with_the_axis_survives_its_dict_and_names_what_is_pruned():
    space = space_of(vocab_size=[8000, "whole", 4000])
    assert space.sub_spaces[0].axes["vocab_size"] == (4000, 8000, None)
    assert space_from_dict(space_to_dict(space), "copy") == space
    students = space.sub_spaces[0].students
    assert list(students) == sorted(students)
    assert len(students) == len(set(students)) == space.sub_spaces[0].num_combinations
    assert [student.label for student in students[:3]] == [
        "L2-H32-A2-F32-V4000", "L2-H32-A2-F32-V8000", "L2-H32-A2-F32",
    ]  # fmt: skip
    (stepped,) = space_of(vocab_size={"low": 1000, "high": 3000, "step": 1000}).sub_spaces
    assert stepped.axes["vocab_size"] == (1000, 2000, 3000)
    for student in students:
        point = {"num_layers": student.num_layers, "hidden_size": student.hidden_size, "head_size": 16}
        ratio = student.intermediate_size / student.hidden_size
        assert space.sub_spaces[0].student(**point, mlp_ratio=ratio, vocab_size=student.vocab_size) == student


def test_the_teachers_own_size_is_the_whole_vocabulary():
    fitted = fit_vocabulary(space_of(vocab_size=[8000, 30522, "whole"]), 1999, 30522)
    assert fitted.sub_spaces[0].axes["vocab_size"] == (8000, None)
    assert fit_vocabulary(space_of(), 1999, 30522) == space_of()
    assert not space_of().has_axis_of("vocab_size")


@pytest.mark.parametrize("size", [500, 40_000])
def test_sizes_that_no_student_can_have_are_refused(size):
    with pytest.raises(SpaceError, match=rf"vocab_size: got {size}; allowed: 1999 .*lossless.* to the teacher's 30522"):
        fit_vocabulary(space_of(vocab_size=[8000, size]), 1999, 30522)


@pytest.mark.parametrize("raw", [0, "half", [8000, 2.5], []])
def test_malformed_sizes_are_refused(raw):
    with pytest.raises(SpaceError, match="vocab_size"):
        space_of(vocab_size=raw)


def test_the_cost_table_names_the_vocabulary_only_where_it_is_searched():
    shape = random_teacher("bert").encoder_shape
    plain, pruned = StudentConfig(2, 32, 2, 16, 64), StudentConfig(2, 32, 2, 16, 64, 10)
    assert "vocab_size" not in cost_table([Candidate("tiny", plain)], shape, 16)
    assert list(cost_table([Candidate("tiny", s) for s in (plain, pruned)], shape, 16)["vocab_size"]) == [97, 10]


# ---- export, for each kind of tokenizer


def bert(folder, tokenizer):
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=128, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)


def roberta(folder, tokenizer):
    config = RobertaConfig(
        vocab_size=len(tokenizer) + 3, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=130, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)


@pytest.mark.parametrize("kind", ["WordPiece", "BPE", "Unigram"])
@torch.no_grad()
def test_an_export_reads_text_as_the_sliced_student_does(kind, tmp_path, quickstart_teacher_dir):
    save, tokenizer = {
        "WordPiece": (bert, lambda: packaged(quickstart_teacher_dir)),
        "BPE": (roberta, byte_level_bpe),
        "Unigram": (roberta, unigram),
    }[kind]
    torch.manual_seed(0)
    save(tmp_path / "teacher", tokenizer())
    tokenizer().save_pretrained(tmp_path / "teacher")
    teacher = load_teacher(str(tmp_path / "teacher"))
    vocabulary = vocabulary_of(teacher.tokenizer, rows=teacher.model.config.vocab_size)
    student = StudentConfig(2, 32, 2, 16, 64, vocabulary.smallest + 60)
    superlm = SuperLM.from_teacher(teacher, OneStudent("tiny", student), vocabulary=vocabulary)
    candidate = Candidate("tiny", student)
    costs = cost_table([candidate], teacher.encoder_shape, 32).iloc[0].to_dict()
    teacher_costs = cost_table([Candidate("teacher", teacher.dims)], teacher.encoder_shape, 32).iloc[0].to_dict()
    exported = export_student(
        superlm, candidate, teacher, {**costs, "teacher": teacher_costs, "seq_len": 32}, {}, tmp_path / "student"
    )
    assert exported.max_difference == 0
    model = AutoModel.from_pretrained(tmp_path / "student").eval()
    reader = AutoTokenizer.from_pretrained(tmp_path / "student")
    assert len(reader) == model.config.vocab_size == student.vocab_size
    batch = reader([TEXTS[3][:90], "日本 🙂"], padding="longest", truncation=True, max_length=100, return_tensors="pt")
    kept = superlm.kept_tokens(student)
    mapped = {"input_ids": kept[batch["input_ids"]], "attention_mask": batch["attention_mask"]}
    ours = superlm.forward(student, mapped, output=True).output
    real = batch["attention_mask"] == 1
    assert torch.equal(model(**batch).last_hidden_state[real], ours[real])
    assert f"| vocabulary | {student.vocab_size:,} |" in (tmp_path / "student" / "README.md").read_text()


# ---- search


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


@pytest.fixture(scope="module")
def searched(tmp_path_factory, quickstart_teacher_dir):
    """A run under a budget that no student with the whole vocabulary meets."""
    folder = tmp_path_factory.mktemp("pruned")
    torch.manual_seed(0)
    bert(folder / "teacher", packaged(quickstart_teacher_dir))
    packaged(quickstart_teacher_dir).save_pretrained(folder / "teacher")
    (folder / "text.txt").write_text("\n\n".join(TEXTS))
    axes = {**GRID, "num_layers": 2, "mlp_ratio": 2.0, "vocab_size": [30522, 4000, 2100]}
    (folder / "space.yaml").write_text(json.dumps({"name": "small", "sub_spaces": {"base": axes}}))
    arguments = ["--teacher", folder / "teacher", "--corpus", folder / "text.txt", "--space", folder / "space.yaml"]
    steps = ["--train-steps", "2", "--batch-size", "4", "--seq-len", "32", "--threads", "1"]
    assert run("search", "--run", folder / "run", "--budget", "1.5MB", *arguments, *steps) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_search_picks_pruned_students_where_the_budget_demands_it(searched, tmp_path, capsys):
    table = pd.read_csv(searched / "candidates.csv")
    assert set(table["vocab_size"]) == {30522, 4000, 2100}
    assert (table["feasible"] == (table["size_mb"] <= 1.5)).all()
    assert set(table[table["feasible"]]["vocab_size"]) == {4000, 2100}
    assert table[table["feasible"]]["loss"].notna().all()
    assert all(row.id.endswith(f"-V{row.vocab_size}") == (row.vocab_size < 30522) for row in table.itertuples())
    (student,) = (searched / "students").iterdir()
    assert (student / "model.safetensors").stat().st_size <= 1.5e6
    config = AutoConfig.from_pretrained(student)
    assert config.vocab_size == len(AutoTokenizer.from_pretrained(student)) <= 4000
    assert "% of the held-out text; the rest is read as smaller pieces, which" in (student / "README.md").read_text()
    assert "Tokens" in (searched / "report.html").read_text()
    order = (searched / "vocabulary.npz").read_bytes()
    pick = table[(table["vocab_size"] == 2100) & table["feasible"]]["id"].iloc[0]
    assert run("export", "--run", searched, "--pick", pick, "--to", tmp_path / "other") == 0
    assert (searched / "vocabulary.npz").read_bytes() == order
    assert AutoConfig.from_pretrained(tmp_path / "other").vocab_size == 2100


@pytest.mark.slow
def test_a_looser_budget_finds_the_same_scores_and_whole_vocabularies(searched, capsys):
    before = pd.read_csv(searched / "candidates.csv").set_index("id")["loss"].dropna()
    assert run("search", "--run", searched, "--budget", "100MB", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert {row["config"]["vocab_size"] for row in result["pareto"]} <= {30522, 4000, 2100}
    after = pd.read_csv(searched / "candidates.csv").set_index("id")["loss"]
    assert after.notna().all()
    assert (after[before.index] == before).all()


def test_a_vocabulary_below_the_fallback_is_refused_before_training(searched, tmp_path, capsys):
    axes = {"num_layers": (2,), "hidden_size": (32,), "head_size": (16,), "mlp_ratio": (1.0,), "vocab_size": (500,)}
    record = SearchSpace("small", "", (SubSpace("base", axes),))
    (tmp_path / "space.yaml").write_text(json.dumps(space_to_dict(record)))
    teacher, text = searched.parent / "teacher", searched.parent / "text.txt"
    arguments = ["--teacher", teacher, "--corpus", text, "--space", tmp_path / "space.yaml", "--budget", "9MB"]
    assert run("search", "--run", tmp_path / "run", *arguments) == 2
    assert "vocab_size: got 500; allowed: 1999" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_spaces_with_the_axis_are_described(capsys):
    assert run("spaces", "minilm-l6-h384-small-vocab") == 0
    assert "whole" in capsys.readouterr().out
