"""Names that may be on the hub or on the disk, told apart before any download."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import UserError

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


def is_path(name: str) -> bool:
    """Whether a name is of the disk: it is there, or has not the form ``owner/name`` or ``name``."""
    return name.startswith(".") or not HUB_ID.fullmatch(name) or Path(name).exists()


def check_there(name: str, what: str) -> None:
    """UserError for a path that is not there, so that the hub is not asked for it; ``what`` is expected."""
    if is_path(name) and not Path(name).exists():
        raise UserError(f"{name}: no such {what}; give an existing path or a hub id (owner/name)")
