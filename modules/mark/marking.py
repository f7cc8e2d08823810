"""What is put into results: the marks in their pictures, and the metadata of their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from . import label, spread
from .provenance import Provenance

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
