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

        They are those of :meth:`.portrait_figures.Judge.each`, and

        - own %: 100 where the picture's person is nearer to the one that is wanted than to the others of its triple,
          else 0
        - leak: the cosine to the others of its triple, more than to those of all other triples, in the mean; 0 where
          nothing of them is seen
        """
        figures = self.judge.each(found)[0]
        beside = [found.z_id @ z.T for z in self.beside]
        wanted, others = (found.z_id * self.wanted).sum(dim=1), torch.stack([each.diagonal() for each in beside])
        strangers = torch.stack([each.sum(dim=1) - each.diagonal() for each in beside]) / (len(wanted) - 1)
        return {name: figures[name] for name in COLUMNS} | {
            "own %": 100 * (wanted > others.amax(dim=0)).float(),
            "leak": (others - strangers).mean(dim=0),
        }


def background_error(images: Tensor, target: Tensor, outside: Tensor) -> Tensor:
    """Mean difference of bytes ``[N, 3, H, W]`` where ``outside [N, 1, H, W]`` is 1: ``[N]``, of 255."""
    errors = (images.float() - target.float()).abs().mean(dim=1, keepdim=True)
    return (errors * outside).sum(dim=(1, 2, 3)) / outside.sum(dim=(1, 2, 3))
