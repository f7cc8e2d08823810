"""Latents, text states and embeddings, computed once and kept in tar shards that all processes of all runs share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load, save
from tqdm import tqdm

from ...config.mef import MEFConfig
from ...errors import UserError
from ...storage import places
from ...storage.places import StorageError
from ...storage.tars import Member, read_index, write_tar
from ..frozen import FrozenNetworks, Rows
from ..tables import Tables
from .key import cache_key

SHARD = 512  # rows in a file
BATCH = 8  # items encoded together
ROW, REASON = "safetensors", "txt"  # members of an item that could be read, and of one that could not: why
ALONE = "exemplar"  # a column that is large, and a member of its own: who wants the others does not read it


class Rowed(NamedTuple):
    """Where the rows of a shard lie.

    Attributes:
        spans: by kind of member, offset and size of each row's ``[SHARD, 2]``, size 0 where there is none.
        reasons: rows of items that could not be read, and why.
    """

    spans: dict[str, np.ndarray]
    reasons: dict[int, str]


class Cache:
    """Shards ``<cache_dir>/<key>/<table>-NNNNN.tar``, in webdataset's layout, read row by row.

    ``<row>.safetensors`` holds what the networks gave of an item, ``<row>.exemplar.safetensors`` the tokens of an
    exemplar.  The folder may be copied to where URLs are read from: ``cache_dir`` is then that URL, and nothing can be
    added.  The key covers the data set's files and captions, the base, SID and every option that changes what is
    cached: what was made of something else is never read.

    Args:
        half: keep float16: ample for what a half-precision network computes, and always for exemplars, which are large.
    """

    def __init__(self, config: MEFConfig, tables: Tables):
        self.tables = tables
        self.half = config.train_params.precision != "fp32"
        folder = config.dataset_params.cache_dir.rstrip("/")
        self.is_remote = places.is_remote(folder)
        self.place = f"{folder}/{cache_key(config, tables, self.half)}"
        self._rowed: dict[str, Rowed] = {}

    def row(self, table: str, index: int) -> Rows:
        """One row of a table, of an item that could be read, without its exemplar."""
        return load(self._read(table, index, ROW))

    def exemplar(self, picture: int) -> torch.Tensor | None:
        """A face's ``[cells, width]``; None where no exemplars are kept."""
        shard = self._shard("faces", picture // SHARD)
        if f"{ALONE}.{ROW}" not in self._rows_of(shard).spans:
            return None
        return load(self._read("faces", picture, f"{ALONE}.{ROW}"))[ALONE]

    def unreadable(self, table: str) -> dict[int, str]:
        """Rows of items that could not be read, and why."""
        return {
            i * SHARD + row: reason
            for i, shard in enumerate(self._shards(table))
            for row, reason in self._rows_of(shard).reasons.items()
        }

    def missing(self) -> list[tuple[str, int]]:
        """The (table, shard) pairs yet to be built."""
        return [
            (table, number)
            for table in self.tables.items()
            for number, shard in enumerate(self._shards(table))
            if not places.exists(shard)
        ]

    def incomplete(self) -> list[tuple[str, int]]:
        """Those yet to be built, and those with items that could not be read, perhaps for a passing reason.

        Raises:
            UserError: something is missing where nothing can be added.
        """
        missing = self.missing()
        if self.is_remote:
            if missing:
                raise UserError(
                    f"{self.place}: has no whole cache of this data and these networks; build it in a folder "
                    "(python -m modules.mef.cache), and copy that"
                )
            return []
        there = [
            (table, number)
            for table in self.tables.items()
            for number, shard in enumerate(self._shards(table))
            if (table, number) not in missing and self._rows_of(shard).reasons
        ]
        return missing + there

    def build(self, shards: Sequence[tuple[str, int]], frozen: FrozenNetworks, progress: bool = True) -> None:
        """Compute what some shards lack; they appear under their name, or are replaced, when complete."""
        work: dict[str, Callable[[Sequence], Rows]] = {
            "latents": frozen.latents,
            "text": frozen.text,
            "faces": frozen.embeddings,
        }
        for table, number in tqdm(shards, "caching", unit="shard", disable=not (progress and shards)):
            shard = self._shard(table, number)
            items = dict(enumerate(self.tables.items()[table][number * SHARD : (number + 1) * SHARD]))
            done, before = self._kept(shard) if places.exists(shard) else ({}, None)
            rows, reasons = self._encode(work[table], {i: item for i, item in items.items() if i not in done})
            if reasons != before:
                write_tar(Path(shard), _files(done | rows, reasons))
                self._rowed.pop(shard, None)

    def _encode(
        self, work: Callable[[Sequence], Rows], items: dict[int, Any]
    ) -> tuple[dict[int, dict[str, bytes]], dict[int, str]]:
        """What the items that can be read give, each a row's members, and what is wrong with the others."""
        rows: dict[int, dict[str, bytes]] = {}
        reasons: dict[int, str] = {}

        def encode(part: list[int]) -> None:
            made = work([items[i] for i in part])
            columns = {name: values.to("cpu", self._kept_as(name)).contiguous() for name, values in made.items()}
            for n, i in enumerate(part):
                rows[i] = _members({name: values[n] for name, values in columns.items()})

        numbers = list(items)
        for start in range(0, len(numbers), BATCH):
            batch = numbers[start : start + BATCH]
            try:
                encode(batch)
            except StorageError:  # not of these items alone
                raise
            except UserError:
                for i in batch:
                    try:
                        encode([i])
                    except UserError as error:
                        reasons[i] = str(error)
        return rows, reasons

    def _kept_as(self, column: str) -> torch.dtype:
        return torch.float16 if self.half or column == ALONE else torch.float32

    def _kept(self, shard: str) -> tuple[dict[int, dict[str, bytes]], dict[int, str]]:
        """What a shard holds already."""
        spans, reasons = self._rows_of(shard)
        rows: dict[int, dict[str, bytes]] = {}
        for kind, places_of in spans.items():
            for row in np.flatnonzero(places_of[:, 1]).tolist():
                rows.setdefault(row, {})[kind] = _member(shard, row, kind, places_of).read()
        return rows, reasons

    def _read(self, table: str, index: int, kind: str) -> bytes:
        shard = self._shard(table, index // SHARD)
        return _member(shard, index % SHARD, kind, self._rows_of(shard).spans[kind]).read()

    def _rows_of(self, shard: str) -> Rowed:
        if shard not in self._rowed:
            try:
                self._rowed[shard] = _rowed(shard)
            except (StorageError, ValueError) as error:
                reason = f"{shard}: not a readable part of the cache ({error})"
                raise StorageError(f"{reason}; delete it and start again") from error
        return self._rowed[shard]

    def _shard(self, table: str, number: int) -> str:
        return f"{self.place}/{table}-{number:05d}.tar"

    def _shards(self, table: str) -> list[str]:
        return [self._shard(table, number) for number in range(-(-len(self.tables.items()[table]) // SHARD))]


# ----------------------------------------------------------------------------------------------------- inside a shard


def _members(row: Rows) -> dict[str, bytes]:
    """A row's members by kind."""
    alone = {name: values for name, values in row.items() if name == ALONE}
    rest = {name: values for name, values in row.items() if name != ALONE}
    return {ROW: save(rest)} | ({f"{ALONE}.{ROW}": save(alone)} if alone else {})


def _files(rows: dict[int, dict[str, bytes]], reasons: dict[int, str]) -> Iterator[tuple[str, bytes, int]]:
    for row in sorted(rows.keys() | reasons.keys()):
        for kind, content in rows.get(row, {}).items():
            yield f"{row:05d}.{kind}", content, 0
        if row in reasons:
            yield f"{row:05d}.{REASON}", reasons[row].encode(), 0


def _rowed(shard: str) -> Rowed:
    index = read_index(shard)
    spans: dict[str, np.ndarray] = {}
    for name, member in index.members.items():
        row, _, kind = name.partition(".")
        if kind != REASON:
            spans.setdefault(kind, np.zeros((SHARD, 2), np.int64))[int(row)] = member.offset, member.size
    return Rowed(spans, {int(name.partition(".")[0]): text for name, text in index.texts.items()})


def _member(shard: str, row: int, kind: str, spans: np.ndarray) -> Member:
    offset, size = spans[row].tolist()
    return Member(shard, offset, size, f"{row:05d}.{kind}")
