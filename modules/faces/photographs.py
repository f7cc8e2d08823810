"""Photographs cut out close, as a model's source pictures are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .. import media
from ..config.sid import FramingParams
from ..errors import UserError
from .close_crop import cut_crop
from .framer import Framer


def planned(place: str | Path, folder: Path) -> list[tuple[Path, Path]]:
    """The photograph at ``place``, or those in that folder, each with the file in ``folder`` that it is cut out into.

    Raises:
        UserError: there are none, or a file is there already or would be written twice.
    """
    place = Path(place)
    files = [place]
    if place.is_dir():
        files = sorted(path for path in place.iterdir() if media.names_image(path) and not path.name.startswith("."))
    if not files:
        raise UserError(f"{place}: no photographs here; give a folder of pictures")
    made: dict[Path, Path] = {}
    for path in files:
        out = folder / f"{path.stem}.png"
        if out in made:
            raise UserError(f"{path} and {made[out]}: both would be {out.name}; rename one")
        if out.exists():
            raise UserError(f"{out}: already exists; choose another --out, or move it away")
        made[out] = path
    return [(path, out) for out, path in made.items()]


def write_crops(
    crops: Iterable[tuple[Path, Path]], params: FramingParams, size: int, cpu: bool = False
) -> dict[Path, str]:
    """Cut the main face out of each (photograph, file to write), ``size`` pixels wide; return those left out, and why.

    Raises:
        UserError: nothing could be written; the first reason.
    """
    framer = Framer(params.size, params.above, cpu=cpu)
    left_out: dict[Path, str] = {}
    count = 0
    for path, out in crops:
        try:
            picture = media.read_image(path)
            crop = framer.picture(picture, str(path), params.upright)
        except UserError as error:
            left_out[path] = str(error).removeprefix(f"{path}: ")
            continue
        media.write_image(out, cut_crop(picture, crop, size))
        count += 1
    if not count:
        path, reason = next(iter(left_out.items()))
        raise UserError(reason if str(path) in reason else f"{path}: {reason}")
    return left_out
