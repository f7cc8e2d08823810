"""Measuring networks: who a face is and what it does, read off a picture; trained on the world's truth alone.

``python -m modules.evaluation.meter --out SID_Checkpoints/face-meter.pth`` trains the one that measures SID and MEF.
With a model's own ``encoder_params`` (``--config``) the same training gives the *supervised ceiling*: what those
encoders could know of a face if they were told.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from modules import checkpoint as files
from modules.arguments import number
from modules.atomic import check_place
from modules.config import EncoderParams, config_to_dict, load_config, section_from_dict
from modules.data.synthetic import ACTION_UNITS, CATEGORIES, IDENTITY, POSE, Faces, category
from modules.errors import UserError, run_script
from modules.evaluation.world import TRAINING_SEED, portraits, render_all
from modules.sid.encoders import IdentityEncoder, ImageEncoder, SemanticEncoder, Semantics
from modules.sid.inference import best_device
from modules.sid.losses import identity_contrast

METER_PARAMS = EncoderParams(
    identity_dim=128,
    expression_dim=96,
    pose_dim=32,
    block_expansion=32,
    max_features=128,
    face_pixels=64,
)
SCENE_PARAMS = EncoderParams(block_expansion=24, max_features=144, num_blocks=4, scale_factor=0.5)
LANDMARK_PARAMS = EncoderParams(block_expansion=16, max_features=128, num_blocks=4, scale_factor=0.5)
INNER_FACE = slice(17, 68)  # landmarks of brows, nose, eyes and mouth, without the jaw
POSE_UNITS = torch.tensor([45.0, 30.0, 30.0, 0.3, 0.3, 0.3])  # what counts as 1 of yaw, pitch, roll, x, y, scale
FRAMES_PER_PERSON = 8
PEOPLE_PER_BATCH = 16
TEMPERATURE = 0.1


class Reading(NamedTuple):
    """What a meter reads off B pictures.

    Attributes:
        identity: parameters ``[B, I]``, in the world's units.
        action_units: ``[B, A]``, 0 to 1.
        pose: ``[B, 6]``: yaw, pitch, roll in degrees, x, y, scale.
        landmarks: ``[B, 68, 2]`` in [-1, 1].
        z_id: ``[B, d]`` of unit length: cosine similarity is the likeness of two people.
        semantics: embeddings of expression and pose.
        scene: for each of the world's categories, the logits ``[B, words]`` of its words.
        places: ``[B, 4]`` for both encoders, where they looked for the face, if they do (:class:`FaceFinder`).
    """

    identity: Tensor
    action_units: Tensor
    pose: Tensor
    landmarks: Tensor
    z_id: Tensor
    semantics: Semantics
    scene: dict[str, Tensor]
    places: list[Tensor]


class FaceMeter(nn.Module):
    """SID's encoders with linear readouts of the truth; looks at ``size`` x ``size`` pixels, whatever it is given.

    Landmarks depend on the person, the expression and the pose alike, so they have a small network of their own: read
    off the embeddings they would pay z_id for the pose and z_sem for the face's shape.  So has the scene.
    """

    def __init__(self, params: EncoderParams, size: int):
        super().__init__()
        self.params, self.size = params, size
        self.identity, self.semantic = IdentityEncoder(params), SemanticEncoder(params)
        self.read_identity = nn.Linear(params.identity_dim, len(IDENTITY))
        self.read_action_units = nn.Linear(params.expression_dim, len(ACTION_UNITS))
        self.read_pose = nn.Linear(params.pose_dim, len(POSE))
        self.landmarks = ImageEncoder(LANDMARK_PARAMS, 68 * 2)
        self.scene = ImageEncoder(SCENE_PARAMS, sum(map(len, CATEGORIES.values())))
        self.register_buffer("pose_units", POSE_UNITS.clone())
        self.register_buffer("pose_mean", torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]))

    def forward(self, image: Tensor) -> Reading:
        """Read ``image [B, 3, H, W]`` in [0, 1]."""
        if image.shape[-1] != self.size:
            image = F.interpolate(image, size=(self.size, self.size), mode="bilinear", antialias=True)
        looks = [encoder.look(image) for encoder in (self.identity, self.semantic)]
        z_id, semantics = self.identity.embed(*looks[0]), self.semantic.embed(*looks[1])
        return Reading(
            self.read_identity(z_id),
            self.read_action_units(semantics.expression),
            self.pose_mean + self.pose_units * self.read_pose(semantics.pose),
            self.landmarks(image).unflatten(1, (68, 2)),
            z_id,
            semantics,
            dict(zip(CATEGORIES, self.scene(image).split([len(w) for w in CATEGORIES.values()], dim=1), strict=True)),
            [place for _, place in looks if place is not None],
        )


def meter_losses(
    meter: FaceMeter, images: Tensor, faces: Faces, landmarks: Tensor, person: Tensor
) -> dict[str, Tensor]:
    """Every readout against the truth, each in units in which its spread is about one."""
    read = meter(images)
    return _placed(read.places, faces, landmarks) | {
        "identity": F.mse_loss(read.identity, faces.identity) * 3,
        "action_units": F.mse_loss(read.action_units, faces.action_units) * 10,
        "pose": F.mse_loss((read.pose - faces.pose) / meter.pose_units, torch.zeros_like(faces.pose)) * 10,
        "landmarks": (read.landmarks - landmarks).abs().mean() * 10,
        "person": 0.3 * identity_contrast(read.z_id, person, TEMPERATURE),
        "scene": torch.stack([F.cross_entropy(read.scene[name], category(faces, name)) for name in CATEGORIES]).mean(),
    }


def _placed(places: list[Tensor], faces: Faces, landmarks: Tensor) -> dict[str, Tensor]:
    """Where encoders that look for the face are to find it: as the head leans and is scaled, around what is inside."""
    if not places:
        return {}
    scale, angle, middle = faces.pose[:, 5], faces.pose[:, 2].deg2rad(), landmarks[:, INNER_FACE].mean(dim=1)
    truth = torch.cat([torch.stack([scale.log(), angle], dim=1), middle], dim=1)
    return {"place": torch.stack([(place - truth).abs().mean() for place in places]).sum() * 10}


def train_meter(
    params: EncoderParams,
    size: int,
    people: int,
    steps: int,
    seed: int = TRAINING_SEED,
    device: torch.device | str = "cpu",
) -> FaceMeter:
    """Train on ``people`` people, rendered once, for ``steps`` batches of 16 people x 4 pictures.

    With ``own_expression`` z_exp and z_pose share their features here all the same: of its own, z_exp is taught by
    :mod:`modules.sid.expressions` alone, and would stay 0.
    """
    params = replace(params, own_expression=False)
    torch.manual_seed(seed)
    device = torch.device(device)
    faces = portraits(people, FRAMES_PER_PERSON, seed).to(device)
    images, landmarks = render_all(faces, size, "rendering the people to learn from")
    meter = FaceMeter(params, size).to(device).train()
    optimizer = torch.optim.AdamW(meter.parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=steps)
    bar = tqdm(range(steps), unit="step", desc="training the meter")
    for _ in bar:
        who = torch.randperm(people)[:PEOPLE_PER_BATCH]
        which = torch.stack([torch.randperm(FRAMES_PER_PERSON)[:4] for _ in who])
        index = (who[:, None] * FRAMES_PER_PERSON + which).flatten().to(device)
        batch, person = _blemish(images[index].float() / 255), who.repeat_interleave(4).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            terms = meter_losses(meter, batch, faces.take(index), landmarks[index], person)
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(meter.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix({name: f"{float(value.detach()):.3f}" for name, value in terms.items()}, refresh=False)
    return meter.eval().requires_grad_(False)


def _blemish(images: Tensor) -> Tensor:
    """Blur, noise and another exposure at random: generated pictures are not as clean as renders."""

    def each(draw: Callable[..., Tensor]) -> Tensor:
        return draw(len(images), 1, 1, 1, device=images.device)

    blurred = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="bilinear")
    images = torch.lerp(images, blurred, each(torch.rand))
    gain = 1 + 0.1 * each(torch.randn)
    return (images * gain + 0.03 * each(torch.rand) * torch.randn_like(images)).clamp(0, 1)


def save_meter(meter: FaceMeter, path: Path) -> None:
    """Half-precision weights with what is needed to build the network again."""
    weights = {name: (t.half() if t.is_floating_point() else t).cpu() for name, t in meter.state_dict().items()}
    files.save({"meter": weights, "encoder_params": config_to_dict(meter.params), "size": meter.size}, path)


def load_meter(path: str | Path) -> FaceMeter:
    """A trained meter.  Raises UserError naming the file if it is missing or holds something else."""
    found = files.load(path)
    if not isinstance(found.get("meter"), dict):
        raise UserError(f"{path}: is no measuring network; train one with python -m modules.evaluation.meter")
    meter = FaceMeter(section_from_dict(EncoderParams, found["encoder_params"], str(path)), int(found["size"]))
    try:
        files.restore(meter, found["meter"], f"{path}: meter")
    except UserError as error:
        raise UserError(f"{error}; train it anew with python -m modules.evaluation.meter") from error
    return meter.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", required=True, help="file of the weights")
    parser.add_argument("--config", help="train this model's encoders: the supervised ceiling")
    sides, many = number(int, 16, 4096), number(int, 16, 10**7)
    parser.add_argument("--size", type=sides, default=128, help="pixels per side the network looks at")
    parser.add_argument("--people", type=many, default=2000, help="people to learn from, 8 pictures each")
    parser.add_argument("--steps", type=many, default=4000, help="batches of 64 pictures")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU, even if there is one")
    args = parser.parse_args()
    params, size = METER_PARAMS, args.size
    if args.config is not None:
        config = load_config(args.config)
        params, size = config.model_params.encoder_params, config.dataset_params.frame_shape[0]
        if params is None:
            raise UserError(f"{args.config}: has no model_params.encoder_params: there is nothing to train")
    check_place(args.out)
    meter = train_meter(params, size, args.people, args.steps, device=best_device(args.cpu))
    save_meter(meter, Path(args.out))


if __name__ == "__main__":
    run_script(main)
