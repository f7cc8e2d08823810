"""The page: tabs, their fields, and what their buttons do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..bundled import bundled
from ..mef.options import PortraitOptions
from ..mef.target import GUIDANCE, Given
from ..sid.motion_options import MotionOptions
from ..world.emotions import NEUTRAL, emotions
from . import files
from .jobs import Failed, Job, Jobs
from .studio import Look, Studio

TITLE = "DeepExpr"
INTRODUCTION = """# DeepExpr
Give the person in a photograph the expression and head pose of somebody else. Pictures stay on this computer, and are
deleted when the program ends. *Animate only people who have agreed to it, and label results as synthetic.*"""
PROMPT = (
    "a portrait photo of a person with curly red hair, wearing a blue hoodie, in front of a brick wall,"
    " in warm light from the left"
)
WAITING = 8  # people who may wait for their turn
TAKEN = [("Expression and head pose", "both"), ("Expression only", "expression"), ("Head pose only", "pose")]
WAYS = [("The trained model (quick)", "model"), ("A 3D head fitted to the photograph (slower)", "mesh")]
HEIGHT = 290  # pixels of a field for files
UNSEEN: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}  # of small changes
CSS = ".status {min-height: 6em} footer {display: none !important}"

Work = Callable[[Job, Path], Any]


class Page:
    """Builds the page of a studio."""

    def __init__(self, studio: Studio, temporary: files.TemporaryFiles):
        self.studio, self.temporary, self.jobs = studio, temporary, Jobs(temporary.path)

    def build(self) -> gr.Blocks:
        with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
            gr.Markdown(INTRODUCTION)
            with gr.Tab("Animate"):
                self._animate()
            with gr.Tab("Express"):
                self._express()
            with gr.Tab("Portrait"):
                self._portrait()
            with gr.Tab("Swap"):
                self._swap()
        self.temporary.keep()
        return page.queue(max_size=WAITING, api_open=False)

    def _animate(self) -> None:
        with gr.Row():
            with gr.Column():
                kind = gr.Radio(["Video", "Picture"], value="Video", label="Driven by")
                with gr.Row():
                    photo = photograph("Photograph")
                    video = as_uploaded(gr.Video(label="Driving video", include_audio=False, min_width=220))
                    picture = photograph("Driving picture", visible=False)
                with gr.Accordion("More options", open=False):
                    take = gr.Dropdown(TAKEN, value="both", label="Taken from the driver")
                    strength = gr.Slider(0, 2, 1, step=0.1, label="Strength (1: as the driver)")
                    what = "Only what changes since the driver's first frame"
                    relative = gr.Checkbox(
                        label=what, info="for a driving video that does not begin with a neutral face"
                    )
                    look = looks("Show photograph, driver and result side by side")
                buttons, state = controls("Animate")
            with gr.Column():
                shown = result_of_animation()
                moving = examples([photo, video], "driving videos/driver-{}.mp4", (1, 2, 3))
                faces = ("happiness", "surprise", "anger")
                still = examples([photo, picture], "driving static images/{}.png", faces, visible=False)
        kind.change(
            lambda kind: [gr.update(visible=(kind == "Video") == is_video) for is_video in (True, False, True, False)],
            kind,
            [video, picture, moving.dataset, still.dataset],
            **UNSEEN,
        )

        def work(job: Job, folder: Path, *values: Any) -> Path:
            photo, kind, video, picture, take, strength, relative, *look = values
            person = files.picture(photo, "Photograph")
            driver = (
                files.video(video, "Driving video") if kind == "Video" else files.picture(picture, "Driving picture")
            )
            job.say("Looking for the faces")
            options = MotionOptions(drive=take, strength=strength, relative=relative and kind == "Video")
            return self.studio.animate(person, driver, folder, options, Look(*look))

        fields = [photo, kind, video, picture, take, strength, relative, *look]
        self._connect(buttons, state, work, fields, shown, of_animation, "animate")

    def _express(self) -> None:
        with gr.Row():
            with gr.Column():
                with gr.Row():
                    photo = photograph("Photograph")
                    with gr.Column(min_width=220):
                        word = gr.Dropdown(words(), value="joy", label="Expression")
                        strength = gr.Slider(0, 1.5, 1, step=0.1, label="Strength")
                        kind = gr.Radio(["Picture", "Clip"], value="Picture", label="Result")
                        seconds = gr.Slider(1, 10, 3, step=0.5, label="Seconds, there and back", visible=False)
                with gr.Accordion("More options", open=False):
                    look = looks("Show photograph and result side by side")
                buttons, state = controls("Express")
            with gr.Column():
                shown = result_of_animation()
                examples([photo, word], "{}", ("joy", "amazement", "contempt"))
        kind.change(lambda kind: gr.update(visible=kind == "Clip"), kind, seconds, **UNSEEN)

        def work(job: Job, folder: Path, *values: Any) -> Path:
            photo, word, strength, kind, seconds, *look = values
            person = files.picture(photo, "Photograph")
            job.say("Looking for the face")
            options = MotionOptions(strength=strength)
            return self.studio.express(person, word, folder, options, Look(*look), seconds if kind == "Clip" else None)

        fields = [photo, word, strength, kind, seconds, *look]
        self._connect(buttons, state, work, fields, shown, of_animation, "express")

    def _portrait(self) -> None:
        with gr.Row():
            with gr.Column():
                prompt = gr.Textbox(PROMPT, label="What the portrait shows", lines=3)
                with gr.Row():
                    photo = photograph("Who (optional)")
                    picture = photograph("Expression (optional)")
                word = optional_word()
                with gr.Accordion("More options", open=False):
                    drawn = draws(2, 3, "Show photograph, expression and portraits side by side")
                buttons, state = controls("Draw")
            with gr.Column():
                shown = results_drawn("Portraits")
                examples([photo, picture], "driving static images/{}.png", ("happiness", "surprise", "neutral"))

        def work(job: Job, folder: Path, *values: Any) -> list[Path]:
            prompt, photo, word, picture, *drawn = values
            person, reference = optional(photo, "Photograph"), optional(picture, "Picture of the expression")
            job.say("Loading the networks")
            return self.studio.portray(person, reference, word or None, folder, drawn_by(prompt, *drawn))

        fields = [prompt, photo, word, picture, *drawn]
        self._connect(buttons, state, work, fields, shown, of_drawing, "portrait")

    def _swap(self) -> None:
        with gr.Row():
            with gr.Column():
                with gr.Row():
                    target = photograph("Picture to change")
                    photo = photograph("Who (optional)")
                    picture = photograph("Expression (optional)")
                word = optional_word()
                with gr.Accordion("More options", open=False):
                    face = which_face("Of several faces in the picture to change")
                    drawn = draws(1, GUIDANCE, "Show all pictures side by side")
                buttons, state = controls("Swap")
            with gr.Column():
                shown = results_drawn("Results")
                examples([target, photo], "Identities/person-{}.png", (4, 5, 6))

        def work(job: Job, folder: Path, *values: Any) -> list[Path]:
            target, photo, word, picture, face, *drawn = values
            person, reference = optional(photo, "Photograph"), optional(picture, "Picture of the expression")
            given = Given(files.picture(target, "Picture to change"), person, reference, word or None)
            job.say("Loading the networks")
            return self.studio.swap(given, face, folder, drawn_by("", *drawn))

        fields = [target, photo, word, picture, face, *drawn]
        self._connect(buttons, state, work, fields, shown, of_drawing, "swap")

    def _connect(
        self,
        buttons: tuple[gr.Button, gr.Button],
        state: gr.Markdown,
        work: Callable[..., Any],
        fields: Sequence[gr.components.Component],
        shown: Sequence[gr.components.Component],
        finished: Callable[[Any], list[Any]],
        name: str,
    ) -> None:
        """Let a tab's button do its work, and the other one end it."""

        def run(request: gr.Request, progress: gr.Progress = gr.Progress(), *values: Any) -> list[Any]:  # noqa: B008
            begun = time.monotonic()
            folder = self.temporary.new_folder()
            try:
                made, notes = self.jobs.run(
                    request.session_hash or "", lambda job: work(job, folder, *values), lambda a, b: progress(a, desc=b)
                )
            except Failed as failure:
                raise gr.Error(str(failure), duration=None, print_exception=False) from None
            lines = [f"Done in {time.monotonic() - begun:.0f} s.", *notes]
            return [*finished(made), "\n\n".join(lines)]

        def cancel(request: gr.Request) -> str:
            return "Cancelled." if self.jobs.cancel(request.session_hash or "") else "Nothing was running."

        def cleared() -> list[Any]:
            return [*(gr.update(value=None) for _ in shown), ""]

        go, stop = buttons
        outputs = [*shown, state]
        turn = {"concurrency_limit": 1, "concurrency_id": "studio"}
        running = go.click(cleared, None, outputs, **UNSEEN).then(
            run, fields, outputs, show_progress_on=state, api_name=name, **turn
        )
        stop.click(cancel, None, state, cancels=[running], queue=False, api_visibility="private")


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
    picture = gr.Image(label="Result", height=400, interactive=False, visible=False, format="png")
    return [video, picture, gr.DownloadButton("Download", interactive=False)]


def controls(name: str) -> tuple[tuple[gr.Button, gr.Button], gr.Markdown]:
    """A button that begins, one that cancels, and where progress is shown."""
    with gr.Row():
        buttons = gr.Button(name, variant="primary", scale=3, min_width=120), gr.Button("Cancel", min_width=80)
    return buttons, gr.Markdown("Drop your files above, or click an example.", container=True, elem_classes="status")


def looks(beside: str) -> list[gr.components.Component]:
    """The fields of :class:`.studio.Look`."""
    way = gr.Dropdown(WAYS, value="model", label="Moved by")
    return [way, which_face("Of several faces in the photograph"), gr.Checkbox(label=beside)]


def which_face(label: str) -> gr.Dropdown:
    return gr.Dropdown(["largest", "left", "right"], value="largest", label=label)


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
    return [gr.Gallery(label=label, columns=2, height=400, object_fit="contain", interactive=False)]


def optional_word() -> gr.Dropdown:
    nothing = [("no word: as in the picture, if there is one", "")]
    return gr.Dropdown(nothing + words(), value="", label="Expression by name")


def optional(path: str | None, what: str) -> str | None:
    """A picture, if one was dropped.  Raises UserError where the file is none."""
    return None if path is None else files.picture(path, what)


def photograph(label: str, visible: bool = True) -> gr.Image:
    sources = ["upload", "webcam", "clipboard"]
    return as_uploaded(gr.Image(label=label, height=HEIGHT, visible=visible, sources=sources, min_width=220))


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
