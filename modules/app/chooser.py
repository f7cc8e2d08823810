"""Which face of a photograph is meant: seen on the page where there are several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
import numpy as np

from ..errors import UserError
from ..sid.group_options import ALL
from . import files
from .fields import UNSEEN, as_uploaded

NAMES = ["largest", "left", "right"]  # where the faces have not been looked for
OWN = 8  # faces of which each can have a driver of its own

Find = Callable[[str], tuple[list[np.ndarray], int]]


class FaceChooser:
    """Shows the faces of a photograph, numbered from left to right, and lets one of them be chosen, or all.

    Args:
        photo: the field of the photograph.
        find: its faces, and which of them is the largest.
        has_all: all of them can be meant.

    Attributes:
        face: the field that says which.
        looked_at: the photograph that the choice is of, None where there has been none.
    """

    def __init__(self, photo: gr.Image, find: Find, has_all: bool):
        self._find, self._all = find, [("All", ALL)] if has_all else []
        self.looked_at = gr.State()
        with gr.Group(visible=False) as self._box:
            self.shown = gr.Gallery(
                show_label=False,
                container=False,
                elem_classes="faces",
                allow_preview=False,
                interactive=False,
                buttons=[],
                format="png",
            )
            self.face = gr.Radio([*NAMES, *self._all], value=NAMES[0], label="Which of these faces")
        photo.change(self._look, photo, [self._box, self.shown, self.face, self.looked_at], **UNSEEN)
        self.shown.select(_clicked, None, self.face, **UNSEEN)
        self.face.change(_marked, self.face, self.shown, **UNSEEN)

    def _look(self, photo: str | None) -> list[Any]:
        crops, main = self._faces_of(photo)
        if len(crops) < 2:
            return [gr.update(visible=False), None, gr.update(choices=[*NAMES, *self._all], value=NAMES[0]), photo]
        numbers = [str(number + 1) for number in range(len(crops))]
        shown = gr.update(value=list(zip(crops, numbers, strict=True)), selected_index=main)
        return [gr.update(visible=True), shown, gr.update(choices=[*numbers, *self._all], value=numbers[main]), photo]

    def _faces_of(self, photo: str | None) -> tuple[list[np.ndarray], int]:
        if photo is None:
            return [], 0
        try:
            return self._find(files.picture(photo, "Photograph"))
        except UserError:
            return [], 0  # the tab's button says what is wrong


def meant(photo: str | None, looked_at: str | None, face: str) -> str:
    """The chosen face; where the choice is of the photograph before, whose faces are still shown, the largest."""
    return face if looked_at in (None, photo) else NAMES[0]


def _clicked(event: gr.SelectData) -> str:
    return str(event.index + 1)


def _marked(face: str) -> Any:
    """The chosen one is marked; of all there is none."""
    return gr.update(selected_index=int(face) - 1 if face.isdecimal() else -1)


class OwnDrivers:
    """Lets some of all faces have drivers of their own, in place of the one that they share.

    Attributes:
        fields: of the faces from left to right.
    """

    def __init__(self, photo: gr.Image, chooser: FaceChooser):
        with gr.Accordion("Another video or picture for some faces", open=False, visible=False) as self._box, gr.Row():
            what = {"file_types": ["video", "image"], "height": 150, "min_width": 140, "elem_classes": "own"}
            self.fields = [as_uploaded(gr.File(label=f"Face {number + 1}", **what)) for number in range(OWN)]
        chooser.face.change(self._show, [chooser.face, chooser.shown], [self._box, *self.fields], **UNSEEN)
        photo.change(lambda: [None] * OWN, None, self.fields, **UNSEEN)

    @staticmethod
    def _show(face: str, shown: list[Any] | None) -> list[Any]:
        return [gr.update(visible=face == ALL), *(gr.update(visible=n < len(shown or ())) for n in range(OWN))]
