"""Find the directions of z_exp and z_pose that the sliders of --edit go along, and write them beside the checkpoint.

Rendered people are read whose action units, gaze and turn are known and independent of each other.  Ridge regression of
what is read on what is true says what each of them adds to it, on average; a slider is the sum of its parts.  The first
principal directions of z_exp, over expressions as people show them, stand beside: principal_1, principal_2, ...

The numbers of the rigged model's z_exp are action units already, and its motion head was taught on true ones: a slider
is those numbers themselves, and its table holds the principal directions alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..arguments import Parser, number
from ..config.files import load_animation_config
from ..config.rigged import RiggedConfig
from ..config.sid import Config
from ..data.expression_pictures import people_showing
from ..devices import best_device
from ..digest import digest
from ..errors import UserError, run_script
from ..world import Faces, draw_expressions, render
from ..world.control.sliders import SLIDERS
from ..world.control.units import TURN, Units
from ..world.parameters import ACTION_UNITS
from ..world.puppets.states import states_of
from .directions import Directions, place_of, write_directions
from .encoders import Semantics
from .frames import POINT_FRAMES
from .inference import prepare_model
from .rigged.model import load_rigged
from .tuned import tuned

Read = Callable[[Tensor], Semantics]
PEOPLE, PRINCIPAL = 600, 4
SHOWN = 0.25  # chance of each action unit
UNEVEN = 0.5  # chance that one is uneven
TURNS, GAZES = (18.0, 14.0, 12.0), (20.0, 12.0)  # degrees, at most
SEED = 6_000_011  # people of data sets and measurements have others
RIDGE = 1e-3  # of the mean variance of what is true
HELD = 0.25  # share of the people on whom directions are judged
AT_ONCE = 16


class Fitted(NamedTuple):
    """Directions ``[N, K]`` of what is true, and what is read of people without any of it, ``[K]``."""

    directions: Tensor
    rest: Tensor


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--config", default="config/rigged.yaml", help="the model's configuration")
    parser.add_argument("--checkpoint", default="SID_Checkpoints/sid-rigged-256-cpk.pth", help="its weights")
    parser.add_argument("--people", type=number(int, 200, 10**5), default=PEOPLE, help="rendered people to read")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    args = parser.parse_args()
    config = load_animation_config(args.config)
    read, size = reader(config, args.checkpoint, best_device(args.cpu))
    truth, said, numbers = look(read, size, independent(args.people))
    shown = look(read, size, as_shown(args.people // 2))[1][:, : numbers[0]]
    held = round(HELD * len(truth))
    told = judged(fitted(truth[held:], said[held:]), truth[:held], said[:held], numbers[0])
    named = {} if isinstance(config, RiggedConfig) else found(fitted(truth, said), numbers[0])
    sliders = named | principal(shown, sum(numbers))
    table = {name: direction.tolist() for name, direction in sliders.items()}
    path = place_of(args.checkpoint)
    write_directions(Directions(digest(args.checkpoint), numbers, table, told), path)
    for name, value in told.items():
        print(f"{name:12} told with a correlation of {value:.2f}")
    print(f"wrote {path}")


def reader(config: Config | RiggedConfig, checkpoint: str | Path, device: torch.device) -> tuple[Read, int]:
    """What reads semantics off frames ``[B, 3, S, S]`` by the model of a checkpoint, and S.  Raises UserError."""
    if isinstance(config, RiggedConfig):
        rigged = tuned(load_rigged(checkpoint).to(device))
        read, size = (lambda frames: rigged.encoder(frames, rigged.points(frames))), POINT_FRAMES[0]
    else:
        encoders = tuned(prepare_model(config.model_params, checkpoint, device)).encoders
        if encoders is None:
            raise UserError(f"{checkpoint}: has no encoders, whose z_exp is wanted; give a model that has")
        read, size = encoders.semantic, config.dataset_params.frame_shape[0]

    @torch.inference_mode()
    def on_device(frames: Tensor) -> Semantics:
        return read(frames.to(device))

    return on_device, size


def look(read: Read, size: int, faces: Faces) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """What is true of people, ``[N, U]``, what is read of them, ``[N, K]``, and the numbers of z_exp and z_pose."""
    said = []
    for start in tqdm(range(0, faces.size, AT_ONCE), desc="looking at rendered people", unit="batch"):
        semantics = read(render(faces.take(slice(start, start + AT_ONCE)), size).image)
        said.append(semantics.cat().cpu())
    return true_codes(faces), torch.cat(said), (semantics.expression.shape[1], semantics.pose.shape[1])


def independent(count: int) -> Faces:
    """Faces whose action units of both sides, gaze and turn say nothing about each other."""
    draw = np.random.default_rng([SEED, 1])
    units = draw.random((count, len(ACTION_UNITS))) * (draw.random((count, len(ACTION_UNITS))) < SHOWN)
    uneven = draw.uniform(-1, 1, units.shape) * (draw.random(units.shape) < UNEVEN)
    gaze, turn = draw.uniform(-1, 1, (count, 2)) * GAZES, draw.uniform(-1, 1, (count, 3)) * TURNS
    faces = people_showing(*(torch.from_numpy(v.astype(np.float32)) for v in (units, uneven, gaze)), seed=SEED)
    pose = torch.cat([torch.from_numpy(turn.astype(np.float32)), faces.pose[:, 3:]], dim=1)
    return faces._replace(pose=pose)


def as_shown(count: int) -> Faces:
    """Faces with the expressions that the face world draws."""
    return people_showing(*draw_expressions(count, SEED + 1), seed=SEED + 1)


def true_codes(faces: Faces) -> Tensor:
    """Action units, gaze and turn, ``[N, U]``."""
    return states_of(faces).codes[:, : TURN.stop]


def fitted(truth: Tensor, said: Tensor) -> Fitted:
    """Ridge regression of what is read on what is true."""
    x, y = truth.double(), said.double()
    mean, rest = x.mean(dim=0), y.mean(dim=0)
    gram = (x - mean).T @ (x - mean) / len(x)
    small = RIDGE * gram.diagonal() * torch.eye(len(gram), dtype=gram.dtype)  # of each number's own variance
    directions = torch.linalg.solve(gram + small, (x - mean).T @ (y - rest) / len(x))
    return Fitted(directions.float(), (rest - mean @ directions).float())


def found(fit: Fitted, expression: int) -> dict[str, Tensor]:
    """The sliders' directions ``[K]``: of the face without the pose, of turns without the face."""
    sliders = {}
    for name, slider in SLIDERS.items():
        direction = Units().change(slider)[: TURN.stop] @ fit.directions
        direction[slice(expression, None) if not any(slider.turn) else slice(expression)] = 0
        sliders[name] = direction
    return sliders


def judged(fit: Fitted, truth: Tensor, said: Tensor, expression: int) -> dict[str, float]:
    """By slider, the correlation of true amounts with those that are read along its direction, all others known."""
    told = {}
    for name, direction in found(fit, expression).items():
        parts = Units().change(SLIDERS[name])[: TURN.stop]
        amount = truth @ parts / parts.square().sum()
        others = truth - amount[:, None] * parts
        left = said - fit.rest - others @ fit.directions
        told[name] = round(float(torch.corrcoef(torch.stack([amount, left @ direction]))[0, 1]), 3)
    return told


def principal(expressions: Tensor, numbers: int) -> dict[str, Tensor]:
    """The strongest directions of z_exp ``[N, E]``, one standard deviation long, in codes of so many numbers."""
    centred = expressions.double() - expressions.double().mean(dim=0)
    _, strength, directions = torch.linalg.svd(centred, full_matrices=False)
    lengths = strength / len(centred) ** 0.5
    sliders = {}
    for i in range(PRINCIPAL):
        direction = torch.zeros(numbers)
        sign = directions[i][directions[i].abs().argmax()].sign()  # the sign of an SVD is nobody's choice
        direction[: expressions.shape[1]] = (sign * lengths[i] * directions[i]).float()
        sliders[f"principal_{i + 1}"] = direction
    return sliders


if __name__ == "__main__":
    run_script(main)
