"""What options may be: choices that stand in torch-free `config.py` name what their modules have, and bounds hold."""

import pytest

from autodistil.config import OPTIONS, RunConfig, layered
from autodistil.errors import ConfigError
from autodistil.models.layer_maps import LAYER_MAPS
from autodistil.models.ordering import ORDERS
from autodistil.student_search.racing import RACES
from autodistil.student_search.samplers import SAMPLERS
from autodistil.training.sampling import SAMPLINGS


def test_choices_are_what_the_modules_offer():
    assert set(OPTIONS["layer_map"].choices) == {*LAYER_MAPS, "influence"}
    assert set(OPTIONS["order"].choices) == {"none", *ORDERS}
    assert set(OPTIONS["sampling"].keys.allowed()) == set(SAMPLINGS)
    assert set(OPTIONS["racing"].choices) == set(RACES)
    assert set(OPTIONS["sampler"].keys.allowed()) == {"auto", *SAMPLERS}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_steps": 0}, "option train_steps = 0 is too small; allowed: at least 1"),
        ({"max_failures": -2}, "option max_failures = -2 is too small; allowed: at least -1"),
        ({"learning_rate": 0}, "option learning_rate = 0.0 is too small; allowed: above 0"),
        ({"warmup": -0.1}, "option warmup = -0.1 is too small; allowed: at least 0"),
        ({"warmup": 1}, "option warmup = 1.0 is a share of the steps; allowed: from 0 to below 1"),
        ({"clip": float("nan")}, "option clip = nan is not a finite number"),
        ({"seed": True}, "option seed = True is of type bool; expected int"),
        ({"in_place": 1}, "option in_place = 1 is of type int; expected bool"),
        ({"seed": None}, "option seed = None is of type NoneType; expected int"),
        ({"corpus": 3}, "option corpus = 3 is not a list of strings"),
        ({"sampling": "uniforn"}, "option sampling = 'uniforn' (did you mean 'uniform'?); allowed: sandwich, unif"),
        (
            {"sampler": "tpes"},
            "option sampler = 'tpes' (did you mean 'tpe'?); allowed: auto, exhaustive, gp, evolution, nsga2, ",
        ),
        ({"layout": "join"}, "option layout = 'join' (did you mean 'joint'?); allowed: joint, split"),
        ({"teachr": "x"}, "unknown option 'teachr' (did you mean 'teacher'?); allowed: teacher, corpus, space, "),
    ],
)
def test_wrong_values_are_refused_in_these_words(options, message):
    with pytest.raises(ConfigError) as caught:
        layered(options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_values_become_what_their_fields_say():
    config = layered({"corpus": ["a", "b"], "budgets": "5MFLOPs", "clip": 2, "trials": None})
    assert (config.corpus, config.budgets, config.clip) == (("a", "b"), ("5MFLOPs",), 2.0)
    assert isinstance(config.clip, float)
    assert RunConfig(**RunConfig().to_dict()) == RunConfig()


def test_the_later_of_steps_and_minutes_holds():
    assert layered({"train_steps": 3}, {"train_minutes": 2}).train_steps is None
    assert layered({"train_minutes": 2}, {"train_steps": 3}).train_minutes is None
    assert layered({"train_steps": 3}, {"train_minutes": None}).train_steps == 3
