"""The face networks on photographs and clips of your own: what they find, how exactly, and how fast.

    python -m benchmarks.faces FOLDER [--count 100] [--parts detection landmarks pose recognition speed]

FOLDER holds any of these, and parts that have nothing to look at are left out:

    portraits/landmarks.json   {"path below portraits/": [[x, y], ... 68 points, iBUG's order, pixels]}
    photos/**/PERSON#NN*.jpg   photographs; those who have two are to be told apart
    clips/**/PERSON#NN.mp4     the same of videos

Everything is computed on one core.  Nothing is written.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modules import media
from modules.arguments import Parser, number
from modules.data.synthetic.sheet import random_faces
from modules.errors import UserError, run_script
from modules.faces.alignment import Squares, cut_squares, transform
from modules.faces.analysis import Face, FaceAnalyser
from modules.faces.close_crop import axis
from modules.faces.emotions import Expressions
from modules.faces.landmarks68 import five_points, landmarks68
from modules.faces.matte import PersonMatte
from modules.faces.recognition import FaceRes, MobileFace
from modules.media.tensors import to_tensor
from modules.world import render

TILTS = (0, 20, 40, 90)  # degrees
PARTS = ("detection", "landmarks", "framing", "pose", "lids", "recognition", "speed")
FRAMES = (0.1, 0.5, 0.9)  # of a clip's length: the frames that stand for it
FALSE_ACCEPTS = 0.001


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="pictures and clips, laid out as the script's first lines say")
    parser.add_argument("--count", type=number(int, 1, 10**9), default=10**9, help="pictures of each kind looked at")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured")
    args = parser.parse_args()
    if not args.folder.is_dir():
        raise UserError(f"{args.folder}: no such folder")
    torch.set_num_threads(1)
    analyser = FaceAnalyser()
    portraits = _portraits(args.folder, args.count)
    if "detection" in args.parts and portraits:
        detection(analyser, portraits)
    if {"landmarks", "pose"} & set(args.parts) and portraits:
        landmarks(analyser, portraits)
    if "framing" in args.parts and portraits:
        framing(portraits)
    if "pose" in args.parts:
        pose_of_renders(analyser)
    if "lids" in args.parts:
        lids(analyser, args.folder, args.count)
    if "recognition" in args.parts:
        for kind in ("photos", "clips"):
            recognition(analyser, kind, args.folder, args.count)
    if "speed" in args.parts:
        speed(analyser)


def _portraits(folder: Path, count: int) -> list[tuple[Tensor, Tensor]]:
    """Pictures [1, 3, H, W] and their landmarks [68, 2], evenly over the list."""
    path = folder / "portraits" / "landmarks.json"
    if not path.is_file():
        return []
    points: dict[str, list] = json.loads(path.read_text(encoding="utf-8"))
    names = _some(sorted(points), count)
    return [(to_tensor([media.read_image(path.parent / name)]), torch.tensor(points[name])) for name in names]


def _some(items: Sequence, count: int) -> list:
    return list(items[:: max(1, math.ceil(len(items) / count))])


def detection(analyser: FaceAnalyser, portraits: list[tuple[Tensor, Tensor]]) -> None:
    """Of how many pictures a face is found within half a distance of the eyes of the truth's middle."""
    for tilt in TILTS:
        hits = []
        for image, truth in portraits:
            picture, there = _turned(image, tilt)
            truth = transform(truth[None], there)[0]
            found = analyser.detector.detect(picture)[0]
            middles = found.points.mean(1)
            near = (middles - truth[27:].mean(0)).norm(dim=1) < 0.5 * _eye_distance(truth)
            hits.append(bool(near.any()))
        print(f"detection: {np.mean(hits):.1%} of {len(hits)} faces, pictures turned by {tilt} degrees")


def framing(portraits: list[tuple[Tensor, Tensor]]) -> None:
    """What a close crop goes by, in lengths of a face (faces/close_crop.py, HEIGHT and DOWN)."""
    rows = []
    for _, truth in portraits:
        points = truth.double().numpy()
        length, eyes, down = axis(points)
        along = (points - eyes) @ down / length
        top, bottom = along[17:27].min(), along[5:12].max()
        rows.append((bottom - top, (top + bottom) / 2))
    height, middle = np.median(rows, axis=0)
    print(f"framing: brows to chin {height:.2f}, its middle {middle:.2f} below the eyes (medians of {len(rows)})")


def lids(analyser: FaceAnalyser, folder: Path, count: int) -> None:
    """How far lids close in clips, by the mesh: the least opening over the median (world/puppets, CLOSED)."""
    for path in _some(sorted((folder / "clips").rglob("*.mp4")), count):
        openings = []
        for frame in media.read_video(path):
            if (face := _main_face(analyser, to_tensor([frame.image]))) is not None:
                points = face.landmarks68
                apart = (points[[41, 40, 47, 46]] - points[[37, 38, 43, 44]]).norm(dim=1).mean()
                openings.append(float(apart / _eye_distance(points)))
        if openings:
            print(f"lids: {np.min(openings) / np.median(openings):.2f} of the median opening at least, {path.name}")


def _turned(image: Tensor, degrees: float) -> tuple[Tensor, Tensor]:
    """A picture turned about its middle, its edges repeated, and the map ``[1, 2, 3]`` of its pixels there."""
    if not degrees:
        return image, torch.eye(2, 3)[None]
    middle = torch.tensor([[image.shape[3], image.shape[2]]]) / 2
    side = max(image.shape[2:])
    back = Squares(middle, torch.tensor([float(side)]), torch.tensor([-math.radians(degrees)])).matrix(side)
    whole = torch.cat([back, torch.tensor([[[0.0, 0.0, 1.0]]])], dim=1)
    return cut_squares(image, back, side), torch.linalg.inv(whole)[:, :2]


def _eye_distance(points: Tensor) -> Tensor:
    return (points[36:42].mean(0) - points[42:48].mean(0)).norm()


def landmarks(analyser: FaceAnalyser, portraits: list[tuple[Tensor, Tensor]]) -> None:
    """Errors in shares of the distance of the eyes; and poses of pictures against those of their mirror images."""
    errors, differences = [], []
    for image, truth in portraits:
        face, mirrored = (_main_face(analyser, picture) for picture in (image, image.flip(3)))
        if face is None or mirrored is None:
            continue
        angle = torch.atan2(*(truth[42:48].mean(0) - truth[36:42].mean(0)).flip(0))
        turn = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
        errors.append((face.landmarks68 - truth) @ turn.T / _eye_distance(truth))
        differences.append(face.pose - mirrored.pose * torch.tensor([-1.0, 1.0, -1.0]))
    error = torch.stack(errors)
    apart = error - error.mean(0)
    inner = slice(17, None)
    print(
        f"landmarks: {error[:, inner].norm(dim=2).mean():.2%} of the distance of the eyes, jaw "
        f"{error[:, :17].norm(dim=2).mean():.2%}; without constant differences of definition "
        f"{apart[:, inner].norm(dim=2).mean():.2%}, jaw {apart[:, :17].norm(dim=2).mean():.2%} ({len(error)} portraits)"
    )
    _print_pose("of pictures against their mirror images", torch.stack(differences))


def _main_face(analyser: FaceAnalyser, image: Tensor) -> Face | None:
    return next(iter(analyser(image)[0]), None)


def _print_pose(what: str, error: Tensor) -> None:
    spread = (error - error.mean(0)).abs().mean(0)
    figures = zip(("yaw", "pitch", "roll"), spread.tolist(), error.mean(0).tolist(), strict=True)
    words = ", ".join(f"{name} {each:.1f} about {middle:+.1f}" for name, each, middle in figures)
    print(f"pose {what}: {words} degrees ({len(error)} faces)")


def pose_of_renders(analyser: FaceAnalyser, count: int = 48) -> None:
    """Poses of the face world against its truth."""
    people = random_faces(count, 3)
    faces = [next(iter(found), None) for found in analyser(render(people, 192).image)]
    seen = [i for i, face in enumerate(faces) if face is not None]
    error = torch.stack([faces[i].pose for i in seen]) - people.pose[seen, :3]
    _print_pose("of renders against the truth", error)


def recognition(analyser: FaceAnalyser, kind: str, folder: Path, count: int) -> None:
    """Are people who have two pictures or clips nearest to themselves, and apart from others?"""
    networks = {"MobileFace": MobileFace(), "FaceRes": FaceRes()}
    rows: dict[str, list[Tensor]] = {name: [] for name in networks}
    people: list[str] = []
    for path in _files_of_people(folder / kind, count):
        faces = [(image, face) for image in _pictures(path) if (face := _main_face(analyser, image))]
        if not faces:
            continue
        people.append(path.name.partition("#")[0])
        with torch.no_grad():
            rows["MobileFace"].append(
                torch.cat([networks["MobileFace"](i, five_points(f.landmarks)[None, :, :2]) for i, f in faces])
            )
            rows["FaceRes"].append(torch.cat([networks["FaceRes"](i, f.landmarks[None]) for i, f in faces]))
    who = np.unique(people, return_inverse=True)[1]
    if len(set(who)) < 2:
        return
    for name, embeddings in rows.items():
        z = torch.nn.functional.normalize(torch.stack([each.mean(0) for each in embeddings]), dim=1)
        likeness = (z @ z.T).double()
        same = torch.from_numpy(who[:, None] == who) & ~torch.eye(len(who), dtype=torch.bool)
        other = torch.from_numpy(who[:, None] != who)
        asked = same.any(1)
        nearest = likeness.masked_fill(torch.eye(len(who), dtype=torch.bool), -2).argmax(1)
        right = torch.from_numpy(who[nearest.numpy()] == who)[asked]
        limit = likeness[other].quantile(1 - FALSE_ACCEPTS)
        print(
            f"{name}, {kind}: {int(right.sum())} of {len(right)} are nearest to themselves; "
            f"{(likeness[same] > limit).double().mean():.2f} of pairs accepted at {FALSE_ACCEPTS:.1%} false accepts; "
            f"cosine {likeness[same].mean():.2f} of the same person, {likeness[other].mean():.2f} of others"
        )


def _files_of_people(folder: Path, count: int) -> Iterator[Path]:
    files = [path for path in folder.rglob("*#*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".mp4")]
    yield from sorted(files, key=lambda path: path.name)[:count]


def _pictures(path: Path) -> list[Tensor]:
    if path.suffix.lower() != ".mp4":
        return [to_tensor([media.read_image(path)])]
    info = media.probe_video(path)
    index = [int(share * (len(info.times) - 1)) for share in FRAMES]
    return [to_tensor([frame]) for frame in media.read_frames(path, index, info)]


def speed(analyser: FaceAnalyser, batch: int = 8) -> None:
    """Milliseconds of processor time per picture of 512 pixels, in batches, the best of three rounds."""
    images = torch.nn.functional.interpolate(render(random_faces(batch, 5), 256).image, scale_factor=2.0)
    found = analyser.detector.detect(images)
    boxes, points = torch.stack([each.boxes[0] for each in found]), torch.stack([each.points[0] for each in found])
    mesh = analyser.mesh.from_points(images, boxes, points).points
    matte, expressions, small, judge = PersonMatte(), Expressions(), MobileFace(), FaceRes()
    tasks: dict[str, Callable[[], object]] = {
        "RetinaFace at 320 pixels": lambda: analyser.detector.detect(images),
        "landmarks, one pass": lambda: analyser.mesh.refine(images, mesh),
        "68 landmarks and pose": lambda: (landmarks68(mesh), analyser.pose(mesh)),
        "matte": lambda: matte(images),
        "expressions": lambda: expressions(images, mesh),
        "MobileFace": lambda: small(images, five_points(mesh)[..., :2]),
        "FaceRes": lambda: judge(images, mesh),
    }
    for name, task in tasks.items():
        print(f"{name}: {_milliseconds(task) / batch:.1f} ms a picture")


def _milliseconds(task: Callable[[], object], rounds: int = 3) -> float:
    best = math.inf
    with torch.no_grad():
        for _ in range(rounds):
            start = time.process_time()
            task()
            best = min(best, 1000 * (time.process_time() - start))
    return best


if __name__ == "__main__":
    run_script(main)
