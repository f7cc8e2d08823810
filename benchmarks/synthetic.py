"""The face world: frames a second at 128 pixels, and how often a face detector trained on photographs finds the face.

python -m benchmarks.synthetic [--faces 300] [--threads 1] [--device cpu]
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from modules.arguments import Parser
from modules.data.synthetic.sheet import random_faces
from modules.errors import run_script
from modules.faces.retinaface import RetinaFace
from modules.world import Faces, Render, render
from modules.world.camera import pixels
from modules.world.parameters import set_category

TURN = 10.0  # degrees: near frontal
OFF_CENTRE = 0.35  # box widths that the box's centre may be from the landmarks' mean


def near_frontal(n: int, seed: int) -> Faces:
    """Random faces without hat and glasses that turn, nod and lean by up to ``TURN`` degrees each."""
    faces = random_faces(n, seed)
    pose = faces.pose.clone()
    pose[:, :3] = torch.from_numpy(np.random.default_rng(seed).uniform(-TURN, TURN, (n, 3)))
    return faces._replace(pose=pose, scene=set_category(set_category(faces.scene, "hat", "none"), "glasses", "none"))


def detected(result: Render) -> list[bool]:
    """Whether the largest face that RetinaFace finds, which never saw a render, is where each face is."""
    size = result.image.shape[3]
    middles = pixels(result.landmarks.mean(1), size)
    hits = []
    for found, middle in zip(RetinaFace().to(middles.device).detect(result.image), middles, strict=True):
        centres, sides = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2, found.boxes[:, 2] - found.boxes[:, 0]
        largest = sides.argmax() if len(sides) else None
        near = largest is not None and (centres[largest] - middle).abs().max() < OFF_CENTRE * sides[largest]
        hits.append(bool(near))
    return hits


def frames_per_second(faces: Faces, clock: Callable[[], float], rounds: int = 3) -> float:
    """The best of some rounds: other programs can only make it slower."""
    render(faces)  # builds tables, and warms up
    best = 0.0
    for _ in range(rounds):
        start = clock()
        render(faces)
        if faces.identity.is_cuda:
            torch.cuda.synchronize()
        best = max(best, faces.size / (clock() - start))
    return best


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=300, help="faces shown to the detector")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="device that renders")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    batch = 64 if args.device == "cpu" else 1024
    faces = random_faces(batch, 0).to(args.device)
    speed = frames_per_second(faces, time.perf_counter)
    print(f"{speed:.1f} frames/s at 128 x 128 on {args.device} with {args.threads} thread(s)")
    if args.device == "cpu" and args.threads == 1:
        speed = frames_per_second(faces, time.process_time)
        print(f"{speed:.1f} frames per second of processor time, which other programs on the machine do not count in")
    if args.faces:
        found = detected(render(near_frontal(args.faces, 1).to(args.device)))
        print(f"RetinaFace finds {sum(found)} of {len(found)} faces ({sum(found) / len(found):.1%})")


if __name__ == "__main__":
    run_script(main)
