"""Measuring networks: who a face is and what it does, read off a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...arguments import command_line
from ...bundled import bundled
from ...config.files import config_to_dict, section_from_dict
from ...config.sid import EncoderParams
from ...digest import digest
from ...errors import UserError
from ...training.checkpoint import load_checkpoint, restore, save_checkpoint
from ...world import ACTION_UNITS, CATEGORIES, IDENTITY, POSE
from .ceiling import model_encoders
from .meter_networks import ActingEncoder, PersonEncoder, PictureReader

BUNDLED = "SID_Checkpoints/face-meter.pth"
METER_PARAMS = EncoderParams(
    identity_dim=128,
    expression_dim=96,
    pose_dim=32,
    block_expansion=32,
    max_features=96,
    face_pixels=64,
    own_expression=True,
    mirrored_identity=True,
)
SCENE_FEATURES, LANDMARK_FEATURES = [24, 48, 96, 136], [16, 32, 64, 96]
POSE_UNITS = torch.tensor([45.0, 30.0, 30.0, 0.3, 0.3, 0.3])  # what counts as 1 of yaw, pitch, roll, x, y, scale


class Reading(NamedTuple):
    """What a meter reads off B pictures.

    Attributes:
        identity: parameters ``[B, I]``, in the world's units.
        action_units: ``[B, A]``, 0 to 1.
        pose: ``[B, 6]``: yaw, pitch, roll in degrees, x, y, scale.
        landmarks: ``[B, 68, 2]`` in [-1, 1].
        z_id: ``[B, d]`` of unit length: cosine similarity is the likeness of two people.
        z_exp: ``[B, e]``, the embedding of the expression.
        z_pose: ``[B, p]``, and of the pose.
        scene: for each of the world's categories, the logits ``[B, words]`` of its words.
        places: ``[B, 4]`` for both encoders, where they found the face, if they look for one.
    """

    identity: Tensor
    action_units: Tensor
    pose: Tensor
    landmarks: Tensor
    z_id: Tensor
    z_exp: Tensor
    z_pose: Tensor
    scene: dict[str, Tensor]
    places: list[Tensor]


class FaceMeter(nn.Module):
    """Encoders with linear readouts of the truth; looks at ``size`` x ``size`` pixels, whatever it is given.

    With ``of_model`` the encoders are SID's own: trained on the truth they are the supervised ceiling of a model with
    these ``params``.

    Landmarks depend on the person, the expression and the pose alike, so they have a small network of their own: read
    off the embeddings they would pay z_id for the pose and z_sem for the face's shape.  So has the scene.
    """

    def __init__(self, params: EncoderParams, size: int, of_model: bool = False):
        super().__init__()
        if not (of_model or (params.face_pixels and params.own_expression and params.mirrored_identity)):
            expected = "face_pixels, own_expression and mirrored_identity"
            raise UserError(f"encoder_params: a measuring network needs {expected}")
        self.params, self.size, self.of_model = params, size, of_model
        encoders = model_encoders(params) if of_model else (PersonEncoder(params), ActingEncoder(params))
        self.identity, self.semantic = encoders
        self.read_identity = nn.Linear(params.identity_dim, len(IDENTITY))
        self.read_action_units = nn.Linear(params.expression_dim, len(ACTION_UNITS))
        self.read_pose = nn.Linear(params.pose_dim, len(POSE))
        self.landmarks = PictureReader(LANDMARK_FEATURES, 68 * 2)
        self.scene = PictureReader(SCENE_FEATURES, sum(map(len, CATEGORIES.values())))
        self.register_buffer("pose_units", POSE_UNITS.clone())
        self.register_buffer("pose_mean", torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]))

    def train(self, mode: bool = True) -> FaceMeter:
        super().train(mode)
        if self.params.own_expression:  # SID's semantic encoder keeps it in evaluation mode
            self.semantic.expression.train(mode)
        return self

    def forward(self, image: Tensor, places: Sequence[Tensor] = ()) -> Reading:
        """Read ``image [B, 3, H, W]`` in [0, 1].

        ``places``: where the encoders are to look, identity's ``[B, 4]`` and semantics', instead of where they find
        the face; NaN leaves that to them.
        """
        if image.shape[-1] != self.size:
            image = F.interpolate(image, size=(self.size, self.size), mode="bilinear", antialias=True)
        encoders = self.identity, self.semantic
        seen = [_look(encoder, image, at) for encoder, at in zip(encoders, places or (None, None), strict=True)]
        z_id, (z_exp, z_pose) = (encoder.embed(what) for encoder, what in zip(encoders, seen, strict=True))
        return Reading(
            self.read_identity(z_id * self.params.identity_dim**0.5),  # numbers of about 1, or weights have to grow
            self.read_action_units(z_exp),
            self.pose_mean + self.pose_units * self.read_pose(z_pose),
            self.landmarks(image).unflatten(1, (68, 2)),
            z_id,
            z_exp,
            z_pose,
            dict(zip(CATEGORIES, self.scene(image).split([len(w) for w in CATEGORIES.values()], dim=1), strict=True)),
            [what.place for what in seen if what.place is not None],
        )


def _look(encoder: nn.Module, image: Tensor, at: Tensor | None) -> Any:
    """What an encoder sees of the face where it finds it, or ``at [B, 4]``.

    What it tells goes with the place it finds even so: the other would give roll and scale away.
    """
    if encoder.finder is None:  # a model's, of whole frames
        return encoder.look(image)
    found = encoder.finder(image)
    # what would be easy to read is no place for a face
    at = found.detach() if at is None else torch.where(at.isnan(), found.detach(), at)
    return encoder.see(image, at)._replace(place=found)


def save_meter(meter: FaceMeter, path: Path) -> None:
    """Half-precision weights with what is needed to build the network again."""
    weights = {name: (t.half() if t.is_floating_point() else t).cpu() for name, t in meter.state_dict().items()}
    made = {"encoder_params": config_to_dict(meter.params), "size": meter.size, "of_model": meter.of_model}
    save_checkpoint({"meter": weights} | made, path)


def find_meter(given: str | None) -> Path:
    """The file given, or else the bundled one.  Raises UserError if it is not there."""
    path = bundled(BUNDLED) if given is None else Path(given)
    if not path.is_file():
        raise UserError(f"{path}: no such file; train it: {command_line('evaluation.meter')} --out {path}")
    return path


def fingerprint(path: Path) -> str:
    """16 hexadecimal digits that identify a measuring network's file."""
    return digest(path)[:16]


def load_meter(path: str | Path, of_model: bool = False) -> FaceMeter:
    """A trained meter, or with ``of_model`` a supervised ceiling.

    Raises:
        UserError: naming the file if it is missing, of an earlier version or something else, and what trains it.
    """
    kind = "a model's encoders taught by the truth" if of_model else "a measuring network"
    command = f"train one: {command_line('evaluation.meter')}{' --config <this configuration>' * of_model} --out <file>"
    found = load_checkpoint(path)
    if not isinstance(found.get("meter"), dict) or found.get("of_model", of_model) != of_model:
        raise UserError(f"{path}: is not {kind}; {command}")
    if "of_model" not in found:
        raise UserError(f"{path}: written by an earlier version; {command}")
    params = section_from_dict(EncoderParams, found["encoder_params"], str(path))
    meter = FaceMeter(params, int(found["size"]), of_model)
    try:
        restore(meter, found["meter"], f"{path}: meter")
    except UserError as error:
        raise UserError(f"{error}; {command}") from error
    return meter.eval().requires_grad_(False)
