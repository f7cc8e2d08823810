"""One piece of work at a time: its progress, its end before time, and what its errors say on the page."""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..errors import UserError
from ..progress import shown_to

Result = TypeVar("Result")
Show = Callable[[float, str], None]  # the share that is done, and what to say of it
SURE = 0.5  # seconds of work from which on the rest is estimated


class Cancelled(Exception):
    """Somebody asked for the end of the work."""


class Failed(Exception):
    """One line that says why there is no result."""


class Stopped(Failed):
    """Somebody asked for the end of the work: no fault."""


class Job:
    """Watches a piece of work for whoever asked for it (:class:`..progress.Watcher`).

    Args:
        show: shows progress on the page.
    """

    def __init__(self, show: Show):
        self._show = show
        self._cancelled = threading.Event()
        self._begun = 0.0
        self.notes: list[str] = []

    def cancel(self) -> None:
        self._cancelled.set()

    def say(self, what: str) -> None:
        """What is done now, however long it takes."""
        if self._cancelled.is_set():
            raise Cancelled
        self._show(0.0, what)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        if done == 0:
            self._begun = time.monotonic()
        passed = time.monotonic() - self._begun
        left = f", about {rest(passed / done * (total - done))} left" if done and passed > SURE else ""
        verb = "Searching, " if what == "searching" else ""
        self._show(done / max(total, 1), f"{verb}{unit} {done} of {total}{left}")

    def note(self, line: str) -> None:
        self.notes.append(line)


def rest(seconds: float) -> str:
    """``8 s``, ``3 min``."""
    return f"{round(seconds)} s" if seconds < 90 else f"{round(seconds / 60)} min"


class Jobs:
    """Work of all who have the page open, each known by a name of theirs.

    Args:
        root: folder of folders of uploads and results.  Errors and notes leave it out: it is of no use to who sees the
            page.
    """

    def __init__(self, root: Path) -> None:
        self._folders = re.compile(re.escape(str(root)) + r"/([^/\s]+/)?")
        self._turn = threading.Lock()  # models are shared, and so is the processor
        self._running: dict[str, Job] = {}

    def run(self, who: str, work: Callable[[Job], Result], show: Show) -> tuple[Result, list[str]]:
        """What ``work`` returns, and what is to be known of it.

        Raises:
            Failed: its UserError as one line, or another fault.
            Stopped: somebody cancelled it.
        """
        job = Job(show)
        self._running[who] = job
        try:
            with self._turn, shown_to(job):
                job.say("Getting ready")
                result = work(job)
            return result, [self._named(line) for line in job.notes]
        except Cancelled:
            raise Stopped("Cancelled.") from None
        except UserError as error:
            raise Failed(self._named(str(error))) from None
        except Exception:
            traceback.print_exc()  # on the terminal
            raise Failed("Something went wrong that should not; the terminal of app.py says what.") from None
        finally:
            if self._running.get(who) is job:
                del self._running[who]

    def cancel(self, who: str) -> bool:
        """End what ``who`` has running, soon; whether there is anything."""
        job = self._running.get(who)
        if job is not None:
            job.cancel()
        return job is not None

    def _named(self, line: str) -> str:
        return self._folders.sub("", line)
