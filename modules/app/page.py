"""The page: tabs, their fields, and what their buttons do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import UserError
from ..mef.target import GUIDANCE, Given
from ..sid.drivers import Paths
from ..sid.group_options import ALL
from ..sid.motion_options import MotionOptions
from . import files
from .chooser import FaceChooser, OwnDrivers, meant
from .fields import (
    UNSEEN,
    as_uploaded,
    controls,
    drawn_by,
    draws,
    examples,
    looks,
    of_animation,
    of_drawing,
    optional,
    optional_word,
    photograph,
    result_of_animation,
    results_drawn,
    words,
)
from .jobs import Failed, Job, Jobs, Stopped
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
CSS = """.status {min-height: 6em} footer {display: none !important}
.faces {background: var(--block-background-fill)} .faces .grid-wrap {min-height: 0 !important}
.faces .grid-container {grid-template-columns: repeat(auto-fill, 88px) !important} .own td.download {display: none}
@media (max-width: 480px) {.tab-container button {padding: 0 8px !important}}"""

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
                chooser = FaceChooser(photo, self.studio.faces, has_all=True)
                own = OwnDrivers(photo, chooser)
                with gr.Accordion("More options", open=False):
                    take = gr.Dropdown(TAKEN, value="both", label="Taken from the driver")
                    strength = gr.Slider(0, 2, 1, step=0.1, label="Strength (1: as the driver)")
                    what = "Only what changes since the driver's first frame"
                    relative = gr.Checkbox(
                        label=what, info="for a driving video that does not begin with a neutral face"
                    )
                    look = looks(chooser.face, "Show photograph, driver and result side by side")
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
            photo, kind, video, picture, take, strength, relative, way, face, beside, looked_at, *own = values
            face = meant(photo, looked_at, face)
            person = files.picture(photo, "Photograph")

            def shared() -> str:
                if kind == "Video":
                    return files.video(video, "Driving video")
                return files.picture(picture, "Driving picture")

            has_own = face == ALL and any(own)
            driver = self._each_driver(person, own, shared) if has_own else shared()
            job.say("Looking for the faces")
            options = MotionOptions(drive=take, strength=strength, relative=relative)
            return self.studio.animate(person, driver, folder, options, Look(way, face, beside))

        fields = [photo, kind, video, picture, take, strength, relative, *look, chooser.looked_at, *own.fields]
        self._connect(buttons, state, work, fields, shown, of_animation, "animate")

    def _each_driver(self, photo: str, own: Sequence[str | None], shared: Callable[[], str]) -> Paths:
        """Of every face the driver: its own, or where it has none the one that they share."""
        count = len(self.studio.faces(photo)[0])
        for number, path in enumerate(own[count:], count + 1):
            if path is not None:
                raise UserError(f"Driver of face {number}: the photograph has fewer faces ({count}); take it out")
        given = [*own, *[None] * (count - len(own))][:count]
        return tuple(
            shared() if path is None else files.picture_or_video(path, f"Driver of face {number}")
            for number, path in enumerate(given, 1)
        )

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
                chooser = FaceChooser(photo, self.studio.faces, has_all=True)
                with gr.Accordion("More options", open=False):
                    look = looks(chooser.face, "Show photograph and result side by side")
                buttons, state = controls("Express")
            with gr.Column():
                shown = result_of_animation()
                examples([photo, word], "{}", ("joy", "amazement", "contempt"))
        kind.change(lambda kind: gr.update(visible=kind == "Clip"), kind, seconds, **UNSEEN)

        def work(job: Job, folder: Path, *values: Any) -> Path:
            photo, word, strength, kind, seconds, way, face, beside, looked_at = values
            look = Look(way, meant(photo, looked_at, face), beside)
            person = files.picture(photo, "Photograph")
            job.say("Looking for the face")
            options = MotionOptions(strength=strength)
            return self.studio.express(person, word, folder, options, look, seconds if kind == "Clip" else None)

        fields = [photo, word, strength, kind, seconds, *look, chooser.looked_at]
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
                target = photograph("Picture to change")
                chooser = FaceChooser(target, self.studio.faces, has_all=False)
                with gr.Row():
                    photo = photograph("Who (optional)")
                    picture = photograph("Expression (optional)")
                word = optional_word()
                with gr.Accordion("More options", open=False):
                    drawn = draws(1, GUIDANCE, "Show all pictures side by side")
                buttons, state = controls("Swap")
            with gr.Column():
                shown = results_drawn("Results")
                examples([target, photo], "Identities/person-{}.png", (4, 5, 6))

        def work(job: Job, folder: Path, *values: Any) -> list[Path]:
            target, photo, word, picture, face, looked_at, *drawn = values
            person, reference = optional(photo, "Photograph"), optional(picture, "Picture of the expression")
            given = Given(files.picture(target, "Picture to change"), person, reference, word or None)
            job.say("Loading the networks")
            return self.studio.swap(given, meant(target, looked_at, face), folder, drawn_by("", *drawn))

        fields = [target, photo, word, picture, chooser.face, chooser.looked_at, *drawn]
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
            except Stopped as stopped:
                return [*cleared()[:-1], str(stopped)]
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
