"""Files known again by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
