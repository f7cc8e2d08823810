"""Codes whose numbers are action units: which of them belong to a region, what sliders change, what opens a mouth.

Codes ``[B, K]`` have the columns of :data:`..puppets.states.CODES`.  Action units count from 0 to 1; angles are in
units of their own, ``Units.gaze`` and ``Units.turn`` degrees each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..parameters import ACTION_UNITS
from ..puppets.states import CODES
from .options import Control, check_sliders
from .sliders import BOTH, SLIDERS, Slider

EYES = ("AU1", "AU2", "AU4", "AU5", "AU6", "AU7", "AU43")  # and gaze
MOUTH = ("AU10", "AU12", "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26")
SIDES = len(BOTH) * len(ACTION_UNITS)  # numbers of action units, which gaze and pose come after
GAZE = slice(SIDES, SIDES + 2)
TURN = slice(SIDES + 2, SIDES + 5)  # and the pose's others: place and scale
LOOKS = (20.0, 15.0)  # degrees to the side, and up, at a gaze of 1
WIDE = 0.6  # gap between the lips, in widths of the mouth, of a mouth that is wide open
LIDS, NO_LIDS = "AU43", ("AU5", "AU7")  # what closes eyes; what else moves lids
OPENERS = ("AU25", "AU26")
HALVINGS = 12  # of the interval in which units are looked for: to 3e-4 of a unit

Opening = Callable[[Tensor], Tensor]  # codes [B, K] -> gap between the lips, in widths of the mouth, [B]


def columns(*units: str, sides: tuple[str, ...] = BOTH) -> list[int]:
    """Where action units are in a code."""
    return [CODES.index(f"{unit}_{side}") for side in sides for unit in units]


@dataclass(frozen=True)
class Units:
    """Codes of one kind.

    Attributes:
        gaze, turn: degrees to one unit of these.
        lowest, highest: of an action unit that can be shown.
    """

    gaze: float = 1.0
    turn: float = 1.0
    lowest: float = 0.0
    highest: float = 1.0

    def shares(self, regions: Mapping[str, float]) -> Tensor:
        """``[K]``, how much of each number follows the driver: the strength of the smallest region that holds it."""
        share = torch.zeros(len(CODES))
        share[: TURN.start] = regions.get("face", 0.0)
        for name, units in (("eyes", EYES), ("mouth", MOUTH)):
            if name in regions:
                share[columns(*units)] = regions[name]
        if "eyes" in regions:
            share[GAZE] = regions["eyes"]
        share[TURN.start :] = regions.get("pose", 0.0)
        return share

    def change(self, slider: Slider) -> Tensor:
        """``[K]``, what an amount of 1 of a slider changes, by its definition."""
        found = torch.zeros(len(CODES))
        for unit, weight in slider.units.items():
            found[columns(unit, sides=slider.sides)] = weight
        found[GAZE] = torch.tensor(slider.gaze, dtype=found.dtype) / self.gaze
        found[TURN] = torch.tensor(slider.turn, dtype=found.dtype) / self.turn
        return found

    def edited(self, edits: Mapping[str, float]) -> Tensor:
        """``[K]``, what edits change.  Raises UserError for an unknown one."""
        check_sliders(edits)
        total = torch.zeros(len(CODES))
        for name, amount in edits.items():
            total += amount * self.change(SLIDERS[name])
        return total

    def set_to(self, codes: Tensor, control: Control, opening: Opening) -> Tensor:
        """Codes ``[B, K]`` with eyes, gaze and mouth as they are asked for; ``opening`` says what units come to."""
        codes = codes.clone()
        if control.eyes is not None:
            codes[:, columns(*NO_LIDS)] = 0
            codes[:, columns(LIDS)] = 1 - control.eyes
        if control.gaze is not None:
            degrees = codes.new_tensor(LOOKS) * codes.new_tensor(control.gaze)
            codes[:, GAZE] = degrees / self.gaze
        return codes if control.mouth is None else self._opened(codes, WIDE * control.mouth, opening)

    def _opened(self, codes: Tensor, wanted: float, opening: Opening) -> Tensor:
        """Codes whose lips are ``wanted`` widths of the mouth apart, or as near to it as units go, by bisection.

        Both openers are set alike; what else parts lips (a smile, a raised lip) stays as it is.
        """
        where = columns(*OPENERS)
        low, high = (codes.new_full((len(codes), 1), end) for end in (self.lowest, self.highest))

        def at(amount: Tensor) -> Tensor:
            tried = codes.clone()
            tried[:, where] = amount
            return tried

        for _ in range(HALVINGS):
            middle = (low + high) / 2
            wider = (opening(at(middle)) < wanted)[:, None]
            low, high = torch.where(wider, middle, low), torch.where(wider, high, middle)
        return at((low + high) / 2)


def lips_apart(landmarks: Tensor) -> Tensor:
    """Gap between the lips in widths of the mouth, ``[B]``, of iBUG's ``[B, 68, 2 or more]``."""
    above, below = landmarks[:, [61, 62, 63], :2], landmarks[:, [67, 66, 65], :2]
    width = (landmarks[:, 60, :2] - landmarks[:, 64, :2]).norm(dim=-1)
    return (above - below).norm(dim=-1).mean(dim=1) / width
