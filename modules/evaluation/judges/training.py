"""Training of measuring networks on the face world's truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ...config.sid import EncoderParams
from ...contrast import identity_contrast
from ...faces.window import within_whole_face
from ...world import CATEGORIES, Faces, category
from ..people import TRAINING_SEED, portraits, render_all
from .face_meter import FaceMeter

INNER_FACE = slice(17, 68)  # landmarks of brows, nose, eyes and mouth, without the jaw
PEOPLE_PER_BATCH, PICTURES_PER_PERSON = 16, 4
TEMPERATURE = 0.1
LED = 0.4  # of the steps, in which encoders look where the face is, and not yet where they find it
SHAKE = 0.03  # deviation of those places from the true ones


def train_meter(
    params: EncoderParams,
    size: int,
    people: int,
    steps: int,
    seed: int = TRAINING_SEED,
    device: torch.device | str = "cpu",
    workers: int = 0,
    of_model: bool = False,
) -> FaceMeter:
    """Train for ``steps`` batches of 16 of ``people`` people, 4 pictures of each; ``workers`` processes render them."""
    faces = portraits(people, PICTURES_PER_PERSON, seed).to(device)
    images, landmarks = render_all(faces, size, "rendering the people to learn from", workers)
    torch.manual_seed(seed)
    meter = FaceMeter(params, size, of_model).to(device)
    return teach(meter, Pictures(faces, images, landmarks), steps)


class Pictures(NamedTuple):
    """What a meter learns from, four pictures of a person in a row.

    Attributes:
        faces: ``[N]``, the truth.
        images: bytes ``[N, 3, H, W]``.
        landmarks: ``[N, 68, 2]``.
    """

    faces: Faces
    images: Tensor
    landmarks: Tensor


def teach(meter: FaceMeter, pictures: Pictures, steps: int) -> FaceMeter:
    """The training itself, on the device of the meter and the pictures."""
    device, people = meter.pose_units.device, pictures.faces.size // PICTURES_PER_PERSON
    optimizer = torch.optim.AdamW(meter.train().parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=steps, pct_start=0.1)
    bar = tqdm(range(steps), unit="step", desc="training the meter")
    for step in bar:
        who = torch.randperm(people)[:PEOPLE_PER_BATCH]
        index = (who[:, None] * PICTURES_PER_PERSON + torch.arange(PICTURES_PER_PERSON)).flatten().to(device)
        person = index // PICTURES_PER_PERSON
        batch = _blemish(pictures.images[index].float() / 255)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):  # most CPUs only emulate it
            terms = meter_losses(
                meter, batch, pictures.faces.take(index), pictures.landmarks[index], person, led=step < LED * steps
            )
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(meter.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix({name: f"{float(value.detach()):.3f}" for name, value in terms.items()}, refresh=False)
    return meter.eval().requires_grad_(False)


def meter_losses(
    meter: FaceMeter, images: Tensor, faces: Faces, landmarks: Tensor, person: Tensor, led: bool
) -> dict[str, Tensor]:
    """Every readout against the truth, each in units in which its spread is about one.

    ``led``: encoders are shown about where the face is, as long as what they find themselves teaches little.
    """
    places = true_places(meter, faces, landmarks)
    read = meter(images, [place + SHAKE * torch.randn_like(place) for place in places] if led else [])
    return _placed(read.places, places) | {
        "identity": F.mse_loss(read.identity, faces.identity) * 3,
        "action_units": F.mse_loss(read.action_units, faces.action_units) * 10,
        "pose": F.mse_loss((read.pose - faces.pose) / meter.pose_units, torch.zeros_like(faces.pose)) * 10,
        "landmarks": (read.landmarks - landmarks).abs().mean() * 10,
        "person": 0.3 * identity_contrast(read.z_id, person, TEMPERATURE),
        "scene": torch.stack([F.cross_entropy(read.scene[name], category(faces, name)) for name in CATEGORIES]).mean(),
    }


def true_places(meter: FaceMeter, faces: Faces, landmarks: Tensor) -> list[Tensor]:
    """Where each encoder that looks for the face is to find it, ``[B, 4]``: as the head leans and is scaled, around
    what is inside.

    With an expression encoder of its own the semantic one looks at the whole face *about* the place that it finds: that
    place is chosen so that this whole face is the true one.
    """
    if meter.params.face_pixels is None:
        return []
    scale, angle, middle = faces.pose[:, 5], faces.pose[:, 2].deg2rad(), landmarks[:, INNER_FACE].mean(dim=1)
    truth = torch.cat([torch.stack([scale.log(), angle], dim=1), middle], dim=1)
    return [truth, within_whole_face(truth) if meter.params.own_expression else truth]


def _placed(found: list[Tensor], true: list[Tensor]) -> dict[str, Tensor]:
    errors = [(place - wanted).abs().mean() for place, wanted in zip(found, true, strict=True)]
    return {"place": torch.stack(errors).sum() * 10} if errors else {}


def _blemish(images: Tensor) -> Tensor:
    """Blur, noise and another exposure at random: generated pictures are not as clean as renders."""

    def each(draw: Callable[..., Tensor]) -> Tensor:
        return draw(len(images), 1, 1, 1, device=images.device)

    blurred = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="bilinear")
    images = torch.lerp(images, blurred, each(torch.rand))
    gain = 1 + 0.1 * each(torch.randn)
    return (images * gain + 0.03 * each(torch.rand) * torch.randn_like(images)).clamp(0, 1)
