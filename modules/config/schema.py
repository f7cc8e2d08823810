"""Dataclasses read strictly from plain values: the machinery behind :mod:`.config.sid`.

A section is a dataclass made with :data:`section`; its type hints and the limits given to :func:`option` say what is
allowed, and one recursive reader checks it.
"""

from __future__ import annotations

import difflib
import logging
import math
import operator
import os
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import yaml

from ..atomic import write_text
from ..errors import UserError

T = TypeVar("T")


def option(default: Any = MISSING, **limits: Any) -> Any:
    """A field with limits: those of ``_BOUNDS`` for each number in it; ``order`` between neighbours of a list;
    ``filled``: no empty list; ``repeat``: a list of that length, for which a single number may stand."""
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=limits)
    return field(default=default, metadata=limits)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def section(kind: type[T]) -> type[T]:
    """A class as a section: a frozen dataclass whose fields are keywords."""
    return dataclass(frozen=True, kw_only=True)(kind)


# ---------------------------------------------------------------------------------------------------------------- YAML


def read_yaml(path: str | os.PathLike) -> Any:
    """Plain values of a YAML file, merged over those of the file that its ``base`` names, relative to its folder.

    Mappings are merged key by key; anything else, lists too, replaces what the base says.

    Raises:
        UserError: one line, for a file that is missing or not YAML, or bases that go round in a circle.
    """
    return with_base(_parse(Path(path)), Path(path))


def with_base(values: Any, path: Path, above: tuple[Path, ...] = ()) -> Any:
    """Plain values that stand in the file ``path``, upon those of the file that their ``base`` names, if they do.

    Raises:
        UserError: as :func:`read_yaml`; ``above`` are the files on the way to this one.
    """
    if not isinstance(values, dict) or "base" not in values:
        return values
    base = values["base"]
    if not isinstance(base, str):
        raise UserError(f"{path}: base: expected the path of a YAML file, found {base!r}")
    if path.resolve() in above:
        raise UserError(f"{path}: base: {base} is itself based on this file; remove one of the two")
    below = path.parent / base
    own = {key: value for key, value in values.items() if key != "base"}
    return merged(with_base(_parse(below), below, (*above, path.resolve())), own)


def merged(below: Any, above: Any) -> Any:
    """Plain values upon others: mappings key by key, anything else as ``above`` has it."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: merged(below[key], value) if key in below else value for key, value in above.items()}


def _parse(path: Path) -> Any:
    try:
        return yaml.load(path.read_bytes(), Loader=_Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{path}: not valid YAML at line {line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number YAML itself cannot build
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def write_yaml(values: Any, path: str | os.PathLike) -> None:
    """Write plain values as YAML; the file appears whole or not at all."""
    write_text(path, yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes lists on one line."""


_Dumper.add_representer(list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, True))


# ------------------------------------------------------------------------------- from plain values to typed ones


class BadValue(Exception):
    """A value that cannot be; the caller puts the file in front."""

    def __init__(self, path: str, expected: str, found: str):
        message = f"{path or 'top level'}: expected {expected}, found {found}"
        super().__init__(" ".join(message.split()))  # one line, even where a key holds a line break


def _fail(path: str, expected: str, value: Any) -> NoReturn:
    if value is None or isinstance(value, bool):
        found = {True: "true", False: "false", None: "null"}[value]
    else:
        found = {dict: "the mapping ", list: "the list "}.get(type(value), "") + repr(value)
    raise BadValue(path, expected, f"{found[:77]}..." if len(found) > 80 else found)


@cache
def hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def from_values(kind: type[T], values: Any, path: str = "", root: type | None = None) -> T:
    """A section from plain values.  Raises :class:`BadValue`; advice on an unknown key also looks through ``root``."""
    if not isinstance(values, dict):
        _fail(path, f"a mapping with the keys {', '.join(hints(kind))}", values)
    prefix = f"{path}." if path else ""
    values = _without_dropped(kind, values, prefix)
    for key in values:
        if key not in hints(kind):
            raise BadValue(prefix + str(key), _nearest(str(key), kind, prefix, root or kind), "an unknown key")
    arguments = {}
    for f in fields(kind):
        hint, required = hints(kind)[f.name], f.default is MISSING and f.default_factory is MISSING
        missing = f.name not in values or (values[f.name] is None and is_dataclass(hint))  # a bare `section:`
        if missing and required:
            raise BadValue(prefix + f.name, _describe(hint, f.metadata), "nothing: it is missing")
        if not missing:
            arguments[f.name] = _convert(values[f.name], hint, f.metadata, prefix + f.name, root or kind)
    return kind(**arguments)


def _without_dropped(kind: type, values: dict, prefix: str) -> dict:
    """The values less those that a section knew once (``dropped``: key -> why), with a line that says so."""
    dropped = {key: why for key, why in getattr(kind, "dropped", {}).items() if key in values}
    if dropped:
        told = ", ".join(f"{prefix}{key} ({why})" for key, why in dropped.items())
        logging.getLogger(__name__).warning("ignored, as it is no longer an option: %s", told)
    return {key: value for key, value in values.items() if key not in dropped}


def _convert(value: Any, hint: Any, limits: Any, path: str, root: type, expected: str | None = None) -> Any:
    """The value as the type ``hint`` asks for, or :class:`BadValue`."""
    expected = expected or _describe(hint, limits)
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and type(None) in parts:
            return None
        choices = [part for part in parts if part is not type(None)]
        fitting = [part for part in choices if (get_origin(part) in (list, tuple)) == isinstance(value, list)]
        return _convert(value, (fitting or choices)[0], limits, path, root, expected)
    if is_dataclass(hint):
        return from_values(hint, value, path, root)
    if origin in (list, tuple):
        return _sequence(value, origin, parts, limits, path, root, expected)
    if hint is bool or hint is str:
        return value if isinstance(value, hint) and value != "" else _fail(path, expected, value)
    if origin is Literal:
        known = value if isinstance(value, str) and value in parts else _number(value)
        return next((part for part in parts if part == known), None) or _fail(path, expected, value)
    number = _number(value)
    if number is None or (hint is int and number != int(number)) or not _within(number, limits):
        _fail(path, expected, value)
    return hint(number)


def _sequence(value: Any, kind: type, parts: tuple, limits: Any, path: str, root: type, expected: str) -> Any:
    length = limits.get("repeat") or (len(parts) if kind is tuple else None)
    if "repeat" in limits and _number(value) is not None:
        value = [value] * length
    if not isinstance(value, list | tuple) or (length and len(value) != length) or (limits.get("filled") and not value):
        _fail(path, expected, value)
    kinds = parts if kind is tuple else parts * len(value)
    items = [_convert(item, kinds[i], limits, f"{path}[{i}]", root) for i, item in enumerate(value)]
    if "order" in limits and not all(map(limits["order"], items, items[1:])):
        _fail(path, expected, value)
    return kind(items)


def _number(value: Any) -> int | float | None:
    """The finite number a value spells, or None.  YAML 1.1 reads ``1e-4`` as text; a bool is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    return value if isinstance(value, int) else number


_BOUNDS = {
    "low": (operator.ge, ">= {}"),
    "above": (operator.gt, "> {}"),
    "high": (operator.le, "<= {}"),
    "below": (operator.lt, "< {}"),
    "multiple": (lambda number, step: number % step == 0, "a multiple of {}"),
    "reciprocal": (lambda number, _: 0 < number <= 1 and 1 / number - int(1 / number) < 1e-6, "1/n for a whole n"),
}


def _within(number: float, limits: Any) -> bool:
    return all(holds(number, limits[name]) for name, (holds, _) in _BOUNDS.items() if name in limits)


def _describe(hint: Any, limits: Any) -> str:
    """What a field takes, in words, for the error line."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join("null" if part is type(None) else _describe(part, limits) for part in parts)
    if origin is Literal:
        return " or ".join(str(part) for part in parts)
    order = " in increasing order" if "order" in limits else ""
    if origin is tuple:
        return f"a list of {len(parts)}{order}: [{', '.join(_describe(part, limits) for part in parts)}]"
    if origin is list:
        length = f" of {limits['repeat']}" if "repeat" in limits else ""
        return f"a list{length}{order}, each {_describe(parts[0], limits)}"
    if is_dataclass(hint):
        return f"a mapping with the keys {', '.join(hints(hint))}"
    bounds = " and ".join(words.format(limits[name]) for name, (_, words) in _BOUNDS.items() if name in limits)
    words = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}[hint]
    return f"{words} {bounds}" if bounds and hint in (int, float) else words


def _nearest(key: str, kind: type, prefix: str, root: type) -> str:
    """Advice on an unknown key: the nearest of its section, else where a key of that name belongs, else the choice."""
    near, far = (difflib.get_close_matches(key, hints(kind), n=1, cutoff=cutoff) for cutoff in (0.75, 0.5))
    elsewhere = [path for path in _paths(root) if path.rpartition(".")[2] == key]
    for path in (*(prefix + name for name in near), *elsewhere, *(prefix + name for name in far)):
        return f"a known key such as {path}"
    return f"one of {', '.join(hints(kind))}"


def _paths(kind: type, prefix: str = "") -> Iterator[str]:
    for name, hint in hints(kind).items():
        yield prefix + name
        for part in (hint, *get_args(hint)):
            if is_dataclass(part):
                yield from _paths(part, f"{prefix}{name}.")


def to_values(config: Any) -> Any:
    """Plain YAML/JSON values of a section; ``from_values`` is the inverse."""
    if is_dataclass(config):
        return {f.name: to_values(getattr(config, f.name)) for f in fields(config)}
    if isinstance(config, list | tuple):
        return [to_values(value) for value in config]
    if isinstance(config, float) and config.is_integer():  # 1, not 1.0: FOMM's own code names modules by the scale
        return int(config)
    return config
