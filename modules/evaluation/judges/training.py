"""Training of measuring networks on the face world's truth."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...config.schema import option, section
from ...config.sid import EncoderParams
from ...config.training import LoopParams
from ...contrast import identity_contrast
from ...data.augmentation import noisy, softened
from ...data.sampling import loader_of
from ...faces.window import within_whole_face
from ...training.launch import one_voice
from ...training.layout import ONE_NETWORK
from ...training.run import Run, close, continue_from, open_folder, start_processes, starting_point
from ...training.trainer import Objective, Trainer
from ...world import CATEGORIES, Faces, category
from ..people import TRAINING_SEED, portraits, render_all
from .face_meter import FaceMeter

INNER_FACE = slice(17, 68)  # landmarks of brows, nose, eyes and mouth, without the jaw
PICTURES_PER_PERSON = 4
TEMPERATURE = 0.1
EPOCHS = 10
LED = 4  # epochs in which encoders look where the face is, and not yet where they find it
SHAKE = 0.03  # deviation of those places from the true ones


@section
class MeterParams(LoopParams):
    """How a meter is taught."""

    steps: int = option(6500, low=1)
    batch_size: int = option(16, low=2)  # people a step, PICTURES_PER_PERSON of each
    num_epochs: int = EPOCHS
    cosine: bool = True
    gradient_clip: float | None = 5.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_freq: int = EPOCHS
    checkpoint_minutes: float = 10.0
    lr: float = 1e-3


class Pictures(Dataset):
    """What a meter learns from; an item is one person's pictures, with their truth.

    Args:
        faces: ``[N]``, a person's in a row: the truth.
        images: bytes ``[N, 3, H, W]``.
        landmarks: ``[N, 68, 2]``.
    """

    def __init__(self, faces: Faces, images: Tensor, landmarks: Tensor, params: MeterParams):
        self.faces, self.images, self.landmarks, self.params = faces, images, landmarks, params

    def __len__(self) -> int:
        """Items an epoch: everybody as often as it takes."""
        return max(1, self.params.steps // self.params.num_epochs) * self.params.batch_size

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key
        person = index % (len(self.images) // PICTURES_PER_PERSON)
        rows = slice(person * PICTURES_PER_PERSON, (person + 1) * PICTURES_PER_PERSON)
        own = {"images": self.images[rows], "landmarks": self.landmarks[rows]} | self.faces.take(rows)._asdict()
        is_led, own["person"] = epoch < LED, torch.full((PICTURES_PER_PERSON,), person)
        return own | {"led": torch.full((PICTURES_PER_PERSON,), is_led)}


class MeterStep(nn.Module):
    """A meter's losses on pictures of some people."""

    def __init__(self, meter: FaceMeter):
        super().__init__()
        self.meter = meter

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        flat = {name: values.flatten(0, 1) for name, values in batch.items()}
        faces = Faces(**{name: flat[name] for name in Faces._fields})
        images = _blemish(flat["images"].float() / 255)
        return meter_losses(self.meter, images, faces, flat["landmarks"], flat["person"], flat["led"]), None


@one_voice()
def train_meter(
    params: EncoderParams,
    size: int,
    people: int,
    training: MeterParams,
    run: Run,
    workers: int = 0,
    of_model: bool = False,
) -> FaceMeter:
    """Train a meter on ``people`` people, 4 pictures of each, which ``workers`` processes render; it is on the CPU.

    Raises:
        UserError: the pictures do not fit in memory, or losses are not finite any more.
    """
    start, entries = starting_point(run)
    accelerator = start_processes(run, training)
    faces = portraits(people, PICTURES_PER_PERSON, TRAINING_SEED)
    rendered = faces.to(accelerator.device)
    images, landmarks = render_all(rendered, size, "rendering the people to learn from", workers)
    torch.manual_seed(training.seed)
    meter = FaceMeter(params, size, of_model)
    optimizer = torch.optim.AdamW(meter.parameters(), lr=training.lr, weight_decay=1e-3, fused=True)
    objective = Objective(MeterStep(meter), {"optimizer_meter": optimizer})
    loader = loader_of(Pictures(faces, images.cpu(), landmarks.cpu(), training), training)
    trainer = Trainer(meter, ONE_NETWORK, [objective], loader, training, accelerator)
    continue_from(trainer, start, entries, complete=False, finetune=False)
    trainer.fit(open_folder(run, start, training, accelerator))
    close(accelerator)
    return meter.cpu().eval().requires_grad_(False)


def meter_losses(
    meter: FaceMeter, images: Tensor, faces: Faces, landmarks: Tensor, person: Tensor, led: Tensor
) -> dict[str, Tensor]:
    """Every readout against the truth, each in units in which its spread is about one.

    ``led [B]``: encoders are shown about where the face is, as long as what they find themselves teaches little.
    """
    places = true_places(meter, faces, landmarks)
    shown = [torch.where(led[:, None], place + SHAKE * torch.randn_like(place), torch.nan) for place in places]
    read = meter(images, shown)
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

    images = softened(images)
    return noisy(images * (1 + 0.1 * torch.randn(len(images), 1, 1, 1, device=images.device)))
