"""Five amplitudes of a face, EmojiDiff's LMS (WACV 2026) as we read it: how open the eyes and the mouth are, and where
the pupils stand.  Each is a ratio of lengths in one face, so that neither its size nor its place counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..faces.analysis import load_analyser
from ..faces.landmarks68 import landmarks68

AMPLITUDES = ("left eye", "right eye", "left pupil", "right pupil", "mouth")  # as seen in the picture
EYES = (36, 42)  # of iBUG's 68 landmarks, the first of each eye's six: corner, two of the upper lid, corner, two below
MOUTH = (60, 62, 64, 66)  # corner, upper lip, corner, lower lip, of the inner rim
ALONG, ACROSS = 24, 5  # samples of an eye
RIM = 0.12  # of an eye's width at each corner, where there are lashes and shadows
DARK = 8.0  # how much more the darkest samples count, per unit of grey


def amplitudes(images: Tensor, landmarks: Tensor) -> Tensor:
    """``[N, 5]``, in the order of :data:`AMPLITUDES`.

    - eyes: mean height over width (the eye aspect ratio of Soukupova and Cech, 2016), mouth: height over width of the
      inner rim
    - pupils: where the darkest part of the open eye lies between its corners, 0 at the left one, 1 at the right one

    Args:
        images: bytes ``[N, 3, H, W]``.
        landmarks: iBUG's 68, ``[N, 68, 2]`` in [-1, 1].
    """

    def apart(one: int, other: int) -> Tensor:
        return (landmarks[:, one] - landmarks[:, other]).norm(dim=-1)

    open_eyes = [(apart(e + 1, e + 5) + apart(e + 2, e + 4)) / (2 * apart(e, e + 3)).clamp_min(1e-6) for e in EYES]
    left, above, right, below = MOUTH
    mouth = apart(above, below) / apart(left, right).clamp_min(1e-6)
    pupils = [_pupil(images, landmarks[:, e : e + 6]) for e in EYES]
    return torch.stack([*open_eyes, *pupils, mouth], dim=1)


def read_amplitudes(images: Tensor) -> Tensor:
    """:func:`amplitudes` of bytes ``[N, 3, H, W]`` by the bundled mesh's landmarks; nan where no face is found.

    The measuring network's own landmarks are too coarse for lids.
    """
    analyser = load_analyser(torch.device("cpu"))
    sides = torch.tensor([images.shape[3], images.shape[2]])
    read = torch.full((len(images), len(AMPLITUDES)), torch.nan)
    for i, image in enumerate(images):
        if faces := analyser.analyse(image.permute(1, 2, 0).numpy()):
            points = landmarks68(faces[0].landmarks[None].cpu())[..., :2] * 2 / sides - 1
            read[i] = amplitudes(image[None], points)[0]
    return read


def _pupil(images: Tensor, eye: Tensor) -> Tensor:
    """``[N]``: the centre of darkness along an eye ``[N, 6, 2]``, between the lids."""
    along = torch.linspace(RIM, 1 - RIM, ALONG)[None, :, None, None]
    across = torch.linspace(0.25, 0.75, ACROSS)[None, None, :, None]
    upper, lower = (eye[:, [a, b]].mean(dim=1)[:, None, None] for a, b in ((1, 2), (5, 4)))
    left, right = eye[:, 0][:, None, None], eye[:, 3][:, None, None]
    middle = (upper + lower) / 2
    places = middle + (along - 0.5) * (right - left) + (across - 0.5) * (lower - upper)
    grey = F.grid_sample(images.float().mean(dim=1, keepdim=True) / 255, places, align_corners=False)[:, 0]
    weights = torch.softmax(-DARK * grey.flatten(1), dim=1).unflatten(1, (ALONG, ACROSS)).sum(dim=2)
    return (weights * along[:, :, 0, 0]).sum(dim=1)
