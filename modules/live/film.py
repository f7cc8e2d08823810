"""A video played in real time: frames that nobody asks for in time are dropped, as a camera's are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from .. import media


class Film(Iterator[media.Frame]):
    """Gives the newest frame that is due and was not given before, and waits for it where there is none.

    The first question starts the clock; times are ``time.monotonic()``'s.

    Attributes:
        passed: how many frames have been due, given or not.

    Raises:
        UserError: the file is no video that can be read.
    """

    def __init__(self, path: str | Path):
        self._frames = media.read_video(path)
        self._ahead: media.Frame | None = next(self._frames)
        self._begun: float | None = None
        self.passed = 0

    def __next__(self) -> media.Frame:
        if self._begun is None:
            self._begun = time.monotonic()
        frame = self._taken()
        while self._ahead is not None and self._begun + self._ahead.time <= time.monotonic():
            frame = self._taken()
        moment = self._begun + frame.time
        time.sleep(max(0.0, moment - time.monotonic()))
        return media.Frame(frame.image, moment)

    def _taken(self) -> media.Frame:
        if self._ahead is None:
            raise StopIteration
        frame, self._ahead = self._ahead, next(self._frames, None)
        self.passed += 1
        return frame
