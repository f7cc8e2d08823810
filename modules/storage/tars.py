"""Tar shards, as webdataset has them, read member by member in any order.

Tar files are not compressed: who knows where each member lies reads it alone, from a disk as over a network.  So the
order of training stays a function of seed and epoch, for any number of shards, processes and workers.  Where members
lie says an index beside the shard, ``x.index.json`` of ``x.tar``, which :func:`write_tar` writes; of a shard without
one the headers are walked through once.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..atomic import replacing, write_text, writing_errors
from . import places
from .places import StorageError

HEADER = tarfile.BLOCKSIZE  # bytes before each member's
TEXTS = (".json", ".txt")  # members that an index holds itself


@dataclass(frozen=True, order=True)
class Member:
    """A file in a shard; sorted as they lie there.

    Attributes:
        shard: path or URL of the tar file.
        offset, size: where its bytes are.
        name: its path inside.
        time: of its last change, seconds.
    """

    shard: str
    offset: int
    size: int
    name: str
    time: int = 0

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"

    def read(self) -> bytes:
        """Its bytes.  Raises StorageError where they cannot be read, or the shard is not that of the index."""
        found = places.read(self.shard, self.offset - HEADER, HEADER + self.size)
        try:
            header = tarfile.TarInfo.frombuf(found[:HEADER], "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise _damaged(self.shard, f"{error} before {self.name}") from error
        if header.size != self.size:
            raise _damaged(self.shard, f"{self.name} is not where its index says")
        return found[HEADER:]

    def open(self) -> BinaryIO:
        return io.BytesIO(self.read())

    @property
    def stamp(self) -> list[Any]:
        """What tells it from others and from what it was before, wherever the shard lies."""
        return [self.shard.rpartition("/")[2], self.name, self.offset, self.size, self.time]


class Index(NamedTuple):
    """The members of a shard by name, and the content of those that are short texts."""

    members: dict[str, Member]
    texts: dict[str, str]


def index_place(shard: str) -> str:
    return shard.removesuffix(".tar") + ".index.json"


def read_index(shard: str, keep: Path | None = None) -> Index:
    """What a shard holds.

    Args:
        keep: folder for indices of shards that have none beside them, so that they are walked through once.

    Raises:
        StorageError: the shard is not there, cannot be reached, is no tar file, or is damaged or cut off.
    """
    length = places.size(shard)
    beside = index_place(shard)
    if places.exists(beside):
        return _parsed(shard, length, beside, places.read(beside))
    kept = keep and keep / f"{hashlib.sha256(json.dumps([shard, length, _version(shard)]).encode()).hexdigest()}.json"
    if kept and kept.is_file():
        return _parsed(shard, length, str(kept), kept.read_bytes())
    with places.opened(shard) as file:
        index = _walk(shard, file)
    if kept:
        write_text(kept, _written(length, index))
    return index


def _version(shard: str) -> int:
    return 0 if places.is_remote(shard) else Path(shard).stat().st_mtime_ns


def write_tar(path: Path, files: Iterable[tuple[str, bytes, int]]) -> None:
    """Write a shard of ``(name, content, time)`` and its index; both appear whole.  The same files give equal bytes."""
    beside = Path(index_place(str(path)))
    members, texts = {}, {}
    with replacing(path) as temporary, writing_errors(path):
        with tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT) as tar:
            for name, content, changed in files:
                info = tarfile.TarInfo(name)
                info.size, info.mtime, info.mode = len(content), changed, 0o644
                tar.addfile(info, io.BytesIO(content))
                offset = tar.offset - _padded(len(content))
                members[name] = Member(str(path), offset, len(content), name, changed)
                if name.endswith(TEXTS):
                    texts[name] = content.decode()
        length = temporary.stat().st_size
        beside.unlink(missing_ok=True)  # of a shard that was here before
    write_text(beside, _written(length, Index(members, texts)))


def _padded(length: int) -> int:
    return -(-length // HEADER) * HEADER


def _written(length: int, index: Index) -> str:
    members = [[m.name, m.offset, m.size, m.time] for m in index.members.values()]
    return json.dumps({"size": length, "members": members, "texts": index.texts}) + "\n"


def _parsed(shard: str, length: int, place: str, content: bytes) -> Index:
    try:
        values = json.loads(content)
        told, texts = values["size"], dict(values["texts"])
        members = {name: Member(shard, offset, size, name, time) for name, offset, size, time in values["members"]}
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{place}: is no index of a shard; delete it") from error
    if told != length:
        raise StorageError(
            f"{shard}: has {length} bytes, {told} by its index: cut off or changed; copy the shard again, "
            f"or delete {place}"
        )
    return Index(members, texts)


def _walk(shard: str, file: BinaryIO) -> Index:
    members: dict[str, Member] = {}
    texts: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                if not info.isreg():
                    continue
                if info.name in members:
                    raise StorageError(f"{shard}: has two members {info.name}; write this shard again")
                members[info.name] = Member(shard, info.offset_data, info.size, info.name, int(info.mtime))
                if info.name.endswith(TEXTS):
                    texts[info.name] = tar.extractfile(info).read().decode()
            file.seek(tar.offset)
            end = file.read(HEADER)
    except UnicodeDecodeError as error:
        raise StorageError(f"{shard}/{info.name}: is not UTF-8; write this shard again") from error
    except tarfile.TarError as error:
        raise _damaged(shard, str(error)) from error
    if end != bytes(HEADER):  # tarfile takes a broken header for the end
        raise _damaged(shard, f"cut off at byte {tar.offset}" if len(end) < HEADER else f"damaged at byte {tar.offset}")
    return Index(members, texts)


def _damaged(shard: str, reason: str) -> StorageError:
    return StorageError(f"{shard}: is no whole tar file ({reason}); copy or write this shard again")
