"""What the table of emotion words is made of."""

from __future__ import annotations

from typing import NamedTuple


class Word(NamedTuple):
    """What a word's face is, beside its group's.

    Attributes:
        strength: of the group's prototype.
        change: added to its action units.
        instead: a prototype of its own.
        looks: the basic expression it is a grade of, if that is another than the group's.
        uneven: share of the mouth's units that the person's right side loses, in place of the group's.
        down: degrees by which the eyes look down, in place of the group's.
    """

    strength: float
    change: dict[str, float]
    instead: dict[str, float] | None = None
    looks: str | None = None
    uneven: float | None = None
    down: float | None = None


class Group(NamedTuple):
    """Words that people sort together; ``looks`` is one of :data:`.draws.EXPRESSIONS`."""

    family: str
    name: str
    looks: str
    spread: float
    units: dict[str, float]
    words: dict[str, Word]
    uneven: float = 0.0
    down: float = 0.0


def word(
    strength: float,
    instead: dict[str, float] | None = None,
    looks: str | None = None,
    uneven: float | None = None,
    down: float | None = None,
    **change: float,
) -> Word:
    """A :class:`Word`, with its ``change`` as keywords."""
    return Word(strength, change, instead, looks, uneven, down)
