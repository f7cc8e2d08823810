"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError


@contextlib.contextmanager
def writing_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn what the system says while ``path`` is written into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{path}: cannot be written ({reason}); free space or choose another place") from error


def check_place(path: str | os.PathLike) -> None:
    """UserError where ``path`` could not be written, raised before the work begins.  Nothing is created."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    folder = next(parent for parent in path.absolute().parents if parent.exists())  # what is missing will be made
    if not folder.is_dir():
        raise UserError(f"{path}: cannot be written ({folder} is not a folder); choose another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path}: cannot be written (no permission in {folder}); choose another place")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary name beside ``path`` to write to; on success sync and rename it, on an exception remove it.

    The temporary name keeps the suffix.  Missing folders are made.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    try:
        with writing_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
        yield temporary
        with writing_errors(path):
            _sync(temporary, os.O_RDWR)
            os.replace(temporary, path)
            with contextlib.suppress(OSError):  # folders cannot be opened for syncing on every system
                _sync(path.parent, os.O_RDONLY)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_files(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Move a folder's files into another on the same disk, each whole; in modes as new files of this user have.

    Those that come first by name, such as ``config.json`` and ``model_index.json``, are moved last: what they describe
    is there then.
    """
    mask = os.umask(0)
    os.umask(mask)
    for file in sorted((path for path in Path(source).rglob("*") if path.is_file()), reverse=True):
        place = Path(target) / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.chmod(0o666 & ~mask)  # some libraries write weights for the user alone
        _sync(file, os.O_RDWR)
        os.replace(file, place)


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[str]:
    """A temporary folder whose files appear in ``folder``, whole, at the end."""
    with writing_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
            yield made
            move_files(made, folder)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary, writing_errors(path):
        temporary.write_text(text, encoding="utf-8")
