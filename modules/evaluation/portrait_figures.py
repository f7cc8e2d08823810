"""What the measuring network reads off portraits, compared with what was asked for: the paper's table 3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from ..world import CATEGORIES, Faces, category
from .disentanglement import ridge
from .judges.face_meter import FaceMeter, Reading
from .metrics import Figures
from .portrait_tasks import CLASSES, Asked
from .ruler import Ruler

CHUNK = 64  # pictures read at once


def read(meter: FaceMeter, images: Tensor) -> Reading:
    """The meter's reading of any number of pictures, bytes ``[N, 3, H, W]``."""
    with torch.inference_mode():
        parts = [meter(part / 255) for part in images.split(CHUNK)]
    scene = {name: torch.cat([part.scene[name] for part in parts]) for name in CATEGORIES}
    plain = (torch.cat(values) for values in zip(*(part[:7] for part in parts), strict=True))
    return Reading(*plain, scene, [])


class Judge:
    """Compares readings of portraits with what was asked for.

    Args:
        taught: other people's portraits, to learn expressions from.
        source, truth, known: readings of the photographs of the people, of the portraits' renders, and of ``taught``'s.
        beside: of the N others whose pictures each portrait was made with, one or two each: they are not to be seen.
    """

    def __init__(
        self,
        ruler: Ruler,
        asked: Asked,
        taught: Asked,
        source: Reading,
        truth: Reading,
        known: Reading,
        beside: Sequence[Reading],
    ):
        self.ruler, self.asked, self.source, self.truth, self.beside = ruler, asked, source, truth, beside
        self.known = known.z_exp.double()
        self.known_classes = F.one_hot(taught.shown, len(CLASSES)).double()

    def each(self, found: Reading) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Figures of every portrait ``[N]``, and whether each attribute is there, nan where the prompt names none.

        - ID: 1 - cosine of the meter's z_id on portrait and photograph (0: the same person); first %: 100 where the
          photograph nearest to the portrait among all people's is the person's, else 0
        - own %: 100 where the person's photograph is nearer to the portrait than those of the others, else 0: there
          somebody else has leaked in; leak: the cosine to those others, more than to other portraits' others in the
          mean, 0 where nothing of them is seen
        - SEMCHG: share of the attributes which the prompt names, and which the photograph contradicts, that are there;
          prompt %: of all that the prompt names
        - SIM: distance of expressions of portrait and render (:meth:`Ruler.expression_distance`); EXP %: 100 where the
          expression's class is the driver's, by a linear readout of the meter's z_exp taught on renders, else 0
        - AU: mean error of the action units (EmojiDiff's Exp)
        - POSE mean: mean error of yaw, pitch and roll in degrees
        """
        asked, person = self.asked, self.asked.person
        cosine = found.z_id @ self.source.z_id.T
        own = cosine.gather(1, person[:, None])[:, 0]
        beside = torch.stack([found.z_id @ reading.z_id.T for reading in self.beside])
        others = beside.diagonal(dim1=1, dim2=2)
        strangers = (beside.sum(dim=2) - others) / (len(own) - 1)
        scores = ridge(self.known, self.known_classes, 1, found.z_exp.double())
        there, differs = self._attributes(found)
        changed = torch.where(differs, there, torch.nan)
        figures = {
            "ID": 1 - own,
            "first %": 100 * (cosine.argmax(dim=1) == person).float(),
            "own %": 100 * (own > others.amax(dim=0)).float(),
            "leak": (others - strangers).mean(dim=0),
            "SEMCHG": changed.nanmean(dim=1),
            "prompt %": 100 * there.nanmean(dim=1),
            "SIM": self.ruler.expression_distance(found, self.truth),
            "EXP %": 100 * (scores.argmax(dim=1) == asked.shown).float(),
            "AU": (found.action_units - asked.truth.action_units).abs().mean(dim=1),
            "POSE mean": (found.pose - asked.truth.pose)[:, :3].abs().mean(dim=1),
        }
        return figures, dict(zip(CATEGORIES, there.unbind(dim=1), strict=True))

    def _attributes(self, found: Reading) -> tuple[Tensor, Tensor]:
        """Whether each attribute is there, nan where no prompt names it; whether the photograph has another."""
        there, differs = [], []
        for name in CATEGORIES:
            wanted, own = category(self.asked.truth, name), category(self.asked.source, name)[self.asked.person]
            right = (found.scene[name].argmax(dim=1) == wanted).float()
            there.append(torch.where(named(self.asked.truth, name), right, torch.nan))
            differs.append(wanted != own)
        return torch.stack(there, dim=1), torch.stack(differs, dim=1)


def named(faces: Faces, name: str) -> Tensor:
    """Whether a caption of each face names this attribute, ``[N]``: what is not worn is left out of it."""
    if name in ("hair_color", "hat_color"):
        bearer, without = ("hair_style", "bald") if name == "hair_color" else ("hat", "none")
        return category(faces, bearer) != CATEGORIES[bearer].index(without)
    words = CATEGORIES[name]
    return category(faces, name) != words.index("none") if "none" in words else torch.ones(faces.size, dtype=torch.bool)


def summary(figures: dict[str, Tensor], distance: float, seconds: float | None) -> Figures:
    """A row of the paper's table 3: means, and POSE's median beside its mean; without a time where no network drew."""
    row = {name: float(values.nanmean()) for name, values in figures.items() if not values.isnan().all()}
    row |= {"POSE": float(figures["POSE mean"].median()), "FD-world": distance}
    return row if seconds is None else row | {"TIME": seconds}


class Features(torch.nn.Module):
    """The meter's embeddings of pictures ``[B, 3, H, W]`` in [0, 1]: ``[B, F]``, each number over its own spread.

    Args:
        spread: of every feature ``[F]``; without, identity of unit length would weigh nothing beside the rest.
    """

    def __init__(self, meter: FaceMeter, spread: Tensor):
        super().__init__()
        self.meter, self.num_features = meter, len(spread)
        self.register_buffer("spread", spread)

    def forward(self, images: Tensor) -> Tensor:
        found = self.meter(images)
        return torch.cat([found.z_id, found.z_exp, found.z_pose], dim=1) / self.spread


class WorldDistance:
    """FD-world: Frechet distance (Heusel et al., 2017) of the meter's embeddings to those of renders of others.

    The meter is trained to ignore blur and noise: it measures who and what faces show, not how sharp they are.

    Args:
        known: reading of ``others``, which are bytes.
    """

    def __init__(self, meter: FaceMeter, others: Tensor, known: Reading):
        spread = torch.cat([known.z_id, known.z_exp, known.z_pose], dim=1).std(dim=0).clamp_min(1e-6)
        self.metric = FrechetInceptionDistance(Features(meter, spread), reset_real_features=False)
        self._update(others, real=True)

    def __call__(self, images: Tensor) -> float:
        self.metric.reset()
        self._update(images, real=False)
        return float(self.metric.compute())

    @torch.inference_mode()
    def _update(self, images: Tensor, real: bool) -> None:
        for part in images.split(CHUNK):
            self.metric.update(part / 255, real=real)
