"""The tables that a data set of portraits is cached in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data.portraits import Portrait


class Tables:
    """The three tables of a data set: ``latents`` by portrait, ``text`` by caption, ``faces`` by picture file."""

    def __init__(self, portraits: Sequence[Portrait]):
        self.portraits = list(portraits)
        self.captions = sorted({p.text for p in portraits})
        self.pictures = sorted({f for p in portraits for f in (p.image, p.identity_image, p.reference_image) if f})
        self.caption_row = {text: i for i, text in enumerate(self.captions)}
        self.picture_row = {path: i for i, path in enumerate(self.pictures)}

    def items(self) -> dict[str, list[Any]]:
        return {"latents": self.portraits, "text": self.captions, "faces": self.pictures}
