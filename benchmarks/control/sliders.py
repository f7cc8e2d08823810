"""How linear sliders are, and whether they keep the person."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from modules import media
from modules.config.files import load_rigged_config
from modules.errors import UserError
from modules.evaluation.output import table
from modules.faces.landmarks68 import landmarks68
from modules.faces.pose import HeadPose
from modules.faces.recognition import FaceRes
from modules.media.tensors import to_images, to_tensor
from modules.sid import inference
from modules.sid.framing import Framing
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.codes import EXPRESSION
from modules.sid.rigged.model import RiggedSID, load_rigged
from modules.world.control.sliders import SLIDERS, Slider
from modules.world.parameters import Faces
from modules.world.puppets.looking import iris_offset

from ..demo import CONFIG, WEIGHTS
from .people import PEOPLE, SIZE, calm_people, doing, rendered, write_sheet

BOTH_WAYS, ONE_WAY = (-1.0, -0.5, 0.5, 1.0), (0.25, 0.5, 0.75, 1.0)  # and 0, where nothing is changed
LINEAR = 0.9  # correlation that is wanted


class Measured(NamedTuple):
    """One slider on N people.

    Attributes:
        asked, found: amounts ``[N, 5]``, the last one 0.
        alike: cosine of source and result at the ends, ``[N]``, their mean.
        true_alike: the same of renders who do it, ``[N']``.
        turned: degrees that the head turns by at the most, ``[N]``.
    """

    asked: Tensor
    found: Tensor
    alike: Tensor
    true_alike: Tensor
    turned: Tensor

    def correlations(self) -> Tensor:
        """Of each person, ``[N]``."""
        pairs = zip(self.asked, self.found, strict=True)
        return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])


def sliders(count: int, photographs: Path | None, clips: Path | None, sheet: Path | None) -> None:
    model, calm = load_rigged(WEIGHTS), calm_people(count)
    pictures = {"rendered": to_images(rendered(calm))}
    if photographs is None and clips is None:
        pictures["Inputs"] = _photographs(PEOPLE)
    pictures |= {} if photographs is None else {"photographs": _photographs(photographs)}
    pictures |= {} if clips is None else {"clips": _first_frames(clips)}
    judge, names = Judge(model), list(pictures)
    kind = np.repeat(names, [len(some) for some in pictures.values()])
    people = [RiggedAnimator(model, picture) for some in pictures.values() for picture in some]
    own = [judge.look([_edited(person, "smile", 0.0)]) for person in people]
    cells, rows, failed = [], [], {name: [] for name in names}
    for name, slider in tqdm(SLIDERS.items(), unit="slider"):
        found, made = _measured(name, slider, judge, people, own, calm)
        each = found.correlations()
        by_kind = [each[torch.from_numpy(kind == one)].mean() for one in names]
        together = torch.corrcoef(torch.stack([found.asked.flatten(), found.found.flatten()]))[0, 1]
        figures = [*by_kind, each.min(), together, found.found[:, -2].mean()]
        alike = [f"{value:.3f}" for value in (found.alike.mean(), found.alike.min(), found.true_alike.mean())]
        ways = "-1 to 1" if slider.goes_below else "0 to 1"
        cells.append([name, ways, *(f"{v:.2f}" for v in figures), *alike, f"{found.turned.mean():.1f}"])
        for one, value in zip(names, by_kind, strict=True):
            failed[one] += [f"{name} {value:.2f}"] if not value > LINEAR else []
        rows.append(np.concatenate(made[-1], axis=1))
    head = ["slider", "asked", *(f"r, {one}" for one in names), "lowest", "of all", "at 1"]
    print(table([*head, "CSIM", "lowest", "renders' CSIM", "turn"], cells))
    for one, bad in failed.items():
        told = f": {', '.join(bad)}" if bad else ""
        print(f"{one}, {(kind == one).sum()} people: r > {LINEAR} in {len(SLIDERS) - len(bad)} of {len(SLIDERS)}{told}")
    who = torch.cat([seen.identity for seen in own])
    for one in names:
        some = who[torch.from_numpy(kind == one)]
        apart = (some @ some.T)[~torch.eye(len(some), dtype=torch.bool)]
        print(f"CSIM of two of {one}: {apart.mean():.3f}")
    write_sheet(sheet, rows)


def _measured(
    name: str, slider: Slider, judge: Judge, people: list[RiggedAnimator], own: list[Look], calm: Faces
) -> tuple[Measured, list[list[np.ndarray]]]:
    """What a slider does to everybody, and the pictures; the first of ``people`` are the rendered ones, ``calm``."""
    done = judge.look(to_images(rendered(doing(calm, slider, 1.0))))
    less = torch.cat([_told(seen, slider) for seen in own[: calm.size]])
    if slider.goes_below:
        less = _told(judge.look(to_images(rendered(doing(calm, slider, -1.0)))), slider)
    true = (_told(done, slider) - less) / (2 if slider.goes_below else 1)
    amounts = BOTH_WAYS if slider.goes_below else ONE_WAY
    found, alike, turned, made = [], [], [], []
    for i, (person, seen) in enumerate(zip(people, own, strict=True)):
        made.append([_edited(person, name, amount) for amount in amounts])
        look = judge.look(made[-1])
        others = torch.cat([true[:i], true[i + 1 :]]).mean(dim=0)  # nobody is measured by what the slider does to them
        change = _told(look, slider) - _told(seen, slider)
        found.append(change @ others / others.square().sum())
        edited = [0, -1] if slider.goes_below else [-1]
        alike.append((look.identity[edited] @ seen.identity[0]).mean())
        turned.append((look.pose[edited] - seen.pose).abs().max())
    who = torch.cat([seen.identity for seen in own[: calm.size]])
    asked = torch.tensor([*amounts, 0.0]).expand(len(people), -1)
    true_alike = (done.identity * who).sum(dim=1)
    return Measured(asked, F.pad(torch.stack(found), (0, 1)), torch.stack(alike), true_alike, torch.stack(turned)), made


class Look(NamedTuple):
    """What is read off B pictures.

    Attributes:
        points: [B, 468, 3].
        identity: [B, 1024], of unit length.
        pose: [B, 3] degrees.
        irises: [B], how far they are from the middle of their eyes.
    """

    points: Tensor
    identity: Tensor
    pose: Tensor
    irises: Tensor


class Judge:
    """The face mesh, pixels of the eyes, and a recogniser that no loss has seen (:class:`FaceRes`)."""

    def __init__(self, model: RiggedSID):
        self.points, self.recogniser, self.pose = model.points, FaceRes().eval(), HeadPose()

    @torch.inference_mode()
    def look(self, pictures: list[np.ndarray] | np.ndarray) -> Look:
        images = to_tensor(list(pictures))
        points = self.points(images)
        pixels = (points + points.new_tensor([1.0, 1.0, 0.0])) * SIZE / 2
        eyes = landmarks68(points)[..., :2]
        irises = torch.tensor([iris_offset(image, marks) for image, marks in zip(images, eyes, strict=True)])
        return Look(points, self.recogniser(images, pixels), self.pose(points * SIZE / 2), irises)


@torch.inference_mode()
def _edited(animator: RiggedAnimator, name: str, amount: float) -> np.ndarray:
    animator.chain.change = inference.KIND.edited({name: amount})
    (picture,) = animator.show(torch.zeros(1, EXPRESSION), [0.0])
    return picture


def _told(look: Look, slider: Slider) -> Tensor:
    """What tells how much there is of a slider, ``[B, D]``: the shape, or where irises are, which the mesh lacks."""
    if slider.gaze[0]:
        return look.irises[:, None]
    return _shape(look.points, any(slider.turn)).flatten(1)


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


def _framing() -> Framing:
    return Framing((SIZE, SIZE), params=load_rigged_config(CONFIG).framing_params, cpu=True)


def _photographs(folder: Path) -> list[np.ndarray]:
    """The faces of a folder's pictures."""
    return _some(
        [_framing().source(path).image for path in sorted(folder.iterdir()) if media.names_image(path)], folder
    )


def _first_frames(folder: Path) -> list[np.ndarray]:
    """The faces that a folder's videos begin with."""
    videos = [_framing().video(path) for path in sorted(folder.iterdir()) if media.names_video(path)]
    return _some([frame.image for video in videos for frame in islice(video.frames(), 1)], folder)


def _some(pictures: list[np.ndarray], folder: Path) -> list[np.ndarray]:
    if len(pictures) < 2:
        raise UserError(f"{folder}: holds no two pictures or videos of faces")
    return pictures
