"""How far a piece of work is, told to whoever waits for it: a bar on the terminal, or what :func:`shown_to` names."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Protocol, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class Watcher(Protocol):
    """Who is told in place of the terminal.  What it raises ends the work, and with it nothing half-written is left."""

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """``done`` of ``total`` units of ``what`` are finished."""

    def note(self, line: str) -> None:
        """Something to know of a result, such as frames in which no face was found."""


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextlib.contextmanager
def shown_to(watcher: Watcher) -> Iterator[None]:
    """Within the block, work of this thread is told to ``watcher``."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


class Bar:
    """A bar of ``total`` units; :meth:`update` moves it by one."""

    def __init__(self, total: int, what: str, unit: str = "frame"):
        self.total, self.what, self.unit, self.done = total, what, unit, 0
        self._watcher = _watcher.get()
        self._bar = tqdm(total=total, unit=unit, desc=what) if self._watcher is None else None
        if self._watcher is not None:
            self._watcher.progress(what, 0, total, unit)

    def update(self) -> None:
        self.done += 1
        if self._watcher is not None:
            self._watcher.progress(self.what, self.done, self.total, self.unit)
        if self._bar is not None:
            self._bar.update()

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; each moves the bar when the next one is asked for."""
        with self:
            for item in items:
                yield item
                self.update()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def note(line: str) -> None:
    """Say something that is to be known of a result: on stderr, or to who watches."""
    watcher = _watcher.get()
    if watcher is None:
        print(line, file=sys.stderr)
    else:
        watcher.note(line)
