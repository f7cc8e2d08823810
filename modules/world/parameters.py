"""What a face of the synthetic world is made of: names and ranges of its parameters, and the batch that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Shape and appearance of a person, each in [-1, 1]; zero is the mean face.
IDENTITY = (
    "head_width",
    "head_length",
    "forehead",
    "jaw_width",
    "chin_length",
    "chin_width",
    "chin_depth",
    "cheek_fullness",
    "cheekbones",
    "brow_ridge",
    "nose_length",
    "nose_width",
    "nose_bridge",
    "nose_depth",
    "nose_tip",
    "eye_size",
    "eye_spacing",
    "eye_slant",
    "brow_height",
    "brow_thickness",
    "mouth_width",
    "mouth_height",
    "upper_lip",
    "lower_lip",
    "ear_size",
    "neck_width",
    "lid_fold",
    "skin_tone",
    "skin_hue",
    "lip_colour",
    "iris_colour",
    "freckles",
    "age",
)

# Facial Action Coding System units, each in [0, 1].
ACTION_UNITS = (
    "AU1",
    "AU2",
    "AU4",
    "AU5",
    "AU6",
    "AU7",
    "AU9",
    "AU10",
    "AU12",
    "AU14",
    "AU15",
    "AU17",
    "AU20",
    "AU23",
    "AU25",
    "AU26",
    "AU43",
)

# Degrees (positive yaw turns the face to the right of the image, positive pitch lifts the chin, positive roll leans
# the crown to the right of the image), shifts in half frames (positive to the right and down), and a factor.
POSE = ("yaw", "pitch", "roll", "x", "y", "scale")

BACKGROUNDS = (
    "a grey studio wall",
    "a blue gradient",
    "a brick wall",
    "a bookshelf",
    "a park",
    "a beach",
    "city lights at night",
    "a kitchen",
    "a curtain",
    "a wooden wall",
    "a sunset sky",
    "a snowy field",
    "an office window",
    "a green wall",
)
LIGHT_SIDES = ("the front", "the left", "the right", "above")
LIGHT_COLORS = ("neutral", "warm", "cool", "golden", "pink")
HAIR_STYLES = (
    "bald",
    "buzz-cut",
    "short",
    "side-parted",
    "swept-back",
    "bob-cut",
    "long straight",
    "long wavy",
    "long curly",
    "curly",
    "afro",
    "bun",
)
HAIR_COLORS = ("black", "dark brown", "brown", "blond", "red", "grey", "white")
BEARDS = ("none", "stubble", "a moustache", "a goatee", "a short beard", "a full beard")
MAKEUPS = ("none", "red lipstick", "dark lipstick", "blue eye shadow", "smoky eye make-up")
CLOTHES = ("t-shirt", "hoodie", "shirt", "suit", "turtleneck", "striped sweater", "tank top")
CLOTHING_COLORS = ("white", "black", "grey", "red", "blue", "green", "yellow", "purple", "orange")
GLASSES = ("none", "round glasses", "rectangular glasses", "sunglasses")
HATS = ("none", "a beanie", "a cap", "a wide-brimmed hat")
HAT_COLORS = ("black", "grey", "red", "blue", "green", "brown")

# Columns of a scene: first the categories, as indices, then values in [-1, 1] that vary within them.
CATEGORIES = {
    "background": BACKGROUNDS,
    "light_side": LIGHT_SIDES,
    "light_color": LIGHT_COLORS,
    "hair_style": HAIR_STYLES,
    "hair_color": HAIR_COLORS,
    "beard": BEARDS,
    "makeup": MAKEUPS,
    "clothing": CLOTHES,
    "clothing_color": CLOTHING_COLORS,
    "glasses": GLASSES,
    "hat": HATS,
    "hat_color": HAT_COLORS,
}
VARIATIONS = (
    "background_hue",
    "background_tone",
    "background_x",
    "background_y",
    "light_azimuth",
    "light_elevation",
    "light_contrast",
    "hair_volume",
    "hair_length",
    "hair_shade",
    "hair_seed",
    "clothing_shade",
)
SCENE = (*CATEGORIES, *VARIATIONS)


class Faces(NamedTuple):
    """A batch of faces; float32 throughout.

    Attributes:
        identity: [B, I] in [-1, 1], columns as in :data:`IDENTITY`.
        action_units: [B, A] in [0, 1], columns as in :data:`ACTION_UNITS`.
        asymmetry: [B, A] in [-1, 1]: above zero the person's left side keeps the action unit in full and the right
            side loses that share of it, below zero the other way round.
        gaze: [B, 2] yaw and pitch of the eyes relative to the head, in degrees, signs as of the pose.
        pose: [B, 6], columns as in :data:`POSE`.
        scene: [B, S], columns as in :data:`SCENE`: indices of categories, then variations in [-1, 1].
    """

    identity: Tensor
    action_units: Tensor
    asymmetry: Tensor
    gaze: Tensor
    pose: Tensor
    scene: Tensor

    @property
    def size(self) -> int:
        """Number of faces."""
        return self.identity.shape[0]

    def to(self, device: torch.device | str) -> Faces:
        """The same faces on another device."""
        return Faces(*(value.to(device) for value in self))

    def take(self, index: Tensor | Sequence[int] | slice) -> Faces:
        """The faces at ``index``: a slice, a list of numbers, or a tensor of them or of truth values."""
        if isinstance(index, (list, tuple, range)):
            index = torch.as_tensor(list(index), dtype=torch.long)
        return Faces(*(value[index] for value in self))

    @staticmethod
    def cat(parts: Sequence[Faces]) -> Faces:
        """One batch out of several."""
        return Faces(*(torch.cat(values) for values in zip(*parts, strict=True)))


def neutral(count: int = 1) -> Faces:
    """``count`` mean faces without expression, looking at the camera, in the first scene of every list."""
    pose = torch.zeros(count, len(POSE))
    pose[:, -1] = 1
    return Faces(
        torch.zeros(count, len(IDENTITY)),
        torch.zeros(count, len(ACTION_UNITS)),
        torch.zeros(count, len(ACTION_UNITS)),
        torch.zeros(count, 2),
        pose,
        torch.zeros(count, len(SCENE)),
    )


def identity_column(faces: Faces, name: str) -> Tensor:
    """[B] of one identity parameter."""
    return faces.identity[:, IDENTITY.index(name)]


def variation(faces: Faces, name: str) -> Tensor:
    """[B] of one continuous scene value."""
    return faces.scene[:, SCENE.index(name)]


def category(faces: Faces, name: str) -> Tensor:
    """int64 [B] of one scene category."""
    return faces.scene[:, SCENE.index(name)].round().long()


def set_category(scene: Tensor, name: str, value: str) -> Tensor:
    """A copy of ``scene [..., S]`` with one category changed to the one called ``value``."""
    scene = scene.clone()
    scene[..., SCENE.index(name)] = CATEGORIES[name].index(value)
    return scene


def sided(faces: Faces) -> tuple[Tensor, Tensor]:
    """Action units of the person's left and right side, each [B, A] in [0, 1]."""
    left = faces.action_units * (1 + faces.asymmetry.clamp(max=0))
    right = faces.action_units * (1 - faces.asymmetry.clamp(min=0))
    return left, right
