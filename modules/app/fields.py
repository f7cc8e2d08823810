"""Fields that tabs of the page share, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..bundled import bundled
from ..mef.options import PortraitOptions
from ..world.emotions import NEUTRAL, emotions
from . import files

WAYS = [("The trained model (quick)", "model"), ("A 3D head fitted to the photograph (slower)", "mesh")]
HEIGHT = 290  # pixels of a field for files
KEPT: list[Any] = ["download", "fullscreen"]  # gradio's other button, "share", sends pictures to a web site
UNSEEN: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}  # of small changes


def of_animation(made: Path) -> list[Any]:
    """A video or a picture where it is shown, and as a file to be had."""
    is_video = made.suffix == ".mp4"
    return [
        gr.update(value=str(made) if is_video else None, visible=is_video),
        gr.update(value=None if is_video else str(made), visible=not is_video),
        gr.update(value=str(made), interactive=True),
    ]


def of_drawing(made: list[Path]) -> list[Any]:
    return [[str(path) for path in made]]


def result_of_animation() -> list[gr.components.Component]:
    video = gr.Video(label="Result", height=400, interactive=False, autoplay=True, loop=True)
    picture = gr.Image(label="Result", height=400, interactive=False, visible=False, format="png", buttons=KEPT)
    return [video, picture, gr.DownloadButton("Download", interactive=False)]


def controls(name: str) -> tuple[tuple[gr.Button, gr.Button], gr.Markdown]:
    """A button that begins, one that cancels, and where progress is shown."""
    with gr.Row():
        buttons = gr.Button(name, variant="primary", scale=3, min_width=120), gr.Button("Cancel", min_width=80)
    return buttons, gr.Markdown("Drop your files above, or click an example.", container=True, elem_classes="status")


def looks(face: gr.Radio, beside: str) -> list[gr.components.Component]:
    """The fields of :class:`.studio.Look`."""
    return [gr.Dropdown(WAYS, value="model", label="Moved by"), face, gr.Checkbox(label=beside)]


def draws(number: int, guidance: float, beside: str) -> list[gr.components.Component]:
    """The fields of :func:`drawn_by`."""
    return [
        gr.Slider(1, 4, number, step=1, label="Pictures"),
        gr.Slider(1, 10, guidance, step=0.5, label="Weight of prompt, person and expression"),
        gr.Number(0, label="Seed (another number: other pictures)", precision=0, minimum=0),
        gr.Checkbox(label=beside),
    ]


def drawn_by(prompt: str, number: int, guidance: float, seed: float | None, beside: bool) -> PortraitOptions:
    """What the fields say."""
    return PortraitOptions(prompt, num_images=number, guidance_scale=guidance, seed=int(seed or 0), grid=beside)


def results_drawn(label: str) -> list[gr.components.Component]:
    return [gr.Gallery(label=label, columns=2, height=400, object_fit="contain", interactive=False, buttons=KEPT)]


def optional_word() -> gr.Dropdown:
    return gr.Dropdown([("no word", ""), *words()], value="", label="Expression by name")


def optional(path: str | None, what: str) -> str | None:
    """A picture, if one was dropped.  Raises UserError where the file is none."""
    return None if path is None else files.picture(path, what)


def photograph(label: str, visible: bool = True) -> gr.Image:
    options: dict[str, Any] = {"sources": ["upload", "webcam", "clipboard"], "buttons": KEPT}
    return as_uploaded(gr.Image(label=label, height=HEIGHT, visible=visible, min_width=220, **options))


def as_uploaded(field: Any) -> Any:
    """Give what is dropped to the work as it is: the package reads files itself, more kinds of them, and exactly.

    Of the class, since an example's click makes another object; not of a class of ours, of which gradio writes files
    into the source folder.
    """
    type(field).preprocess = lambda _, given: None if given is None else given.path
    return field


def words() -> list[tuple[str, str]]:
    """The words of expressions, each with its place in the tree."""
    named = [(name if name == of.family else f"{name} ({of.family})", name) for name, of in emotions().items()]
    return [*named, (NEUTRAL, NEUTRAL)]


def examples(
    fields: Sequence[gr.components.Component], other: str, names: Sequence[Any], visible: bool = True
) -> gr.Examples:
    """Bundled people, and what goes with each."""
    inputs = bundled("Inputs")

    def second(name: Any) -> str:
        return str(inputs / other.format(name)) if "/" in other else other.format(name)

    rows = [[str(inputs / "Identities" / f"person-{i + 1}.png"), second(name)] for i, name in enumerate(names)]
    return gr.Examples(rows, list(fields), label="Examples: click one", cache_examples=False, visible=visible)
