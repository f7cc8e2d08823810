"""Which portraits can be used, for a run without a cache: one look at every picture, shared by all processes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from .. import media
from ..errors import UserError
from ..storage.places import StorageError
from ..storage.tars import Member
from .embeddings import Embedder
from .tables import Tables


class Unreadable(NamedTuple):
    """Rows of items that cannot be used, and why; of the tables of that name."""

    latents: dict[int, str]
    faces: dict[int, str]


def find_unreadable(tables: Tables, embedder: Embedder, accelerator: Accelerator) -> Unreadable:
    """Read every picture and mask, and look for the faces: what would end the training at the first step that asks."""
    shown = set(tables.pictures)
    paths = sorted(shown | {p.mask for p in tables.portraits if p.mask is not None})
    mine = paths[accelerator.process_index :: accelerator.num_processes]
    broken: list[tuple[Path | Member, str]] = []
    faceless: list[tuple[Path | Member, str]] = []
    for path in tqdm(mine, "checking", unit="picture", disable=not accelerator.is_main_process):
        found = broken
        try:
            picture = media.read_image(path)
            found = faceless
            if path in shown:
                embedder.cut_out(picture, str(path))
        except StorageError:
            raise
        except UserError as error:
            found.append((path, str(error)))
    no_picture = dict(gather_object(broken))
    no_face = no_picture | dict(gather_object(faceless))
    latents = {}
    for row, portrait in enumerate(tables.portraits):
        for path in (portrait.image, portrait.mask):
            if path in no_picture:
                latents.setdefault(row, no_picture[path])
    return Unreadable(latents, {i: no_face[path] for i, path in enumerate(tables.pictures) if path in no_face})
