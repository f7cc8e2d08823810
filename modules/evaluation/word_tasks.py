"""Faces asked to show the 135 words for expressions, and how well one says the word that it was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..mef.embeddings import Embedder
from ..mef.inference import named_expression
from ..world.emotions import Emotion, emotions
from ..world.showing import draw_shown, state_of
from .face_tasks import Triples
from .people import MEASURING_SEED
from .portrait_tasks import CLASSES


def spread(count: int) -> list[Emotion]:
    """``count`` words, evenly through the tree; where there are more than words, they come again."""
    words = list(emotions().values())
    step = max(1, len(words) / count)
    return [words[int(i * step) % len(words)] for i in range(count)]


def showing(triples: Triples, words: Sequence[Emotion]) -> Triples:
    """The same people and pictures; each driver shows its word, in a way of its own (:func:`.showing.draw_shown`)."""
    drawn = [draw_shown(word, 1, MEASURING_SEED) for word in words]
    units, asymmetry, gaze = (torch.cat(part) for part in zip(*drawn, strict=True))
    driver = triples.driver._replace(action_units=units, asymmetry=asymmetry, gaze=gaze)
    return triples._replace(driver=driver, shown=torch.tensor([CLASSES.index(word.looks) for word in words]))


def told(embedder: Embedder, words: Sequence[Emotion]) -> Tensor:
    """The embeddings ``[N, width]`` that ``--expression`` makes of words."""
    named = {word: named_expression(embedder, word).cpu() for word in dict.fromkeys(word.name for word in words)}
    return torch.cat([named[word.name] for word in words])


def figures(units: Tensor, words: Sequence[Emotion]) -> dict[str, Tensor]:
    """How a face's action units ``[N, A]``, as they were read, stand to all 135 words, for each of N faces.

    The nearest word is the one whose mean units are nearest, as the mean of both sides.

    - family %: 100 where the nearest word is of the asked word's family, of six, else 0
    - rank: the asked word's place among all, by distance: 1 is the nearest, 68 what chance gives
    - first ten %: 100 where that is at most 10, else 0
    """
    known = list(emotions().values())
    means = torch.stack([state_of([(word, 1.0)]).units[0].mean(dim=0) for word in known])
    asked = torch.tensor([known.index(word) for word in words])
    distance = torch.cdist(units, means)
    rank = 1 + (distance < distance.gather(1, asked[:, None])).sum(dim=1)
    nearest = [known[i].family for i in distance.argmin(dim=1).tolist()]
    right = [family == word.family for family, word in zip(nearest, words, strict=True)]
    return {
        "family %": 100 * torch.tensor(right).float(),
        "rank": rank.float(),
        "first ten %": 100 * (rank <= 10).float(),
    }
