"""Reading and writing pictures: ``uint8 [H, W, 3]`` RGB, upright, as a viewer shows them."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..atomic import check_place, replacing
from ..errors import UserError
from .file import cause
from .writer import WRITABLE_VIDEOS, check_video_name, writing_errors

VIDEO_SUFFIXES = WRITABLE_VIDEOS | {".avi", ".mpg", ".mpeg", ".m2ts", ".ts", ".wmv", ".flv", ".3gp", ".ogv"}
_NO_PICTURES = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow knows them, but needs more to read them
_SAVE_OPTIONS = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}


def is_video(path: str | Path) -> bool:
    """Whether the name says that this is a video (an animated ``.gif`` is one)."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def is_image(path: str | Path) -> bool:
    """Whether the name says that this is a picture."""
    return Path(path).suffix.lower() in _image_suffixes()


@functools.cache
def _image_suffixes() -> set[str]:
    known = Image.registered_extensions().items()
    return {suffix for suffix, kind in known if kind in Image.OPEN and kind not in _NO_PICTURES} - VIDEO_SUFFIXES


def check_result(path: str | Path, is_picture: bool) -> None:
    """UserError where a picture or video could not be written under this name, told before the work is done."""
    if is_picture:
        _save_options(path)
    else:
        check_video_name(path)
    check_place(path)


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as ``uint8 [H, W, 3]`` RGB: turned as its EXIF says, transparency over white, 16 bits scaled to 8.

    Raises:
        UserError: the file is missing, is no picture, or is cut off.
    """
    with _image_errors(path), Image.open(path) as image:
        image.load()
        return np.array(_to_rgb(ImageOps.exif_transpose(image)))


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) from a picture's header, before it is turned; the pixels are left alone.  Raises UserError."""
    with _image_errors(path), Image.open(path) as image:
        return image.size


def as_image(picture: Any, name: str = "the picture") -> np.ndarray:
    """What Python code calls a picture, as ``uint8 [H, W, 3]`` RGB; all of it as :func:`read_image` reads files.

    Args:
        picture: a path, a PIL image, an array ``[H, W]`` or ``[H, W, 1, 3 or 4]`` (uint8, uint16, bool, or float in
            [0, 1]), or a tensor, float ``[3, H, W]`` in [0, 1].
        name: what errors call it.

    Raises:
        UserError: it is none of these, or its file cannot be read.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(os.fspath(picture))
    if isinstance(picture, Image.Image):
        with _image_errors(name):
            picture.load()
            return np.array(_to_rgb(ImageOps.exif_transpose(picture)))
    is_tensor = hasattr(picture, "detach")  # without importing torch, which takes a second
    if is_tensor and picture.is_floating_point():
        pixels = picture.detach().float().cpu().numpy()
        if pixels.ndim == 3 and len(pixels) == 3:
            return np.array(_to_rgb(Image.fromarray(_eight_bits(pixels.transpose(1, 2, 0), name))))
    if isinstance(picture, np.ndarray) and picture.size:
        pixels = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
        if pixels.ndim == 2 or pixels.ndim == 3 and pixels.shape[2] in (3, 4):
            return np.array(_to_rgb(Image.fromarray(_eight_bits(pixels, name))))
    shape = f" {picture.dtype} {list(picture.shape)}" if hasattr(picture, "shape") else ""
    raise UserError(
        f"{name}: cannot be a {type(picture).__name__}{shape}; give one path, PIL image, array [H, W] or [H, W, 3], "
        "or float tensor [3, H, W]"
    )


def _eight_bits(pixels: np.ndarray, name: str) -> np.ndarray:
    """Values of any type that :func:`as_image` takes, as uint8."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype == bool:
        return pixels * np.uint8(255)
    if pixels.dtype == np.uint16:
        return (pixels / 257).round().astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UserError(f"{name}: has values of type {pixels.dtype}; give uint8, uint16, or float in [0, 1]")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise UserError(f"{name}: has values from {pixels.min():.4g} to {pixels.max():.4g}; floats go from 0 to 1")
    return (pixels * 255.0).round().astype(np.uint8)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write ``uint8 [H, W, 3]`` as ``.png`` or ``.jpg``; the file appears complete or not at all."""
    options = _save_options(path)
    with replacing(path) as temporary, writing_errors(path):
        Image.fromarray(image).save(temporary, **options)


def _save_options(path: str | Path) -> dict[str, str | int]:
    suffix = Path(path).suffix
    if suffix.lower() not in _SAVE_OPTIONS:
        raise UserError(f"{path}: cannot write a picture of type {suffix!r}; use .png or .jpg")
    return _SAVE_OPTIONS[suffix.lower()]


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize ``uint8 [H, W, 3]`` with antialiasing; the aspect ratio may change."""
    return _resample(image, height, width, (0, 0, image.shape[1], image.shape[0]))


def fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Crop ``uint8 [H, W, 3]`` about its centre to the shape of the target, then resize with antialiasing."""
    rows, columns = image.shape[:2]
    scale = min(rows / height, columns / width)
    left, top = max(0.0, (columns - width * scale) / 2), max(0.0, (rows - height * scale) / 2)
    # min and max: rounding may leave the box a hair outside the picture
    right, bottom = min(columns, left + width * scale), min(rows, top + height * scale)
    return _resample(image, height, width, (left, top, right, bottom))


def _resample(image: np.ndarray, height: int, width: int, box: tuple[float, float, float, float]) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    # A large reduction is begun with a box filter (reducing_gap): many times faster, and not visibly different.
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=3.0))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16 bits at 255, which turns nearly everything white.
        grey = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


@contextlib.contextmanager
def _image_errors(path: str | Path) -> Iterator[None]:
    """Turn what Pillow raises into one line with the path."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the name") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give the name of a picture") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{path}: is not a picture that can be read; use .png or .jpg") from None
    except UserError:
        raise
    except Exception as error:  # Pillow's plugins raise anything: struct.error, KeyError, IndexError, MemoryError, ...
        raise UserError(f"{path}: the picture cannot be read ({cause(error)}); is the file complete?") from None
