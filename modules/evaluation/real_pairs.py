"""Cross-reenactment of real faces: pairs measured as their frames go by."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch

from ..data.clips import Clip
from ..media.tensors import to_tensor
from .judges.face_reader import load_face_reader
from .metrics import CHUNK
from .real_faces import AgainstDriver, Anchors
from .real_summary import FaceResult

Pair = tuple[np.ndarray, np.ndarray]


class PairFaces:
    """Figures of pairs of a source and a driver, beside those of the source's picture repeated.

    Attributes:
        results: (source and driver, figures) of the pairs that were watched to their end; a pair's person is the
            source's.
        anchors: of the drivers' frames.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.reader = device, load_face_reader(device)
        self.results: list[tuple[tuple[Clip, Clip], FaceResult]] = []
        self.anchors = Anchors()
        self._recognised: set[Clip] = set()  # a driver's frames count once among the anchors

    def watch(self, source: Clip, driving: Clip, source_image: np.ndarray, frames: Iterator[Pair]) -> Iterator[Pair]:
        """The same (driving frame, result) ``frames``, uint8 ``[H, W, 3]`` each, measured in parts."""
        own = self.reader(to_tensor([source_image], self.device))
        rows = {"model": AgainstDriver(own), "source repeated": AgainstDriver(own)}
        is_new = driving not in self._recognised
        self._recognised.add(driving)
        while chunk := list(itertools.islice(frames, CHUNK)):
            driver, result = (to_tensor(list(images), self.device) for images in zip(*chunk, strict=True))
            read = self.reader(driver, identity=is_new)
            if is_new:
                self.anchors.add(driving.identity, read)
            rows["model"].add(self.reader(result, read.found), read)
            rows["source repeated"].add(own.repeated(len(chunk)), read)
            yield from chunk
        figures = {answer: measured.figures() for answer, measured in rows.items()}
        shows_faces = bool(own.found.all()) and rows["model"].faces.shows_faces
        self.results.append(((source, driving), FaceResult(source.identity, figures, shows_faces)))

    def each(self) -> list[dict]:
        """The figures of every pair."""
        return [
            {"source": source.name, "driving": driving.name, **result.rows}
            for (source, driving), result in self.results
        ]
