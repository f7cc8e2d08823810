"""What a user asks for.  Nothing heavy is imported here: ``--help`` answers at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ...errors import UserError
from .sliders import PRINCIPAL, SLIDERS

ABOUT_PRINCIPAL = (
    "Changes of the whole face at once: those in which expressions differ most, the strongest first.",
    "An amount of 1 is a usual difference, 3 a strong one. Other models than the bundled one have others.",
)
REGIONS = ("face", "eyes", "mouth", "pose")


@dataclass(frozen=True)
class Control:
    """What is asked beside a driver.

    Attributes:
        regions: the strength of each region that follows the driver, by its name (:data:`REGIONS`); a part of the face
            goes before ``face``.  Without any, all follow.
        eyes: in [0, 1], how far they are open whatever the driver does: 0 closed, 1 open as at rest.
        mouth: in [0, 1], likewise: 0 closed, 1 wide open (:data:`.units.WIDE`).
        gaze: in [-1, 1], where the eyes look in their head: to the right of the picture, and up.
        edits: amounts of sliders (:data:`.sliders.SLIDERS`, or a table's own), added to what is shown.
        smooth: what is read off a driver is smoothed over time.
    """

    regions: Mapping[str, float] = field(default_factory=dict)
    eyes: float | None = None
    mouth: float | None = None
    gaze: tuple[float, float] | None = None
    edits: Mapping[str, float] = field(default_factory=dict)
    smooth: bool = False

    @property
    def sets(self) -> list[str]:
        """The options that say what a part does, whatever the driver does there."""
        return [name for name in ("eyes", "mouth", "gaze") if getattr(self, name) is not None]

    @property
    def first(self) -> str:
        """The first option that asks for something."""
        others = {"region": self.regions, "edit": self.edits, "smooth": self.smooth}
        return next(name for name in (*self.sets, *(name for name, value in others.items() if value)))

    @property
    def shows(self) -> bool:
        """Whether there is something to show without a driver."""
        return bool(self.sets or self.edits)


def check_sliders(edits: Mapping[str, float], known: Iterable[str] = SLIDERS) -> None:
    """UserError where one of the sliders does not exist."""
    known = list(known)
    for name in edits:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            meant = f"; did you mean {', '.join(near)}" if near else ""
            raise UserError(f"--edit: no slider is called {name!r}{meant}; --list_edits prints them")


def listed() -> str:
    """The sliders, a line each, and what amounts of them mean."""
    told = {name: slider.says for name, slider in SLIDERS.items()}
    width = max(map(len, told | PRINCIPAL))
    named, principal = ([f"{name:{width}}  {says}" for name, says in each.items()] for each in (told, PRINCIPAL))
    return "\n".join([*named, "", *ABOUT_PRINCIPAL, *principal])
