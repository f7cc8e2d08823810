"""A photograph that follows frames as they come, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..faces.close_crop import cut_crop
from ..faces.framer import Pursuit
from ..sid.driving import ModelAnimator
from ..sid.framing import Framing
from ..sid.videos import Source
from ..world.control.chain import FRAME_RATE

PACE = 0.1  # share of the newest pause between two frames in the mean that smoothing goes by
LEAST = 1e-3  # seconds between two frames


class Performance:
    """Draws the person of a photograph as a driver is now; motion is relative to the driver's neutral frame.

    That is the first one with a face, until :meth:`calibrate` asks for the next one.

    Args:
        animated: what makes a source move, with relative motion.
        framing: has a close crop.
        source: path of the photograph.

    Attributes:
        shown: what was drawn last, uint8 ``[H, W, 3]``; at first the photograph.

    Raises:
        UserError: the photograph cannot be read, or shows no face.
    """

    def __init__(self, animated: Callable[[Source], ModelAnimator], framing: Framing, source: str):
        self._framing, self._person = framing, framing.source(source)
        self._animator, self._finish = animated(self._person), framing.finisher(self._person)
        self._animator.batch_size = 1  # nobody waits for a frame that has not been seen yet
        self._pursuit = Pursuit(framing.framer)
        self._results: Iterator[np.ndarray] | None = None
        self._driver: Any = self._person.image
        self._before: float | None = None
        self._pause = 0.0  # seconds between two frames that were drawn, in the mean
        self.shown = self._drawn()  # which also warms up what is slow at its first use
        self._animator.chain.start(FRAME_RATE)  # the photograph was no frame of the driver
        self.calibrate()

    def calibrate(self) -> None:
        """Take the next frame with a face as neutral."""
        self._results = None

    def draw(self, image: np.ndarray, time: float) -> bool:
        """Draw what a frame, uint8 ``[H, W, 3]``, drives; without a face nothing changes.

        Args:
            time: seconds, increasing.

        Returns:
            Whether it has a face.
        """
        crop = self._pursuit.find(image, time)
        if crop is None:
            self._before = None  # an absence is no pause between frames
            return False
        self._driver = cut_crop(image, crop, self._framing.size[0])
        self._keep_pace(time)
        self.shown = self._drawn()
        return True

    def _drawn(self) -> np.ndarray:
        if self._results is None:
            self._results = self._animator.animate(self._drivers())
        try:
            made = next(self._results)
        except BaseException:  # which ends a generator: the next frame begins anew
            self._results = None
            raise
        return self._framing.shown(self._person, None, self._finish(made))

    def _drivers(self) -> Iterator[np.ndarray]:
        while True:
            yield self._driver

    def _keep_pace(self, time: float) -> None:
        """Frames are dropped, so that smoothing has to learn how many a second are drawn."""
        if self._before is not None:
            pause = time - self._before
            self._pause = self._pause + PACE * (pause - self._pause) if self._pause else pause
            self._animator.chain.pace(1 / max(self._pause, LEAST))
        self._before = time
