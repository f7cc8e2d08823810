"""Figures of real faces, from what the judges read of results, of the truth, and of drivers.

Frames come in parts; sums are kept, and of every frame at most the three openings.  Embeddings of identity are added up
for the anchors and forgotten with them: nothing but figures is written.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from .judges.face_reader import PARTS, FaceReading
from .metrics import Figures

MOUTH = slice(48, 68)  # of iBUG's landmarks
RANGE = (5, 95)  # percentiles over time that an opening's range reaches between
FACES = 0.5  # least share of true frames with a face in a clip whose figures count


class FaceMeans:
    """Means over the frames in which both faces are found, and how often the result's is missing."""

    def __init__(self) -> None:
        self.frames = self.wanted = self.both = 0
        self.sums: Figures = defaultdict(float)

    def count(self, result: FaceReading, truth: FaceReading) -> Tensor:
        """Count in N frames; bool [N], in which both have a face."""
        both = result.found & truth.found
        self.frames += len(both)
        self.wanted += int(truth.found.sum())
        self.both += int(both.sum())
        return both

    def add(self, figures: dict[str, Tensor]) -> None:
        for name, values in figures.items():
            self.sums[name] += float(values.double().sum())

    def means(self) -> Figures:
        """What cannot be told is not there: all of it where the truth shows no face, all but MKR where no result."""
        if not self.wanted:
            return {}
        mean = {name: total / self.both for name, total in self.sums.items()} if self.both else {}
        return {"MKR": 1 - self.both / self.wanted, **mean}

    @property
    def shows_faces(self) -> bool:
        """Whether a face is found in most frames of the truth, or of the driver."""
        return self.wanted >= FACES * self.frames > 0


class AgainstTruth:
    """A rebuilt clip against the clip itself, frame by frame.

    - MKR: share of the true frames with a face in whose result none is found (FOMM's missing key point rate).
    - AKD, mouth AKD: mean distance in the picture of the 68 landmarks, or of the mouth's 20, in the truth's eye
      distances.
    - CSIM: cosine of the identity embeddings; AED: their Euclidean distance, in [0, 2], as FOMM has it.
    - pose: mean absolute difference of yaw, pitch and roll, degrees.
    - expression: share of frames of the same class of seven; expression L1: sum of the absolute differences of their
      probabilities, in [0, 2].
    """

    def __init__(self) -> None:
        self.faces = FaceMeans()

    def add(self, result: FaceReading, truth: FaceReading) -> None:
        """Count in N frames."""
        both = self.faces.count(result, truth)
        a, b = (FaceReading(*(values[both] for values in reading)) for reading in (result, truth))
        apart = (a.landmarks - b.landmarks)[..., :2].norm(dim=-1) / b.eye_distance[:, None]
        self.faces.add(
            {
                "AKD": apart.mean(dim=1),
                "mouth AKD": apart[:, MOUTH].mean(dim=1),
                "AED": (a.identity - b.identity).norm(dim=1),
                "CSIM": (a.identity * b.identity).sum(dim=1),
                **pose_and_expression(a, b),
            }
        )

    def figures(self) -> Figures:
        return self.faces.means()


def pose_and_expression(a: FaceReading, b: FaceReading) -> dict[str, Tensor]:
    """How far two faces differ in them, per frame ``[N]``: see :class:`AgainstTruth`."""
    turned = (a.pose - b.pose + 180) % 360 - 180
    return {
        "pose": turned.abs().mean(dim=1),
        "expression": (a.expressions.argmax(dim=1) == b.expressions.argmax(dim=1)).float(),
        "expression L1": (a.expressions - b.expressions).abs().sum(dim=1),
    }


class AgainstDriver:
    """A source moved by a driver who is somebody else: there is no truth, but what should stay and what should move.

    - CSIM: cosine of the identity embeddings of result and source.
    - MKR, pose, expression, expression L1: as :class:`AgainstTruth`, result against driver.
    - mouth r, eyes r, brows r: correlation over time of the opening (:attr:`FaceReading.openings`) with the driver's.
    - mouth range, ...: its range over the driver's; the 5th to the 95th percentile over time.
    - jitter: mean length of the landmarks' second differences in time, in eye distances of the face itself, over the
      driver's.

    Args:
        source: its one frame.
    """

    def __init__(self, source: FaceReading) -> None:
        self.source, self.faces = source, FaceMeans()
        self._openings: list[Tensor] = []  # [N, 2, 3]
        self._last: list[FaceReading] = []  # result's and driver's last two frames
        self._bends, self._bent = torch.zeros(2, dtype=torch.double), 0

    def add(self, result: FaceReading, driver: FaceReading) -> None:
        """Count in N frames, which follow those before."""
        both = self.faces.count(result, driver)
        a, b = (FaceReading(*(values[both] for values in reading)) for reading in (result, driver))
        kept = {"CSIM": a.identity @ self.source.identity[0]} if self.source.found.all() else {}
        self.faces.add(kept | pose_and_expression(a, b))
        self._openings.append(torch.stack([a.openings, b.openings], dim=1))
        self._bend(result, driver)

    def _bend(self, result: FaceReading, driver: FaceReading) -> None:
        """Count in second differences of three frames in a row in which all faces are found."""
        pair = [result, driver]
        if self._last:
            joined = zip(self._last, pair, strict=True)
            pair = [FaceReading(*map(torch.cat, zip(*both, strict=True))) for both in joined]
        self._last = [reading.take(slice(-2, None)) for reading in pair]
        if len(pair[0].found) < 3:
            return
        bends = torch.stack([second_differences(reading) for reading in pair])
        known = bends[:, bends.isfinite().all(dim=0)].double()
        self._bends += known.sum(dim=1)
        self._bent += known.shape[1]

    def figures(self) -> Figures:
        found = self.faces.means()
        if self.faces.both > 1:
            found |= amplitudes(torch.cat(self._openings))
        if self._bends[1] > 0:
            found["jitter"] = float(self._bends[0] / self._bends[1])
        return found


def second_differences(reading: FaceReading) -> Tensor:
    """Mean length of the landmarks' second differences in the picture, ``[N - 2]``, in eye distances; NaN as faces."""
    points = reading.landmarks[..., :2]
    bend = points[2:] - 2 * points[1:-1] + points[:-2]
    return bend.norm(dim=-1).mean(dim=1) / reading.eye_distance[1:-1]


def amplitudes(openings: Tensor) -> Figures:
    """Of ``[N, 2, 3]`` openings, of result and driver over time: correlations, and ratios of ranges.

    What stays still has no correlation, and nothing has a ratio to a driver that stays still.
    """
    figures: Figures = {}
    for part, (ours, theirs) in zip(PARTS, openings.double().permute(2, 1, 0).numpy(), strict=True):
        if min(np.ptp(ours), np.ptp(theirs)) > 0:
            figures[f"{part} r"] = float(np.corrcoef(ours, theirs)[0, 1])
        low, high = np.percentile([ours, theirs], RANGE, axis=1)
        if high[1] > low[1]:
            figures[f"{part} range"] = float((high[0] - low[0]) / (high[1] - low[1]))
    return figures


class Anchors:
    """What CSIM is between true frames: two of one person, and of two people.  It tells what a CSIM is worth."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, person: str, reading: FaceReading) -> None:
        """Count in a person's true frames."""
        seen = reading.identity[reading.found].double()
        self._sums[person] = self._sums.get(person, 0) + seen.sum(dim=0)
        self._counts[person] += len(seen)

    def figures(self) -> dict[str, list[float]]:
        """Of each person the mean cosine of two different frames, and of a frame and another person's.

        Embeddings have unit length, so that sums of them tell the mean over all pairs.
        """
        counts = {person: count for person, count in self._counts.items() if count}
        same = [
            float((self._sums[person].square().sum() - count) / (count * (count - 1)))
            for person, count in counts.items()
            if count > 1
        ]
        different = []
        if len(counts) > 1:
            means = torch.stack([self._sums[person] / count for person, count in counts.items()])
            cosines = means @ means.T
            different = ((cosines.sum(dim=1) - cosines.diagonal()) / (len(counts) - 1)).tolist()
        return {"same person": same, "different people": different}
