"""Options whose choices stand in torch-free `config.py` name what their modules have."""

from autodistil.config import OPTIONS
from autodistil.models.layer_maps import LAYER_MAPS
from autodistil.models.ordering import ORDERS
from autodistil.student_search.study import SAMPLERS
from autodistil.training.sampling.draw import SAMPLINGS


def test_choices_are_what_the_modules_offer():
    assert set(OPTIONS["layer_map"].choices) == {*LAYER_MAPS, "influence"}
    assert set(OPTIONS["order"].choices) == {"none", *ORDERS}
    assert set(OPTIONS["sampling"].choices) == set(SAMPLINGS)
    assert set(OPTIONS["sampler"].choices) == {"auto", "exhaustive", "gp", *SAMPLERS}
