"""Faces followed through a video: one track per face and shot, each with a crop of its own.

The video is streamed; what is kept of it is a few numbers per track.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from .. import media
from .boxes import Box, Detection, iou
from .close_crop import Crop, Follower, cut_crop, face_crop, steady_crop
from .crops import INCREASE, crop_box, cut
from .detectors import Detector

# Mean difference of the 16x16 grey thumbnails of two frames: talking heads stay below 17 of 255, two unrelated shots
# are above 24 in 99 of 100 cases.
CUT_DIFFERENCE = 22.0
BEGINS, GOES_ON = 0.8, 0.4  # scores of a detection that a track begins with, and of one that it takes up later
PATIENCE = 1.0  # seconds without a detection that do not end a track: a blink, a turn of the head
KEY_EVERY = 5  # frames between key frames of what is cut: training reads single frames

Cutter = Callable[[media.Frame], np.ndarray]  # what makes a crop's frame of a video's


@dataclass(eq=False)
class Track:
    """One face over consecutive frames.

    ``start`` and ``end`` are the indices of its first and last frame, ``start_time`` and ``end_time`` their times in
    seconds from the first frame of the video; ``place`` is the box the face stays in.  ``faces`` are the times at which
    a detector read its landmarks, and its close crops then; ``moving`` ones do not end as the face leaves its place.
    """

    initial: Box
    start: int
    start_time: float
    end: int
    end_time: float
    place: Box
    moving: bool = False
    faces: list[tuple[float, Crop]] = field(default_factory=list, repr=False)
    _recent: deque[Box] = field(default_factory=lambda: deque(maxlen=3), repr=False)
    _sizes: list[float] = field(default_factory=lambda: [0.0, 0.0], repr=False)  # their sum and their number

    def add(self, found: Detection, index: int, time: float) -> None:
        """The face was ``found`` at frame ``index``."""
        box = found.box
        if found.landmarks is not None:
            self.faces.append((time, face_crop(found.landmarks, upright=False)))
        self.end, self.end_time = index, time
        self._sizes[0] += box.width
        self._sizes[1] += 1
        self._recent.append(box)
        steady = Box(*np.median(self._recent, axis=0))  # of three, so that one bad box does not widen the crop
        self.place = Box(
            min(self.place.left, steady.left),
            min(self.place.top, steady.top),
            max(self.place.right, steady.right),
            max(self.place.bottom, steady.bottom),
        )

    @property
    def frames(self) -> int:
        return self.end - self.start + 1

    def overlap(self, box: Box) -> float:
        """Intersection over union of ``box`` and what a face has to overlap to be this track's."""
        return iou(self._recent[-1] if self.moving else self.initial, box)

    def crop(self, image_size: tuple[int, int], increase: float = INCREASE) -> Box:
        """The square crop of the track, in whole pixels, inside the (width, height) of the video."""
        box = crop_box(self.place, image_size, increase, self._sizes[0] / self._sizes[1])
        side = 2 * (min(image_size) // 2)
        if box.width > side:  # more than there is: as much as can be cut out
            box = crop_box(Box.square(*self.place.centre, side), image_size, increase=0.0)
        return box

    def close_crop(self, size: float, above: float = 0.0) -> Crop:
        """The close crop of the track, ``size`` times its face, as :func:`.close_crop.steady_crop` makes it."""
        return steady_crop([face for _, face in self.faces], size, above)

    def close_cutter(self, size: float, above: float, pixels: int) -> Cutter:
        """What cuts it out of the video's frames in turn, ``pixels`` wide; a ``moving`` track's follows the face."""
        if not self.moving:
            place = self.close_crop(size, above)
            return lambda frame: cut_crop(frame.image, place, pixels)
        follower, aims = Follower(), deque(self.faces)

        def cut_out(frame: media.Frame) -> np.ndarray:
            while aims and aims[0][0] <= frame.time:
                time, face = aims.popleft()
                follower.move(face.wider(size, above), time)
            return cut_crop(frame.image, follower.crop, pixels)

        return cut_out


def follow_faces(
    frames: Iterable[media.Frame],
    detector: Detector,
    iou_with_initial: float = 0.25,
    min_size: float | None = None,
    moving: bool = False,
) -> Iterator[Track]:
    """Every face track in ``frames``, each as soon as it has ended.

    A track ends where its box overlaps its first box, or with ``moving`` the one before, by less than
    ``iou_with_initial``, where the face is not found for :data:`PATIENCE` seconds, or where the shot changes.  Between
    the frames the detector is shown (every ``detector.stride``-th) a face is taken to be there when it is there in the
    one before and the one after.  ``min_size`` is the smallest face, in pixels.
    """
    tracks: list[Track] = []
    thumbnail: np.ndarray | None = None
    index, time, seen = -1, 0.0, -1  # of the frame before, and the last frame the detector was shown
    for new_index, frame in enumerate(frames):
        before, thumbnail = thumbnail, _thumbnail(frame.image)
        if before is not None and np.abs(thumbnail - before).mean() > CUT_DIFFERENCE:
            yield from _ended(tracks, index, time, seen)
            tracks, seen = [], -1
        index, time = new_index, frame.time
        if seen >= 0 and index < seen + detector.stride:
            continue
        seen = index
        found = [d for d in detector(frame.image, min_size) if d.score >= GOES_ON]
        new, lost = _assign(tracks, found, index, time, iou_with_initial, moving)
        yield from lost
        tracks = [track for track in tracks if track not in lost] + new
    yield from _ended(tracks, index, time, seen)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BOX).convert("L"), dtype=np.float32)


def _ended(tracks: list[Track], index: int, time: float, seen: int) -> list[Track]:
    """``tracks`` at the end of a shot, whose last frame is ``index``: a face found when last looked for stays to it."""
    for track in tracks:
        if track.end == seen:
            track.end, track.end_time = index, time
    return tracks


def _assign(
    tracks: list[Track], found: list[Detection], index: int, time: float, threshold: float, moving: bool
) -> tuple[list[Track], list[Track]]:
    """Give each detection to the track it fits best.  Returns the tracks that begin here, and those that are lost."""
    pairs = [(track.overlap(d.box), t, n) for t, track in enumerate(tracks) for n, d in enumerate(found)]
    given: dict[int, int] = {}  # detection -> track
    for overlap, t, n in sorted(pairs, reverse=True):
        if overlap >= threshold and overlap > 0 and n not in given and t not in given.values():
            given[n] = t
            tracks[t].add(found[n], index, time)
    new = []
    for n, detection in enumerate(found):
        if n not in given and detection.score >= BEGINS:
            track = Track(detection.box, index, time, index, time, detection.box, moving)
            track.add(detection, index, time)
            new.append(track)
    # A track also ends where its face has gone on as another one, or the two would take turns.
    lost = [
        track
        for track in tracks
        if time - track.end_time > PATIENCE
        or (track.end < index and any(iou(track._recent[-1], other.initial) > threshold for other in new))
    ]
    return new, lost


def square_cutter(box: Box, size: tuple[int, int]) -> Cutter:
    """What cuts ``box`` (whole pixels) out of a video's frames, in ``size`` (width, height)."""
    return lambda frame: cut(frame.image, box, size)


def ffmpeg_command(
    path: str | Path, track: Track, info: media.VideoInfo, box: Box, size: tuple[int, int], out: str | Path
) -> str:
    """The shell command that cuts ``track`` out of the video at ``path`` with sound: ``box`` scaled to ``size``.

    The result is what phones and browsers play: 8 bits, 4:2:0.  Where ``box`` sticks out, the picture's edges go on.
    """
    # Down to milliseconds: rounding up would lose the first frame, and the last one has a whole frame's time to spare.
    start = math.floor((media.lead_in(path) + track.start_time) * 1000) / 1000
    duration = math.floor((track.end_time - track.start_time + float(1 / info.frame_rate)) * 1000) / 1000
    left, top, right, bottom = map(int, box)
    x, y = max(0, -left), max(0, -top)  # where the picture lies in one that holds the box
    crop = f"crop={right - left}:{bottom - top}:{left + x}:{top + y}, scale={size[0]}:{size[1]}"
    if x or y or right > info.width or bottom > info.height:
        # even, as chroma wants it
        width, height = (2 * math.ceil(n / 2) for n in (max(right, info.width) + x, max(bottom, info.height) + y))
        borders = f"{x}:{width - info.width - x}:{y}:{height - info.height - y}"
        crop = f"pad={width}:{height}:{x}:{y}, fillborders={borders}:smear, {crop}"
    if info.is_anamorphic:  # ffmpeg turns pictures upright by itself, but crops in the file's own pixels
        crop = f"scale={info.width}:{info.height}, setsar=1, {crop}"
    # "file:" because a colon in a name, or a minus at its begin, means something else to ffmpeg
    source, result = (shlex.quote(f"file:{p}" if re.search("^-|:", str(p)) else str(p)) for p in (path, out))
    return f'ffmpeg -i {source} -ss {start:.3f} -t {duration:.3f} -filter:v "{crop}" -pix_fmt yuv420p {result}'


def write_crops(
    path: str | Path,
    crops: list[tuple[Track, Cutter, Path]],
    info: media.VideoInfo,
    size: tuple[int, int],
    progress: Callable[[Iterable[media.Frame]], Iterable[media.Frame]] = iter,
) -> None:
    """Write each (track, what cuts it out, file) of the video at ``path``, in one pass over it.

    Each file appears when it is complete.  ``progress`` wraps the frames, e.g. to show a bar.
    """
    with ExitStack() as everything:
        writers: dict[Path, tuple[ExitStack, media.VideoWriter]] = {}
        for index, frame in enumerate(progress(media.read_video(path))):
            for track, cutter, out in crops:
                if not track.start <= index <= track.end:
                    continue
                if index == track.start:
                    own = everything.enter_context(ExitStack())
                    writers[out] = (
                        own,
                        own.enter_context(media.VideoWriter(out, *size, info.frame_rate, key_every=KEY_EVERY)),
                    )
                writers[out][1].write(cutter(frame), frame.time - track.start_time)
                if index == track.end:
                    writers.pop(out)[0].close()
