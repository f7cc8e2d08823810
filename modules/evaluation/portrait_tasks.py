"""Portraits that MEF is asked for on the face world, and draws."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..config.mef import PortraitEvaluateParams
from ..mef.pipeline import DeepExprPipeline
from ..world import (
    EXPRESSIONS,
    Faces,
    captions,
    draw_close_poses,
    draw_expressions,
    draw_identities,
    draw_poses,
    draw_scenes,
    expression,
)
from .people import MEASURING_SEED

BATCH = 8  # portraits drawn together
CLASSES = tuple(EXPRESSIONS)
Named = Literal["shown", "other"]


class Asked(NamedTuple):
    """N portraits, a person's in a row.

    Attributes:
        source: photographs of P people, who is wanted; each with expression, pose and scene of its own.
        driver: N photographs of other people, each of another one: the expression and pose wanted.
        truth: N faces: the person with that expression and pose in the scene that the prompt describes.
        shown: the number in :data:`CLASSES` of each driver's expression.
        other: the number of another expression, for prompts that contradict the driver.
    """

    source: Faces
    driver: Faces
    truth: Faces
    shown: Tensor
    other: Tensor

    @property
    def person(self) -> Tensor:
        """The row in ``source`` of each portrait."""
        return torch.arange(self.truth.size) // (self.truth.size // self.source.size)

    def prompts(self, named: Named | None = None) -> list[str]:
        """The scene in words, without expression, or with the driver's (``shown``) or another one (``other``)."""
        if named is None:
            return captions(self.truth)
        classes = self.shown if named == "shown" else self.other
        return captions(self.truth._replace(action_units=units_of(classes)), expression=True)


def units_of(classes: Tensor) -> Tensor:
    """Action units ``[N, A]`` of numbers in :data:`CLASSES`, at full strength."""
    return torch.stack([expression(CLASSES[number]) for number in classes.tolist()])


def ask(people: int, expressions: int, seed: int = MEASURING_SEED, close: bool = False) -> Asked:
    """``expressions`` portraits each of ``people`` people whom no model was trained on, ``close`` ones or not."""
    count = people * expressions
    who, poses = (
        draw_identities(people + count, seed),
        (draw_close_poses if close else draw_poses)(people + count, seed),
    )
    units, asymmetry, gaze = draw_expressions(people, seed)
    scenes = draw_scenes(people + 2 * count, seed).split([people, count, count])
    source = Faces(who[:people], units, asymmetry, gaze, poses[:people], scenes[0])
    shown = torch.arange(count) % len(CLASSES)
    still = torch.zeros(count, asymmetry.shape[1]), torch.zeros(count, 2)
    driver = Faces(who[people:], units_of(shown), *still, poses[people:], scenes[1])
    truth = driver._replace(identity=who[:people].repeat_interleave(expressions, dim=0), scene=scenes[2])
    return Asked(source, driver, truth, shown, (shown + 3) % len(CLASSES))


class Drawn(NamedTuple):
    """Portraits, bytes ``[N, 3, H, W]`` as files would hold them, and the seconds each took, if MEF drew them."""

    image: Tensor
    seconds: float | None = None


@dataclass(frozen=True)
class Way:
    """One way to draw: strengths of the adapters, and which expression the prompt names, the driver's or another."""

    name: str
    identity: float = 1.0
    expression: float = 1.0
    named: Named | None = None


WAYS = (
    Way("both adapters"),
    Way("prompt names another expression", named="other"),
    Way("no identity adapter", identity=0),
    Way("no expression adapter", expression=0),
    Way("base alone", identity=0, expression=0),
    Way("base alone, prompt names the expression", identity=0, expression=0, named="shown"),
)


def draw(
    pipeline: DeepExprPipeline,
    way: Way,
    asked: Asked,
    embeddings: tuple[Tensor, Tensor],
    size: int,
    params: PortraitEvaluateParams,
) -> Drawn:
    """All portraits, the n-th from the noise of seed n; ``embeddings`` of identity and expression are ``[N, d]``."""
    prompts, images = asked.prompts(way.named), []
    started = time.perf_counter()
    for start in tqdm(range(0, len(prompts), BATCH), desc=way.name, unit="batch", leave=False):
        rows = slice(start, start + BATCH)
        numbers = range(start, min(start + BATCH, len(prompts)))
        made = pipeline(
            prompts[rows],
            identity_embedding=embeddings[0][rows],
            expression_embedding=embeddings[1][rows],
            identity_scale=way.identity,
            expression_scale=way.expression,
            guidance_scale=params.guidance_scale,
            num_inference_steps=params.steps,
            generator=[torch.Generator().manual_seed(params.seed + number) for number in numbers],
            height=size,
            width=size,
            output_type="pt",
        )
        images.append(_bytes(made.images))
    return Drawn(torch.cat(images), (time.perf_counter() - started) / len(prompts))


def _bytes(images: Tensor) -> Tensor:
    """uint8 of pictures in [0, 1]."""
    return (images.float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)


@torch.no_grad()
def through_vae(pipeline: DeepExprPipeline, images: Tensor) -> Drawn:
    """What the base's autoencoder makes of pictures, bytes: the best that its portraits could be."""
    vae, parts = pipeline.base.vae, []
    for part in images.split(BATCH):
        latents = vae.encode(part.to(vae.device, vae.dtype) / 127.5 - 1).latent_dist.mode()
        parts.append(_bytes(vae.decode(latents).sample / 2 + 0.5))
    return Drawn(torch.cat(parts))


def embed(pipeline: DeepExprPipeline, asked: Asked, source: Tensor, driver: Tensor) -> tuple[Tensor, Tensor]:
    """Identity embeddings of the sources, one per portrait, and expression embeddings of the drivers, all bytes."""
    identity = torch.cat([pipeline.embedder(_pictures(part))[0].cpu() for part in source.split(BATCH)])
    expressions = torch.cat([pipeline.embedder(_pictures(part))[1].cpu() for part in driver.split(BATCH)])
    return identity[asked.person], expressions


def _pictures(images: Tensor) -> list[np.ndarray]:
    return list(images.permute(0, 2, 3, 1).numpy())
