"""Whether an exemplar shows a portrait's expression and pose, and somebody else.

What is looked at trains, and so measures nothing: SID's encoder reads action units and pose, MobileFace tells people.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...bundled import bundled
from ...config.files import load_animation_config
from ...devices import best_device
from ...errors import UserError
from ...faces.analysis import load_analyser
from ...faces.close_crop import cut_crop
from ...faces.framer import Framer
from ...faces.landmarks68 import five_points
from ...faces.recognition import MobileFace
from ...media.tensors import to_tensor
from ...sid.rigged.codes import ANGLE
from ...sid.rigged.model import load_rigged

CONFIG, WEIGHTS = "config/rigged.yaml", "SID_Checkpoints/sid-rigged-256-cpk.pth"
SIDE = 256  # pixels of the crop that SID's encoder sees
TURNS = 3  # numbers of z_pose that turn the head


@dataclass(frozen=True)
class Limits:
    """What is kept: chosen on renders, whose truth is known (``python -m benchmarks.idi``)."""

    expression: float = 0.1  # most mean difference of action units
    pose: float = 4.5  # most mean difference of yaw, pitch and roll, degrees
    identity: float = 0.55  # most cosine of two people


class Seen(NamedTuple):
    """A face: expression ``[E]``, yaw, pitch and roll ``[3]`` in degrees, identity ``[256]`` of unit length."""

    expression: Tensor
    pose: Tensor
    identity: Tensor


class Verdict(NamedTuple):
    """How far two faces are from each other, in the units of :class:`Limits`, and what speaks against the pair."""

    expression: float
    pose: float
    identity: float
    against: str | None


class PairJudge:
    """Looks at portraits and exemplars."""

    def __init__(self, limits: Limits, cpu: bool = False):
        self.limits, self.device = limits, best_device(cpu)
        framing = load_animation_config(str(bundled(CONFIG))).framing_params
        self._model = load_rigged(bundled(WEIGHTS)).to(self.device)
        self._framer = Framer(framing.size, framing.above, cpu=cpu)
        self._analyser, self._recognise = load_analyser(self.device), MobileFace().to(self.device)

    @torch.no_grad()
    def see(self, picture: np.ndarray, where: str | Path) -> Seen:
        """The main face of a uint8 picture ``[H, W, 3]``.  Raises UserError where there is none."""
        crop = self._framer.picture(picture, str(where), upright=False)
        frame = to_tensor([cut_crop(picture, crop, SIDE)], self.device)
        read = self._model.encoder(frame, self._model.points(frame))
        face = self._analyser.analyse(picture)[0]
        points = five_points(face.landmarks[None])[..., :2]
        identity = self._recognise(to_tensor([picture], self.device), points)
        return Seen(read.expression[0], ANGLE * read.pose[0, :TURNS], identity[0])

    def verdict(self, portrait: Seen, exemplar: Seen) -> Verdict:
        """Whether two faces make a pair."""
        expression = float((portrait.expression - exemplar.expression).abs().mean())
        pose = float((portrait.pose - exemplar.pose).abs().mean())
        identity = float(portrait.identity @ exemplar.identity)
        against = None
        if expression > self.limits.expression:
            against = "another expression"
        elif pose > self.limits.pose:
            against = "another pose"
        elif identity > self.limits.identity:
            against = "the same person"
        return Verdict(expression, pose, identity, against)

    def judge(self, portrait: np.ndarray, exemplar: np.ndarray, where: str | Path) -> Verdict:
        """:meth:`verdict` on two pictures; ``where`` names the portrait's.  Without a face there is no pair."""
        try:
            return self.verdict(self.see(portrait, where), self.see(exemplar, "the exemplar"))
        except UserError as error:
            return Verdict(float("nan"), float("nan"), float("nan"), str(error))
