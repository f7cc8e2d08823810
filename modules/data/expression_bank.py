"""Banks of pictures that say what expressions by name look like.  Nothing heavy is imported here."""

from __future__ import annotations

import textwrap
from pathlib import Path

from ..errors import UserError
from ..media.image import image_size, names_image
from ..world.emotions import parse

RETRIEVED = 12  # pictures of a word that are looked at, at most


def pictures_of_word(folder: Path, word: str) -> list[Path]:
    """Pictures of a word in a bank, evenly through the names in its folder.  Raises UserError where there are none."""
    if not folder.is_dir():
        raise UserError(f"--expression_bank {folder}: no such folder")
    try:
        words = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
        files = sorted(words[word.lower()].iterdir()) if word.lower() in words else []
    except OSError as error:
        raise UserError(f"--expression_bank {folder}: cannot be read ({error.strerror})") from error
    files = [path for path in files if names_image(path)]
    if not files:
        known = textwrap.shorten(", ".join(words), 100, placeholder=" ...") or "no folder at all"
        raise UserError(f"--expression_bank {folder}: no pictures in a folder {word!r}; it holds {known}")
    return files[:: -(-len(files) // RETRIEVED)]


def check_bank(words: str, folder: str) -> None:
    """UserError where a bank has no pictures of an expression's words, or one is no picture."""
    for files, _ in parse(words, lambda word: pictures_of_word(Path(folder), word)):
        for path in files:
            image_size(path)
