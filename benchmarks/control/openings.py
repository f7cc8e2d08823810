"""What controls motion: how steady, how exact, how linear, and what a motion template tells of its driver.

    python -m benchmarks.control jitter [--clips DIR] [--frames 50] [--motion mesh]
    python -m benchmarks.control openings [--people 8] [--sheet openings.png]
    python -m benchmarks.control sliders [--people 6] [--sheet sliders.png]
    python -m benchmarks.control templates [--people 16] [--clips_each 4]

``jitter`` drives a photograph by the bundled drivers, or by the clips in a folder, with and without --smooth.  Its
figure is the mean acceleration of the 68 landmarks from frame to frame, in thousandths of the eyes' distance.
``openings`` and ``sliders`` ask for amounts on rendered people whom nothing has seen; what comes out is read by the
face mesh, beside renders of the same people who do it.  ``templates`` tries to tell who the driver of a template is.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor
from tqdm import tqdm

from modules import media
from modules.arguments import Parser, number
from modules.config.files import load_rigged_config
from modules.data.expression_pictures import people_showing
from modules.errors import UserError, run_script
from modules.evaluation.output import table
from modules.evaluation.people import MEASURING_SEED
from modules.faces.landmarks68 import landmarks68
from modules.faces.pose import HeadPose
from modules.faces.recognition import FaceRes
from modules.media.tensors import to_images, to_tensor
from modules.sid import inference
from modules.sid.framing import Framing
from modules.sid.motion import MotionOptions
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.codes import EXPRESSION
from modules.sid.rigged.model import RiggedSID, load_rigged
from modules.world import draw_expressions, draw_identities, render
from modules.world.control.options import Control
from modules.world.control.sliders import SLIDERS, Slider
from modules.world.control.units import WIDE, Units, lips_apart
from modules.world.parameters import ACTION_UNITS, Faces
from modules.world.puppets.states import States

from .demo import CONFIG, WEIGHTS

ROOT = Path(__file__).parent.parent
SIZE, AT_ONCE = 256, 16
PHOTOGRAPH = ROOT / "Inputs/Identities/person-3.png"
AMOUNTS = (0.25, 0.5, 0.75, 1.0)
DRIVEN = 3  # frames of a driver for each opening that is asked for, whatever they do
RIDGE = 0.1  # of the readouts, of the mean variance


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add("what", choices=("jitter", "openings", "sliders", "templates"), help="what to measure")
    add("--clips", type=Path, help="jitter: folder of driving videos (default: the bundled ones)")
    add("--frames", type=number(int, 10, 10**4), default=50, help="jitter: frames of each")
    add("--motion", choices=("rigged", "mesh"), default="rigged", help="jitter: what moves the photograph")
    add("--people", type=number(int, 3, 1000), help="people (default: openings 8, sliders 6, templates 16)")
    add("--clips_each", type=number(int, 2, 100), default=4, help="templates: clips of a person")
    add("--sheet", type=Path, help="picture to write: a row for a person, or for a slider of the first one")
    args = parser.parse_args()
    if args.what == "jitter":
        jitter(args.clips or ROOT / "Inputs/driving videos", args.frames, args.motion)
    elif args.what == "openings":
        openings(args.people or 8, args.sheet)
    elif args.what == "sliders":
        sliders(args.people or 6, args.sheet)
    else:
        templates(args.people or 16, args.clips_each)


# ------------------------------------------------------------------------------------------------------------- jitter


def jitter(folder: Path, frames: int, motion: str) -> None:
    clips = sorted(path for path in folder.iterdir() if media.names_video(path))
    if not clips:
        raise UserError(f"{folder}: holds no videos")
    config, model = load_rigged_config(CONFIG), load_rigged(WEIGHTS)
    params = inference.MESH_FRAMING if motion == "mesh" else config.framing_params
    framing = Framing((SIZE, SIZE), params=params, cpu=True)
    source, rows = framing.source(PHOTOGRAPH), []
    for clip in tqdm(clips, unit="clip"):
        video = framing.video(clip)
        seen = [frame.image for frame in islice(video.frames(), frames)]
        tracks = [_points(model, seen)]
        for smooth in (False, True):
            options = MotionOptions(control=Control(smooth=smooth))
            by = inference.by_mesh(options, cpu=True) if motion == "mesh" else inference.by_rig(model, options)
            animator = by(source)
            animator.chain.start(float(video.info.frame_rate))
            animator.prepare(video.some())
            made = [media.fit(picture, SIZE, SIZE) for picture in animator.animate(seen)]
            tracks.append(_points(model, made))
        rows.append([_acceleration(track) for track in tracks] + _kept(*tracks[1:]))
    head = ["clip", "driver", "result", "with --smooth", "ratio", "mouth kept %", "lag, frames"]
    cells = [[c.stem, f"{a:.1f}", f"{b:.1f}", f"{s:.1f}", f"{s / b:.2f}", f"{100 * k:.0f}", f"{lag:.0f}"]
             for c, (a, b, s, k, lag) in zip(clips, rows, strict=True)]  # fmt: skip
    mean = np.mean(rows, axis=0)
    ratio = np.mean([row[2] / row[1] for row in rows])
    last = [
        f"mean of {len(clips)}",
        *(f"{v:.1f}" for v in mean[:3]),
        f"{ratio:.2f}",
        f"{100 * mean[3]:.0f}",
        f"{mean[4]:.1f}",
    ]
    print(table(head, [*cells, last]))


def _points(model: RiggedSID, frames: Iterable[np.ndarray]) -> Tensor:
    """Landmarks ``[T, 68, 2]`` of close crops."""
    found = [landmarks68(model.points(to_tensor([frame]))) for frame in frames]
    return torch.cat(found)[..., :2]


def _acceleration(points: Tensor) -> float:
    """Mean acceleration of landmarks ``[T, 68, 2]``, in thousandths of the eyes' distance a frame squared."""
    eyes = (points[:, 36] - points[:, 45]).norm(dim=-1).mean()
    return float(1000 * points.diff(n=2, dim=0).norm(dim=-1).mean() / eyes)


def _kept(plain: Tensor, smooth: Tensor) -> list[float]:
    """What share of the mouth's range over time smoothing keeps, and by how many frames it comes later."""
    a, b = lips_apart(plain).numpy(), lips_apart(smooth).numpy()
    kept = np.ptp(np.percentile(b, (5, 95))) / np.ptp(np.percentile(a, (5, 95)))
    centred = points_of_time(plain), points_of_time(smooth)
    lags = [float((centred[0][: len(a) - lag] * centred[1][lag:]).mean()) for lag in range(6)]
    return [float(kept), float(np.argmax(lags))]


def points_of_time(points: Tensor) -> Tensor:
    """Landmarks without their mean over time."""
    return points - points.mean(dim=0)


# ----------------------------------------------------------------------------------------------------------- openings


def openings(count: int, sheet: Path | None) -> None:
    model, calm = load_rigged(WEIGHTS), _people(count)
    pictures = _rendered(calm)
    frames = [frame.image for frame in islice(_driver().frames(), 60)][:: 60 // DRIVEN]
    asked, rows = (0.0, *AMOUNTS), []
    found: dict[str, list[list[float]]] = {"mouth": [], "eyes": []}
    for picture in tqdm(to_images(pictures), unit="person"):
        row = [picture]
        for name, measures in found.items():
            read = []
            for value in asked:
                options = MotionOptions(control=Control(**{name: value}), drive="expression")
                made = list(RiggedAnimator(model, picture, options).animate(frames))
                points = landmarks68(model.points(to_tensor(made)))
                read.append((lips_apart(points) / WIDE if name == "mouth" else _lids(points)).tolist())
                row.append(made[-1])
            measures.append(read)
        rows.append(np.concatenate(row, axis=1))
    mouths, eyes = (np.array(found[name]) for name in ("mouth", "eyes"))  # [people, asked, driven]
    truth = np.stack([_lids(landmarks68(model.points(_rendered(_closing(calm, 1 - v))))).numpy() for v in asked], 1)
    span = (truth[:, -1] - truth[:, 0]).clip(min=1e-6)[:, None]
    share = (eyes - truth[:, :1, None]) / span[..., None]
    true_share = (truth - truth[:, :1]) / span
    cells = [
        _told("mouth, of wide open", mouths, np.broadcast_to(np.array(asked)[None], mouths.shape[:2]), asked),
        _told("eyes, of the truth's way", share, true_share, asked),
    ]
    head = ["opening", *(f"asked {v}" for v in asked), "error", "over drivers", "correlation"]
    print(table(head, cells))
    print(f"the truth's eyes by the same reading: {', '.join(f'{v:.2f}' for v in true_share.mean(0))}")
    _write(sheet, rows)


def _told(name: str, found: np.ndarray, truth: np.ndarray, asked: tuple[float, ...]) -> list[str]:
    """A row of the table: ``found [people, asked, driven]`` beside ``truth [people, asked]``."""
    error = np.abs(found - truth[..., None]).mean()
    spread = found.std(axis=2).mean()
    wanted = np.broadcast_to(np.array(asked)[None, :, None], found.shape)
    together = np.corrcoef(wanted.ravel(), found.ravel())[0, 1]
    means = [f"{value:.2f}" for value in found.mean(axis=(0, 2))]
    return [name, *means, f"{error:.3f}", f"{spread:.3f}", f"{together:.3f}"]


def _lids(points: Tensor) -> Tensor:
    """How far lids are apart, in widths of the eyes, ``[B]``, of ``[B, 68, 2 or more]``."""
    gap = (points[:, [37, 38, 43, 44], :2] - points[:, [41, 40, 47, 46], :2]).norm(dim=-1).mean(dim=1)
    return gap / (points[:, [36, 42], :2] - points[:, [39, 45], :2]).norm(dim=-1).mean(dim=1)


def _closing(calm: Faces, share: float) -> Faces:
    return _doing(calm, Slider("", {"AU43": 1}), share)


# ------------------------------------------------------------------------------------------------------------ sliders


def sliders(count: int, sheet: Path | None) -> None:
    model, calm = load_rigged(WEIGHTS), _people(count)
    images, judge, pose = _rendered(calm), FaceRes().eval(), HeadPose()
    own = model.points(images)
    animators = [RiggedAnimator(model, picture) for picture in to_images(images)]
    who, cells, rows = _identity(judge, images, own), [], []
    for name, slider in tqdm(SLIDERS.items(), unit="slider"):
        done = model.points(_rendered(_doing(calm, slider, 1.0)))
        true = _shape(done, any(slider.turn)) - _shape(own, any(slider.turn))
        made = [[_edited(animator, name, amount) for amount in AMOUNTS] for animator in animators]
        points = torch.stack([model.points(to_tensor(row)) for row in made])  # [people, amounts, 468, 3]
        told, same, stays = [], [], []
        for i in range(count):
            others = torch.cat([true[:i], true[i + 1 :]]).mean(dim=0)  # what it does to others, whom it is read by
            change = _shape(points[i], any(slider.turn)) - _shape(own[i : i + 1], any(slider.turn))
            told.append((change * others).sum(dim=(1, 2)) / others.square().sum())
            same.append((_identity(judge, to_tensor(made[i]), points[i])[-1] @ who[i]).item())
            stays.append((pose(points[i][-1:] * SIZE / 2) - pose(own[i : i + 1] * SIZE / 2)).abs().max().item())
        measured, truly = torch.stack(told), _identity(judge, _rendered(_doing(calm, slider, 1.0)), done)
        nothing = torch.cat([torch.zeros(count, 1), measured], dim=1)
        asked = torch.tensor([0.0, *AMOUNTS]).expand(count, -1)
        together = torch.corrcoef(torch.stack([asked.flatten(), nothing.flatten()]))[0, 1]
        pairs = [torch.stack(pair) for pair in zip(asked, nothing, strict=True)]
        each = torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs])
        linear = [f"{value:.2f}" for value in (together, each.mean(), measured[:, -1].mean())]
        alike = [f"{value:.3f}" for value in (np.mean(same), (truly * who).sum(1).mean())]
        cells.append([name, *linear, *alike, f"{np.mean(stays):.1f}"])
        rows.append(np.concatenate([to_images(images)[0], *made[0]], axis=1))
    print(table(["slider", "correlation", "of one person", "at 1", "CSIM", "renders' CSIM", "turn"], cells))
    is_linear = [float(row[2]) > 0.9 for row in cells]
    print(f"{sum(is_linear)} of {len(is_linear)} sliders have a correlation above 0.9 within a person")
    strangers = who @ who.T
    print(f"CSIM of two people: {(strangers.sum() - count) / (count * (count - 1)):.3f}")
    _write(sheet, rows)


@torch.inference_mode()
def _edited(animator: RiggedAnimator, name: str, amount: float) -> np.ndarray:
    animator.chain.change = inference.KIND.edited({name: amount})
    (picture,) = animator.show(torch.zeros(1, EXPRESSION), [0.0])
    return picture


def _shape(points: Tensor, is_whole: bool) -> Tensor:
    """Where landmarks ``[B, 468, 3]`` are, in the eyes' distances; of turns as seen, else along the face's own axes."""
    left, right = points[:, 33], points[:, 263]
    size = (right - left).norm(dim=-1)[:, None, None]
    centred = (points - (left + right)[:, None] / 2) / size
    if is_whole:
        return centred
    across = F.normalize((right - left)[:, :2], dim=1)
    x = centred[..., 0] * across[:, :1] + centred[..., 1] * across[:, 1:]
    y = centred[..., 1] * across[:, :1] - centred[..., 0] * across[:, 1:]
    return torch.stack([x, y, torch.zeros_like(x)], dim=-1)


def _identity(judge: FaceRes, images: Tensor, points: Tensor) -> Tensor:
    pixels = (points + points.new_tensor([1.0, 1.0, 0.0])) * SIZE / 2
    return judge(images, pixels)


# ---------------------------------------------------------------------------------------------------------- templates


def templates(people: int, clips: int, frames: int = 12) -> None:
    """Readouts of who it is, taught on all clips of everybody but one and tried on that, in turn."""
    model = load_rigged(WEIGHTS)
    animator = RiggedAnimator(model, media.fit(media.read_image(PHOTOGRAPH), SIZE, SIZE))
    known: dict[str, list[Tensor]] = {"template": [], "without the calmest frame's": [], "points": []}
    identities = draw_identities(people, MEASURING_SEED)
    for clip in tqdm(range(clips), unit="clip"):
        for person in range(people):
            number_ = clip * people + person
            drawn = draw_expressions(frames, MEASURING_SEED + 10 * number_)
            faces = people_showing(*drawn, seed=MEASURING_SEED + 10 * number_)
            scene = faces.scene[:1].expand(frames, -1)  # light and clothes stay in a clip, and change between clips
            faces = faces._replace(identity=identities[person].expand(frames, -1), scene=scene)
            pictures = to_images(_rendered(faces))
            animator._calm.clear()
            raw = animator._read(pictures, for_pose=False)
            animator.prepare(pictures)
            said = animator._heard(pictures, for_pose=False).semantics
            known["template"].append(_statistics(said.cat()))
            known["without the calmest frame's"].append(_statistics(raw.semantics.cat()))
            known["points"].append(_statistics(model.rig.to_head(raw.points, raw.semantics.pose).flatten(1)))
    owner = torch.arange(people).repeat(clips)
    rows = []
    for name, features in known.items():
        right = _recognised(torch.stack(features), owner, people)
        test = binomtest(right, len(owner), 1 / people)
        low, high = test.proportion_ci()
        rows.append(
            [name, f"{100 * right / len(owner):.1f}", f"{100 * low:.1f} to {100 * high:.1f}", f"{test.pvalue:.2g}"]
        )
    print(table(["read off", "right %", "95 %", f"p, against {100 / people:.1f} %"], rows))


def _statistics(codes: Tensor) -> Tensor:
    """Mean and deviation over time of ``[T, K]``: what does not depend on when something is done."""
    return torch.cat([codes.mean(dim=0), codes.std(dim=0)]).double()


def _recognised(features: Tensor, owner: Tensor, people: int) -> int:
    """How many of the clips, each left out in turn, a ridge readout gives to the right person."""
    clips, right = len(owner) // people, 0
    for clip in range(clips):
        tried = torch.arange(len(owner)) // people == clip
        mean, spread = features[~tried].mean(dim=0), features[~tried].std(dim=0) + 1e-9
        x, z = ((part - mean) / spread for part in (features[~tried], features[tried]))
        wanted = F.one_hot(owner[~tried], people).double() - 1 / people
        kernel = x @ x.T / x.shape[1]
        weights = torch.linalg.solve(kernel + RIDGE * torch.eye(len(x), dtype=x.dtype), wanted)
        right += int(((z @ x.T / x.shape[1]) @ weights).argmax(dim=1).eq(owner[tried]).sum())
    return right


# ------------------------------------------------------------------------------------------------------------- people


def _people(count: int) -> Faces:
    """People without expression, seen closely from the front."""
    nothing = torch.zeros(count, len(ACTION_UNITS))
    faces = people_showing(nothing, nothing, torch.zeros(count, 2), MEASURING_SEED)
    return faces._replace(pose=torch.cat([torch.zeros(count, 3), faces.pose[:, 3:]], dim=1))


def _doing(calm: Faces, slider: Slider, amount: float) -> Faces:
    """The same people with an amount of a slider."""
    codes = amount * Units().change(slider).expand(calm.size, -1)
    shown = States.of_codes(codes).faces()
    pose = torch.cat([calm.pose[:, :3] + codes[:, -6:-3], calm.pose[:, 3:]], dim=1)
    return calm._replace(action_units=shown.action_units, asymmetry=shown.asymmetry, gaze=shown.gaze, pose=pose)


def _rendered(faces: Faces) -> Tensor:
    parts = [render(faces.take(slice(i, i + AT_ONCE)), SIZE).image for i in range(0, faces.size, AT_ONCE)]
    return torch.cat(parts)


def _driver():
    params = load_rigged_config(CONFIG).framing_params
    return Framing((SIZE, SIZE), params=params, cpu=True).video(ROOT / "Inputs/driving videos/driver-1.mp4")


def _write(path: Path | None, rows: list[np.ndarray]) -> None:
    if path is not None:
        media.write_image(path, np.concatenate(rows))


if __name__ == "__main__":
    run_script(main)
