"""Portraits as files: a prompt, a person, the picture or video of an expression in; pictures or a video out."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import media
from ..data.expression_bank import pictures_of_word
from ..data.expression_pictures import pictures_of_state
from ..devices import best_device
from ..errors import UserError
from ..mark import Marking
from ..media.tensors import to_images
from ..progress import Bar, note
from ..sid.framing import Framing
from ..world.emotions import parse
from ..world.puppets.states import States
from ..world.showing import state_of
from .base import check_steps, part_read, quiet, set_scheduler, spelt_words
from .checks import check_named
from .embeddings import Embedder
from .mixed import from_face_id, use_expression_adapter
from .options import PortraitOptions
from .pipeline import DeepExprPipeline

PEOPLE = 6  # rendered people, in whose mean an expression by name is read
SLACK = 1e-6  # by which weights that are meant to add up to 1 may not


def load_pipeline(
    checkpoint: str,
    base: str | None = None,
    base_config: str | None = None,
    detector: str = "auto",
    crop: bool | None = None,
    cpu: bool = False,
    expression_adapter: str | None = None,
    face_recognition: str | None = None,
) -> DeepExprPipeline:
    """The pipeline of a training checkpoint, an adapters' folder or a hub id; float16 on a GPU, float32 on a CPU.

    Args:
        expression_adapter: folder whose expression adapter takes the place of the checkpoint's.
        face_recognition: .onnx file that a FaceID checkpoint reads identities with; it needs an expression adapter.
    """
    check_named(checkpoint, base, base_config, expression_adapter, face_recognition)
    device = best_device(cpu)
    options = {
        "base": base,
        "base_config": base_config,
        "detector": detector,
        "crop": crop,
        "cpu": device.type == "cpu",
        "dtype": torch.float16 if device.type == "cuda" else torch.float32,
    }
    if face_recognition is not None:
        return from_face_id(checkpoint, face_recognition, expression_adapter, **options).to(device)
    if Path(checkpoint).is_file():
        pipeline = DeepExprPipeline.from_checkpoint(checkpoint, **options)
    else:
        pipeline = DeepExprPipeline.from_pretrained(checkpoint, **options)
    if expression_adapter is not None:
        pipeline = use_expression_adapter(pipeline, expression_adapter, detector, crop, options["cpu"])
    return pipeline.to(device)


def tell_unread(tokenizer: Any, prompt: str, negative_prompt: str | None = None) -> None:
    """Say what of the prompts the base's ``tokenizer`` does not know, or has no room for."""
    if words := spelt_words(f"{prompt} {negative_prompt or ''}", tokenizer):
        note(f"prompt: the base's vocabulary lacks {', '.join(words)}: it knows such words' letters alone")
    for name, text in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        if text is not None and (part := part_read(text, tokenizer)):
            note(f"--{name}: {part}")


class Portraitist:
    """Draws one person from one prompt, with any number of expressions.

    Args:
        source: picture file of the person; None leaves the identity to the prompt.
        marking: the marks of results; None: they have none.

    Attributes:
        drawn, seconds: pictures so far, and the time they took.
    """

    def __init__(
        self, pipeline: DeepExprPipeline, options: PortraitOptions, source: str | None, marking: Marking | None = None
    ):
        self.pipeline, self.options, self.marking = pipeline, options, marking
        self.drawn, self.seconds = 0, 0.0
        self.source = None if source is None else media.read_image(source)
        if options.scheduler is not None:
            set_scheduler(pipeline.base, options.scheduler)
        check_steps(pipeline.base, options.steps)
        if pipeline.embedder is None:
            raise UserError("these adapters were saved without SID's encoders; use a run's folder or checkpoint")
        self.identity = pipeline.embed(identity_image=self.source)[0]

    def draw(self, expression: Tensor | None, progress: bool = False) -> list[np.ndarray]:
        """``num_images`` pictures, uint8 ``[H, W, 3]``; every call starts from the same noise."""
        started = time.perf_counter()
        with quiet(), steps_told(self.options.steps, progress) as told:  # too long a prompt has been told of
            result = self.pipeline(
                self.options.prompt,
                identity_embedding=self.identity,
                expression_embedding=expression,
                **sampling(self.options),
                **told,
            )
        self.drawn, self.seconds = self.drawn + len(result.images), self.seconds + time.perf_counter() - started
        return [np.asarray(image.convert("RGB")) for image in result.images]

    def marked(self, picture: np.ndarray) -> np.ndarray:
        """A result as it is written."""
        return picture if self.marking is None else self.marking.put(picture)

    @property
    def xmp(self) -> str | None:
        """The metadata of results."""
        return None if self.marking is None else self.marking.packet

    def shown(self, driver: np.ndarray | None, pictures: list[np.ndarray]) -> np.ndarray:
        """Source | driver | pictures, as far as there are any."""
        size = pictures[0].shape[:2]
        given = [media.fit(image, *size) for image in (self.source, driver) if image is not None]
        return np.concatenate([*given, *pictures], axis=1)


@contextlib.contextmanager
def steps_told(steps: int, is_shown: bool = True) -> Iterator[dict[str, Any]]:
    """Options of a pipeline that show how many steps are done."""
    if not is_shown:
        yield {}
        return
    with Bar(steps, "drawing", "step") as bar:

        def after_step(base: Any, number: int, level: Any, kept: dict[str, Any]) -> dict[str, Any]:
            bar.update()
            return kept

        yield {"callback_on_step_end": after_step}


def sampling(options: PortraitOptions) -> dict[str, Any]:
    """Options of a :class:`.pipeline.DeepExprPipeline`: how pictures are drawn, whoever and whatever they show."""
    return {
        "identity_scale": options.identity_scale,
        "expression_scale": options.expression_scale,
        "guidance_scale": options.guidance_scale,
        "identity_guidance": options.identity_guidance,
        "expression_guidance": options.expression_guidance,
        "negative_prompt": options.negative_prompt,
        "num_inference_steps": options.steps,
        "num_images_per_prompt": options.num_images,
        "generator": [torch.Generator().manual_seed(options.seed + i) for i in range(options.num_images)],
    }


def named_expression(embedder: Embedder, words: str, bank: str | None = None) -> Tensor:
    """The expression embedding ``[1, width]`` of words and their weights (:func:`.emotions.parse`).

    It is that of rendered people who show the mixture, in the mean; with ``bank``, a folder ``word/*.jpg``, of the
    words' pictures, and as far as the weights do not add up to 1, of rendered people without expression.

    Raises:
        UserError: an unknown word, a word without pictures, or a picture whose face is looked for and not found.
    """

    def mean(pictures: list[np.ndarray], names: list[str] | None = None) -> Tensor:
        return embedder(pictures, names)[1].mean(dim=0, keepdim=True)

    def rendered(state: States) -> Tensor:
        return mean(to_images(pictures_of_state(state, PEOPLE, embedder.sid.size[0], embedder.device)))

    if bank is None:
        return rendered(state_of(parse(words)))
    mixture = parse(words, lambda word: pictures_of_word(Path(bank), word))
    shown = [weight * mean([media.read_image(p) for p in files], [str(p) for p in files]) for files, weight in mixture]
    rest = 1 - sum(weight for _, weight in mixture)
    return sum(shown) if abs(rest) < SLACK else sum(shown, rest * rendered(state_of([])))


def draw_images(artist: Portraitist, driver: str | None, result: str, expression: Tensor | None = None) -> list[Path]:
    """Write the portraits with an expression's embedding, a driving picture's, or none; return their files."""
    image = None
    if driver is not None:
        image = media.read_image(driver)
        expression = artist.pipeline.embed(expression_image=image)[1]
    pictures = artist.draw(expression, progress=True)
    if artist.options.grid:
        pictures = [artist.shown(image, pictures)]
    files = artist.options.files(result)
    for path, picture in zip(files, pictures, strict=True):
        media.write_image(path, artist.marked(picture), artist.xmp)
    return files


def framing_of(embedder: Embedder, driver: str, cpu: bool) -> Framing:
    """How a driving video is cut out: as pictures are.  Raises UserError where its face is wanted and not found."""
    sid = embedder.sid
    framing = Framing(sid.size, embedder.crop, embedder.detector, cpu=cpu, params=sid.framing)
    if embedder.crop is None and framing.is_close:
        first = next(media.read_video(driver)).image
        if framing.framer.video(driver).is_whole(first):
            return replace(framing, crop=False)
    return framing


def draw_video(artist: Portraitist, driver: str, result: str) -> int:
    """Write a portrait per frame of a driving video, with its timing and sound; return the number of frames."""
    artist.options.check_video()
    embedder = artist.pipeline.expression_embedder
    video = framing_of(embedder, driver, artist.pipeline.base.device.type == "cpu").video(driver)
    info = video.info

    def drawn() -> Iterator[tuple[np.ndarray, float]]:
        for frame in video.frames(Bar(len(info.times), Path(result).name).over):
            pictures = artist.draw(embedder.expression([frame.image]))
            picture = artist.shown(frame.image, pictures) if artist.options.grid else pictures[0]
            yield artist.marked(picture), frame.time

    frames = drawn()
    first = next(frames)
    height, width = first[0].shape[:2]
    rate, duration = info.frame_rate, info.duration
    with media.VideoWriter(result, width, height, rate, driver, duration, xmp=artist.xmp) as writer:
        for image, time in itertools.chain([first], frames):
            writer.write(image, time)
    return writer.count
