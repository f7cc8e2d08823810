"""What makes exemplars: truth, SID, a Base adapter, or somebody else's face swapper.

A candidate follows from seed, number and what it is made of (the same portraits, the same weights) alone, so that a run
that was stopped goes on as it would have gone.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ... import media
from ...config.files import load_animation_config
from ...data.portraits import Portrait
from ...devices import best_device
from ...errors import UserError
from ...media.tensors import to_images
from ...sid.frames import frame_size
from ...sid.framing import Framing
from ...sid.inference import prepare
from ...sid.motion_options import MotionOptions
from ...world.draws import draw_close_poses, draw_expressions, draw_identities, draw_scenes
from ...world.parameters import Faces
from ...world.rendering import render
from ...world.words import captions

PLACES = ("{target}", "{donor}", "{out}")  # of a swapper's command that are filled in


class Made(NamedTuple):
    """A candidate.

    Attributes:
        target: the portrait to learn, a file or a picture that was made as well.
        exemplar: uint8 ``[H, W, 3]``, shows its expression and pose on another person.
        text: the target's caption.
        identity, donor: who target and exemplar show.
        identity_image: another photograph of the target's person, where one is known or was made.
        mask: of the target's face, where there is one.
    """

    target: Path | np.ndarray
    exemplar: np.ndarray
    text: str
    identity: str
    donor: str
    identity_image: Path | np.ndarray | None = None
    mask: Path | None = None

    @property
    def picture(self) -> np.ndarray:
        """The target."""
        return media.read_image(self.target) if isinstance(self.target, Path) else self.target


Maker = Callable[[int], Made]  # the candidate of a number; raises UserError for one that cannot be made
Paint = Callable[[Portrait, Portrait, int], np.ndarray]  # the exemplar of (target, donor, seed)


class FromPortraits:
    """Exemplars painted of a folder's portraits: all of them in turn, each with a random other person.

    Raises:
        UserError: the portraits show one person.
    """

    def __init__(self, portraits: Sequence[Portrait], paint: Paint, seed: int):
        self.portraits, self.paint, self.seed = portraits, paint, seed
        if len({portrait.identity for portrait in portraits}) < 2:
            raise UserError("the portraits show one person; exemplars need another one: name people by 'identity'")

    def __call__(self, number: int) -> Made:
        turn, place = divmod(number, len(self.portraits))
        target = self.portraits[np.random.default_rng([self.seed, turn]).permutation(len(self.portraits))[place]]
        rng = np.random.default_rng([self.seed, number, 1])
        donor = target
        while donor.identity == target.identity:
            donor = self.portraits[rng.integers(len(self.portraits))]
        exemplar = self.paint(target, donor, int(rng.integers(2**31)))
        own = target.identity_image
        return Made(target.image, exemplar, target.text, target.identity, donor.identity, own, target.mask)


def by_sid(config_path: str, checkpoint: str, cpu: bool) -> Paint:
    """The donor's photograph, animated: SID gives it the target's expression and pose."""
    config, device = load_animation_config(config_path), best_device(cpu)
    framing = Framing(frame_size(config), cpu=cpu, params=config.framing_params)
    animated = prepare(config, checkpoint, device)(MotionOptions())

    def paint(target: Portrait, donor: Portrait, seed: int) -> np.ndarray:
        person = framing.source(donor.image)
        (picture,) = animated(person).animate([framing.image(target.image)])
        return framing.finisher(person)(picture)

    return paint


def by_adapters(checkpoint: str, base: str | None, steps: int, guidance_scale: float, cpu: bool) -> Paint:
    """Another person, drawn by MEF from the donor's photograph and caption with the target's expression."""
    from ..inference import load_pipeline

    pipeline = load_pipeline(checkpoint, base, cpu=cpu)
    if pipeline.embedder is None:
        raise UserError(f"{checkpoint}: saved without SID's encoders; give a run's folder or checkpoint")
    pipeline.base.set_progress_bar_config(disable=True)

    def paint(target: Portrait, donor: Portrait, seed: int) -> np.ndarray:
        identity, _ = pipeline.embed(identity_image=media.read_image(donor.image))
        _, expression = pipeline.embed(expression_image=media.read_image(target.image))
        result: Any = pipeline(
            donor.text,
            identity_embedding=identity,
            expression_embedding=expression,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=torch.Generator().manual_seed(seed),
        )
        return np.asarray(result.images[0].convert("RGB"))

    return paint


def by_command(command: str) -> Paint:
    """A program's: ``"swap --face {donor} --into {target} --to {out}"`` gives the target the donor's face.

    Raises:
        UserError: the command does not name all three, or has a quote that is not closed.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"--command: {error}; quote its words as a shell wants it") from error
    for place in PLACES:
        if not any(place in word for word in words):
            raise UserError(f"--command: {place} is missing; give a command such as 'swap {' '.join(PLACES)}'")

    def paint(target: Portrait, donor: Portrait, seed: int) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "exemplar.png"
            filled = dict(zip(PLACES, (str(target.image), str(donor.image), str(result)), strict=True))
            run = [_filled_in(word, filled) for word in words]
            try:
                done = subprocess.run(run, capture_output=True, text=True, errors="replace")
            except OSError as error:
                raise UserError(f"--command: {run[0]}: cannot be started ({error.strerror})") from error
            if done.returncode or not result.is_file():
                said = (done.stderr or done.stdout).strip().splitlines()
                raise UserError(f"--command: wrote no picture, status {done.returncode}: {said[-1] if said else ''}")
            return media.read_image(result)

    return paint


def _filled_in(word: str, places: dict[str, str]) -> str:
    for place, value in places.items():
        word = word.replace(place, value)
    return word


class FromWorld:
    """Rendered people: target, exemplar and another photograph of the target's person, all true."""

    def __init__(self, size: int, seed: int):
        self.size, self.seed = size, seed

    def faces(self, number: int) -> Faces:
        """Target, exemplar, other photograph: the first two share expression, gaze and pose."""
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        shown, pose = draw_expressions(2, seed), draw_close_poses(2, seed)
        state = [0, 0, 1]
        units, asymmetry, gaze = (values[state] for values in shown)
        return Faces(draw_identities(2, seed)[[0, 1, 0]], units, asymmetry, gaze, pose[state], draw_scenes(3, seed))

    def __call__(self, number: int) -> Made:
        faces = self.faces(number)
        target, exemplar, other = to_images(render(faces, self.size).image)
        text = captions(faces.take([0]), expression=True)[0]
        return Made(target, exemplar, text, f"world{number:06d}", f"world{number:06d}b", other)


class FromPhotographs:
    """Animated photographs (:mod:`...world.puppets`), likewise."""

    def __init__(self, puppets: str, size: int, seed: int):
        from ...world.puppets.photographs import load
        from ...world.puppets.writing import person_of

        prepared = load(puppets)
        self.puppets, self.names = prepared.puppets, [person_of(name) for name in prepared.names]
        self.size, self.seed = size, seed

    def __call__(self, number: int) -> Made:
        from ...data.triples.groups import photograph_group

        seed = int(np.random.SeedSequence([self.seed, number, 2]).generate_state(1)[0])
        image: Tensor = photograph_group(self.puppets, self.names, self.size, seed, people=2, states=2).image
        (target, other), (exemplar, _) = image.permute(0, 1, 3, 4, 2).numpy()
        return Made(target, exemplar, "a photo of a person", f"photo{number:06d}", f"photo{number:06d}b", other)
