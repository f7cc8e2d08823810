"""Decoded frames on disk: one uint8 memory map per clip, so that reading a frame is a copy from the page cache."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import UserError
from .clips import Clip, UnreadableClip

FORMAT = 1  # raise it when decoding or fitting changes what a cached frame should be


class FrameCache:
    """A folder of ``<key>.npy`` files, [N, H, W, 3] each, named after what they were made from.

    The key covers path, size and time of every file of the clip, and the frame size; so a clip that changed is
    decoded anew.  Files appear under their name only when complete: several processes may build one at a time, and
    whoever finishes last replaces the same content.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._paths: dict[Path, Path] = {}
        self._broken: dict[Path, str] = {}  # found out by this process; not to be decoded for nothing again and again
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"cannot be made ({error.strerror}); set cache_dir to a writable folder"
            raise UserError(f"{folder}: {reason}") from error

    def read(self, clip: Clip, indices: Sequence[int]) -> np.ndarray:
        """uint8 [n, H, W, 3]: what ``clip.read(indices)`` gives, from the memory map, which is built if missing.

        Raises:
            UnreadableClip: the clip has to be decoded as a whole for its map, and cannot be.
            UserError: the cache folder is full or not writable.
        """
        if clip.path in self._broken:
            raise UnreadableClip(self._broken[clip.path])
        path = self._path(clip)
        if not path.exists():
            try:
                self._build(clip, path)
            except UnreadableClip as error:
                self._broken[clip.path] = str(error)
                raise
        return np.load(path, mmap_mode="r")[np.asarray(indices)]

    def prepare(
        self, clips: Sequence[Clip], share: slice = slice(None), begin: float = 0.0, progress: bool = True
    ) -> None:
        """Build what is missing of a share of the clips, from a place in it (0 to 1) round to the same place.

        Clips that cannot be decoded are left to whoever reads them to report.
        """
        missing = [clip for clip in clips[share] if self._is_missing(clip)]
        start = int(begin * len(missing))
        missing = missing[start:] + missing[:start]
        threads = max(1, (os.cpu_count() or 1) // (share.step or 1))
        with ThreadPoolExecutor(threads) as pool:
            for _ in tqdm(pool.map(self._try_build, missing), "caching frames", len(missing), disable=not progress):
                pass

    def _is_missing(self, clip: Clip) -> bool:
        try:
            return not self._path(clip).exists()
        except UnreadableClip:
            return False

    def _try_build(self, clip: Clip) -> None:
        with suppress(UnreadableClip):
            if self._is_missing(clip):  # another machine may have built it since
                self._build(clip, self._path(clip))

    def _path(self, clip: Clip) -> Path:
        if clip.path not in self._paths:
            try:
                stats = [(str(file.resolve()), file.stat()) for file in clip.files or [clip.path]]
            except OSError as error:
                raise UnreadableClip(f"{clip.path}: {error.strerror}") from error
            made_from = [FORMAT, clip.frame_shape, *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)]
            self._paths[clip.path] = self.folder / f"{hashlib.sha256(repr(made_from).encode()).hexdigest()[:32]}.npy"
        return self._paths[clip.path]

    def _build(self, clip: Clip, path: Path) -> None:
        """Decode all of a clip into ``path``."""
        part = self.folder / f".{path.stem}-{uuid.uuid4().hex}.part"
        try:
            # Written, not mapped: a full disk is then an error that can be reported, and not a bus error.
            with open(part, "wb") as file:
                shape = (len(clip), *clip.frame_shape)
                np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                for frame in clip.frames():
                    file.write(frame.tobytes())
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError as error:
            reason = f"the frame cache cannot be written ({error.strerror}); free some space or unset cache_dir"
            raise UserError(f"{self.folder}: {reason}") from error
        finally:
            part.unlink(missing_ok=True)
