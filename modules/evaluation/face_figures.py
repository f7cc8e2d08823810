"""What the measuring network says of faces that were painted into pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .judges.face_meter import Reading
from .portrait_figures import Judge
from .portrait_tasks import Asked
from .ruler import Ruler

COLUMNS = ("ID", "first %", "SIM", "EXP %", "POSE mean")


class FaceJudge:
    """Judges readings of the pictures of one task.

    Args:
        taught, known: other people's portraits, to learn expressions from, and the reading of their renders.
        wanted, truth: readings of the people that are wanted, and of the renders of what is asked for.
        beside: readings of the N others in the triples, one or two each, who are not to be seen.
    """

    def __init__(
        self,
        ruler: Ruler,
        asked: Asked,
        taught: Asked,
        known: Reading,
        wanted: Reading,
        truth: Reading,
        beside: Sequence[Reading],
    ):
        self.judge = Judge(ruler, asked, taught, wanted, truth, known)
        self.wanted, self.beside = wanted.z_id[asked.person], [reading.z_id for reading in beside]

    def each(self, found: Reading) -> dict[str, Tensor]:
        """Figures of every picture, ``[N]`` each.

        They are those of :meth:`.portrait_figures.Judge.each`, and own %: 100 where the picture's person is nearer to
        the one that is wanted than to the others of its triple, else 0.
        """
        wanted, *beside = ((found.z_id * z).sum(dim=1) for z in (self.wanted, *self.beside))
        figures = self.judge.each(found)[0]
        own = 100 * (wanted > torch.stack(beside).amax(dim=0)).float()
        return {name: figures[name] for name in COLUMNS} | {"own %": own}


def background_error(images: Tensor, target: Tensor, outside: Tensor) -> Tensor:
    """Mean difference of bytes ``[N, 3, H, W]`` where ``outside [N, 1, H, W]`` is 1: ``[N]``, of 255."""
    errors = (images.float() - target.float()).abs().mean(dim=1, keepdim=True)
    return (errors * outside).sum(dim=(1, 2, 3)) / outside.sum(dim=(1, 2, 3))
