"""Files of the page: a temporary folder, emptied in between and at the end, and what may be given."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from .. import media
from ..errors import UserError

LARGEST = 200  # megabytes of an upload
OLDEST = 4 * 3600.0  # seconds that uploads and results are kept
EVERY = 600.0  # seconds from one look for old ones to the next


class TemporaryFiles:
    """Uploads and results, in a folder of this process for this user alone.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self._kept: set[Path] = set()

    def keep(self) -> None:
        """Leave what is there now until the end: the examples."""
        self._kept = set(self.path.iterdir())

    def new_folder(self) -> Path:
        """For results; nobody guesses its name."""
        return Path(tempfile.mkdtemp(prefix="result-", dir=self.path))

    def sweep(self) -> None:
        """Remove what nobody has touched for ``OLDEST`` seconds."""
        limit = time.time() - OLDEST
        for path in set(self.path.iterdir()) - self._kept:
            with contextlib.suppress(FileNotFoundError):  # what is written now has other names in a moment
                if max(file.stat().st_mtime for file in (path, *path.rglob("*"))) >= limit:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


@contextlib.contextmanager
def temporary_files() -> Iterator[TemporaryFiles]:
    """A folder that is swept now and then, and is gone when the block ends."""
    done = threading.Event()
    with tempfile.TemporaryDirectory(prefix="deepexpr-", ignore_cleanup_errors=True) as folder:
        files = TemporaryFiles(Path(folder).resolve())

        def keep_clean() -> None:
            while not done.wait(EVERY):
                files.sweep()

        threading.Thread(target=keep_clean, daemon=True).start()
        try:
            yield files
        finally:
            done.set()


def picture(path: str | None, what: str) -> str:
    """The path of a picture that was dropped.  Raises UserError where there is none, or the file is none."""
    given = _given(path, what)
    if not media.is_image(given):
        raise UserError(f"{what}: {Path(given).name} is not a picture that can be read; give a JPEG, PNG or WebP file")
    return given


def video(path: str | None, what: str) -> str:
    """The path of a video that was dropped.  Raises UserError where there is none, or the file is none."""
    given = _given(path, what)
    if not media.is_video(given):
        raise UserError(f"{what}: {Path(given).name} is not a video that can be read; give an MP4, MOV or WebM file")
    return given


def picture_or_video(path: str | None, what: str) -> str:
    """The path of either.  Raises UserError where there is none, or the file is none."""
    given = _given(path, what)
    if not (media.is_image(given) or media.is_video(given)):
        name = Path(given).name
        raise UserError(f"{what}: {name} is no picture or video that can be read; give a JPEG, PNG, MP4 or WebM file")
    return given


def _given(path: str | None, what: str) -> str:
    if path is None:
        raise UserError(f"{what}: nothing is there yet; drop a file, or click an example")
    return path
