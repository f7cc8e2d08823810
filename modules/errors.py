"""The one exception a user is meant to see: what is wrong, where, and what to do about it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO


class UserError(Exception):
    """Bad input, named in one line.  Scripts print it and exit with status 2; libraries may catch it."""


class _Stream:
    """stdout or stderr of a script; the script's work goes on when they cannot be written.

    What the encoding lacks is spelt out.  The first failure of the system is kept in ``failure``, and what follows it
    goes nowhere.
    """

    def __init__(self, stream: TextIO | None):
        self.stream = open(os.devnull, "w") if stream is None else stream  # noqa: SIM115 (None: closed by the caller)
        self.failure: OSError | None = None
        self.at_line_start = True
        self.stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]  # a TextIOWrapper

    def write(self, text: str) -> int:
        self._try(self.stream.write, text)
        self.at_line_start = text.endswith(("\n", "\r")) if text else self.at_line_start
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, act: Callable[..., object], *values: str) -> None:
        try:
            act(*values)
        except OSError as error:
            self.failure = self.failure or error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Stream(sys.stdout), _Stream(sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _run(main: Callable[[], None]) -> None:
    """``main``, then UserError if its words could not be written."""
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    sys.stdout.flush()
    if sys.stdout.failure is not None:
        reason = sys.stdout.failure.strerror
        raise UserError(f"stdout: cannot be written ({reason}); the work is done, but its messages are lost")


def _tell(line: str) -> None:
    """A line on stderr, below progress bars that are not at their end."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        for bar in list(getattr(tqdm, "_instances", ())):
            bar.close()
    print("" if sys.stderr.at_line_start else "\n", line, sep="", file=sys.stderr)


def cause(error: Exception) -> str:
    """What an exception of the system, of FFmpeg or of Pillow says, on one line, without the path."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def run_script(main: Callable[[], None]) -> None:
    """Run a script's ``main``; turn a :class:`UserError` into one line on stderr and exit status 2.

    A name that stdout cannot encode, or a stdout that is full or closed, does not end the work; the latter is told
    after it.  SIGTERM ends it with status 143 by way of ``finally``, so that no half-written file is left; a second
    one kills.
    """
    own = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != own:  # a forked worker, which has nothing to clean up
            os.kill(os.getpid(), number)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    with _streams():
        try:
            _run(main)
        except UserError as error:
            _tell(f"error: {error}")
            sys.exit(2)
        except KeyboardInterrupt:
            _tell("interrupted")
            sys.exit(130)
        finally:
            signal.signal(signal.SIGTERM, before)
