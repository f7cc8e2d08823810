"""Smoothing over time: the one-euro filter (Casiez, Roussel and Vogel, CHI 2012)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SLOWEST = 1.5  # hertz, cutoff of what rests
SPEED_CUTOFF = 2.0  # hertz, cutoff of the speed that is measured
QUICKNESS = 2.0  # hertz that the cutoff rises by, per unit of a code and second of speed


class OneEuro:
    """Smooths numbers as they come: steady where they rest, and with hardly a lag where they change quickly.

    x' += a (x - x'), where a = 1 / (1 + rate / (2 pi f)) and f = SLOWEST + QUICKNESS |speed|; the speed is smoothed in
    the same way at SPEED_CUTOFF.  Every number has a cutoff of its own.
    """

    def __init__(self, rate: float):
        self.rate = rate  # frames a second
        self._before: Tensor | None = None
        self._speed: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Smooth the next frames, ``[B, ...]``; what came before is remembered."""
        return torch.stack([self._next(row) for row in values])

    def _next(self, value: Tensor) -> Tensor:
        if self._before is None:
            self._before, self._speed = value, torch.zeros_like(value)
            return value
        speed = (value - self._before) * self.rate
        self._speed = self._speed + self._share(torch.full_like(speed, SPEED_CUTOFF)) * (speed - self._speed)
        share = self._share(SLOWEST + QUICKNESS * self._speed.abs())
        self._before = self._before + share * (value - self._before)
        return self._before

    def _share(self, cutoff: Tensor) -> Tensor:
        return 1 / (1 + self.rate / (2 * math.pi * cutoff))
