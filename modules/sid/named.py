"""Photographs that show an expression by name, without a driver: a picture, or a clip that goes there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import media
from ..data.expression_bank import pictures_of_word
from ..progress import Bar
from ..world.curves import step
from ..world.emotions import NEUTRAL, parse
from ..world.showing import state_of
from .driving import Animates
from .framing import Framing
from .inference import Animated

FRAME_RATE = 25
EASING = 0.6  # seconds that an expression takes to come, and to go
EASING_SHARE = 0.35  # of a clip's time, at most


def code_of(animator: Animates, expression: str, bank: str | None, framing: Framing) -> Tensor:
    """The code ``[1, E]`` of words and their weights (:func:`.emotions.parse`).

    With ``bank``, a folder ``word/*.jpg``, a word is what its pictures show in the mean.

    Raises:
        UserError: an unknown word, a word without pictures, or a picture without a face.
    """
    if bank is None:
        return animator.code_of_state(state_of(parse(expression)))
    mixture = parse(expression, lambda word: pictures_of_word(Path(bank), word))
    return sum(weight * _mean_of(animator, files, framing) for files, weight in mixture)


def _mean_of(animator: Animates, files: list[Path], framing: Framing) -> Tensor:
    codes = [animator.code_of_picture(framing.image(path)) for path in files]
    return torch.cat(codes).mean(dim=0, keepdim=True)


def way_there_and_back(seconds: float) -> list[float]:
    """Shares of an expression, one for each frame of a clip: it comes, stays and goes, from 0 to 0."""
    count = max(3, round(seconds * FRAME_RATE))
    easing = min(EASING, EASING_SHARE * seconds) * FRAME_RATE
    from_ends = np.minimum(np.arange(count), np.arange(count)[::-1])
    return step(from_ends / easing, 0, 1).tolist()


def show_image(
    animated: Animated, source: str, expression: str | None, result: str, framing: Framing, bank: str | None = None
) -> None:
    """Write the source with the expression; without one, as the options alone change it."""
    person = framing.source(source)
    animator = animated(person)
    code, share = code_of(animator, expression or NEUTRAL, bank, framing), 0.0 if expression is None else 1.0
    (picture,) = animator.show(code, [share])
    media.write_image(result, framing.shown(person, None, framing.finisher(person)(picture)), framing.xmp)


def show_video(
    animated: Animated,
    source: str,
    expression: str,
    result: str,
    framing: Framing,
    seconds: float,
    bank: str | None = None,
) -> int:
    """Write a clip of the source in which the expression comes and goes; return the number of frames."""
    person = framing.source(source)
    animator, finish, shares = animated(person), framing.finisher(person), way_there_and_back(seconds)
    code = code_of(animator, expression, bank, framing)
    example = person.image if person.large is None else person.picture
    height, width = framing.shown(person, None, example).shape[:2]
    bar = Bar(len(shares), Path(result).name)
    with bar, media.VideoWriter(result, width, height, FRAME_RATE, xmp=framing.xmp) as writer:
        for i, picture in enumerate(animator.show(code, bar.over(shares))):
            writer.write(framing.shown(person, None, finish(picture)), i / FRAME_RATE)
    return writer.count
