"""How true the flow and the landmarks of drawn people are, and how fast they are drawn.

    python -m benchmarks.flow                                            # people of the face world
    python -m benchmarks.flow --puppets my_puppets/puppets.safetensors   # photographs that move

Flow: one state warped by it into another, where it is valid, against that one.  Landmarks: those the bundled networks
see, less the truth, in distances between the eyes, of faces turned by less than 15 degrees; each landmark's mean
difference, which is of definition, is left out and told apart.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from modules.arguments import Parser, number
from modules.data.triples.groups import PEOPLE, STATES, Group, people_group, photograph_group
from modules.errors import UserError, run_script
from modules.faces.analysis import load_analyser
from modules.media.tensors import to_images
from modules.world.draws import draw_identities, draw_scenes
from modules.world.puppets.fit import interocular
from modules.world.puppets.marks import JAW
from modules.world.puppets.photographs import load
from modules.world.puppets.render import render as render_photographs
from modules.world.puppets.states import States, draw_states
from modules.world.puppets.writing import person_of
from modules.world.rendering import render as render_people

YAW = 15.0  # degrees


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--puppets", type=Path, help="of python -m modules.world.puppets; else people of the world")
    parser.add_argument("--groups", type=number(int, 1, 10**6), default=4, help="number of groups")
    parser.add_argument("--sizes", type=number(int, 64, 1024), nargs="+", default=[128, 256], help="pixels of a side")
    args = parser.parse_args()
    prepared = None if args.puppets is None else load(args.puppets)

    def draw(size: int, seed: int) -> Group:
        if prepared is None:
            return people_group(size, seed)
        return photograph_group(prepared.puppets, [person_of(name) for name in prepared.names], size, seed)

    draw(64, 0)  # what is made once
    find = load_analyser(torch.device("cpu"))
    for size in args.sizes:
        start, groups = time.process_time(), []
        for seed in tqdm(range(args.groups), desc=f"{size} pixels", unit="group"):
            groups.append(draw(size, seed))
        pictures = PEOPLE * STATES * args.groups
        print(f"{size} pixels: {pictures / (time.process_time() - start):.1f} pictures a second of one core")
        start, states = time.process_time(), draw_states(STATES * PEOPLE, 0)
        if prepared is None:
            people = draw_identities(states.size, 0), draw_scenes(states.size, 0)
            render_people(states.faces()._replace(identity=people[0], scene=people[1]), size)
        else:
            who = torch.arange(states.size) % prepared.puppets.size
            render_photographs(prepared.puppets, states, size, who=who)
        print(f"without flow, not in groups: {states.size / (time.process_time() - start):.1f}")
        decibels = torch.cat([warped(group) for group in groups])
        told = f"flow: {decibels.median():.1f} dB (median), {decibels.quantile(0.05):.1f} (5 %)"
        print(f"{told}, {(decibels >= 30).float().mean():.0%} at 30 or better, of {len(decibels)}")
    off = torch.cat([landmarks_off(group, find) for group in tqdm(groups, desc="landmarks", unit="group")])
    if not len(off):
        raise UserError("no face is found in what was drawn; draw more groups, or larger ones")
    apart = (off - off.mean(0)).norm(dim=-1)
    told = f"landmarks at {args.sizes[-1]} pixels: {off.norm(dim=-1).mean():.3f}; less their definition"
    print(f"{told} {apart.mean():.3f}, without the jaw's {apart[:, JAW:].mean():.3f}; of {len(off)} faces")


def warped(group: Group) -> Tensor:
    """[P * S] dB, of each picture made of the next state's."""
    image = group.image.float() / 255
    there = image.roll(-1, 1).flatten(0, 1)
    flow, valid = group.flow.flatten(0, 1).float(), group.valid.flatten(0, 1)[:, None]
    small = F.interpolate(image.flatten(0, 1), size=valid.shape[2:], mode="bilinear", align_corners=True)
    made = F.grid_sample(there, flow, padding_mode="border", align_corners=True)
    error = ((made - small).square().mean(1, keepdim=True) * valid).sum((1, 2, 3)) / valid.sum((1, 2, 3)).clamp(min=1)
    return -10 * error.clamp(min=1e-8).log10()


def landmarks_off(group: Group, find) -> Tensor:
    """[N, 68, 2] seen less true landmarks of the faces that are found, in distances between the eyes."""
    size, rows = group.image.shape[-1], []
    yaw = States.of_codes(group.codes).pose[:, 0].expand(len(group.image), -1).flatten()
    for picture, truth, turned in zip(group.image.flatten(0, 1), group.landmarks.flatten(0, 1), yaw, strict=True):
        faces = find.analyse(to_images(picture[None].float() / 255)[0]) if abs(turned) < YAW else []
        if faces:
            seen = (faces[0].landmarks68 - 0.5) / (size - 1) * 2 - 1
            rows.append((seen - truth) / interocular(truth[None]))
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, 68, 2)


if __name__ == "__main__":
    run_script(main)
