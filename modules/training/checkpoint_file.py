"""What is to be told of a checkpoint's file before anything heavy is imported."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UserError


def check_file(path: str | os.PathLike) -> None:
    """UserError where there is no such file, or its first bytes are of something that is often taken for one."""
    path = Path(path)
    if path.is_dir():
        unpacked = next(path.glob("**/data.pkl"), None)
        kind = "an unpacked checkpoint: give the file as it was before" if unpacked else "give a checkpoint file"
        raise UserError(f"{path}: is a folder; {kind}")
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as unreadable:
        raise UserError(f"{path}: cannot be read ({unreadable.strerror})") from unreadable
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: a Git LFS pointer, not the file itself: fetch that with git lfs pull")
    # a safetensors file may begin with the byte of "<" too, but its length has zeros, which text has not
    if b"\0" not in start and start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise UserError(f"{path}: a web page, not a checkpoint: download the file that the page offers")
