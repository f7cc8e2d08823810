"""What a page in the browser asks for: the next picture, a new neutral face."""

from __future__ import annotations

import math
import secrets
import threading
import time
from typing import NamedTuple

from .. import media
from ..errors import UserError
from .figures import Figures
from .film import Film
from .performance import Performance

PATIENCE = 10.0  # seconds without a question, from which on the page counts as closed
CAMERA = "the camera's picture"


class Answer(NamedTuple):
    """A picture as the bytes of a JPEG file, and whether the frame that it was drawn by has a face."""

    picture: bytes
    has_face: bool


class Preview:
    """One performance for one page at a time, the newest.  Frames are pictures that the page sends, or a film's.

    There is never more than one frame on its way: whoever is slow gets fewer of them, and not later ones.

    Attributes:
        ended: set when there is nothing more to show.
        error: why, if it is a fault.
    """

    def __init__(self, performance: Performance, film: Film | None = None, xmp: str | None = None):
        self._performance, self._film, self._xmp = performance, film, xmp
        self._lock = threading.Lock()
        self._page, self._asked = secrets.token_urlsafe(), math.inf  # who may ask, and when they were answered last
        self._faces = 0  # frames that had one
        self.figures, self.ended = Figures(), threading.Event()
        self.error: UserError | None = None

    def open(self) -> str:
        """A name for a page that is opened; older ones get nothing more."""
        self._page = secrets.token_urlsafe()
        return self._page

    def is_open(self, page: str) -> bool:
        return secrets.compare_digest(page.encode(), self._page.encode())

    @property
    def is_left(self) -> bool:
        """Whether a page has asked for pictures, and does no more."""
        return not self._lock.locked() and time.monotonic() - self._asked > PATIENCE

    def calibrate(self) -> None:
        """Take the next frame as neutral."""
        with self._lock:
            self._performance.calibrate()

    def answer(self, sent: bytes, round_trip: float) -> Answer | None:
        """The picture that is drawn by the next frame; None at the end.

        Args:
            sent: a camera's picture as a JPEG file; nothing where there is a film.
            round_trip: seconds that the picture before took, as the page has measured it; 0: there was none.

        Raises:
            UserError: what was sent is no picture.
        """
        arrived = time.monotonic()
        with self._lock:
            if self.ended.is_set():
                return None
            if round_trip > 0:
                self.figures.round_trips.append(round_trip)
            try:
                if self._film is None:
                    return self._drawn(media.Frame(media.from_jpeg(sent, CAMERA), arrived))
                return self._of_film(self._film)
            finally:
                self._asked = time.monotonic()

    def _of_film(self, film: Film) -> Answer | None:
        try:
            if (frame := next(film, None)) is not None:
                return self._drawn(frame)
            if not self._faces:
                raise UserError("no face found in the driving video: choose one with a clear face")
        except UserError as error:
            self.error = error
        self.ended.set()
        return None

    def _drawn(self, frame: media.Frame) -> Answer:
        has_face = self._performance.draw(*frame)
        answer = Answer(media.to_jpeg(self._performance.shown, self._xmp), has_face)
        self._faces += has_face
        if has_face:
            self.figures.add(time.monotonic() - frame.time)
        return answer

    def close(self) -> str:
        """Wait for the frame that is drawn now, and draw no more; how it was, in one line."""
        with self._lock:
            self.ended.set()
        return self.figures.told(None if self._film is None else self._film.passed)
