"""What Pillow makes of a file: pictures, animations, and what goes wrong with them."""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageCms, ImageOps

from ..errors import UserError, cause

NO_PICTURES = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow knows them, but needs more to read them
_ANIMATED = {"AVIF", "PNG", "WEBP"}  # which FFmpeg reads badly or not at all, when they move; GIF it reads well
_HEIF_BRANDS = {b"avif", b"heic", b"heim", b"heis", b"heix", b"mif1"}  # of single pictures, often cut into tiles
_UNTOLD = 100  # milliseconds that a frame is shown which does not say for how long, as in browsers


def told_kind(path: str | Path) -> Literal["picture", "video"] | None:
    """What the bytes of a file say that it is; None where there is no such file, or Pillow does not know it."""
    if not os.path.isfile(path):
        return None
    with contextlib.suppress(Exception), Image.open(path) as image:  # damage is told by who reads it
        if image.format in NO_PICTURES:
            return None
        moves = image.format in _ANIMATED | {"GIF"} and getattr(image, "is_animated", False)
        return "video" if moves else "picture"
    return "picture" if is_heif(path) else None


def is_heif(path: str | Path) -> bool:
    """Whether this is one picture in the family of HEIC.  FFmpeg would take its first tile for a video."""
    head = _head(path)
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def is_animation(path: str | Path) -> bool:
    """Whether :func:`read_animation` is to read this video."""
    head = _head(path)
    signed = head.startswith(b"\x89PNG\r\n") or head[8:12] == b"WEBP" or head[4:10] == b"ftypav"
    return signed and told_kind(path) == "video"


def _head(path: str | Path) -> bytes:
    with contextlib.suppress(OSError, ValueError), open(str(path), "rb") as file:
        return file.read(12)
    return b""


def read_animation(path: str | Path) -> Iterator[tuple[np.ndarray, float, float]]:
    """The frames of an animated picture: ``uint8 [H, W, 3]``, and when and how long each is shown, in seconds.

    Raises:
        UserError: the file is damaged or cut off.
    """
    with image_errors(path), Image.open(path) as image:
        time = 0.0
        # An APNG may begin with a picture that only programs show which know no animations.
        for number in range(bool(image.info.get("default_image")), getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            duration = float(image.info.get("duration") or _UNTOLD) / 1000
            yield np.array(to_rgb(ImageOps.exif_transpose(image))), time, duration
            time += duration


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB: in sRGB's colours, transparency over white, each value in 8 bits.

    A colour profile that the picture brings is applied; one that is broken or of another kind of picture is passed
    over, as browsers do.  Of whole numbers of more than 8 bits 65535 is taken for white.  Floats are taken for levels
    as a screen takes them, not for light: from 0 to 1 where none is above 2 (filters overshoot), else from 0 to 255;
    what is outside is clipped.
    """
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16 bits at 255, which turns nearly everything white.
        grey = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        levels = np.nan_to_num(np.asarray(image).astype(np.float64))
        levels = levels * 255 if levels.max() <= 2 else levels
        image = Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = image.getchannel("A")
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode in ("1", "LA") else "RGB")
    image = (_in_srgb(image, profile) if profile else image).convert("RGB")
    if alpha is not None:
        image.putalpha(alpha)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture (L, RGB or CMYK) converted from its colour profile to sRGB, as RGB; as it is if that cannot be."""
    # The profile may be any bytes: Pillow raises what it likes.
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        change = _to_srgb(profile, image.mode)
        return image if change is None else ImageCms.applyTransform(image, change)
    return image


@functools.lru_cache(maxsize=8)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What converts to sRGB; None where that changes no level by more than rounding does, as with sRGB itself."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    change = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "CMYK":
        return change
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
    sample = Image.fromarray(cube if mode == "RGB" else cube[..., 0])
    before, after = (
        np.asarray(s.convert("RGB")).astype(int) for s in (sample, ImageCms.applyTransform(sample, change))
    )
    return None if np.abs(before - after).max() <= 1 else change


@contextlib.contextmanager
def image_errors(path: Any) -> Iterator[None]:
    """Turn what Pillow raises into one line with the path."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the name") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give the name of a picture") from None
    except Image.UnidentifiedImageError:
        if is_heif(path):
            raise UserError(f"{path}: is a HEIC picture, which cannot be decoded here; convert it to JPEG") from None
        raise UserError(f"{path}: is not a picture that can be read; give a PNG, JPEG or WebP file") from None
    except UserError:
        raise
    except Image.DecompressionBombError:
        most = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise UserError(f"{path}: has more than {most} million pixels; make the picture smaller") from None
    except Exception as error:  # Pillow's plugins raise anything: struct.error, KeyError, IndexError, MemoryError, ...
        raise UserError(f"{path}: the picture cannot be read ({cause(error)}); is the file complete?") from None
