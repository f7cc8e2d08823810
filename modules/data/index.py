"""What videos' indices say, packed into arrays, and kept from one start of a program to the next.

Probing takes milliseconds a clip: minutes for a large set at every start, and in every process.  As tuples the times of
a clip's frames take ten times the room they need, in every process and worker again.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..atomic import replacing
from ..errors import UserError
from ..media import VideoInfo, probe_video

FORMAT = 2  # raise it when probing says something else of the same file


@dataclass(frozen=True, eq=False)
class PackedInfo:
    """A :class:`.media.VideoInfo` whose numbers per frame are arrays."""

    # float64 [7]: width, height, numerator and denominator of the rate, has_audio, duration, is_anamorphic
    numbers: np.ndarray
    times: np.ndarray  # float64 [N], seconds
    keyframes: np.ndarray  # int64 [K]
    pts: np.ndarray  # int64 [N] or [0]

    @staticmethod
    def of(info: VideoInfo) -> PackedInfo:
        rate = info.frame_rate
        numbers = (
            info.width,
            info.height,
            rate.numerator,
            rate.denominator,
            info.has_audio,
            info.duration,
            info.is_anamorphic,
        )
        long = (np.array(values, np.int64) for values in (info.keyframes, info.pts))
        return PackedInfo(np.array(numbers, np.float64), np.array(info.times, np.float64), *long)

    @property
    def frame_rate(self) -> Fraction:
        return Fraction(int(self.numbers[2]), int(self.numbers[3]))

    def unpacked(self) -> VideoInfo:
        width, height, _, _, has_audio, duration, is_anamorphic = self.numbers.tolist()
        times, keyframes, pts = (tuple(values.tolist()) for values in (self.times, self.keyframes, self.pts))
        size, flags = (int(width), int(height)), (bool(has_audio), duration, bool(is_anamorphic))
        return VideoInfo(*size, self.frame_rate, times, keyframes, *flags, pts)


class ProbedVideos:
    """The packed indices of a folder's videos, by name, size and time of change; in a file if there is a place for it.

    Args:
        folder: of the videos.
        split: which of them are asked for.
        place: where the file is kept; None keeps nothing.
    """

    def __init__(self, folder: Path, split: str, place: Path | None):
        key = hashlib.sha256(repr((FORMAT, str(folder.resolve()), split)).encode()).hexdigest()[:32]
        self._file = None if place is None else place / f"{key}.index.npz"
        self._known: dict[tuple[str, int, int], PackedInfo] = {}
        self._used: dict[tuple[str, int, int], PackedInfo] = {}
        if self._file is not None and self._file.is_file():
            # one that cannot be read is written anew, from videos probed anew
            with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                self._known = _read(self._file)

    def probe(self, path: Path) -> PackedInfo:
        """What is known of the video at ``path``, or what probing it says.  Raises UserError as that does."""
        stat = path.stat()
        key = (path.name, stat.st_size, stat.st_mtime_ns)
        self._used[key] = self._known.get(key) or PackedInfo.of(probe_video(path))
        return self._used[key]

    def keep(self) -> None:
        """Write the file if anything has changed; videos that were not asked for are dropped.

        Raises:
            UserError: the place cannot be written.
        """
        if self._file is None or not self._used or self._used.keys() == self._known.keys():
            return
        infos = list(self._used.values())
        with replacing(self._file) as temporary:
            try:
                np.savez(
                    temporary,
                    names=np.array([name for name, *_ in self._used]),
                    stats=np.array([stats for _, *stats in self._used], np.int64),
                    numbers=np.stack([info.numbers for info in infos]),
                    counts=np.array([[len(info.times), len(info.keyframes), len(info.pts)] for info in infos]),
                    times=np.concatenate([info.times for info in infos]),
                    keyframes=np.concatenate([info.keyframes for info in infos]),
                    pts=np.concatenate([info.pts for info in infos]),
                )
            except OSError as error:
                raise UserError(
                    f"{self._file}: cannot be written ({error.strerror}); free some space or unset cache_dir"
                ) from error


def _read(file: Path) -> dict[tuple[str, int, int], PackedInfo]:
    with np.load(file) as stored:  # no pickles
        ends = stored["counts"].cumsum(axis=0)[:-1]
        parts = [np.split(stored[name], ends[:, i]) for i, name in enumerate(("times", "keyframes", "pts"))]
        keys = zip(stored["names"].tolist(), *stored["stats"].T.tolist(), strict=True)
        return {key: PackedInfo(*info) for key, *info in zip(keys, stored["numbers"], *parts, strict=True)}
