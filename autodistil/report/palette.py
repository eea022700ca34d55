"""Colours of the page and its figures, for light and dark.

Figures name colours as CSS variables. The page resolves them in the browser and again when the scheme changes; the
picture resolves them here, in light. Series follow Okabe and Ito, told apart by the colour-blind, and each sub-space
has a symbol of its own as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_SERIES = {
    "light": ("#0868ac", "#c8500a", "#00805f", "#a2459c", "#8a6d00", "#2b93c9", "#8c2f4b", "#5b6470"),
    "dark": ("#5fb4ee", "#ff9a5a", "#3ecb9d", "#df96d6", "#e0bd45", "#a5d8f6", "#ef8fa9", "#b7c0ca"),
}
_BASE = {
    "light": {
        "ink": "#1b1f24",
        "dim": "#59636e",
        "faint": "#a4adb6",
        "line": "#dfe3e7",
        "paper": "#ffffff",
        "card": "#f5f6f8",
        "limit": "#b3261e",
    },
    "dark": {
        "ink": "#e7eaed",
        "dim": "#a3adb8",
        "faint": "#69737d",
        "line": "#31373e",
        "paper": "#14171a",
        "card": "#1d2125",
        "limit": "#ff8a80",
    },
}
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down")
GLYPHS = ("●", "■", "◆", "▲", "✚", "★", "▼")
"""The symbols as characters, for tables."""
SERIES = len(_SERIES["light"])
"""Colours; one more than symbols, so that 56 sub-spaces look different."""


def _scheme(name: str) -> Mapping[str, str]:
    series = dict(enumerate(_SERIES[name]))
    colours = {f"series-{i}": colour for i, colour in series.items()}
    softened = {f"series-{i}-soft": _translucent(colour, 0.2) for i, colour in series.items()}
    return MappingProxyType({**_BASE[name], **colours, **softened})


def _translucent(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


LIGHT, DARK = _scheme("light"), _scheme("dark")


def series_colour(index: int, soft: bool = False) -> str:
    """The CSS variable of a sub-space's colour."""
    return f"var(--series-{index % SERIES}{'-soft' if soft else ''})"


def css_variables(scheme: Mapping[str, str]) -> str:
    """The scheme as CSS declarations."""
    return " ".join(f"--{name}: {colour};" for name, colour in scheme.items())


def resolve(node: Any, scheme: Mapping[str, str], key: str = "") -> Any:
    """A copy of a figure with the CSS variables under keys `…color` replaced; text stays what it is."""
    if isinstance(node, dict):
        return {name: resolve(value, scheme, name) for name, value in node.items()}
    if isinstance(node, list):
        return [resolve(value, scheme) for value in node]
    if key.endswith("color") and (variable := re.fullmatch(r"var\(--([a-z0-9-]+)\)", str(node))):
        return scheme[variable[1]]
    return node
