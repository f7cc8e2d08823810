"""Portraits that MEF is asked for and draws, and what the measuring network reads off them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from tqdm import tqdm

from modules.data.synthetic import (
    CATEGORIES,
    EXPRESSIONS,
    Faces,
    captions,
    category,
    draw_expressions,
    draw_identities,
    draw_poses,
    draw_scenes,
    expression,
)
from modules.evaluation.disentanglement import ridge
from modules.evaluation.meter import FaceMeter, Reading
from modules.evaluation.metrics import Figures
from modules.evaluation.ruler import Ruler
from modules.evaluation.world import MEASURING_SEED, renders
from modules.mef.config import PortraitEvaluateParams
from modules.mef.pipeline import DeepExprPipeline
from modules.sid.animator import to_images

BATCH = 8  # portraits drawn together
TEACHERS = 600  # renders of others: they teach the classifier of expressions, and FD-world is the distance to them
CLASSES = tuple(EXPRESSIONS)


class Asked(NamedTuple):
    """N portraits, a person's in a row.

    Attributes:
        source: photographs of P people, who is wanted; each with expression, pose and scene of its own.
        driver: N photographs of other people, each of another one: the expression and pose wanted.
        truth: N faces: the person with that expression and pose in the scene that the prompt tells of.
        shown: the number in :data:`CLASSES` of each driver's expression.
        elsewise: the number of another expression, for prompts that contradict the driver.
    """

    source: Faces
    driver: Faces
    truth: Faces
    shown: Tensor
    elsewise: Tensor

    @property
    def person(self) -> Tensor:
        """The row in ``source`` of each portrait."""
        return torch.arange(self.truth.size) // (self.truth.size // self.source.size)

    def prompts(self, contradict: bool = False) -> list[str]:
        """The scene in words, without expression; with ``contradict`` it names another than the driver's."""
        if not contradict:
            return captions(self.truth)
        return captions(self.truth._replace(action_units=_units(self.elsewise)), expression=True)


def _units(classes: Tensor) -> Tensor:
    return torch.stack([expression(CLASSES[number]) for number in classes.tolist()])


def ask(people: int, expressions: int, seed: int = MEASURING_SEED) -> Asked:
    """``expressions`` portraits each of ``people`` people whom nothing was trained on."""
    count = people * expressions
    who, poses = draw_identities(people + count, seed), draw_poses(people + count, seed)
    units, asymmetry, gaze = draw_expressions(people, seed)
    scenes = draw_scenes(people + 2 * count, seed).split([people, count, count])
    source = Faces(who[:people], units, asymmetry, gaze, poses[:people], scenes[0])
    shown = torch.arange(count) % len(CLASSES)
    still = torch.zeros(count, asymmetry.shape[1]), torch.zeros(count, 2)
    driver = Faces(who[people:], _units(shown), *still, poses[people:], scenes[1])
    truth = driver._replace(identity=who[:people].repeat_interleave(expressions, dim=0), scene=scenes[2])
    return Asked(source, driver, truth, shown, (shown + 3) % len(CLASSES))


class Drawn(NamedTuple):
    """Portraits ``[N, 3, H, W]`` in [0, 1] as 8-bit files hold them, and the seconds each took."""

    image: Tensor
    seconds: float


@dataclass(frozen=True)
class Way:
    """One way to draw: strengths of the adapters, and whether the prompt contradicts the driver's expression."""

    name: str
    identity: float = 1.0
    expression: float = 1.0
    contradict: bool = False


WAYS = (
    Way("both adapters"),
    Way("prompt names another expression", contradict=True),
    Way("no identity adapter", identity=0),
    Way("no expression adapter", expression=0),
    Way("base alone", identity=0, expression=0),
)


def draw(
    pipeline: DeepExprPipeline, way: Way, asked: Asked, embeddings: tuple[Tensor, Tensor],
    params: PortraitEvaluateParams,
) -> Drawn:
    """All portraits, the n-th from the noise of seed n; ``embeddings`` of identity and expression are ``[N, d]``."""
    prompts, images = asked.prompts(way.contradict), []
    started = time.perf_counter()
    for start in tqdm(range(0, len(prompts), BATCH), desc=way.name, unit="batch", leave=False):
        rows = slice(start, start + BATCH)
        numbers = range(start, min(start + BATCH, len(prompts)))
        images.append(
            pipeline(
                prompts[rows],
                identity_embedding=embeddings[0][rows],
                expression_embedding=embeddings[1][rows],
                identity_scale=way.identity,
                expression_scale=way.expression,
                guidance_scale=params.guidance_scale,
                num_inference_steps=params.steps,
                generator=[torch.Generator().manual_seed(params.seed + number) for number in numbers],
                output_type="pt",
            ).images.float().cpu()
        )
    seconds = (time.perf_counter() - started) / len(prompts)
    return Drawn(_quantised(torch.cat(images)), seconds)


def rendered(faces: Faces, size: int, what: str) -> Tensor:
    """Renders of faces ``[N, 3, size, size]``, as files would hold them."""
    return _quantised(torch.cat([part.image for part in renders(faces, size, what)]))


def _quantised(images: Tensor) -> Tensor:
    return (images * 255).round() / 255


@torch.no_grad()
def through_vae(pipeline: DeepExprPipeline, images: Tensor) -> Drawn:
    """What the base's autoencoder makes of pictures: the best that its portraits could be."""
    vae, parts = pipeline.base.vae, []
    started = time.perf_counter()
    for part in images.split(BATCH):
        latents = vae.encode(part.to(vae.device, vae.dtype) * 2 - 1).latent_dist.mode()
        parts.append((vae.decode(latents).sample.float().cpu() / 2 + 0.5).clamp(0, 1))
    return Drawn(_quantised(torch.cat(parts)), (time.perf_counter() - started) / len(images))


def embed(pipeline: DeepExprPipeline, asked: Asked, source: Tensor, driver: Tensor) -> tuple[Tensor, Tensor]:
    """Identity embeddings of the sources, one per portrait, and expression embeddings of the drivers."""
    identity = torch.cat([pipeline.embedder(to_images(part))[0].cpu() for part in source.split(BATCH)])
    expressions = torch.cat([pipeline.embedder(to_images(part))[1].cpu() for part in driver.split(BATCH)])
    return identity[asked.person], expressions


# ---------------------------------------------------------------------------------------------------------- measuring


def read(meter: FaceMeter, images: Tensor) -> Reading:
    """The meter's reading of any number of pictures."""
    with torch.inference_mode():
        parts = [meter(part) for part in images.split(64)]
    semantics = type(parts[0].semantics)(*(torch.cat(z) for z in zip(*(p.semantics for p in parts), strict=True)))
    scene = {name: torch.cat([part.scene[name] for part in parts]) for name in CATEGORIES}
    plain = (torch.cat(values) for values in zip(*(part[:5] for part in parts), strict=True))
    return Reading(*plain, semantics, scene, [])


class Judge:
    """Compares readings of portraits with what was asked for.

    Args:
        taught: other people's portraits, to learn expressions from.
        source, truth, known: readings of the photographs of the people, of the portraits' renders, and of ``taught``'s.
    """

    def __init__(self, ruler: Ruler, asked: Asked, taught: Asked, source: Reading, truth: Reading, known: Reading):
        self.ruler, self.asked, self.source, self.truth = ruler, asked, source, truth
        self.known = known.semantics.expression.double()
        self.known_classes = F.one_hot(taught.shown, len(CLASSES)).double()

    def each(self, found: Reading) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Figures of every portrait ``[N]``, and whether each attribute is there, nan where the prompt names none.

        - ID: 1 - cosine of the meter's z_id on portrait and photograph (0: the same person); first: whether the photo
          nearest to the portrait among all people's is the person's
        - SEMCHG: share of the attributes which the prompt names, and which the photograph contradicts, that are there;
          prompt: of all that the prompt names
        - SIM: distance of expressions of portrait and render (:meth:`Ruler.expression_distance`); EXP: whether the
          expression's class is the driver's, by a linear readout of the meter's z_exp taught on renders
        - POSE: mean error of yaw, pitch and roll in degrees
        """
        asked, person = self.asked, self.asked.person
        cosine = found.z_id @ self.source.z_id.T
        scores = ridge(self.known, self.known_classes, 1, found.semantics.expression.double())
        there, differs = self._attributes(found)
        changed = torch.where(differs, there, torch.nan)
        figures = {
            "ID": 1 - cosine.gather(1, person[:, None])[:, 0],
            "first": (cosine.argmax(dim=1) == person).float(),
            "SEMCHG": changed.nanmean(dim=1),
            "prompt": there.nanmean(dim=1),
            "SIM": self.ruler.expression_distance(found, self.truth),
            "EXP": (scores.argmax(dim=1) == asked.shown).float(),
            "POSE": (found.pose - asked.truth.pose)[:, :3].abs().mean(dim=1),
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


def summary(figures: dict[str, Tensor], distance: float, seconds: float) -> Figures:
    """A row of the paper's table 3: shares in %, the pose's median, means of the others."""

    def mean(name: str) -> float:
        return float(figures[name].nanmean())

    return {
        "ID": mean("ID"), "first %": 100 * mean("first"), "SEMCHG": mean("SEMCHG"), "prompt %": 100 * mean("prompt"),
        "SIM": mean("SIM"), "EXP %": 100 * mean("EXP"), "POSE": float(figures["POSE"].median()),
        "FD-world": distance, "TIME": seconds,
    }


class _Features(torch.nn.Module):
    """What the meter's embeddings say of pictures ``[B, 3, H, W]``, bytes, as torchmetrics hands them over."""

    def __init__(self, meter: FaceMeter):
        super().__init__()
        self.meter = meter
        self.num_features = meter.params.identity_dim + meter.params.expression_dim + meter.params.pose_dim

    def forward(self, images: Tensor) -> Tensor:
        found = self.meter(images.float() / 255)
        return torch.cat([found.z_id, found.semantics.cat()], dim=1)


class WorldDistance:
    """FD-world: Frechet distance (Heusel et al., 2017) of the meter's embeddings to those of renders of others."""

    def __init__(self, meter: FaceMeter, others: Tensor):
        self.metric = FrechetInceptionDistance(_Features(meter), reset_real_features=False, normalize=True)
        self._update(others, real=True)

    def __call__(self, images: Tensor) -> float:
        self.metric.reset()
        self._update(images, real=False)
        return float(self.metric.compute())

    @torch.inference_mode()
    def _update(self, images: Tensor, real: bool) -> None:
        for part in images.split(64):
            self.metric.update(part, real=real)
