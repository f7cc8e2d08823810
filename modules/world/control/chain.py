"""From a driver's codes to those that a source shows: smoothed, mixed with the source's own, edited, set."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import UserError
from .options import Control
from .smoothing import OneEuro
from .units import Opening, Units

FRAME_RATE = 25.0  # of frames that come without their times


class Chain:
    """What is done to codes on their way, the same for every frame, batch by batch.

    1. :meth:`smoothed`: over time, as codes are read off a driver.
    2. :meth:`composed`: each number goes its share of the way from the source's own to the driver's, and edits are
       added.
    3. :meth:`set_to`: eyes, gaze and mouth are what they were asked to be.

    Args:
        control: what is asked for.
        shares: [K], how much of each number follows the driver.
        change: [K], what edits add.
        units: what the numbers are, if they are action units; None: an embedding, of which nothing can be set.
    """

    def __init__(self, control: Control, shares: Tensor, change: Tensor, units: Units | None = None):
        self.control, self.shares, self.change, self.units = control, shares, change, units
        self.rate = FRAME_RATE  # frames a second of drivers
        self._smoothers: dict[bool, list[OneEuro]] = {}

    @staticmethod
    def of_units(control: Control, strength: float, units: Units, change: Tensor | None = None) -> Chain:
        """The chain of codes that are action units; ``change`` takes the place of what sliders are defined as."""
        regions = control.regions or {"face": 1.0, "pose": 1.0}
        edits = units.edited(control.edits) if change is None else change
        return Chain(control, strength * units.shares(regions), edits, units)

    @staticmethod
    def of_embedding(
        control: Control, strength: float, expression: int, pose: int, change: Tensor | None = None
    ) -> Chain:
        """The chain of an embedding with so many numbers of the expression, then of the pose.

        Raises:
            UserError: it is asked for what such numbers cannot tell.
        """
        for name in control.sets:
            raise UserError(f"--{name}: this model's numbers are no action units; take the bundled one")
        for name in ("eyes", "mouth"):
            if name in control.regions:
                raise UserError(f"--region {name}: this model knows the whole face alone; take --region face")
        regions = control.regions or {"face": 1.0, "pose": 1.0}
        shares = torch.tensor([regions.get("face", 0.0)] * expression + [regions.get("pose", 0.0)] * pose)
        return Chain(control, strength * shares, torch.zeros_like(shares) if change is None else change)

    def to(self, device: torch.device) -> Chain:
        """The same chain, moved to a device."""
        self.shares, self.change = self.shares.to(device), self.change.to(device)
        return self

    def start(self, rate: float) -> None:
        """Begin with new drivers of ``rate`` frames a second."""
        self.rate = rate
        self._smoothers = {}

    def pace(self, rate: float) -> None:
        """The drivers go on with ``rate`` frames a second."""
        self.rate = rate
        for smoothers in self._smoothers.values():
            for smoother in smoothers:
                smoother.rate = rate

    def smoothed(self, streams: list[Tensor], for_pose: bool = False) -> list[Tensor]:
        """The next frames ``[B, ...]`` of numbers that are read off a driver, or of one for the pose."""
        if not self.control.smooth:
            return streams
        known = self._smoothers.setdefault(for_pose, [OneEuro(self.rate) for _ in streams])
        return [smoother(values) for smoother, values in zip(known, streams, strict=True)]

    def composed(self, own: Tensor, wanted: Tensor) -> Tensor:
        """What a source with codes ``own`` shows where a driver wants ``wanted``; both ``[B or 1, K]``."""
        return own + self.shares * (wanted - own) + self.change

    def set_to(self, codes: Tensor, opening: Opening) -> Tensor:
        """Codes ``[B, K]`` with what is set; ``opening`` says how far lips are apart in a face with such codes."""
        return self.units.set_to(codes, self.control, opening) if self.units and self.control.sets else codes
