"""Which of many variants of a test run each time; the others run with `make test-all`."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(quick: Collection[Any], variants: Iterable[Any]) -> list[Any]:
    """The variants of a parametrized test, those that are not among `quick` marked as slow."""
    missing = [one for one in quick if one not in (variants := list(variants))]
    assert not missing, f"no variants: {missing}"
    return [one if one in quick else _slow(one) for one in variants]


def _slow(variant: Any) -> Any:
    values = variant if isinstance(variant, tuple) else (variant,)
    return pytest.param(*values, marks=pytest.mark.slow)
