"""What is on disk: finding clips in FOMM's layouts, and reading the frames that are asked for.

A root holds ``train/`` and ``test/``, or everything together, which is then split 80/20.  An entry is

- a video file,
- a folder of frames, in natural order,
- a strip: one image of frames side by side,
- or a photograph; the photographs of one person, by the name before ``#``, make up one clip.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import media
from ..errors import UserError
from .index import PackedInfo, ProbedVideos

FRAME_RATE = Fraction(25)  # of folders and strips of frames, which do not tell theirs
PHOTO_GAP = 10.0  # seconds between two photographs of a person: as far apart as frames can matter
TEST_SHARE = 0.2
SPLITS = ("train", "test")


class UnreadableClip(UserError):
    """A clip that looked sound from outside and turned out not to be."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one person: a video, a folder of frames, a strip, or photographs."""

    path: Path  # the video, folder or strip; the first of the photographs
    name: str  # the entry's name without its ending; of photographs the person's
    identity: str  # the name before '#'
    times: np.ndarray  # float64 [N], seconds from the first frame
    frame_rate: Fraction
    frame_shape: tuple[int, int, int]  # (H, W, 3) the frames are fitted to
    names: np.ndarray | None = None  # bytes [N], of the frames' files in ``folder``, of a folder or of photographs
    info: PackedInfo | None = None  # of a video
    is_photos: bool = False
    fit: Callable[[np.ndarray], np.ndarray] | None = None  # makes a frame of a picture; None: about its centre

    def __len__(self) -> int:
        return len(self.times)

    @property
    def files(self) -> list[Path]:
        """The files of the frames, of a folder or of photographs; else empty.  (Kept, they would fill the memory.)"""
        folder = self.path.parent if self.is_photos else self.path
        return [] if self.names is None else [folder / os.fsdecode(name) for name in self.names.tolist()]

    @property
    def names_person(self) -> bool:
        """Whether a ``#`` says where in the name the person's ends."""
        return any("#" in file.name for file in (self.files if self.is_photos else [self.path]))

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """uint8 [n, H, W, 3] frames at ``indices``; nothing else is decoded where the format allows it.

        Raises:
            UnreadableClip: one of the frames cannot be decoded.
        """
        with self._naming_errors():
            if self.info is not None:
                images = media.read_frames(self.path, indices, self.info.unpacked())
            elif self.names is not None:
                files = self.files
                images = [media.read_image(files[i]) for i in indices]
            else:
                strip = list(self._strip())
                images = [strip[i] for i in indices]
            return np.stack([self._fit(image) for image in images])

    def frames(self) -> Iterator[np.ndarray]:
        """All frames in order, uint8 [H, W, 3], one at a time.

        Raises:
            UnreadableClip: as ``read``, or where other than ``len(self)`` frames come.
        """
        with self._naming_errors():
            if self.info is not None:
                images = (frame.image for frame in media.read_video(self.path))
            elif self.names is not None:
                images = (media.read_image(file) for file in self.files)
            else:
                images = self._strip()
            count = 0
            for image in images:
                count += 1
                if count <= len(self):
                    yield self._fit(image)
            if count != len(self):
                raise UnreadableClip(f"{self.path}: {len(self)} frames announced, {count} decoded")

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except (UserError, OSError) as error:
            reason = str(error).replace("\n", " ")
            raise UnreadableClip(reason if str(self.path) in reason else f"{self.path}: {reason}") from error

    def _strip(self) -> Iterator[np.ndarray]:
        strip = media.read_image(self.path)
        width = strip.shape[1] // len(self)
        return (strip[:, i * width : (i + 1) * width] for i in range(len(self)))

    def _fit(self, image: np.ndarray) -> np.ndarray:
        return self.fit(image) if self.fit else media.fit(image, self.frame_shape[0], self.frame_shape[1])


def natural_order(name: str) -> list:
    """Sort key under which frame 9 comes before frame 10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def identity_of(name: str) -> str:
    """The part before the first '#': exactly that, so that ``id1`` and ``id10`` are two people."""
    return name.split("#", 1)[0]


def find_clips(
    root: str | Path,
    split: str,
    frame_shape: tuple[int, int, int],
    seed: int = 0,
    progress: bool = False,
    index_folder: Path | None = None,
) -> tuple[list[Clip], dict[Path, str]]:
    """The clips of one split of a root, or of ``"all"`` of it, and what could not be used: path -> reason.

    ``seed`` draws the 80/20 split of a root without ``train/`` and ``test/``; a person is on one side of it only.
    What probing says of videos is kept in ``index_folder``, if there is one, for the next time.

    Raises:
        UserError: the root is missing or empty, the split has nothing in it, or nothing in it can be read.
    """
    entries = entries_of(Path(root), split, seed)
    bad: dict[Path, str] = {}
    clips, photos = [], {}
    videos = ProbedVideos(entries[0].parent, split, index_folder)
    # Probing waits for the disk and for FFmpeg, both of which release the interpreter.
    with ThreadPoolExecutor(4) as pool:
        probed = pool.map(lambda entry: _probe_or_reason(entry, frame_shape, videos), entries)
        probed = tqdm(probed, f"probing {root}", len(entries), disable=not progress)
        for entry, result in zip(entries, probed, strict=True):
            if isinstance(result, str):
                bad[entry] = result
            elif result is None:
                photos.setdefault(identity_of(_name(entry)), []).append(entry)
            else:
                clips.append(result)
    videos.keep()
    clips += [_photographs(person, files, frame_shape) for person, files in photos.items()]
    if not clips:
        path, reason = next(iter(bad.items()))
        raise UserError(f"{root}: none of the {len(bad)} {split} clips can be read (the first: {path.name}: {reason})")
    return sorted(clips, key=lambda clip: natural_order(clip.path.name)), bad


def entries_of(root: Path, split: str, seed: int = 0) -> list[Path]:
    """The videos, folders of frames and images of a split, as yet unread; errors as of :func:`find_clips`."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; set root_dir to the folder of the data set")
    splits = [root / name for name in SPLITS if (root / name).is_dir()]
    if split == "all":
        folder, entries = root, [path for part in splits or [root] for path in _listing(part)]
    elif splits:
        folder = root / split
        if not folder.is_dir():
            raise UserError(
                f"{root}: has the other split, but no {split}/ folder; add one (for the face world: --test N)"
            )
        entries = _listing(folder)
    else:
        folder, entries = root, _split(_listing(root), split, seed)
    if not entries:
        what = "" if split == "all" else f"{split} "
        raise UserError(f"{folder}: no {what}clips here; put videos, folders of frames or images into it")
    return entries


def _listing(folder: Path) -> list[Path]:
    paths = [p for p in folder.iterdir() if not p.name.startswith(".")]
    entries = (p for p in paths if p.is_dir() or media.names_video(p) or media.names_image(p))
    return sorted(entries, key=lambda p: natural_order(p.name))


def _split(entries: list[Path], split: str, seed: int) -> list[Path]:
    """80 % of the people for training, the rest for testing (of the clips, where there is one person only)."""
    by_person = len({identity_of(_name(p)) for p in entries}) > 1
    groups: dict[str, list[Path]] = {}
    for path in entries:
        groups.setdefault(identity_of(_name(path)) if by_person else path.name, []).append(path)
    names = list(groups)
    chosen = np.random.default_rng(seed).permutation(len(names))
    n_test = max(1, round(TEST_SHARE * len(names))) if len(names) > 1 else 0
    side = chosen[:n_test] if split == "test" else chosen[n_test:]
    return [path for i in sorted(side) for path in groups[names[i]]]


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _probe_or_reason(path: Path, frame_shape: tuple[int, int, int], videos: ProbedVideos) -> Clip | str | None:
    """The clip at ``path``, None for a photograph, or why it cannot be used."""
    try:
        if path.is_dir():
            return _folder(path, frame_shape)
        if media.is_video(path):
            return _video(path, frame_shape, videos.probe(path))
        return _strip_or_photograph(path, frame_shape)
    except (UserError, OSError) as error:
        return str(error).removeprefix(f"{path}: ")


def _folder(path: Path, frame_shape: tuple[int, int, int]) -> Clip:
    names = sorted((n for n in os.listdir(path) if media.names_image(n) and not n.startswith(".")), key=natural_order)
    if not names:
        raise UserError("a folder without frames")
    times = _even_times(len(names))
    return Clip(path, path.name, identity_of(path.name), times, FRAME_RATE, frame_shape, _packed(names))


def _packed(names: list[str]) -> np.ndarray:
    return np.array([os.fsencode(name) for name in names])


def _video(path: Path, frame_shape: tuple[int, int, int], info: PackedInfo) -> Clip:
    return Clip(path, path.stem, identity_of(path.stem), info.times, info.frame_rate, frame_shape, info=info)


def _strip_or_photograph(path: Path, frame_shape: tuple[int, int, int]) -> Clip | None:
    count = strip_length(*media.image_size(path), frame_shape)
    if count is None:
        return None
    return Clip(path, path.stem, identity_of(path.stem), _even_times(count), FRAME_RATE, frame_shape)


def strip_length(width: int, height: int, frame_shape: tuple[int, int, int]) -> int | None:
    """How many frames an image holds side by side; None for a photograph.

    Frames of the height of ``frame_shape`` have its width too; frames of another height its proportions, and there
    have to be three or more of them, since a photograph may well be twice as wide as high.
    """
    frame_width, least = frame_shape[1], 2
    if height != frame_shape[0]:
        frame_width, least = height * frame_shape[1] / frame_shape[0], 3
    count = width / frame_width
    return int(count) if count == int(count) and count >= least and width > height else None


def _photographs(person: str, files: list[Path], frame_shape: tuple[int, int, int]) -> Clip:
    times = PHOTO_GAP * np.arange(len(files))
    rate = Fraction(1) / Fraction(PHOTO_GAP)
    return Clip(files[0], person, person, times, rate, frame_shape, _packed([f.name for f in files]), is_photos=True)


@lru_cache(maxsize=1000)  # clips of equal length share them
def _even_times(count: int) -> np.ndarray:
    return np.arange(count) / float(FRAME_RATE)
