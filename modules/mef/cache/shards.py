"""Latents, text states and embeddings, computed once and kept in shards that all processes of all runs share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from ...config.mef import MEFConfig
from ...errors import UserError
from ...training.checkpoint import save_checkpoint
from ..frozen import FrozenNetworks, Rows
from ..tables import Tables
from .key import cache_key

SHARD = 512  # rows in a file
BATCH = 8  # items encoded together
PLACE = "place"  # entry of a shard: where each item's row is, -1 for an item that could not be read
REASONS = "reasons"  # and why these could not, a JSON object by number in the shard


class Cache:
    """A folder of shards, ``<cache_dir>/<key>/<table>-NNNNN.safetensors``, read row by row through the page cache.

    The key covers the data set's files and captions, the base, SID and every option that changes what is cached:
    what was made of something else is never read.

    Args:
        half: keep float16: ample for what a half-precision network computes, and always for exemplars, which are large.
    """

    def __init__(self, config: MEFConfig, tables: Tables):
        self.tables = tables
        self.half = config.train_params.precision != "fp32"
        self.folder = Path(config.dataset_params.cache_dir) / cache_key(config, tables, self.half)
        self._open: dict[Path, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # loader processes open files of their own

    def row(self, table: str, index: int) -> Rows:
        """One row of a table, of an item that could be read."""
        path = self._path(table, index // SHARD)
        if path not in self._open:
            shard = _shard(path)
            self._open[path] = shard, shard.get_tensor(f"{table}.{PLACE}").tolist()
        shard, places = self._open[path]
        return {short: shard.get_slice(name)[places[index % SHARD]] for short, name in _columns(shard).items()}

    def column(self, table: str, name: str) -> torch.Tensor:
        """A whole column of a table ``[N, ...]``, zero where the item could not be read."""
        shards = [_shard(path) for path in self._paths(table)]
        place = torch.cat([shard.get_tensor(f"{table}.{PLACE}") for shard in shards])
        values = torch.cat([shard.get_tensor(f"{table}.{name}") for shard in shards if name in _columns(shard)])
        whole = values.new_zeros(len(place), *values.shape[1:])
        whole[place >= 0] = values
        return whole

    def columns(self, table: str) -> set[str]:
        """Names of what a table holds."""
        return {name for path in self._paths(table) for name in _columns(_shard(path))}

    def unreadable(self, table: str) -> dict[int, str]:
        """Rows of items that could not be read, and why."""
        bad: dict[int, str] = {}
        for i, path in enumerate(self._paths(table)):
            bad |= {i * SHARD + row: reason for row, reason in _reasons(_shard(path), table).items()}
        return bad

    def missing(self) -> list[tuple[str, int]]:
        """The (table, shard) pairs yet to be built."""
        return [
            (table, shard)
            for table in self.tables.items()
            for shard, path in enumerate(self._paths(table))
            if not path.exists()
        ]

    def incomplete(self) -> list[tuple[str, int]]:
        """Those yet to be built, and those with items that could not be read, perhaps for a passing reason."""
        return [
            (table, shard)
            for table in self.tables.items()
            for shard, path in enumerate(self._paths(table))
            if not path.exists() or _reasons(_shard(path), table)
        ]

    def build(self, shards: Sequence[tuple[str, int]], frozen: FrozenNetworks, progress: bool = True) -> None:
        """Compute what some shards lack; they appear under their name, or are replaced, when complete."""
        work: dict[str, Callable[[Sequence], Rows]] = {
            "latents": frozen.latents,
            "text": frozen.text,
            "faces": frozen.embeddings,
        }
        for table, shard in tqdm(shards, "caching", unit="shard", disable=not (progress and shards)):
            path = self._path(table, shard)
            items = dict(enumerate(self.tables.items()[table][shard * SHARD : (shard + 1) * SHARD]))
            done, before = _read_rows(path, table) if path.exists() else ({}, None)
            rows, reasons = self._encode(work[table], {i: item for i, item in items.items() if i not in done})
            if reasons != before:
                save_checkpoint({table: _packed(done | rows, reasons, len(items))}, path)

    def _encode(
        self, work: Callable[[Sequence], Rows], items: dict[int, Any]
    ) -> tuple[dict[int, Rows], dict[int, str]]:
        """What the items that can be read give, each a row, and what is wrong with the others."""
        rows: dict[int, Rows] = {}
        reasons: dict[int, str] = {}

        def encode(part: list[int]) -> None:
            made = work([items[i] for i in part])
            columns = {name: values.to("cpu", self._kept_as(name)) for name, values in made.items()}
            rows.update((i, {name: values[n] for name, values in columns.items()}) for n, i in enumerate(part))

        numbers = list(items)
        for start in range(0, len(numbers), BATCH):
            batch = numbers[start : start + BATCH]
            try:
                encode(batch)
            except UserError:
                for i in batch:
                    try:
                        encode([i])
                    except UserError as error:
                        reasons[i] = str(error)
        return rows, reasons

    def _kept_as(self, column: str) -> torch.dtype:
        return torch.float16 if self.half or column == "exemplar" else torch.float32

    def _path(self, table: str, shard: int) -> Path:
        return self.folder / f"{table}-{shard:05d}.safetensors"

    def _paths(self, table: str) -> list[Path]:
        return [self._path(table, shard) for shard in range(-(-len(self.tables.items()[table]) // SHARD))]


# ----------------------------------------------------------------------------------------------------- inside a shard


def _shard(path: Path) -> Any:
    """A handle that reads the tensors it is asked for, and no others."""
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable part of the cache ({error}); delete it and start again") from error


def _columns(shard: Any) -> dict[str, str]:
    """Of what was computed: short name -> name in the shard."""
    names = {name.partition(".")[2]: name for name in shard.keys()}  # noqa: SIM118 (a handle, not a dict)
    return {short: name for short, name in names.items() if short not in (PLACE, REASONS)}


def _reasons(shard: Any, table: str) -> dict[int, str]:
    text = bytes(shard.get_tensor(f"{table}.{REASONS}").tolist()).decode()
    return {int(row): reason for row, reason in json.loads(text).items()}


def _read_rows(path: Path, table: str) -> tuple[dict[int, Rows], dict[int, str]]:
    shard = _shard(path)
    columns = {short: shard.get_tensor(name) for short, name in _columns(shard).items()}
    places = enumerate(shard.get_tensor(f"{table}.{PLACE}").tolist())
    rows = {i: {short: values[place] for short, values in columns.items()} for i, place in places if place >= 0}
    return rows, _reasons(shard, table)


def _packed(rows: dict[int, Rows], reasons: dict[int, str], count: int) -> Rows:
    """A shard's tensors: columns without gaps, each item's place in them, and the reasons as JSON's bytes."""
    order = sorted(rows)
    columns = {name: torch.stack([rows[i][name] for i in order]) for name in (rows[order[0]] if order else ())}
    place = torch.full((count,), -1)
    place[order] = torch.arange(len(order))
    text = torch.tensor(list(json.dumps(reasons).encode()), dtype=torch.uint8)
    return columns | {PLACE: place, REASONS: text}
