"""How a face moves while its head keeps still: what z_exp is taught to tell, found in clips without any label.

Where the head is at rest, what is left of the optical flow of the face cut out upright is expression.  Its principal
components, measured from the clip's mean face, say for every moment how far the brows are up and the mouth is open:
numbers that mean the same on everybody.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skimage.registration import optical_flow_ilk
from torch import Tensor
from tqdm import tqdm

from modules.data.clips import UnreadableClip
from modules.data.frames import FrameDataset
from modules.errors import UserError
from modules.sid.encoders import SemanticEncoder, cut_out

STILL = 0.02  # standard deviation over a clip of the found face's angle (radians) and middle, below which a head rests
GRID = 32  # points of a side at which motion is kept
FASTEST = 0.5  # of the face's square, whose half side is 1: more is an error of the flow
FAINTEST = 1e-4  # of the strongest movement's variance
RADIUS, WARPS = 4, 4  # of the flow: window in pixels of a 64-pixel face, and refinements


class Gathered(NamedTuple):
    """Faces cut out upright of N clips whose heads keep still, and of M other frames.

    Attributes:
        faces: uint8 ``[N, T, 3, S, S]``, moments of a clip, all cut out at its mean place.
        places: ``[N, 4]`` (:class:`modules.sid.encoders.FaceFinder`).
        others: uint8 ``[M, 3, S, S]``, of clips whose heads move, and of photographs.
        other_places: ``[M, 4]``.
    """

    faces: Tensor
    places: Tensor
    others: Tensor
    other_places: Tensor


@torch.no_grad()
def gather(encoder: SemanticEncoder, data: FrameDataset, moments: int, device: torch.device) -> Gathered:
    """Look through all clips of ``data`` for faces, ``moments`` of each, evenly over its time.

    Clips that cannot be read are left out, and added to ``data.bad_clips``.

    Raises:
        UserError: no clip has ``moments`` frames of a head that keeps still.
    """
    still, moving = [], []
    for clip in tqdm(data.clips, desc="finding faces", unit="clip"):
        chosen = np.linspace(0, len(clip) - 1, min(moments, len(clip))).round().astype(int)
        try:
            images = data.read(clip, chosen.tolist()).to(device)
        except UnreadableClip as error:
            data.bad_clips[str(clip.path)] = str(error)
            continue
        place = encoder.finder(images)
        resting = not clip.is_photos and len(clip) >= moments and float(place[:, 1:].std(dim=0).norm()) < STILL
        if resting:
            place = place.mean(dim=0, keepdim=True).expand_as(place).contiguous()
        faces = (cut_out(images, place, encoder.side) * 255).round().byte().cpu()
        (still if resting else moving).append((faces, place.cpu()))
    if not still:
        raise UserError(f"none of {len(data.clips)} clips has {moments} frames of a head that keeps still")
    side = encoder.side
    return Gathered(
        torch.stack([faces for faces, _ in still]),
        torch.stack([place[0] for _, place in still]),
        torch.cat([faces for faces, _ in moving] or [torch.zeros(0, 3, side, side, dtype=torch.uint8)]),
        torch.cat([place for _, place in moving] or [torch.zeros(0, 4)]),
    )


def face_motions(faces: Tensor) -> Tensor:
    """Optical flow of uint8 ``faces [N, T, 3, S, S]`` from each clip's mean face, ``[N, T, 2, GRID, GRID]``.

    (x, y) in units of half a side of the face's square, where the face is; fading to 0 towards the corners.  By
    iterative Lucas-Kanade (Le Besnerais and Champagnat, 2005).
    """
    motions = torch.zeros(*faces.shape[:2], 2, GRID, GRID)
    grey = faces.float().mean(dim=2) / 255
    for clip, moments in enumerate(tqdm(grey.numpy(), desc="following faces", unit="clip")):
        for number in range(1, len(moments)):
            rows, columns = optical_flow_ilk(moments[0], moments[number], radius=RADIUS, num_warp=WARPS)
            flow = torch.from_numpy(np.stack([columns, rows])).float() * (2 / (faces.shape[-1] - 1))
            motions[clip, number] = F.adaptive_avg_pool2d(flow, GRID)
    motions = motions.clamp(-FASTEST, FASTEST) * _oval()
    return motions - motions.mean(dim=1, keepdim=True)


def _oval() -> Tensor:
    """``[GRID, GRID]``: 1 inside a face, 0 at the corners of its square."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, GRID)] * 2, indexing="ij")
    return torch.exp(-((x / 0.75) ** 2 + (y / 0.9) ** 2).square() / 2)


def mirrored(motions: Tensor) -> Tensor:
    """What ``motions [..., 2, GRID, GRID]`` look like in a mirror."""
    return motions.flip(-1) * motions.new_tensor([-1, 1])[:, None, None]


def principal_motions(motions: Tensor, count: int, whitening: float) -> Tensor:
    """``[2 * GRID**2, count]``: reads the ``count`` strongest independent movements off a flattened motion.

    Mirror images count as seen.  Each number is divided by its standard deviation to the power of ``whitening``: 0
    leaves the strongest movement strongest, 1 makes all equal.  Together they have variance 1 on average.
    """
    seen = torch.cat([motions, mirrored(motions)]).flatten(0, 1).flatten(1)
    covariance = (seen.T @ seen / len(seen)).double()
    power, components = (part.flip(-1)[..., :count] for part in torch.linalg.eigh(covariance))
    scale = power.clamp_min(power[0] * FAINTEST).pow(whitening / 2)  # what hardly moves is not blown up
    variance = (power / scale.square()).mean()
    return (components / scale / variance.sqrt()).float()
