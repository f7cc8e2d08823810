"""Reading and writing pictures: ``uint8 [H, W, 3]`` RGB, upright, as a viewer shows them."""

from __future__ import annotations

import contextlib
import functools
import io
import os
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from ..atomic import check_place, replacing
from ..errors import UserError
from .file import open_container
from .pillow import NO_PICTURES, image_errors, to_rgb, told_kind
from .writer import WRITABLE_VIDEOS, check_video_name, writing_errors

VIDEO_SUFFIXES = WRITABLE_VIDEOS | {".avi", ".mpg", ".mpeg", ".m2ts", ".ts", ".wmv", ".flv", ".3gp", ".ogv"}
_SAVE_OPTIONS = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}


def is_video(path: str | Path) -> bool:
    """Whether this is a video: what the file holds (also a picture that moves), or the name of one that is not yet."""
    told = told_kind(path)
    if told is None and not names_video(path):
        return _plays(path)
    return told != "picture"


def is_image(path: str | Path) -> bool:
    """Whether this is a picture that stands still: what the file holds, or the name of one that is not there yet."""
    told = told_kind(path)
    if told is None and names_image(path):
        return not _plays(path)
    return told == "picture"


def names_video(name: str | Path) -> bool:
    """Whether the mere name is a video's."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def names_image(name: str | Path) -> bool:
    """Whether the mere name is a picture's."""
    return Path(name).suffix.lower() in _image_suffixes()


def _plays(path: str | Path) -> bool:
    """Whether FFmpeg finds a video in the file, other than by its name."""
    with contextlib.suppress(UserError), open_container(path) as container:
        kind = container.format.name
        return not kind.endswith("_pipe") and kind not in ("image2", "tty") and bool(container.streams.video)
    return False


@functools.cache
def _image_suffixes() -> set[str]:
    known = Image.registered_extensions().items()
    return {suffix for suffix, kind in known if kind in Image.OPEN and kind not in NO_PICTURES} - VIDEO_SUFFIXES


def check_result(path: str | Path, is_picture: bool) -> None:
    """UserError where a picture or video could not be written under this name, told before the work is done."""
    if is_picture:
        _save_options(path)
    else:
        check_video_name(path)
    check_place(path)


class Opens(Protocol):
    """A picture file that lies somewhere else than in a folder; its text is the name that errors give."""

    def open(self) -> BinaryIO: ...


def read_image(path: str | Path | Opens) -> np.ndarray:
    """Read a picture as ``uint8 [H, W, 3]`` RGB, turned as its EXIF says, its values as ``pillow.to_rgb`` tells.

    Raises:
        UserError: the file is missing, is no picture, or is cut off.
    """
    with image_errors(path), Image.open(path if isinstance(path, str | os.PathLike) else path.open()) as image:
        image.load()
        return np.array(to_rgb(ImageOps.exif_transpose(image)))


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) from a picture's header, before it is turned; the pixels are left alone.  Raises UserError."""
    with image_errors(path), Image.open(path) as image:
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
        with image_errors(name):
            picture.load()
            return np.array(to_rgb(ImageOps.exif_transpose(picture)))
    is_tensor = hasattr(picture, "detach")  # without importing torch, which takes a second
    if is_tensor and picture.is_floating_point():
        pixels = picture.detach().float().cpu().numpy()
        if pixels.ndim == 3 and len(pixels) == 3:
            return np.array(to_rgb(Image.fromarray(_eight_bits(pixels.transpose(1, 2, 0), name))))
    if isinstance(picture, np.ndarray) and picture.size:
        pixels = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
        if pixels.ndim == 2 or pixels.ndim == 3 and pixels.shape[2] in (3, 4):
            return np.array(to_rgb(Image.fromarray(_eight_bits(pixels, name))))
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


def write_image(path: str | Path, image: np.ndarray, xmp: str | None = None) -> None:
    """Write ``uint8 [H, W, 3]`` as ``.png`` or ``.jpg``, with metadata; the file appears complete or not at all."""
    options = _save_options(path)
    if xmp is not None:
        options |= {"xmp": xmp.encode()} if options["format"] == "JPEG" else {"pnginfo": _png_text(xmp)}
    with replacing(path) as temporary, writing_errors(path):
        Image.fromarray(image).save(temporary, **options)


def to_jpeg(image: np.ndarray, xmp: str | None = None, quality: int = 90) -> bytes:
    """``uint8 [H, W, 3]`` as the bytes of a JPEG file, with metadata: for pictures that are shown and not kept."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality, **({} if xmp is None else {"xmp": xmp.encode()}))
    return data.getvalue()


def from_jpeg(data: bytes, name: str) -> np.ndarray:
    """The picture, ``uint8 [H, W, 3]``, in the bytes of a JPEG file.  Raises UserError, which calls it ``name``."""
    with image_errors(name):
        return as_image(Image.open(io.BytesIO(data), formats=["JPEG"]), name)


def _png_text(xmp: str) -> PngInfo:
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp)
    return text


def _save_options(path: str | Path) -> dict[str, Any]:
    suffix = Path(path).suffix
    if suffix.lower() not in _SAVE_OPTIONS:
        raise UserError(f"{path}: cannot write a picture of type {suffix!r}; use .png or .jpg")
    return dict(_SAVE_OPTIONS[suffix.lower()])


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
