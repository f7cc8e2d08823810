"""How a face moves while its head keeps still: the targets of z_exp, found in clips without any label.

Where the head is at rest, what is left of the optical flow of the face cut out upright is expression.  Its principal
components, measured from the clip's mean face, are numbers for every moment: of the upper half of the face how far the
brows are up, of the lower how far the mouth is open.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
from skimage.registration import optical_flow_ilk
from torch import Tensor
from tqdm import tqdm

from ..data.clips import UnreadableClip
from ..data.frames import FrameDataset
from ..errors import UserError
from ..faces.window import whole_face_oval
from .dense_motion import MOTION_GRID as GRID
from .encoders import Encoders, Seen, Semantics

# A head rests if over the clip the standard deviations, taken together, of the face's place (logarithm of the size,
# radians, halves of the frame) and of the motion that all key points share (halves of the frame) are below this each.
STILL = 0.025
FASTEST = 0.5  # of the face's square, whose half side is 1: more is an error of the flow
FAINTEST = 1e-4  # of the strongest movement's variance: what is weaker is not blown up
RADIUS, WARPS = 1 / 16, 4  # of the flow: half its window as a share of the face's side, and its refinements
# Height in the whole face's square that parts lids and brows from cheeks and mouth, and how softly (of a logistic).
PARTED, SOFTLY = -0.05, 0.06


class FoundFaces(NamedTuple):
    """Whole faces cut out upright of N clips whose heads keep still.

    Attributes:
        faces: uint8 ``[N, T, 3, S, S]``, moments of a clip, all cut out at its mean place.
        poses: ``[2, N, T, P]``, their z_pose, and that of their mirror images.
    """

    faces: Tensor
    poses: Tensor


@torch.no_grad()
def find_faces(encoders: Encoders, data: FrameDataset, moments: int) -> FoundFaces:
    """Look through the clips of ``data`` for heads that rest, at ``moments`` of each, evenly over its time.

    Clips that cannot be read are left out, and added to ``data.bad_clips``.

    Raises:
        UserError: the encoders have not learnt to find faces or to read poses, or no clip has ``moments`` frames of a
            head that rests.
    """
    semantic = encoders.semantic
    for layer, what in ((encoders.motion_head.affine, "read poses"), (semantic.finder.read, "find faces")):
        if not layer.weight.any():  # as at initialisation
            raise UserError(f"the checkpoint's encoders have not learnt to {what}")
    device = next(semantic.parameters()).device
    places, resting = [], []
    clips = [clip for clip in data.clips if len(clip) >= moments and not clip.is_photos]
    for clip in tqdm(clips, desc="finding faces", unit="clip"):
        chosen = np.linspace(0, len(clip) - 1, moments).round().astype(int)
        try:
            images = data.read(clip, chosen.tolist()).to(device)
        except UnreadableClip as error:
            data.bad_clips[str(clip.path)] = str(error)
            continue
        place = semantic.finder(images)
        places.append(place.cpu())
        if _rests(encoders, images, place):
            middle = place.mean(dim=0, keepdim=True).expand_as(place)
            seen = semantic.see(images, middle)
            poses = [semantic.embed_pose(side) for side in (seen, _in_mirror(seen))]
            faces = (seen.whole * 255).round().byte()
            resting.append((faces.cpu(), torch.stack(poses).cpu()))
    if len(places) > 1 and float(torch.cat(places).std(dim=0).norm()) < STILL / 10:
        raise UserError("all faces are found in the same place: the checkpoint's encoders have not learnt to find them")
    if not resting:
        raise UserError(f"none of {len(data.clips)} clips has {moments} frames of a head that keeps still")
    return FoundFaces(torch.stack([faces for faces, _ in resting]), torch.stack([poses for _, poses in resting], dim=1))


def _rests(encoders: Encoders, images: Tensor, place: Tensor) -> bool:
    """Whether the head in ``images [T, 3, H, W]``, moments of a clip, is the same way in the same place in all."""
    if float(place.std(dim=0).norm()) >= STILL:
        return False
    semantic = encoders.semantic
    semantics = semantic.embed(semantic.see(images, place))
    middle = Semantics(*(z.mean(dim=0, keepdim=True) for z in semantics))
    return float(encoders.motion_head.shared_motion(middle, semantics).std(dim=0).norm()) < STILL


def _in_mirror(seen: Seen) -> Seen:
    """The same of mirrored frames: of a face's place angle and x change sign."""
    place = seen.place * seen.place.new_tensor([1, -1, -1, 1])
    return Seen(seen.picture.flip(-1), seen.whole.flip(-1), place)


def face_motions(faces: Tensor) -> Tensor:
    """How uint8 ``faces [N, T, 3, S, S]`` have moved from the mean of their clip, ``[N, T, 2, GRID, GRID]``.

    That is the optical flow from the clip's first moment, by iterative Lucas-Kanade (Le Besnerais and Champagnat,
    2005), minus its mean over the moments: (x, y) in units of half a side of the face's square, at places of the first
    moment, fading to 0 towards the square's edge.
    """
    side = faces.shape[-1]
    motions = torch.zeros(*faces.shape[:2], 2, GRID, GRID)
    for clip, moments in zip(motions, tqdm(faces, desc="following faces", unit="clip"), strict=True):
        grey = (moments.float().mean(dim=1) / 255).numpy()
        for number in range(1, len(grey)):
            rows, columns = optical_flow_ilk(grey[0], grey[number], radius=round(RADIUS * side), num_warp=WARPS)
            flow = torch.from_numpy(np.stack([columns, rows])).float() * (2 / (side - 1))
            clip[number] = F.interpolate(flow[None], size=(GRID, GRID), mode="bilinear", align_corners=True)[0]
    motions.clamp_(-FASTEST, FASTEST).mul_(_fading())
    return motions.sub_(motions.mean(dim=1, keepdim=True))


def _fading() -> Tensor:
    """``[GRID, GRID]``: what is beyond the square does not move, and nothing may tear there."""
    inside = 1 - torch.linspace(-1, 1, GRID).pow(8)
    return whole_face_oval(GRID) * inside * inside[:, None]


def mirrored(motions: Tensor) -> Tensor:
    """What ``motions [..., 2, GRID, GRID]`` look like in a mirror."""
    return motions.flip(-1) * motions.new_tensor([-1, 1])[:, None, None]


def principal_motions(motions: Tensor, count: int, whitening: float) -> Tensor:
    """``[2 * GRID**2, count]``: reads the ``count`` strongest independent movements off a flattened motion.

    Mirror images count as seen.  Each number is divided by its standard deviation to the power of ``whitening``: 0
    leaves the strongest movement strongest, 1 makes all equal.  Together they have variance 1 on average.

    Raises:
        UserError: nothing moves in ``motions [N, T, 2, GRID, GRID]``.
    """
    seen = motions.flatten(0, 1).flatten(1)
    covariance = seen.T @ seen / len(seen)
    mirror = mirrored(torch.eye(covariance.shape[0]).unflatten(1, (2, GRID, GRID))).flatten(1)
    covariance = (covariance + mirror @ covariance @ mirror.T).double() / 2
    size = len(covariance)
    found = scipy.linalg.eigh(covariance.numpy(), subset_by_index=(size - count, size - 1))
    power, components = (torch.from_numpy(part).flip(-1) for part in found)
    if not power[0] > 0:
        raise UserError("nothing moves in the clips whose heads keep still")
    power = power.clamp_min(0)
    scale = power.clamp_min(power[0] * FAINTEST).pow(whitening / 2)
    variance = (power / scale.square()).mean()
    return (components / scale / variance.sqrt()).float()


def halves_motions(motions: Tensor, count: int, whitening: float) -> Tensor:
    """:func:`principal_motions` of the upper face, then as many (or one more) of the lower: ``[2 * GRID**2, count]``.

    Lids and brows move little beside a jaw: together they would be lost among what a mouth does last.
    """
    upper = torch.sigmoid((PARTED - torch.linspace(-1, 1, GRID)) / SOFTLY)[:, None]
    readers = []
    for half, share in ((upper, count // 2), (1 - upper, count - count // 2)):
        reader = principal_motions(motions * half, share, whitening)
        readers.append((reader.unflatten(0, (2, GRID, GRID)) * half[..., None]).flatten(0, 2))
    return torch.cat(readers, dim=1)


def mirror_signs(reader: Tensor) -> Tensor:
    """``[K]``, 1 for each principal motion that is the same on both sides of a face, -1 for the others.

    There is no third kind: a covariance in which mirror images count as seen has no other eigenvectors, but for
    those of equal strength.
    """
    there = reader.T.unflatten(1, (2, GRID, GRID))
    return (there * mirrored(there)).sum(dim=(1, 2, 3)).sign()
