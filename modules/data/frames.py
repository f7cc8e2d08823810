"""The training data set: an item is a few frames of one clip, and depends on (seed, epoch, index) alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..config.data import ClipsParams, DatasetParams
from ..errors import UserError
from .augmentation import augment, made_view
from .cache import FrameCache
from .clips import Clip, UnreadableClip, find_clips

MIN_GAP = 0.2  # seconds: frames closer than this may show the same expression, and are no negatives of one another
ATTEMPTS = 20  # clips tried for an item before giving up

log = logging.getLogger(__name__)


class FrameDataset(Dataset):
    """Frames of clips and photographs from one or several roots.

    An item is a dict:

    - ``frames``  float32 [F, 3, H, W] in [0, 1], F = ``frames_per_video``; 0 is the source, 1 the driving frame
    - ``times``   float32 [F], seconds in the clip; photographs are 10 s apart, a photo's made views share its time
    - ``elsewhere``  float32 [3, H, W], with ``elsewhere_frame``: the person in another clip where there is one, with
      augmentations of its own
    - ``identity`` and ``clip``  numbers over all roots (the photographs of a person in a root are one clip)
    - ``index``   the item's number in the epoch

    It is asked for by ``(epoch, index)``; workers that live on from epoch to epoch need not be told anything.

    Roots share the epoch by their weights: the length is ``num_repeats`` times the number of items of all roots, and a
    root of weight w gets w / (sum of the weights) of it.  Its items then come round one after the other, over the end
    of the epoch, so that each is seen equally often.

    Raises:
        UserError: a root is missing, empty, or has no clip that can be read.
    """

    def __init__(
        self, params: DatasetParams, split: str = "train", seed: int = 0, num_repeats: int = 1, progress: bool = False
    ):
        self.params, self.split, self.seed = params, split, seed
        self.clips: list[Clip] = []
        self.bad_clips: dict[str, str] = {}  # path -> why it is left out
        self.identities: list[int] = []  # of each clip
        self._clips_of: dict[int, list[int]] = {}  # identity -> its clips
        self._items: list[list[list[int]]] = []  # root -> item -> the clips it may be
        self.cache = FrameCache(params.cache_dir) if params.cache_dir else None
        place = self.cache and self.cache.folder
        roots: list[list[Clip]] = []
        for root in params.roots:
            clips, bad = find_clips(root.path, split, params.frame_shape, params.random_seed, progress, place)
            _report_bad(root.path, len(clips), bad)
            self.bad_clips.update({str(path): reason for path, reason in bad.items()})
            roots.append(clips)
        self._number(roots)
        weights = np.array([root.weight for root in params.roots])
        self._ends = _shares(num_repeats * sum(map(len, self._items)), weights).cumsum()

    def _number(self, roots: list[list[Clip]]) -> None:
        """Number people and clips over all roots, and shuffle each root's items for good: see ``_item_of``.

        A person is the same in all roots; but a name that no root writes with a ``#`` is one of a file, such as
        00001.png, and of different people in different roots.
        """
        named = {clip.identity for clips in roots for clip in clips if clip.names_person}
        numbers: dict[str | tuple[int, str], int] = {}
        for root, clips in enumerate(roots):
            first, groups = len(self.clips), {}
            people = [clip.identity if clip.identity in named else (root, clip.identity) for clip in clips]
            for _, person in sorted(dict(zip((clip.identity for clip in clips), people, strict=True)).items()):
                numbers.setdefault(person, len(numbers))
            self.clips += clips
            self.identities += [numbers[person] for person in people]
            for number, identity in enumerate(self.identities[first:], start=first):
                groups.setdefault(identity if self.params.id_sampling else number, []).append(number)
                self._clips_of.setdefault(identity, []).append(number)
            items = list(groups.values())
            order = np.random.default_rng([self.seed, root]).permutation(len(items))
            self._items.append([items[i] for i in order])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor | int]:
        """The item ``(epoch, index)``; a plain index is of epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        root, item = self._item_of(epoch, index)
        unreadable = ""
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng([self.seed, epoch, index, attempt])
            if attempt:  # the clip could not be read: any other of its root in its place
                item = rng.integers(len(self._items[root]))
            number = int(rng.choice(self._items[root][item]))
            try:
                frames, times = self._frames(self.clips[number], rng)
                elsewhere = self._elsewhere(number, rng)
            except UnreadableClip as error:
                unreadable = str(error)
                continue
            frames = augment(frames, self.params.augmentation_params, rng)
            return {
                "frames": frames.contiguous(),
                "times": times,
                **elsewhere,
                "identity": self.identities[number],
                "clip": number,
                "index": index,
                "unreadable": unreadable,  # why another clip had to stand in, if one had
            }
        raise UserError(f"{self.params.roots[root].path}: {ATTEMPTS} clips in a row cannot be decoded; check the files")

    def _item_of(self, epoch: int, index: int) -> tuple[int, int]:
        """Root and item of an index; each root goes round its items, on from where the last epoch ended."""
        root = int(np.searchsorted(self._ends, index, side="right"))
        start = self._ends[root - 1] if root else 0
        count = int(self._ends[root] - start)
        return root, (epoch * count + index - int(start)) % len(self._items[root])

    def _frames(self, clip: Clip, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """float32 [F, 3, H, W] frames of a clip, and their times [F]."""
        count, still = self.params.frames_per_video, clip.is_photos or len(clip) == 1
        chosen = choose_photos(len(clip), count, rng) if still else choose_frames(clip.times, count, rng)
        flip = self.params.augmentation_params.flip_param
        if flip is not None and flip.time_flip and rng.random() < 0.5:
            chosen[:2] = chosen[1::-1]
        needed, place = np.unique(chosen, return_inverse=True)
        frames = self.read(clip, needed.tolist())[place]
        if still:
            frames = _vary_repeats(frames, chosen, rng)
        return frames, torch.tensor(clip.times[chosen], dtype=torch.float32)

    def read(self, clip: Clip, indices: list[int]) -> Tensor:
        """float32 [F, 3, H, W] frames of a clip, from the cache if there is one.  Raises UnreadableClip."""
        images = self.cache.read(clip, indices) if self.cache else clip.read(indices)
        return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255

    def _elsewhere(self, number: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """A frame of another clip of the person of clip ``number``; of the same where there is no other."""
        if not self.params.elsewhere_frame:
            return {}
        others = [other for other in self._clips_of[self.identities[number]] if other != number]
        clip = self.clips[int(rng.choice(others or [number]))]
        frame = self.read(clip, [int(rng.integers(len(clip)))])
        return {"elsewhere": augment(frame, self.params.augmentation_params, rng)[0].contiguous()}

    def prepare_cache(self, share: slice = slice(None), begin: float = 0.0, progress: bool = True) -> None:
        """Decode a share of the clips into ``cache_dir`` now; without it they are cached as they are first used."""
        if self.cache is not None:
            self.cache.prepare(self.clips, share, begin, progress)


def test_clips(params: ClipsParams) -> list[Clip]:
    """The clips of the test split, root after root; those that cannot be read are named in the log and left out.

    Raises:
        UserError: as :class:`FrameDataset`.
    """
    clips = []
    place = Path(params.cache_dir) if params.cache_dir else None
    for root in params.roots:
        found, bad = find_clips(root.path, "test", params.frame_shape, params.random_seed, index_folder=place)
        _report_bad(root.path, len(found), bad)
        clips += found
    return clips


test_clips.__test__ = False  # type: ignore[attr-defined]  # its name is no invitation to pytest


def _report_bad(root: str, good: int, bad: dict) -> None:
    if bad:
        named = "; ".join(f"{path.name}: {reason}" for path, reason in bad.items())
        log.warning("%s: %d of %d files skipped: %s", root, len(bad), good + len(bad), named)


def _shares(total: int, weights: np.ndarray) -> np.ndarray:
    """Whole numbers in the proportion of the weights that add up to ``total`` (largest remainders)."""
    exact = total * weights / weights.sum()
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    return shares


def choose_frames(times: Sequence[float], count: int, rng: np.random.Generator) -> np.ndarray:
    """[count] frames of a video: a random pair in order of time, then further ones, likewise.

    Two frames are any two, as in FOMM.  More are over 0.2 s apart; in a shorter clip as far as it allows; and where
    there are not enough frames, some are repeated.
    """
    total = len(times)
    if total < count:
        chosen = np.concatenate([rng.permutation(total), rng.integers(total, size=count - total)])
    elif count == 2:
        chosen = rng.choice(total, 2, replace=False)
    else:
        chosen = rng.permutation(_spread(np.asarray(times), count, rng))
    return np.concatenate([np.sort(chosen[:2]), np.sort(chosen[2:])])


def _spread(times: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of ``count`` frames over MIN_GAP apart, or over half, a quarter of it where only that fits."""
    for gap in (MIN_GAP, MIN_GAP / 2, MIN_GAP / 4):
        ends = times + gap + 1e-6  # 0.2 s in floating point may be a little more than 0.2 s
        if latest := _latest(times, ends, count):
            break
    else:
        return rng.choice(len(times), count, replace=False)
    for _ in range(20):  # most clips are long: the first or second draw will do
        drawn = np.sort(rng.choice(len(times), count, replace=False))
        if np.all(times[drawn[1:]] > ends[drawn[:-1]]):
            return drawn
    chosen: list[int] = []
    first = 0
    for last in latest:  # each late enough after the one before, and early enough for the others
        chosen.append(int(rng.integers(first, last + 1)))
        first = int(np.searchsorted(times, ends[chosen[-1]], side="right"))
    return np.array(chosen)


def _latest(times: np.ndarray, ends: np.ndarray, count: int) -> list[int] | None:
    """The latest index each of ``count`` frames can have if it ends before the next one's time; None if none fit."""
    latest = [len(times) - 1]
    while len(latest) < count:
        before = int(np.searchsorted(ends, times[latest[-1]], side="left")) - 1
        if before < 0:
            return None
        latest.append(before)
    return latest[::-1]


def choose_photos(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """[count] photographs of a person: different ones first, then some again (of which views are made)."""
    chosen = rng.permutation(total)[:count]
    return np.concatenate([chosen, rng.choice(chosen, count - len(chosen))])


def _vary_repeats(frames: Tensor, chosen: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Replace all but one of the frames that show the same photograph, whichever comes first, by made views of it."""
    order = rng.permutation(len(chosen))
    kept = {int(chosen[i]): int(i) for i in order}
    repeats = [i for i, photo in enumerate(chosen) if kept[int(photo)] != i]
    if repeats:
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        frames[repeats] = made_view(frames[repeats], generator)
    return frames
