"""Pictures of the face world that faces are painted into, and what should come of it: exact truth can be rendered."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import UserError
from ..mef.painter import FacePainter, Place
from ..world import Faces, draw_close_poses, draw_identities, draw_scenes
from .people import MEASURING_SEED
from .portrait_tasks import CLASSES, Asked, units_of

SWAP, REENACT, BOTH = TASKS = ("swap", "reenact", "both")


class Triples(NamedTuple):
    """N triples of people whom no model was trained on.

    Attributes:
        source: photographs of P people, who is wanted; each of them in N / P triples in a row.
        driver: N others, who show the expression that is wanted.
        target: N others, each with an expression of their own: the pictures that the faces are painted into.
        shown, own: the numbers in :data:`.portrait_tasks.CLASSES` of the drivers' and the targets' expressions.
    """

    source: Faces
    driver: Faces
    target: Faces
    shown: Tensor
    own: Tensor

    def asked(self, task: str) -> Asked:
        """What a task wants: the person, and the picture with that person, that expression, or both."""
        truth, source, shown = self.target, self.target, self.own
        if task in (SWAP, BOTH):
            each = self.target.size // self.source.size
            truth = truth._replace(identity=self.source.identity.repeat_interleave(each, dim=0))
            source = self.source
        if task in (REENACT, BOTH):
            driver, shown = self.driver, self.shown
            truth = truth._replace(action_units=driver.action_units, asymmetry=driver.asymmetry, gaze=driver.gaze)
        return Asked(source, self.driver, truth, shown, shown)


def ask(people: int, each: int, seed: int = MEASURING_SEED) -> Triples:
    """``each`` pictures for each of ``people`` people."""
    count = people * each
    sizes = [people, count, count]
    who, poses, scenes = (
        draw(sum(sizes), seed).split(sizes) for draw in (draw_identities, draw_close_poses, draw_scenes)
    )

    def faces(part: int, shown: Tensor) -> Faces:
        units = units_of(shown)
        return Faces(who[part], units, torch.zeros_like(units), torch.zeros(len(units), 2), poses[part], scenes[part])

    numbers = torch.arange(count)
    shown, own = numbers % len(CLASSES), (3 * numbers + 1 + numbers // len(CLASSES)) % len(CLASSES)
    neutral = torch.full((people,), CLASSES.index("neutral"))
    return Triples(faces(0, neutral), faces(1, shown), faces(2, own), shown, own)


@dataclass(frozen=True)
class Way:
    """One way to paint: strengths of the adapters, whether the background is seen, and the identity's further parts."""

    name: str
    identity: float = 1.0
    expression: float = 1.0
    sees: bool = True
    compound: bool = True


def ways(task: str, sees: bool, has_more: bool) -> list[Way]:
    """The ways to paint for a task: SFSR itself first; *both* also without what it is given, one thing at a time.

    Args:
        sees: it has learnt to read a background, and is given it.
        has_more: its identity is a compound.
    """
    found = [Way("SFSR", sees=sees)]
    if task == BOTH:
        found += [Way("no background given", sees=False)] if sees else []
        found += [
            Way("no identity adapter", identity=0, sees=sees),
            Way("no expression adapter", expression=0, sees=sees),
        ]
        found += [Way("z_id alone", sees=sees, compound=False)] if has_more else []
    return found


class Painted(NamedTuple):
    """Pictures ``[N, 3, H, W]``, bytes; the part of each that was to stay ``[N, 1, H, W]``; seconds each took."""

    image: Tensor
    outside: Tensor
    seconds: float


class Targets:
    """Pictures with the places of their faces; one whose face is not found is left as it is.

    Args:
        images: bytes ``[N, 3, H, W]``.
    """

    def __init__(self, painter: FacePainter, images: Tensor):
        self.painter, self.images = painter, images
        self.places = [self._place(picture) for picture in images.permute(0, 2, 3, 1).numpy()]
        self.missed = sum(place is None for place in self.places)

    def _place(self, picture: np.ndarray) -> Place | None:
        try:
            return self.painter.place(picture, "target")
        except UserError:
            return None

    def outside(self) -> Tensor:
        """1 where a picture is to stay as it is, ``[N, 1, H, W]``."""
        height, width = self.images.shape[2:]
        masks = [torch.zeros(1, height, width) if p is None else p.region.mask(height, width) for p in self.places]
        return 1 - torch.stack(masks)

    def paint(self, way: Way, task: str, identity: Tensor, expression: Tensor) -> Painted:
        """A task, with embeddings ``[N, width]`` of identity and expression."""
        pipeline, images = self.painter.pipeline, []
        started = time.perf_counter()
        for i, place in enumerate(tqdm(self.places, desc=f"{task}, {way.name}", unit="picture", leave=False)):
            if place is None:
                images.append(self.images[i].permute(1, 2, 0).numpy())
                continue
            (painted,) = self.painter.paint(
                place,
                self._identity(identity[i : i + 1], way) if task in (SWAP, BOTH) else None,
                expression[i : i + 1] if task in (REENACT, BOTH) else None,
                way.sees,
                (way.identity, way.expression),
            )
            images.append(place.pasted(painted, pipeline.base.device))
        seconds = (time.perf_counter() - started) / len(images)
        return Painted(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), self.outside(), seconds)

    def _identity(self, identity: Tensor, way: Way) -> Tensor:
        own = self.painter.embedder.sid.params.identity_dim
        if way.compound:
            return identity
        return torch.cat([identity[:, :own], torch.zeros_like(identity[:, own:])], dim=1)
