"""How quick a performance was."""

from __future__ import annotations

import time
from array import array

import numpy as np


class Figures:
    """Latencies in seconds, and how many frames were drawn in which time."""

    def __init__(self) -> None:
        self.latencies, self.round_trips = array("d"), array("d")
        self._first = self._last = 0.0

    def add(self, latency: float) -> None:
        """A frame was drawn, so many seconds after it was there."""
        self._last = time.monotonic()
        if not self.latencies:
            self._first = self._last
        self.latencies.append(latency)

    @property
    def rate(self) -> float:
        """Frames a second, from the first to the last."""
        return (len(self.latencies) - 1) / (self._last - self._first) if self._last > self._first else 0.0

    def told(self, passed: int | None = None) -> str:
        """One line; ``passed`` frames were there to be drawn."""
        if not self.latencies:
            return "no frame was drawn"
        of = "" if passed is None else f" of {passed}"
        line = f"drew {len(self.latencies)}{of} frames, {self.rate:.1f} a second; latency {_spread(self.latencies)}"
        seen = f"; in the browser, from frame to picture, {_spread(self.round_trips)}" if self.round_trips else ""
        return line + seen


def _spread(seconds: array) -> str:
    middle, most = 1000 * np.percentile(seconds, [50, 99])
    return f"{middle:.0f} ms (median), {most:.0f} ms (99th percentile)"
