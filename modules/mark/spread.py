"""A mark that is not seen: a faint known pattern, found again by a statistical test.

Spread spectrum (I. J. Cox, J. Kilian, F. T. Leighton, T. Shamoon, *Secure Spread Spectrum Watermarking for
Multimedia*, IEEE Transactions on Image Processing 6(12), 1997): thousands of middle frequencies of the picture are
changed a little, up or down as a sequence of signs says.  Signs and frequencies are those of a square of ``SIDE``
pixels to which every picture is resized, so that a resized picture keeps its mark.  It is stronger where a picture has
texture that hides it.

The test: with signs ``w`` that know nothing of a picture, and whatever coefficients ``c`` it has, ``z = <w, c> / |c|``
is a sum of independent terms, and Hoeffding's inequality bounds the chance that it exceeds t by exp(-t^2 / 2).  The
threshold is the t at which this is ``FALSE_ALARMS``; no assumption about pictures is in it.

The signs are public: who wants the mark gone can remove it.  It tells those who ask, and stops nobody.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable

import numpy as np
from PIL import Image
from scipy.fft import dctn, idctn
from scipy.ndimage import uniform_filter

SIDE = 256
BAND = 20, 100  # of the DCT's indices, from the corner: 10 to 50 periods across a picture
KEY = b"DeepExpr mark 1"
FALSE_ALARMS = 1e-6  # of unmarked pictures, at most so many are taken for marked
THRESHOLD = math.sqrt(2 * math.log(1 / FALSE_ALARMS))
# Standard deviation of the mark, in grey levels: what it is at least, its share of the texture around, and at most.
LEAST, SHARE, MOST = 0.6, 0.06, 2.0
NEAR = 9  # pixels of the square within which texture is measured
LIGHT = 0.299, 0.587, 0.114  # of R, G and B in BT.601's luma


def add(image: np.ndarray) -> np.ndarray:
    """A picture, uint8 ``[H, W, 3]``, with the mark.

    Pictures with a side below ``SIDE`` lack some of the frequencies, and are marked more strongly for it.
    """
    height, width = image.shape[:2]
    texture = _deviation(_square(image))
    loud = np.float32(math.sqrt(min(2, max(1, SIDE / min(height, width)))))
    faint = _pattern() * np.clip(SHARE * texture, LEAST, MOST) * loud
    change = np.asarray(Image.fromarray(faint).resize((width, height), Image.Resampling.BICUBIC))
    return np.rint(image + change[..., None]).clip(0, 255).astype(np.uint8)


def score(images: Iterable[np.ndarray]) -> float:
    """z of one picture, or of a video by the mean of its frames, uint8 ``[H, W, 3]``; marked above ``THRESHOLD``."""
    total = sum(_coefficients(image) for image in images)
    return float(_signs() @ total / (np.linalg.norm(total) + 1e-9))


def _coefficients(image: np.ndarray) -> np.ndarray:
    """The band of a picture, ``[K]``, each as much as the others: edges and low frequencies would drown the rest."""
    square = _square(image)
    flat = (square - uniform_filter(square, NEAR)) / (_deviation(square) + LEAST)
    found = dctn(flat, norm="ortho")[_band()]
    return np.clip(found, -1, 1)


def _square(image: np.ndarray) -> np.ndarray:
    """The luma of a picture in the square."""
    luma = Image.fromarray(image).convert("L").convert("F")
    return np.asarray(luma.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0))


def _deviation(square: np.ndarray) -> np.ndarray:
    """The standard deviation around each pixel."""
    mean = uniform_filter(square, NEAR)
    return np.sqrt(np.maximum(uniform_filter(square * square, NEAR) - mean * mean, 0))


@functools.cache
def _band() -> np.ndarray:
    """Which frequencies carry the mark, bool ``[SIDE, SIDE]``."""
    radius = np.hypot(*np.mgrid[:SIDE, :SIDE])
    return (BAND[0] <= radius) & (radius < BAND[1])


@functools.cache
def _signs() -> np.ndarray:
    """1 or -1 for each of them, ``[K]``; of a hash, so that no library's generator has to stay as it is."""
    count = int(_band().sum())
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(KEY).digest(count // 8 + 1), np.uint8))
    return bits[:count] * np.float32(2) - 1


@functools.cache
def _pattern() -> np.ndarray:
    """The signs as a picture, float32 ``[SIDE, SIDE]``, of standard deviation 1."""
    spectrum = np.zeros((SIDE, SIDE), np.float32)
    spectrum[_band()] = _signs()
    pattern = idctn(spectrum, norm="ortho")
    return (pattern / pattern.std()).astype(np.float32)
