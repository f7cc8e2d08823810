"""Teach the semantic encoder expressions: z_exp becomes how the face has moved from the mean of its clip.

This step comes after the encoders have learnt to find faces and to read poses, and before the generator learns to show
what z_exp says.  It needs only clips: the values that z_exp should have are measured in those whose heads keep still
(:mod:`.sid.face_motion`).

z_exp sees one picture alone.  So it has to ignore who the person is and where the head turns, which are the same in the
whole clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..arguments import Parser, number
from ..atomic import check_place
from ..config.files import config_to_dict, load_config
from ..data.augmentation import colour_view, warp
from ..data.frames import FrameDataset
from ..devices import best_device
from ..errors import UserError, run_script
from ..training.checkpoint import save_checkpoint
from . import weights
from .encoders import SemanticEncoder
from .face_motion import FoundFaces, face_motions, find_faces, halves_motions, mirror_signs, mirrored
from .model import SID

MOMENTS_PER_CLIP = 4  # of those found, in a batch
FITTED = 1000  # clips, evenly among those found, that tell how a face moves with z_exp
SHAKE = 0.05  # of the window: a face is not always found at the very same place


@dataclass(frozen=True)
class Teaching:
    """How long, and of what."""

    steps: int = 6000
    clips: int = 32  # in a batch, MOMENTS_PER_CLIP of each
    whitening: float = 0.75  # see principal_motions
    apart: float = 30.0  # weight of what z_exp shares with z_pose
    lr: float = 2e-3
    seed: int = 0


def teach(encoder: SemanticEncoder, found: FoundFaces, motions: Tensor, teaching: Teaching) -> Tensor:
    """Train ``encoder.expression`` anew, on its device and in bfloat16, on ``motions [N, T, 2, G, G]`` of found faces.

    Losses: the mean squared error of z_exp against as many principal motions of the clip
    (:func:`.sid.face_motion.halves_motions`), and its covariance with z_pose.  The encoder is left in
    evaluation mode.

    Returns:
        the motion that each number of z_exp stands for, ``[K, 2, G, G]``.

    Raises:
        UserError: nothing moves, or the weights are not finite any more.
    """
    device = next(encoder.parameters()).device
    torch.manual_seed(teaching.seed)
    generator = torch.Generator(device).manual_seed(teaching.seed)
    reader = halves_motions(motions, encoder.sizes[0], teaching.whitening)
    signs, told = mirror_signs(reader), motions.flatten(2) @ reader
    targets = torch.stack([told, signs * told])  # [2, N, T, K], also of the mirror images
    encoder.eval().requires_grad_(False)
    learner = encoder.expression.train().requires_grad_(True)
    learner.apply(lambda layer: layer.reset_parameters() if hasattr(layer, "reset_parameters") else None)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=teaching.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, teaching.lr, teaching.steps, pct_start=0.1)
    bar = tqdm(range(teaching.steps), desc="teaching expressions", unit="step")
    for _ in bar:
        faces, pose, wanted = (t.to(device) for t in _batch(found, targets, teaching.clips))
        with torch.autocast(device.type, torch.bfloat16):
            expression = learner(colour_view(faces, generator))
        terms = {
            "expression": F.mse_loss(expression, wanted),
            "apart": teaching.apart * _shared(expression, pose),
        }
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix({name: f"{float(value.detach()):.3f}" for name, value in terms.items()}, refresh=False)
    if not all(t.isfinite().all() for t in learner.state_dict().values()):
        raise UserError("the encoder's weights are no longer finite, and nothing is written; try another --seed")
    encoder.in_mirror.copy_(signs)
    encoder.eval().requires_grad_(False)
    return _motions_told(encoder, found, motions)


@torch.no_grad()
def _motions_told(encoder: SemanticEncoder, found: FoundFaces, motions: Tensor) -> Tensor:
    """How a face moves with each number of z_exp, by least squares over moments of up to ``FITTED`` clips.

    It is not the principal motion that the number was taught from: z_exp, told of one picture, says less than there is
    of each, and of several together.
    """
    device = encoder.in_mirror.device
    chosen = torch.linspace(0, len(motions) - 1, min(FITTED, len(motions))).round().long()
    told = [encoder.read_expression(faces.to(device).float() / 255).cpu() for faces in found.faces[chosen]]
    told = torch.stack([z - z.mean(dim=0) for z in told]).flatten(0, 1)
    both = torch.stack([told, told * encoder.in_mirror.cpu()])  # mirror images count as seen
    seen = torch.stack([m.flatten(0, 1).flatten(1) for m in (motions[chosen], mirrored(motions[chosen]))])
    return torch.linalg.lstsq(both.flatten(0, 1), seen.flatten(0, 1)).solution.unflatten(1, motions.shape[2:])


@torch.no_grad()
def start_anew(model: SID, motions: Tensor) -> None:
    """Show z_exp by the ``motions`` its numbers stand for, and by nothing else that was learnt of its numbers.

    They mean something else now; what was learnt of the motions themselves, such as what they uncover, stays.
    """
    expression, pose = model.encoders.semantic.sizes
    semantics = expression + pose
    model.encoders.motion_head.layers[0].weight[:, -semantics:-pose] = 0
    for film in model.generator.film:
        film.affine.weight[:, -semantics:-pose] = 0
    dense = model.generator.dense_motion_network
    for layer in (dense.semantic_flow.scale, dense.semantic_flow.shift):
        layer.weight[:, :expression] = 0
    dense.face_flow.motions.copy_(motions)
    dense.face_flow.more.weight.zero_()


def _batch(found: FoundFaces, targets: Tensor, clips: int) -> tuple[Tensor, Tensor, Tensor]:
    """Faces ``[clips * 4, 3, S, S]``, their z_pose ``[clips * 4, P]`` and their targets ``[clips * 4, K]``."""
    count, moments = found.faces.shape[:2]
    who = torch.randint(count, (clips, 1))
    when = torch.rand(clips, moments).argsort(dim=1)[:, :MOMENTS_PER_CLIP]
    mirror = torch.rand(clips, 1) < 0.5
    faces = found.faces[who, when].float() / 255
    faces = torch.where(mirror[..., None, None, None], faces.flip(-1), faces).flatten(0, 1)
    told = (each[mirror.long(), who, when].flatten(0, 1) for each in (found.poses, targets))
    return _shaken(faces), *told


def _shared(expression: Tensor, pose: Tensor) -> Tensor:
    """Mean squared covariance of ``[B, d]`` with ``[B, e]`` brought to variance 1.

    Not the correlation: of a z_exp that says little yet, that is steep, and drowns what teaches it.
    """
    left, right = expression - expression.mean(dim=0), pose - pose.mean(dim=0)
    right = right / (right.square().mean(dim=0) + 1e-6).sqrt()
    return (left.T @ right / len(left)).square().mean()


def _shaken(faces: Tensor) -> Tensor:
    """Each of ``[B, 3, S, S]`` cut out a little beside its place, turned and scaled a little."""
    turn, scale = SHAKE * torch.randn(len(faces)), 1 + SHAKE * torch.randn(len(faces))
    rows = torch.stack([scale, -turn, turn, scale], dim=1).unflatten(1, (2, 2))
    theta = torch.cat([rows, SHAKE * torch.randn(len(faces), 2, 1)], dim=2)
    return warp(faces, F.affine_grid(theta, list(faces.shape), align_corners=True))


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    add, defaults = parser.add_argument, Teaching()
    add("--config", required=True, help="YAML file with the clips (dataset_params) and the encoders")
    add("--checkpoint", required=True, help="checkpoint whose encoders already find faces and read poses")
    add("--out", required=True, help="checkpoint to write; train its generator next")
    add("--moments", type=number(int, MOMENTS_PER_CLIP, 1000), default=12, help="frames looked at in each clip")
    add(
        "--steps",
        type=number(int, 20, 10**7),
        default=defaults.steps,
        help=f"training steps, each of {defaults.clips} clips",
    )
    add("--seed", type=number(int, 0, 2**31), default=defaults.seed, help="seed of everything random")
    add("--cpu", action="store_true", help="do not use a GPU, even if there is one")
    args = parser.parse_args()
    config = load_config(args.config)
    encoders = config.model_params.encoder_params
    if encoders is None or not encoders.own_expression:
        raise UserError(f"{args.config}: model_params.encoder_params.own_expression is not set: nothing can be taught")
    check_place(args.out)
    model = weights.load_model(config.model_params, args.checkpoint).to(best_device(args.cpu))
    data = FrameDataset(config.dataset_params, progress=True)
    found = find_faces(model.encoders, data, args.moments)
    print(f"{len(found.faces)} clips show heads that keep still")
    for path, reason in data.bad_clips.items():
        print(f"left out: {path}: {reason}")
    teaching = Teaching(steps=args.steps, seed=args.seed)
    motions = teach(model.encoders.semantic, found, face_motions(found.faces), teaching)
    start_anew(model, motions)
    save_checkpoint(weights.state(model) | {"model_params": config_to_dict(config.model_params)}, Path(args.out))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    run_script(main)
