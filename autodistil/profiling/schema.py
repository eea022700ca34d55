"""Values of a JSON file that is not trusted: each is what it has to be, or a one-line error says where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from autodistil.axes import short
from autodistil.errors import ProfileError

_MAX_CHARACTERS = 300


def check_keys(raw: object, where: str, required: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """`raw` as a mapping with all of the required keys and no unknown ones."""
    if not isinstance(raw, Mapping):
        raise ProfileError(f"{where}: got {short(raw)}; allowed: a JSON object with the keys {', '.join(required)}")
    missing = [key for key in required if key not in raw]
    unknown = [key for key in raw if key not in (*required, *optional)]
    if missing or unknown:
        got = f"no {missing[0]}" if missing else f"the unknown key {short(unknown[0])}"
        raise ProfileError(f"{where}: got {got}; allowed: {', '.join((*required, *optional))}")
    return raw


def read_list(raw: object, where: str, most: int) -> list[Any]:
    """`raw` if it is a list of at most `most`."""
    if not isinstance(raw, list) or len(raw) > most:
        raise ProfileError(f"{where}: got {short(raw)}; allowed: a list of at most {most:,}")
    return raw


def read_string(raw: object, where: str) -> str:
    """`raw` if it is one line of text of a sensible length."""
    if not isinstance(raw, str) or len(raw) > _MAX_CHARACTERS or not (raw.isprintable()):
        raise ProfileError(f"{where}: got {short(raw)}; allowed: a line of at most {_MAX_CHARACTERS} characters")
    return raw


def read_bool(raw: object, where: str) -> bool:
    """`raw` if it is true or false."""
    if not isinstance(raw, bool):
        raise ProfileError(f"{where}: got {short(raw)}; allowed: true or false")
    return raw


def read_whole(raw: object, where: str, least: int, most: int) -> int:
    """`raw` if it is a whole number from `least` to `most`."""
    if isinstance(raw, bool) or not isinstance(raw, int) or not least <= raw <= most:
        raise ProfileError(f"{where}: got {short(raw)}; allowed: whole numbers from {least} to {most:,}")
    return raw


def read_number(raw: object, where: str, least: float, most: float) -> float:
    """`raw` if it is a number from `least` to `most`."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not least <= raw <= most:
        raise ProfileError(f"{where}: got {short(raw)}; allowed: numbers from {least:g} to {most:g}")
    return float(cast(float, raw))
