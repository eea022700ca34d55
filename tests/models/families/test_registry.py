"""Which table describes a model, what an unknown one is told, and that docs/families.md adds one."""

import re
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from autodistil_helpers import ALL_CONFIGS
from transformers import AutoConfig, BertConfig, GPT2Config, NomicBertConfig

from autodistil.errors import IntegrityError, TeacherError
from autodistil.export.family_contract import CLAUSES, check_family
from autodistil.models import families as registry
from autodistil.models.families import FAMILIES, family_of, known_families, register_family
from autodistil.models.families.bert import BERT
from autodistil.models.packaged import PACKAGED
from autodistil.space.shape import LayerTerms

DOCS = Path(__file__).parents[3] / "docs" / "families.md"


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_registered", [])


def test_the_page_adds_a_family_in_under_sixty_lines(capsys):
    with pytest.raises(TeacherError, match="'nomic_bert' has no family table"):
        family_of(NomicBertConfig())
    table, check = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(table.splitlines()) == int(re.search(r"in (\d+) lines", DOCS.read_text(encoding="utf-8"))[1]) < 60
    names = {}
    exec(table, names)
    assert family_of(NomicBertConfig()) is names["NOMIC_BERT"]
    exec(check, names)
    assert capsys.readouterr().out == f"{tuple(CLAUSES)}\n"


def test_an_unknown_family_is_told_which_table_to_write():
    with pytest.raises(TeacherError, match=r"model_types=\('gpt2',\) and give it to register_family \(docs/fam"):
        family_of(GPT2Config())


@pytest.mark.parametrize("kind", ["modernbert-biases", "mpnet"])
def test_shipped_tables_keep_the_contract(kind):
    """The other tests hold every family to each clause; this holds the check itself to them."""
    assert check_family(ALL_CONFIGS[kind]()) == tuple(CLAUSES)


def changed_linears(**linears):
    return MappingProxyType({**BERT.linears, **{name.replace("__", "."): value for name, value in linears.items()}})


@pytest.mark.parametrize(
    ("wrong", "clause"),
    [
        ({"layer_terms": lambda _: LayerTerms(ffn_biases=2)}, "parameters in closed form"),
        ({"layer_terms": lambda _: LayerTerms(norms=1, hidden_biases=(2, 2))}, "FLOPs in closed form"),
        ({"position_table": False}, "parameters in closed form"),
        ({"layers": "encoder.layers"}, "slices fit the model"),
        ({"linears": changed_linears(output__dense=(("hidden_size",), ("hidden_size",)))}, "slices fit the model"),
    ],
)
def test_the_clause_that_a_table_breaks_is_named(wrong, clause):
    register_family(replace(BERT, **wrong))
    with pytest.raises(IntegrityError, match=f"table of 'bert' breaks '{clause}"):
        check_family(BertConfig())


def test_registered_families_come_first_and_once():
    mine = replace(BERT, tried_on=())
    register_family(mine)
    register_family(mine)
    assert known_families() == (mine, *FAMILIES)
    assert family_of(BertConfig()) is mine


def test_installed_packages_bring_families(monkeypatch):
    mine = replace(BERT, model_types=("my-bert",))

    class Point:
        def load(self):
            return mine

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()] * (group == "autodistil.families"))
    assert family_of(AutoConfig.for_model("bert")) is BERT
    config = BertConfig()
    config.model_type = "my-bert"
    assert family_of(config) is mine


def test_what_was_tried_on_real_weights_installs_by_name():
    tried = {name for family in FAMILIES for name in family.tried_on}
    assert {name for name in tried if not (DOCS.parents[1] / name / "train_teacher.py").is_file()} <= PACKAGED.keys()
