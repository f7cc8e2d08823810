"""From a folder of photographs to puppets: reading, finding landmarks and mattes, cutting, leaving out, keeping."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ... import media
from ...atomic import replacing, writing_errors
from ...errors import UserError
from ...media.tensors import to_tensor
from .fit import faults, fit_photographs
from .layers import Sheet
from .puppet import Puppets, make_puppets, polygon

REACH = 2.3  # side of the square that is cut out, in sides of the box around the landmarks
_UP = 0.06  # of that side, how much higher than the box it is centred: hair takes more room than the neck
_DARK = 0.16  # brightness of the lightest parts of the eyes, of that of the cheeks, below which they are not seen
_CHEEKS = [[1, 2, 3, 4, 48, 31, 30, 29], [15, 14, 13, 12, 54, 35, 30, 29]]  # landmarks around them
_LEAST = 0.5  # mean matte within the face
_FORMAT, _SHEET = "deepexpr puppets 1", "sheet."

# A photograph [1, 3, H, W] -> landmarks [68, 2] in pixels, from the middle of the first, and matte [1, 1, H, W]; or
# None where there is no face.
Finder = Callable[[str, Tensor], "tuple[Tensor, Tensor] | None"]


class Prepared(NamedTuple):
    """Puppets with their names, and why others were left out."""

    puppets: Puppets
    names: list[str]
    left_out: dict[str, str]


def networks(device: torch.device | str = "cpu") -> Finder:
    """Landmarks and mattes by the bundled networks of faces."""
    from ...faces.analysis import load_analyser
    from ...faces.matte import PersonMatte

    analyser, matte = load_analyser(torch.device(device)), PersonMatte().to(device)

    @torch.no_grad()
    def find(name: str, photo: Tensor) -> tuple[Tensor, Tensor] | None:
        found = analyser(photo)[0]
        # the networks count from the first pixel's corner
        return (found[0].landmarks68.float() - 0.5, matte(photo)) if found else None

    return find


def from_files(landmarks: str | Path, mattes: str | Path) -> Finder:
    """Landmarks from a JSON file, mattes from a folder of PNGs.

    The file has, for each name of a picture, 68 (x, y) in pixels from the middle of the first.  A picture that it does
    not name has no face.

    Raises:
        UserError: the file is none of that kind; of one picture, what is returned raises it.
    """
    path = Path(landmarks)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); give names with 68 points each") from error
    if not isinstance(table, dict):
        raise UserError(f"{path}: expected names of pictures with 68 points each, found {type(table).__name__}")
    by_name = {Path(name).name: points for name, points in table.items()}

    def find(name: str, photo: Tensor) -> tuple[Tensor, Tensor] | None:
        if name not in by_name:
            return None
        try:
            points = torch.tensor(by_name[name], dtype=torch.float32, device=photo.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: {name}: expected 68 points ({error})") from None
        if points.shape != (68, 2):
            raise UserError(f"{path}: {name}: expected 68 points (x, y), found the shape {list(points.shape)}")
        picture = media.read_image(Path(mattes) / f"{Path(name).stem}.png")
        matte = to_tensor([picture], photo.device)[:, :1]
        return points, F.interpolate(matte, size=photo.shape[2:], mode="bilinear", antialias=True)

    return find


def prepare(photos: list[Path], find: Finder, side: int = 512, device: torch.device | str = "cpu") -> Prepared:
    """Make puppets of all photographs that serve, ``side`` pixels a side.

    Raises:
        UserError: none serves; the line says why the first does not.
    """
    names, points, left_out = [], [], {}
    cuts: deque[Tensor] = deque()  # photographs and mattes in bytes, as puppets keep them: there may be thousands
    for path in photos:
        try:
            photo = to_tensor([media.read_image(path)], device)
            found = find(path.name, photo)
        except UserError as error:
            left_out[path.name] = str(error)
            continue
        if found is None:
            left_out[path.name] = "no face was found"
            continue
        colour, place, matte = cut(photo, *found, side)
        names.append(path.name)
        points.append(place)
        cuts.append((255 * torch.cat([colour, matte], dim=1)).round().to(torch.uint8))
    kept, parts = [], []
    if cuts:
        landmarks = torch.stack(points)
        fits = fit_photographs(landmarks)
        for i, fault in enumerate(faults(fits)):
            colour, matte = (cuts.popleft() / 255).split([3, 1], dim=1)
            fault = fault or _matte_fault(matte, landmarks[i]) or _eyes_fault(colour, landmarks[i])
            if fault:
                left_out[names[i]] = fault
            else:
                kept.append(names[i])
                parts.append(make_puppets(colour, matte, fits.take(slice(i, i + 1))))
    if not parts:
        name, reason = next(iter(left_out.items()))
        raise UserError(f"none of {len(photos)} photographs serves; {name}: {reason}")
    return Prepared(Puppets.cat(parts), kept, left_out)


def cut(photo: Tensor, landmarks: Tensor, matte: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """A square about the face, as large as the picture allows.

    Args:
        photo: [1, 3, H, W].
        landmarks: [68, 2] in pixels, from the middle of the first.
        matte: [1, 1, H, W].
        side: pixels of the result's side.

    Returns:
        photograph [1, 3, side, side], landmarks in [-1, 1], matte [1, 1, side, side].
    """
    height, width = photo.shape[2:]
    low, high = landmarks.amin(0), landmarks.amax(0)
    reach = round(min(REACH * float((high - low).max()), height, width))
    middle = (low + high) / 2
    left = round(min(max(float(middle[0]) - reach / 2, 0), width - reach))
    top = round(min(max(float(middle[1]) - reach * (0.5 + _UP), 0), height - reach))
    window = (..., slice(top, top + reach), slice(left, left + reach))
    pictures = [F.interpolate(x[window], size=(side, side), mode="bicubic", antialias=True) for x in (photo, matte)]
    # half-pixel resizing: the middle of pixel i of the window is at (i + 0.5) / reach of the side
    place = (landmarks - torch.tensor([left, top], device=landmarks.device) + 0.5) * side / reach - 0.5
    return pictures[0].clamp(0, 1), place / (side - 1) * 2 - 1, pictures[1].clamp(0, 1)


def _matte_fault(matte: Tensor, landmarks: Tensor) -> str:
    inside = F.grid_sample(matte, landmarks[None, 17:, None], padding_mode="border", align_corners=True)
    share = float(inside.mean())
    return "" if share >= _LEAST else f"the matte does not show a person at the face ({share:.2f} of it)"


def _eyes_fault(photo: Tensor, landmarks: Tensor) -> str:
    size = photo.shape[-1]
    light = (photo[0] ** 2.2).mean(0)
    eyes = light[polygon(landmarks[36:42], size) | polygon(landmarks[42:48], size)]
    cheeks = light[polygon(landmarks[_CHEEKS[0]], size) | polygon(landmarks[_CHEEKS[1]], size)]
    if not len(eyes) or eyes.quantile(0.9) >= _DARK * cheeks.median():
        return ""
    return "the eyes are dark, as behind sunglasses"


def save(path: str | Path, prepared: Prepared) -> None:
    """Keep puppets in a .safetensors file."""
    puppets = prepared.puppets.to("cpu")
    tensors = puppets._asdict() | {f"{_SHEET}{name}": t for name, t in puppets.sheet._asdict().items()}
    del tensors["sheet"]
    told = {"format": _FORMAT, "names": json.dumps(prepared.names), "left_out": json.dumps(prepared.left_out)}
    with replacing(path) as temporary, writing_errors(path):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, told)


def load(path: str | Path) -> Prepared:
    """Puppets from a file of :func:`save`.  Raises UserError."""
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if told["format"] != _FORMAT:
            raise ValueError(f"format {told['format']!r}")
        sheet = {name.removeprefix(_SHEET): tensors.pop(name) for name in list(tensors) if name.startswith(_SHEET)}
        puppets = Puppets(**tensors, sheet=Sheet(**sheet))
        return Prepared(puppets, json.loads(told["names"]), json.loads(told["left_out"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as puppets ({error}); make it again from the photographs") from error


def pictures_in(folder: str | Path) -> list[Path]:
    """Pictures of a folder, by name.  Raises UserError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one with photographs of faces")
    found = sorted(path for path in folder.iterdir() if path.is_file() and media.names_image(path))
    if not found:
        raise UserError(f"{folder}: no picture in it; give a folder with photographs of faces")
    return found
