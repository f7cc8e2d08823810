"""Portraits out of shards: ``key.jpg`` (or another picture), ``key.json`` or ``key.txt``, perhaps ``key.mask.png``.

A key is a member's name up to the first dot of its file name, as webdataset takes it.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...errors import UserError
from ...storage.places import expand
from ...storage.tars import Index, Member, read_index
from ..portraits import NOBODY, Portrait

PICTURES = ("jpg", "jpeg", "png", "webp")
BESIDE = {"identity": "identity_image", "reference": "reference_image", "mask": "mask"}  # key.<this>.png
THREADS = 16  # indices fetched at a time


def names_shards(root: str) -> bool:
    """Whether a data set's place is one of shards, rather than a folder."""
    return root.endswith(".tar")


def read_shards(pattern: str, keep: Path | None = None) -> tuple[list[Portrait], dict[str, str]]:
    """The portraits of shards, in their order, and those left out: name -> reason.

    ``text`` and ``identity`` are keys of ``key.json``; a caption is also ``key.txt`` or, of img2dataset, ``caption``.
    Pictures themselves are not read.

    Args:
        pattern: a path or URL; braces stand for several, ``https://host/portraits-{00000..00099}.tar``.
        keep: folder for the indices of shards that bring none.

    Raises:
        UserError: a shard is not there or damaged, or no portrait is left.
    """
    shards = expand(pattern)
    with ThreadPoolExecutor(THREADS) as pool:
        indices = list(pool.map(lambda shard: read_index(shard, keep), shards))
    portraits: list[Portrait] = []
    bad: dict[str, str] = {}
    for shard, index in zip(shards, indices, strict=True):
        for key, files in _samples(index).items():
            try:
                portraits.append(_portrait(shard, key, files, index.texts))
            except UserError as error:
                bad[f"{shard}/{key}"] = str(error)
    if not portraits:
        name, reason = next(iter(bad.items()), (shards[0], "holds nothing"))
        raise UserError(f"{pattern}: holds no portraits, such as {name}: {reason}")
    return portraits, bad


def _samples(index: Index) -> dict[str, dict[str, Member]]:
    """By key the members of each sample, by the rest of their names in small letters."""
    samples: dict[str, dict[str, Member]] = {}
    for name, member in index.members.items():
        folder, slash, file = name.rpartition("/")
        stem, _, rest = file.partition(".")
        if stem:
            samples.setdefault(f"{folder}{slash}{stem}", {})[rest.lower()] = member
    return samples


def _portrait(shard: str, key: str, files: dict[str, Member], texts: dict[str, str]) -> Portrait:
    def picture(before: str = "") -> Member | None:
        return next((files[f"{before}{kind}"] for kind in PICTURES if f"{before}{kind}" in files), None)

    image = picture()
    if image is None:
        raise UserError(f"no picture; expected {key}.jpg, or another of {', '.join(PICTURES)}")
    values = _values(texts[files["json"].name]) if "json" in files else {}
    text = texts[files["txt"].name] if "txt" in files else values.get("caption")
    text = values.get("text", text)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"no caption; expected {key}.txt, or text in {key}.json")
    name = values.get("identity")
    return Portrait(
        image=image,
        text=text.strip(),
        identity=f"{NOBODY}{shard}/{key}" if name is None else str(name),
        **{field: picture(f"{before}.") for before, field in BESIDE.items()},
    )


def _values(text: str) -> dict:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"its .json is not JSON ({error.msg})") from None
    if not isinstance(values, dict):
        raise UserError('its .json is no object such as {"text": "a man in a red shirt", "identity": "anna"}')
    return values
