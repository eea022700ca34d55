"""Options whose choices stand in torch-free `config.py` name what their modules have."""

from autodistil import config
from autodistil.models.layer_maps import LAYER_MAPS
from autodistil.models.ordering import ORDERS
from autodistil.student_search.study import SAMPLERS
from autodistil.training.sampling.draw import SAMPLINGS


def test_choices_are_what_the_modules_offer():
    assert set(config._CHOICES["layer_map"]) == {*LAYER_MAPS, "influence"}
    assert set(config._CHOICES["order"]) == {"none", *ORDERS}
    assert set(config._CHOICES["sampling"]) == set(SAMPLINGS)
    assert set(config._CHOICES["sampler"]) == {"auto", "exhaustive", "gp", *SAMPLERS}
