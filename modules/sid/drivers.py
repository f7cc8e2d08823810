"""What drives a source, by the clock; and several drivers, one for each of several faces, as one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from .. import media

CLOCK_SLACK = 1e-3  # seconds: times of equal frame rates differ by rounding
STILL_RATE = Fraction(25)  # frames a second of drivers of which none moves

Paths = str | tuple[str, ...]  # of a driver, or of several, one for each face


class Each(list):
    """One of something for each of several faces, in their order."""


class MotionInfo(NamedTuple):
    """What a driver's index says, as far as it drives."""

    times: tuple[float, ...]  # seconds, one per frame
    frame_rate: Fraction
    duration: float  # seconds


def at_times(driver: Any, times: Iterator[float]) -> Iterator[Any]:
    """What a driver shows at each of the increasing ``times`` (seconds); after its end, its last frame.

    Args:
        driver: a picture, a :class:`.videos.DrivingVideo`, a :class:`.template.DrivingMotion`, or :class:`Drivers`.
    """
    if isinstance(driver, np.ndarray):
        yield from (driver for _ in times)
        return
    if isinstance(driver, Drivers):
        yield from driver.at_times(times)
        return
    frames = driver.frames()
    shown = following = next(frames)
    for time in times:
        while following is not None and following.time <= time + CLOCK_SLACK:
            shown, following = following, next(frames, None)
        yield shown.image


class Drivers:
    """A driver for each of several faces; pictures of frames are :class:`Each`.

    Args:
        each: what :func:`at_times` takes; pictures last as long as the others.

    Attributes:
        info: times and rate of the first that moves, up to the end of the shortest.
    """

    def __init__(self, each: list[Any]):
        self.each = each
        moving = [number for number, driver in enumerate(each) if not isinstance(driver, np.ndarray)]
        self._leading = moving[0] if moving else None
        if self._leading is None:
            self.info = MotionInfo((), STILL_RATE, math.inf)
            return
        first, end = each[self._leading].info, min(each[number].info.duration for number in moving)
        times = tuple(time for time in first.times if time < end - CLOCK_SLACK)
        self.info = MotionInfo(times, first.frame_rate, end)

    @property
    def faceless(self) -> int:
        """How many of the drivers' frames showed no face the last time, so far."""
        return sum(driver.faceless for driver in self.each if not isinstance(driver, np.ndarray))

    def frames(self, progress: Callable[[Iterator], Iterator] = iter) -> Iterator[media.Frame]:
        """The frames of the first that moves, with what the others show then.

        Args:
            progress: wraps the frames of its file, e.g. to show a bar.
        """
        end = self.info.duration - CLOCK_SLACK
        led = itertools.takewhile(lambda frame: frame.time < end, self.each[self._leading].frames(progress))
        clock, *copies = itertools.tee(led, len(self.each) + 1)
        shown = [
            (frame.image for frame in copy)
            if number == self._leading
            else at_times(driver, (frame.time for frame in copy))
            for number, (driver, copy) in enumerate(zip(self.each, copies, strict=True))
        ]
        for frame, *images in zip(clock, *shown, strict=False):
            yield media.Frame(Each(images), frame.time)

    def at_times(self, times: Iterator[float]) -> Iterator[Each]:
        """What they show, as the function of this name."""
        copies = itertools.tee(times, len(self.each))
        shown = (at_times(driver, copy) for driver, copy in zip(self.each, copies, strict=True))
        yield from map(Each, zip(*shown, strict=False))

    def some(self) -> Each:
        """Of each a few frames, as :meth:`.videos.DrivingVideo.some`; None of a picture."""
        return Each(None if isinstance(driver, np.ndarray) else driver.some() for driver in self.each)
