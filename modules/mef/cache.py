"""Latents, text states and embeddings, computed once and kept in shards that all processes of all runs share.

    python -m modules.mef.cache --config config/mef-sd15.yaml
    torchrun --nproc_per_node 4 -m modules.mef.cache --config config/mef-sd15.yaml      shares the work

Training builds what is missing itself; the command is for doing it beforehand, on other machines for instance.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tqdm import tqdm

from modules import checkpoint as files
from modules.config import config_to_dict
from modules.data.portraits import Portrait
from modules.errors import UserError, run_script
from modules.mef.config import MEFConfig
from modules.mef.encoder import Encoder, Rows

FORMAT = 1  # raise it when what is cached would be computed differently
SHARD = 512  # rows in a file
BATCH = 8  # items encoded together
PLACE = "place"  # entry of a shard: where each item's row is, -1 for an item that could not be read


class Tables:
    """The three tables of a data set: ``latents`` by portrait, ``text`` by caption, ``faces`` by picture file."""

    def __init__(self, portraits: Sequence[Portrait]):
        self.portraits = list(portraits)
        self.captions = sorted({p.text for p in portraits})
        self.pictures = sorted({f for p in portraits for f in (p.image, p.identity_image, p.reference_image) if f})
        self.caption_row = {text: i for i, text in enumerate(self.captions)}
        self.picture_row = {path: i for i, path in enumerate(self.pictures)}

    def items(self) -> dict[str, list[Any]]:
        return {"latents": self.portraits, "text": self.captions, "faces": self.pictures}


class Cache:
    """A folder of shards, ``<cache_dir>/<key>/<table>-NNNNN.safetensors``, read row by row through the page cache.

    The key covers the data set's files and captions, the base, SID and every option that changes what is cached:
    what was made of something else is never read.

    Args:
        half: keep float16: ample for what a half-precision network computes.
    """

    def __init__(self, config: MEFConfig, tables: Tables):
        self.tables = tables
        self.half = config.train_params.precision != "fp32"
        self.folder = Path(config.dataset_params.cache_dir) / _key(config, tables, self.half)
        self._open: dict[Path, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # loader processes open files of their own

    def row(self, table: str, index: int) -> Rows:
        """One row of a table, of an item that could be read."""
        path = self._path(table, index // SHARD)
        if path not in self._open:
            shard = safe_open(path, framework="pt")
            self._open[path] = shard, shard.get_tensor(f"{table}.{PLACE}").tolist()
        shard, places = self._open[path]
        names = {name.partition(".")[2]: name for name in shard.keys()}  # noqa: SIM118 (a handle, not a dict)
        del names[PLACE]
        return {short: shard.get_slice(name)[places[index % SHARD]] for short, name in names.items()}

    def column(self, table: str, name: str) -> torch.Tensor:
        """A whole column of a table ``[N, ...]``, zero where the item could not be read."""
        shards = [files.load(path)[table] for path in self._paths(table)]
        place = torch.cat([shard[PLACE] for shard in shards])
        values = torch.cat([shard[name] for shard in shards if name in shard])
        whole = values.new_zeros(len(place), *values.shape[1:])
        whole[place >= 0] = values
        return whole

    def unreadable(self, table: str) -> set[int]:
        """Rows of items that could not be read."""
        place = torch.cat([files.load(path)[table][PLACE] for path in self._paths(table)])
        return set((place < 0).nonzero().flatten().tolist())

    def missing(self) -> list[tuple[str, int]]:
        """The (table, shard) pairs yet to be built."""
        return [
            (table, shard)
            for table, items in self.tables.items().items()
            for shard in range(-(-len(items) // SHARD))
            if not self._path(table, shard).exists()
        ]

    def build(self, shards: Sequence[tuple[str, int]], encoder: Encoder, progress: bool = True) -> None:
        """Compute some of what is missing; shards appear under their name when complete."""
        work: dict[str, Callable[[Sequence], Rows]] = {
            "latents": encoder.latents, "text": encoder.text, "faces": encoder.embeddings,
        }
        for table, shard in tqdm(shards, "caching", unit="shard", disable=not (progress and shards)):
            items = self.tables.items()[table][shard * SHARD : (shard + 1) * SHARD]
            files.save({table: self._encode(work[table], items)}, self._path(table, shard))

    def _encode(self, work: Callable[[Sequence], Rows], items: Sequence) -> Rows:
        """The rows of the items that can be read, in order, and each item's place among them, or -1."""
        parts: list[Rows | None] = []
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            try:
                parts.append(work(batch))
            except UserError:
                parts += [_or_none(work, item) for item in batch]
        good = [part for part in parts if part is not None]
        dtype = torch.float16 if self.half else torch.float32
        rows = {name: torch.cat([part[name] for part in good]).to("cpu", dtype) for name in (good[0] if good else ())}
        counts = [0 if part is None else len(next(iter(part.values()))) for part in parts]
        read = torch.tensor([bit for count in counts for bit in ([1] * count or [0])])
        return rows | {PLACE: torch.where(read > 0, read.cumsum(0) - 1, -1)}

    def _path(self, table: str, shard: int) -> Path:
        return self.folder / f"{table}-{shard:05d}.safetensors"

    def _paths(self, table: str) -> list[Path]:
        return [self._path(table, shard) for shard in range(-(-len(self.tables.items()[table]) // SHARD))]


def _or_none(work: Callable[[Sequence], Rows], item: Any) -> Rows | None:
    try:
        return work([item])
    except UserError:
        return None


def _key(config: MEFConfig, tables: Tables, half: bool) -> str:
    data, model = config.dataset_params, config.model_params
    made_from = [
        FORMAT, half, data.resolution, data.crop_faces, config_to_dict(model.base_params),
        config_to_dict(model.compound_params), _stamp(model.sid_params.checkpoint), _stamp(model.sid_params.config),
        *map(_stamp, _weights(model.base_params.path)), tables.captions,
        [[p.text, [_stamp(path) for path in p.files]] for p in tables.portraits],
    ]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def _weights(base: str) -> list[Path]:
    """The files of a local base that the cache depends on; a hub id stands for itself."""
    path = Path(base)
    folders = ("vae", "text_encoder", "text_encoder_2")
    return [path] if path.is_file() else sorted(p for f in folders for p in (path / f).glob("*.safetensors"))


def _stamp(path: str | Path) -> list[Any]:
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return [Path(path).name, stat.st_size, stat.st_mtime_ns]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compute what MEF's training keeps of a data set.")
    parser.add_argument("--config", required=True, help="YAML file, such as config/mef-sd15.yaml")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    args = parser.parse_args()

    from modules.mef.config import load_mef_config
    from modules.mef.train import build_cache, build_encoder, read_tables
    from modules.training import build_accelerator

    config = load_mef_config(args.config)
    if config.dataset_params.cache_dir is None:
        raise UserError(f"{args.config}: dataset_params.cache_dir: set it to the folder to build the cache in")
    tables, bad = read_tables(config)
    accelerator = build_accelerator(config.train_params, args.cpu)
    encoder = build_encoder(config, args.cpu).to(accelerator.device)
    cache = build_cache(config, tables, encoder, accelerator)
    if accelerator.is_main_process:
        rows = ", ".join(f"{len(items)} {name}" for name, items in tables.items().items())
        print(f"{cache.folder}: {rows}; {len(bad)} portraits are left out")


if __name__ == "__main__":
    run_script(main)
