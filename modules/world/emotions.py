"""Expressions by name: 135 words in their tree, alone or mixed, and the action units that each stands for.

Nothing heavy is imported here: a command that lists the words answers at once.
"""

from __future__ import annotations

import difflib
import math
import textwrap
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple, TypeVar

from ..errors import UserError
from .emotion_table import GROUPS
from .emotion_words import Group, Word

NEUTRAL = "neutral"  # a face without expression: no emotion, but something to ask for
UNEVEN = ("AU10", "AU12", "AU14")  # what may be on one side of the face more than on the other
WIDTH = 100  # columns of the list


class Emotion(NamedTuple):
    """A word, its place in the tree, and how faces that show it are distributed.

    Attributes:
        name: the word.
        family, group: of the tree; the word itself where it is none of the tree's.
        looks: the basic expression that it is a grade of, one of :data:`.draws.EXPRESSIONS`.
        units: means of action units in [0, 1] on the person's left side; those that are not named are 0.
        uneven: share of the units of :data:`UNEVEN` which the right side loses, in the mean.
        down: degrees by which the eyes look down.
        spread: standard deviation of a face's strength, as a share of it.
    """

    name: str
    family: str
    group: str
    looks: str
    units: Mapping[str, float]
    uneven: float
    down: float
    spread: float

    def sides(self) -> tuple[dict[str, float], dict[str, float]]:
        """Mean action units of the person's left side and of the right one."""
        less = {unit: 1 - self.uneven if unit in UNEVEN else 1.0 for unit in self.units}
        return dict(self.units), {unit: value * less[unit] for unit, value in self.units.items()}


Mixture = list[tuple[Emotion, float]]  # with weights in (0, 1]
Found = TypeVar("Found")


@cache
def emotions() -> dict[str, Emotion]:
    """The 135 words, in the order of the tree."""
    return {name: _emotion(name, word, group) for group in GROUPS for name, word in group.words.items()}


def _emotion(name: str, word: Word, group: Group) -> Emotion:
    prototype = group.units if word.instead is None else word.instead
    units = {unit: word.strength * value for unit, value in prototype.items()}
    for unit, change in word.change.items():
        units[unit] = units.get(unit, 0.0) + change
    return Emotion(
        name,
        group.family,
        group.name,
        group.looks if word.looks is None else word.looks,
        {unit: min(1.0, round(value, 3)) for unit, value in units.items() if value > 0},
        group.uneven if word.uneven is None else word.uneven,
        group.down if word.down is None else word.down,
        group.spread,
    )


def find(name: str, option: str = "--expression") -> Emotion:
    """The emotion of a word, in any case; :data:`NEUTRAL` is one as well.

    Raises:
        UserError: an unknown word; names the nearest ones, and the ``option`` that holds it.
    """
    word, known = name.lower(), emotions()
    if word == NEUTRAL:
        return Emotion(NEUTRAL, NEUTRAL, NEUTRAL, NEUTRAL, {}, 0.0, 0.0, 0.0)
    if word not in known:
        near = difflib.get_close_matches(word, [*known, NEUTRAL], n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(f"{option}: {name!r} is not known; {meant}Inference.py --list_expressions prints all words")
    return known[word]


def parse(text: str, find: Callable[[str], Found] = find) -> list[tuple[Found, float]]:
    """What ``find`` gives for each word of ``joy``, ``joy:0.6,surprise:0.4`` or ``joy,surprise``, and its weight.

    Words without weights are mixed in equal parts.

    Raises:
        UserError: an unknown word, one that is named twice, or a weight that is none.
    """
    parts = [part.partition(":") for part in text.split(",")]
    names = [name.strip() for name, _, _ in parts]
    found = [find(name) for name in names]
    if len({name.lower() for name in names}) < len(names):
        raise UserError(f"--expression {text}: names a word twice; add its weights up")
    with_weight = [bool(colon) for _, colon, _ in parts]
    if not any(with_weight):
        return [(each, 1 / len(found)) for each in found]
    if not all(with_weight):
        raise UserError(f"--expression {text}: give every word a weight, as in joy:0.6,surprise:0.4, or none")
    return [(each, _weight(name, weight)) for each, (name, _, weight) in zip(found, parts, strict=True)]


def _weight(name: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight <= 1:
        raise UserError(
            f"--expression {name}:{text}: a weight is a number above 0, at most 1, as in joy:0.6,surprise:0.4"
        )
    return weight


def tree_distance(a: Emotion, b: Emotion) -> int:
    """Steps up the tree to where two words meet: 0 the same, 1 of one group, 2 of one family, 3 of two."""
    if a.name == b.name:
        return 0
    if a.family != b.family:
        return 3
    return 1 if a.group == b.group else 2


def listed() -> str:
    """The tree, a line or more for each group, to be printed."""
    lines, family = [], None
    for group in GROUPS:
        if group.family != family:
            family = group.family
            lines.append(family)
        words = ", ".join(group.words)
        lines += textwrap.wrap(f"{group.name}: {words}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)
