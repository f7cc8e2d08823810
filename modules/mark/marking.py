"""What is put into results: the marks in their pictures, and the metadata of their files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from . import label, spread
from .provenance import Provenance, provenance

Watermark = Literal["invisible", "visible", "none"]


@dataclass(frozen=True)
class Marking:
    """How results are marked.

    Attributes:
        watermark: a mark that is not seen; a label that is, and that mark, for a label is cut off easily; or none.
        provenance: what the metadata says, whatever the watermark.
    """

    watermark: Watermark
    provenance: Provenance

    def put(self, image: np.ndarray) -> np.ndarray:
        """A picture, uint8 ``[H, W, 3]``, with its marks."""
        if self.watermark == "none":
            return image
        return spread.add(label.add(image) if self.watermark == "visible" else image)

    @property
    def packet(self) -> str:
        """The metadata, as an XMP packet."""
        return self.provenance.packet()


def of_photograph(watermark: Watermark, weights: str | Path | None) -> Marking:
    """The marks of a photograph that was changed, by a file or folder of weights, or by a head fitted to it (None)."""
    if weights is None:
        return Marking(watermark, provenance("compositeSynthetic", ()))
    return Marking(watermark, provenance("compositeWithTrainedAlgorithmicMedia", (weights,)))


def of_drawing(watermark: Watermark, weights: Iterable[str | Path]) -> Marking:
    """The marks of a picture that files or folders of weights drew."""
    return Marking(watermark, provenance("trainedAlgorithmicMedia", weights))
