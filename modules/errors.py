"""The one exception a user is meant to see: what is wrong, where, and what to do about it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType


class UserError(Exception):
    """Bad input, named in one line.  Scripts print it and exit with status 2; libraries may catch it."""


def cause(error: Exception) -> str:
    """What an exception of the system, of FFmpeg or of Pillow says, on one line, without the path."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def run_script(main: Callable[[], None]) -> None:
    """Run a script's ``main``; turn a :class:`UserError` into one line on stderr and exit status 2.

    SIGTERM ends it with status 143 by way of ``finally``, so that no half-written file is left; a second one kills.
    """
    own = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != own:  # a forked worker, which has nothing to clean up
            os.kill(os.getpid(), number)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)
