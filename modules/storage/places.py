"""Parts of files where they lie: on disk, at ``https://``, or in object stores (``s3://`` and the like) by fsspec.

A place is a path or a URL.  What is read is a range of bytes; a remote file whose ranges follow one another is read
ahead, in blocks.  A connection that fails is tried again, with growing pauses, before it ends a run.
"""

from __future__ import annotations

import functools
import itertools
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import fsspec

from ..errors import UserError, cause

AHEAD = 8 * 2**20  # bytes of a block that is read ahead
GAP = 2**16  # bytes between two ranges that still follow one another
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before a further try
STREAMS = 4  # remote files whose last block is kept


class StorageError(UserError):
    """A shard that is not there, damaged, or out of reach: it ends a run, unlike a picture that cannot be read."""


_BRACES = re.compile(r"\{([^{}]*)\}")
_NUMBERS = re.compile(r"(\d+)\.\.(\d+)")


def expand(pattern: str) -> list[str]:
    """Brace expansion, as in shells and webdataset: ``a-{000..012}.tar``, ``{train,test}.tar``, also several braces.

    Raises:
        UserError: braces without ``..`` or a comma, a range that runs backwards, or braces left open.
    """
    pieces = _BRACES.split(pattern)  # text, inside of braces, text, ...
    if any(brace in text for text in pieces[::2] for brace in "{}"):
        raise UserError(f"{pattern}: its braces do not match; write for instance portraits-{{00000..00099}}.tar")
    choices = [_choices(piece, pattern) if i % 2 else [piece] for i, piece in enumerate(pieces)]
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(inside: str, pattern: str) -> list[str]:
    if "," in inside:
        return inside.split(",")
    numbers = _NUMBERS.fullmatch(inside)
    if numbers is None or int(numbers[1]) > int(numbers[2]):
        raise UserError(f"{pattern}: {{{inside}}} is no choice; write {{00000..00099}}, or {{a,b}}")
    return [f"{number:0{len(numbers[1])}d}" for number in range(int(numbers[1]), int(numbers[2]) + 1)]


def is_remote(place: str) -> bool:
    return "://" in place


def size(place: str) -> int:
    """Length in bytes.  Raises StorageError where there is no such file, or it cannot be reached."""
    return int(_tried(place, lambda system, path: system.size(path)) or 0)


def exists(place: str) -> bool:
    """Whether there is such a file.  Raises StorageError where that cannot be told."""
    return bool(_tried(place, lambda system, path: system.isfile(path)))


def read(place: str, start: int = 0, length: int | None = None) -> bytes:
    """``length`` bytes from ``start``, or all to the end.

    Raises:
        StorageError: there is no such file, it cannot be reached, it ends before, or its server sends no ranges.
    """
    if length is None:
        return _fetch(place, start, None)
    found = _stream(place).read(start, length) if is_remote(place) else _fetch(place, start, length)
    if len(found) < length:
        raise StorageError(f"{place}: is cut off, it ends at byte {start + len(found)}; copy or write this shard again")
    return found


def opened(place: str) -> BinaryIO:
    """The whole file, to be read from front to back."""
    return _tried(place, lambda system, path: system.open(path, "rb", block_size=AHEAD))


class _Stream:
    """One remote file: ranges that follow one another come out of blocks."""

    def __init__(self, place: str):
        self.place, self.start, self.block = place, 0, b""
        self.end: int | None = None  # of what was asked for last

    def read(self, start: int, length: int) -> bytes:
        inside = start - self.start
        if not (inside >= 0 and inside + length <= len(self.block)):
            follows = self.end is not None and 0 <= start - self.end <= GAP
            most = max(length, min(AHEAD, size(self.place) - start)) if follows else length
            self.block = _fetch(self.place, start, most)
            self.start, inside = start, 0
        self.end = start + length
        return self.block[inside : inside + length]


@functools.lru_cache(maxsize=STREAMS)
def _stream(place: str) -> _Stream:
    return _Stream(place)


def _fetch(place: str, start: int, length: int | None) -> bytes:
    if not is_remote(place):
        return _tried(place, lambda system, path: _from_disk(path, start, length))
    end = None if length is None else start + length
    found: bytes = _tried(place, lambda system, path: system.cat_file(path, start=start or None, end=end))
    if length is not None and len(found) > length:
        raise StorageError(f"{place}: its server sends whole files only, no ranges; copy the shards to a disk")
    return found


def _from_disk(path: str, start: int, length: int | None) -> bytes:
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        return file.read(-1 if length is None else length) or b""


def _tried(place: str, act: Callable[[Any, str], Any]) -> Any:
    """``act`` on the file system of a place, again where a connection fails."""
    for pause in _pauses(place):
        try:
            return act(*_system(place))
        except FileNotFoundError:
            raise StorageError(f"{place}: no such file; check the name, and the numbers in its braces") from None
        except PermissionError as error:
            raise StorageError(f"{place}: may not be read ({cause(error)}); check your access to it") from error
        except StorageError:
            raise
        except Exception as error:  # each store has exceptions of its own
            if pause is None:
                told = f"cannot be read ({cause(error)}); check the address and the connection, and start again"
                raise StorageError(f"{place}: {told}") from error
            time.sleep(pause)
    raise AssertionError


def _pauses(place: str) -> Iterator[float | None]:
    if is_remote(place):
        yield from PAUSES
    yield None


@functools.lru_cache(maxsize=1024)
def _system(place: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(place)
    except ImportError as error:
        needed = "pip install -r requirements-stream.txt"
        raise StorageError(f"{place}: needs packages that are not there ({cause(error)}): {needed}") from error
    except ValueError as error:
        raise StorageError(f"{place}: {cause(error)}; give a path, or a URL such as https:// or s3://") from error
