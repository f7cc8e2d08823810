"""Teach the semantic encoder expressions: z_exp becomes how the face has moved from the mean of its clip.

This step comes after the encoders have learnt to find faces and to read poses, and before the generator learns to show
what z_exp says.  It needs only clips: the values that z_exp should have are measured in those whose heads keep still
(:mod:`.sid.face_motion`).

z_exp sees one picture alone.  So it has to ignore who the person is and where the head turns, which are the same in the
whole clip.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..arguments import Parser, number
from ..atomic import check_place
from ..config.files import config_to_dict, load_config
from ..config.schema import option, section
from ..config.sid import Config
from ..config.training import LoopParams
from ..data.augmentation import colour_view, warp
from ..data.frames import FrameDataset
from ..data.sampling import loader_of
from ..errors import UserError, run_script
from ..geometry import full_precision
from ..training.checkpoint import save_checkpoint
from ..training.launch import one_voice
from ..training.layout import ONE_NETWORK
from ..training.log import left_out
from ..training.run import (
    Entries,
    Run,
    Start,
    close,
    continue_from,
    is_complete,
    nothing_left,
    open_folder,
    start_processes,
    starting_point,
)
from ..training.trainer import Objective, Trainer
from . import weights
from .encoders import SemanticEncoder
from .face_motion import FoundFaces, face_motions, find_faces, halves_motions, mirror_signs, mirrored
from .model import SID

MOMENTS_PER_CLIP = 4  # of those found, in a batch
FITTED = 1000  # clips, evenly among those found, that tell how a face moves with z_exp
SHAKE = 0.05  # of the window: a face is not always found at the very same place


@section
class Teaching(LoopParams):
    """How z_exp is taught.  An epoch is all of it."""

    steps: int = option(6000, low=1)
    batch_size: int = option(32, low=1)  # clips a step, MOMENTS_PER_CLIP of each
    whitening: float = 0.75  # see principal_motions
    apart: float = option(30.0, low=0)  # weight of what z_exp shares with z_pose
    lr: float = 2e-3
    num_epochs: int = 1
    cosine: bool = True
    gradient_clip: float | None = 5.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_minutes: float = 10.0


class Moments(Dataset):
    """Some moments of a clip an item, with z_pose and what z_exp is to be; drawn by (seed, epoch, index) alone.

    Args:
        targets: ``[2, N, T, K]``, of the faces and of their mirror images.
    """

    def __init__(self, found: FoundFaces, targets: Tensor, teaching: Teaching):
        self.found, self.targets, self.teaching = found, targets, teaching

    def __len__(self) -> int:
        return self.teaching.steps * self.teaching.batch_size

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """``faces [4, 3, S, S]``, their ``pose [4, P]`` and their ``targets [4, K]``."""
        clips, moments = self.found.faces.shape[:2]
        rng = np.random.default_rng(np.random.SeedSequence([self.teaching.seed, *key]))
        who, mirror = key[1] % clips, int(rng.random() < 0.5)
        when = torch.from_numpy(rng.permutation(moments)[:MOMENTS_PER_CLIP])
        faces = self.found.faces[who, when].float() / 255
        faces = _shaken(faces.flip(-1) if mirror else faces, rng)
        return {"faces": faces, "pose": self.found.poses[mirror, who, when], "targets": self.targets[mirror, who, when]}


class ExpressionStep(nn.Module):
    """The losses: the squared error of z_exp, and its covariance with z_pose."""

    def __init__(self, expression: nn.Module, apart: float):
        super().__init__()
        self.expression, self.apart = expression, apart

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        faces, pose, targets = (batch[name].flatten(0, 1) for name in ("faces", "pose", "targets"))
        seed = int(torch.randint(2**62, ()))  # the step's
        told = self.expression(colour_view(faces, torch.Generator(faces.device).manual_seed(seed)))
        with torch.autocast(faces.device.type, enabled=False):
            told = full_precision(told)
            return {"expression": F.mse_loss(told, targets), "apart": self.apart * _shared(told, pose)}, None


def build(
    encoder: SemanticEncoder, found: FoundFaces, motions: Tensor, teaching: Teaching
) -> tuple[Objective, Moments]:
    """Make ``encoder.expression`` new, to learn from ``motions [N, T, 2, G, G]`` of found faces: z_exp is to be as many
    principal motions of the clip (:func:`.sid.face_motion.halves_motions`).

    Raises:
        UserError: nothing moves.
    """
    reader = halves_motions(motions, encoder.sizes[0], teaching.whitening)
    signs, told = mirror_signs(reader), motions.flatten(2) @ reader
    encoder.eval().requires_grad_(False)
    encoder.in_mirror.copy_(signs)
    torch.manual_seed(teaching.seed)
    learner = encoder.expression.requires_grad_(True)
    learner.apply(lambda layer: layer.reset_parameters() if hasattr(layer, "reset_parameters") else None)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=teaching.lr, weight_decay=1e-2, fused=True)
    objective = Objective(ExpressionStep(learner, teaching.apart), {"optimizer_expression": optimizer})
    return objective, Moments(found, torch.stack([told, signs * told]), teaching)


def teach(
    encoder: SemanticEncoder,
    found: FoundFaces,
    motions: Tensor,
    teaching: Teaching,
    accelerator: Accelerator,
    folder: Path,
    start: Start | None = None,
    entries: Entries | None = None,
) -> Tensor:
    """Train ``encoder.expression`` anew; the encoder is left in evaluation mode.

    Args:
        motions: of the found faces, ``[N, T, 2, G, G]``.
        folder: of the run's log and checkpoints.
        start, entries: what :func:`.training.run.starting_point` has found of an earlier run to go on with.

    Returns:
        the motion that each number of z_exp stands for, ``[K, 2, G, G]``.

    Raises:
        UserError: nothing moves, or losses are not finite any more.
    """
    objective, moments = build(encoder, found, motions, teaching)
    loader = loader_of(moments, teaching)
    trainer = Trainer(encoder.expression, ONE_NETWORK, [objective], loader, teaching, accelerator)
    if start is not None:
        continue_from(trainer, start, entries, complete=False, finetune=False)
    trainer.fit(folder)
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


def _shared(expression: Tensor, pose: Tensor) -> Tensor:
    """Mean squared covariance of ``[B, d]`` with ``[B, e]`` brought to variance 1.

    Not the correlation: of a z_exp that says little yet, that is steep, and drowns what teaches it.
    """
    left, right = expression - expression.mean(dim=0), pose - pose.mean(dim=0)
    right = right / (right.square().mean(dim=0) + 1e-6).sqrt()
    return (left.T @ right / len(left)).square().mean()


def _shaken(faces: Tensor, rng: np.random.Generator) -> Tensor:
    """Each of ``[B, 3, S, S]`` cut out a little beside its place, turned and scaled a little."""
    drawn = SHAKE * torch.from_numpy(rng.standard_normal((4, len(faces)), dtype=np.float32))
    turn, scale = drawn[0], 1 + drawn[1]
    rows = torch.stack([scale, -turn, turn, scale], dim=1).unflatten(1, (2, 2))
    theta = torch.cat([rows, drawn[2:].T[:, :, None]], dim=2)
    return warp(faces, F.affine_grid(theta, list(faces.shape), align_corners=True))


@one_voice()
def teach_expressions(config: Config, checkpoint: str, out: Path, moments: int, teaching: Teaching, run: Run) -> Path:
    """Teach a checkpoint's encoders expressions, on the clips of ``config``; write ``out``, return the run's folder.

    Args:
        moments: looked at in each clip.

    Raises:
        UserError: nothing can be taught to them, or of those clips.
    """
    encoders = config.model_params.encoder_params
    if encoders is None or not encoders.own_expression:
        where = f"{run.config_path}: model_params.encoder_params.own_expression"
        raise UserError(f"{where} is not set: nothing can be taught")
    check_place(out)
    start, entries = starting_point(run)
    complete = is_complete(start, teaching, out)
    if complete and run.resume == "auto":
        return nothing_left(start)
    model = weights.load_model(config.model_params, checkpoint)
    accelerator = start_processes(run, teaching)
    model.to(accelerator.device)
    data = FrameDataset(config.dataset_params, progress=True)
    found = find_faces(model.encoders, data, moments)
    print(f"{len(found.faces)} clips show heads that keep still")
    folder = open_folder(run, start, config, accelerator)
    left_out(folder, (f"{path}: {reason}" for path, reason in data.bad_clips.items()))
    motions = face_motions(found.faces)
    start_anew(model, teach(model.encoders.semantic, found, motions, teaching, accelerator, folder, start, entries))
    save_checkpoint(weights.state(model) | {"model_params": config_to_dict(config.model_params)}, out)
    print(f"wrote {out}")
    close(accelerator)
    return folder


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    add, defaults = parser.add_argument, Teaching()
    add("--config", required=True, help="YAML file with the clips (dataset_params) and the encoders")
    add("--checkpoint", required=True, help="checkpoint whose encoders already find faces and read poses")
    add("--out", type=Path, required=True, help="checkpoint to write; train its generator next")
    add("--moments", type=number(int, MOMENTS_PER_CLIP, 1000), default=12, help="frames looked at in each clip")
    add(
        "--steps",
        type=number(int, 20, 10**7),
        default=defaults.steps,
        help=f"training steps, each of {defaults.batch_size} clips",
    )
    add("--seed", type=number(int, 0, 2**31), default=defaults.seed, help="seed of everything random")
    add("--resume", choices=("auto",), help="continue the newest run of this configuration, if there is one")
    add("--log_dir", default="log", help="folder of the runs; these lie in its folder expressions")
    add("--cpu", action="store_true", help="do not use a GPU, even if there is one")
    args = parser.parse_args()
    teaching = Teaching(steps=args.steps, seed=args.seed, warmup_steps=args.steps // 10)
    run = Run(args.config, log_dir=str(Path(args.log_dir) / "expressions"), resume=args.resume, cpu=args.cpu)
    teach_expressions(load_config(args.config), args.checkpoint, args.out, args.moments, teaching, run)


if __name__ == "__main__":
    run_script(main)
