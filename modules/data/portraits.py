"""Captioned portraits: a folder of pictures with a ``metadata.jsonl`` (the imagefolder convention)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..storage.tars import Member

METADATA = "metadata.jsonl"
NOBODY = "\0"  # begins the identity of a picture that names none, and shares it with no other


@dataclass(frozen=True)
class Portrait:
    """One line of ``metadata.jsonl``, or a sample of a shard; paths are absolute or relative to the folder.

    Attributes:
        image: the picture to learn (``file_name``).
        text: its caption.
        identity: the person's name; without one the picture is the only one of its person.
        identity_image: where the identity is read off, instead of another picture of the person.
        reference_image: where expression and pose are read off, instead of the picture itself.
        mask: the face's mask, white on black, of the picture's size.
    """

    image: Path | Member
    text: str
    identity: str
    identity_image: Path | Member | None = None
    reference_image: Path | Member | None = None
    mask: Path | Member | None = None

    @property
    def is_alone(self) -> bool:
        """Whether nobody says who this is."""
        return self.identity.startswith(NOBODY)

    @property
    def files(self) -> list[Path | Member]:
        return [p for p in (self.image, self.identity_image, self.reference_image, self.mask) if p is not None]


def read_portraits(root: str | Path, split: str = "train") -> tuple[list[Portrait], dict[str, str]]:
    """The portraits of a folder, or of its ``<split>/`` if there is one, and those left out: path -> reason.

    Raises:
        UserError: no such folder, no metadata, a line that is not what it should be, or nothing left.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f"{root}: no such folder of portraits; set dataset_params.root_dir")
    folder = folder / split if (folder / split).is_dir() else folder
    metadata = folder / METADATA
    try:
        # not splitlines: captions may hold what Unicode calls line ends, JSON does not
        lines = metadata.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{metadata}: cannot be read; its lines should look like {_EXAMPLE}") from error
    portraits, bad = [], {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        portrait = _portrait(line, folder, f"{metadata}, line {number}")
        missing = [path for path in portrait.files if isinstance(path, Path) and not path.is_file()]
        if missing:
            bad[str(portrait.image)] = f"{missing[0].name}: no such file"
        else:
            portraits.append(portrait)
    if not portraits:
        raise UserError(f"{metadata}: none of its {len(bad)} portraits exists")
    return portraits, bad


_EXAMPLE = '{"file_name": "0001.jpg", "text": "a man in a red shirt", "identity": "anna"}'


def _portrait(line: str, folder: Path, where: str) -> Portrait:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg}); expected a line such as {_EXAMPLE}") from None
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected an object such as {_EXAMPLE}")
    for key in ("file_name", "text"):
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise UserError(f"{where}: {key}: expected text, found {values.get(key)!r}")

    def path(key: str) -> Path | None:
        return None if values.get(key) is None else folder / str(values[key])

    name: Any = values.get("identity")
    return Portrait(
        image=folder / values["file_name"],
        text=values["text"],
        identity=str(name) if name is not None else f"{NOBODY}{values['file_name']}",
        identity_image=path("identity_image"),
        reference_image=path("reference_image"),
        mask=path("mask"),
    )
