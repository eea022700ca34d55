"""Search spaces as YAML files and plain dicts: those that come with autodistil, and a user's own."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from autodistil.errors import SpaceError, suggest
from autodistil.space.axes import AXES, read_axes
from autodistil.space.axes.axis import WHOLE, read_mapping, read_text
from autodistil.space.per_layer import PER_LAYER, PerLayerSubSpace
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.utils import short

_SUB_SPACE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


def shipped_spaces() -> dict[str, Path]:
    """Name -> YAML file of every space that comes with autodistil, sorted by name."""
    # In a wheel the folder lies inside the package, in a checkout beside it.
    package = Path(__file__).parents[1]
    folders = (package / "search_spaces", package.parent / "search_spaces")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_space(name_or_path: str) -> SearchSpace:
    """Read a search space by its shipped name or from a YAML file.

    Raises:
        SpaceError: There is no such space or file, or it is not a valid space.
    """
    shipped = shipped_spaces()
    path = shipped.get(name_or_path) or Path(name_or_path)
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpaceError(
            f"got no search space or file {short(name_or_path)}{suggest(name_or_path, shipped)}; "
            f"allowed: {', '.join(shipped)} or the path of a YAML file; check the name"
        ) from None
    except UnicodeDecodeError as error:
        raise SpaceError(f"{path}: got non-UTF-8 text at byte {error.start}; save the YAML file as UTF-8") from None
    except (OSError, ValueError, RuntimeError) as error:  # a folder, no permission, a NUL in the name, no home
        reason = getattr(error, "strerror", None) or error
        raise SpaceError(f"got {short(name_or_path)}: {reason}; give a readable YAML file or a shipped name") from None
    return space_from_dict(_parse_yaml(text, str(path)), str(path))


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key given twice, of which plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a dict after looking for repeated keys."""
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {short(key)} given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, source: str) -> object:
    try:
        return yaml.load(text, _StrictLoader)  # a SafeLoader
    except Exception as error:  # besides YAMLError, PyYAML lets out whatever its constructors stumble over
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or f"{type(error).__name__} {error}"
        problem = " ".join(problem.split())[:200]
        raise SpaceError(f"{source}: got broken YAML{place}: {problem}; correct the file") from None


def space_to_dict(space: SearchSpace) -> dict[str, Any]:
    """Plain dicts, lists and numbers, in the layout of the YAML files; the inverse of `space_from_dict`."""
    sub_spaces = {
        sub.name: {axis: [WHOLE if v is None else v for v in values] for axis, values in sub.axes.items()}
        | _written_rules(sub)
        for sub in space.sub_spaces
    }
    return {"name": space.name, "description": space.description, "sub_spaces": sub_spaces}


def space_from_dict(raw: object, source: str) -> SearchSpace:
    """Build a search space from the content of a YAML file.

    Args:
        raw: `{name, description, sub_spaces: {name: {axis: scalar, list or {low, high, step}}}}`; `name` defaults to
            the stem of `source`, `description` to nothing; a vocabulary size may be the word `whole`.
        source: Where it came from, for messages.

    Raises:
        SpaceError: A key is unknown or missing, an axis is malformed, or a sub-space has no student.
    """
    try:
        top = read_mapping(raw, "the search space", required=("sub_spaces",), optional=("name", "description"))
        subs = read_mapping(top["sub_spaces"], "sub_spaces")
        sub_spaces = tuple(_sub_space(name, axes) for name, axes in subs.items())
        name = read_text(top.get("name", Path(source).stem), "name")
        return SearchSpace(name, read_text(top.get("description", ""), "description"), sub_spaces)
    except SpaceError as error:
        raise SpaceError(f"{source}: {error}") from None


def _sub_space(name: object, raw: object) -> SubSpace:
    if not isinstance(name, str) or not _SUB_SPACE_NAME.fullmatch(name):
        raise SpaceError(
            f"sub_spaces: got the name {short(name)}; "
            "allowed: a letter, then up to 31 letters, digits or underscores; rename it"
        )
    where = f"sub-space {name!r}"
    given = read_axes(raw, where, "free_attention", "per_layer")
    per_layer = _per_layer(given.get("per_layer", False), f"{where}: per_layer")
    known = {name: axis.with_none() if name in per_layer else axis for name, axis in AXES.items()}
    axes = {name: axis.read(given[name], f"{where}: {name}") for name, axis in known.items() if name in given}
    free = given.get("free_attention", False)
    if not isinstance(free, bool):
        raise SpaceError(f"{where}: free_attention: got {short(free)}; allowed: true or false; correct it")
    return PerLayerSubSpace(name, axes, per_layer=per_layer) if per_layer else SubSpace(name, axes, free)


def _per_layer(raw: object, where: str) -> tuple[str, ...]:
    """The axes that each layer has for itself."""
    names = {True: PER_LAYER, False: ()}.get(raw, raw) if isinstance(raw, bool) else raw
    if not isinstance(names, (list, tuple)) or not set(map(str, names)) <= set(PER_LAYER):
        raise SpaceError(
            f"{where}: got {short(raw)}; allowed: true, false, or some of {', '.join(PER_LAYER)}; correct it"
        )
    return tuple(axis for axis in PER_LAYER if axis in names)


def _written_rules(sub: SubSpace) -> dict[str, Any]:
    """What the layout of YAML files says of a sub-space beside its axes."""
    if isinstance(sub, PerLayerSubSpace):
        return {"per_layer": list(sub.per_layer)}
    return {"free_attention": True} if sub.free_attention else {}
