"""What the rigged model learns from triples: encoder and motion head from the truth, the generator from pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.rigged import RiggedWeights
from ...data.augmentation import noisy, softened
from ...geometry import coordinate_grid
from ...world.puppets.states import draw_states
from ..encoders import Semantics
from .codes import semantics_of
from .critic import Critic, Judged, close_ups, generator_terms
from .model import RiggedSID, Shown
from .motion import GRID, cells
from .points import BROW_POINTS, COUNT, INNER_LIPS, LEFT_EYE, LIPS, RIGHT_EYE

SPREAD_OF = 4096  # random states that tell how much each number of the truth varies
LEAST_SPREAD = 0.1
SPEAKING = 4.0  # what a point of mouth, eyes and brows counts, where one of the skin counts 1


class EncoderStep(nn.Module):
    """Losses of the semantic encoder and the motion head.  All three pictures of a triple are read.

    Of real people nobody knows what they show, but for where their points go: what is read off two frames of somebody
    has to move the points of the one to those of the other.
    """

    def __init__(self, model: RiggedSID, weights: RiggedWeights) -> None:
        super().__init__()
        self.points = model.points.requires_grad_(False)
        self.encoder, self.rig, self.weights = model.encoder, model.rig, weights
        drawn = semantics_of(draw_states(SPREAD_OF, 0).codes)
        for name, values in drawn._asdict().items():
            self.register_buffer(f"{name}_spread", values.std(dim=0).clamp(min=LEAST_SPREAD), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        frames = read_frames(batch)
        points, wanted, drivers = seen_points(self.points, frames, batch)
        said = self.encoder(blemished(torch.cat(frames)), shaken(torch.cat([points, wanted, drivers])))
        source, target, driver = (Semantics(*z) for z in zip(*(z.chunk(3) for z in said), strict=True))
        made = batch["made"]
        before, after = semantics_of(batch["before"][made]), semantics_of(batch["after"][made])
        apart = [
            Semantics(*((z[made] - t) for z, t in zip(read, truth, strict=True)))
            for read, truth in ((source, before), (target, after), (driver, after))
        ]
        expression, pose = (torch.cat(z) for z in zip(*apart, strict=True))
        return {
            "expression": self.weights.expression * _mean((expression / self.expression_spread).square()),
            "pose": self.weights.pose * _mean((pose / self.pose_spread).square()),
            "points": self.weights.points * _mean(_apart(self.rig(points[made], before, after), wanted[made])),
            # what is read off somebody else moves them there too: mistakes that cancel do not count
            "driven": self.weights.driven * _apart(self.rig(points, source, driver), wanted).mean(),
        }, None


class GeneratorStep(nn.Module):
    """Losses of the generator.  Encoder and motion head are as they are.

    Args:
        model: what learns, and what it learns with.
        weights: of the losses.
        from_encoder: whether a source goes where what is read off the driver moves it, or to where the target is.  The
            numbers of real people are always the encoder's: nobody knows others.
        critic: of mouths and eyes, which its own step teaches; None: nothing is to pass for real.
    """

    def __init__(
        self, model: RiggedSID, weights: RiggedWeights, from_encoder: bool, critic: Critic | None = None
    ) -> None:
        super().__init__()
        self.model, self.weights, self.from_encoder, self.critic = model, weights, from_encoder, critic
        for frozen in (model.points, model.encoder, model.rig):
            frozen.requires_grad_(False)

    def train(self, mode: bool = True) -> GeneratorStep:
        super().train(mode)
        self.model.encoder.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Judged]:
        frames = source, target, driver = read_frames(batch)
        points, wanted, drivers = seen_points(self.model.points, frames, batch)
        source, target = recoloured(torch.stack([source, target], dim=1)).unbind(dim=1)
        before, after = semantics_of(batch["before"]), semantics_of(batch["after"])
        unknown = ~batch["made"] | self.from_encoder
        if unknown.any():
            before = _put(before, unknown, self.model.encoder(source[unknown], points[unknown]))
            after = _put(after, unknown, self.model.encoder(driver[unknown], drivers[unknown]))
        driven = self.model.rig(points, before, after) if self.from_encoder else wanted
        shown = self.model.generator(source, points, driven, before, after)
        judged = Judged(close_ups(shown.image, driven), close_ups(target, wanted))
        terms = self._losses(shown, target, judged, batch)
        if self.critic is not None:
            passing, features = generator_terms(self.critic, judged)
            terms |= {"passing": self.weights.passing * passing, "features": self.weights.features * features}
        return terms, judged

    def _losses(self, shown: Shown, target: Tensor, judged: Judged, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        weights, terms = self.weights, {}
        terms["pixel"] = weights.pixel * ((shown.image - target).abs().mean() + (shown.warped - target).abs().mean())
        (mouths, eyes), (true_mouths, true_eyes) = (judged.made.colours(), judged.real.colours())
        parts = [(mouths, true_mouths), *zip(eyes.chunk(2), true_eyes.chunk(2), strict=True)]
        terms["closeup"] = weights.closeup * torch.stack([(a - b).abs().mean() for a, b in parts]).sum()
        terms["edges"] = weights.edges * torch.stack([_edges(a, b) for a, b in parts]).sum()
        flow, valid = true_motion(batch["flow"], batch["valid"], target.shape[-1])
        known = valid.sum().clamp(min=1)
        terms["flow"] = weights.flow * ((shown.motion.flow - flow).abs() * valid).sum() / known
        terms["shown"] = weights.shown * -(shown.motion.shown.clamp(min=1e-4).log() * valid).sum() / known
        return terms


def read_frames(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Source, target and driver of a batch, ``[B, 3, H, H]`` in [0, 1]."""
    source, target, driver = (batch[name].float() / 255 for name in ("source", "target", "driver"))
    return source, target, driver


def seen_points(
    network: nn.Module, frames: tuple[Tensor, Tensor, Tensor], batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Points ``[B, 468, 3]`` of source, target and driver: a batch's own, and those found of real people."""
    source, target, driver = (batch[f"{name}_points"] for name in ("source", "target", "driver"))
    real = ~batch["made"]
    if real.any():  # whose driver is the target
        found = network(torch.cat([frames[0][real], frames[1][real]])).to(source.dtype)
        source, target, driver = source.clone(), target.clone(), driver.clone()
        source[real], target[real] = found.chunk(2)
        driver[real] = target[real]
    return source, target, driver


def _put(semantics: Semantics, where: Tensor, others: Semantics) -> Semantics:
    """Semantics, and others where ``where [B]`` is true."""
    return Semantics(*(z.masked_scatter(where[:, None], o.to(z.dtype)) for z, o in zip(semantics, others, strict=True)))


def _apart(points: Tensor, others: Tensor) -> Tensor:
    """[B], how far points ``[B, 468, 3]`` are from others in the picture; those that show an expression count most."""
    share = points.new_ones(COUNT)
    share[[*LIPS, *INNER_LIPS, *LEFT_EYE, *RIGHT_EYE, *BROW_POINTS]] = SPEAKING
    return (points - others)[..., :2].abs().mean(dim=2) @ (share / share.sum())


def _mean(values: Tensor) -> Tensor:
    """Of what may be nothing: a batch without made pictures."""
    return values.sum() / max(1, values.numel())


def true_motion(flow: Tensor, valid: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A batch's ``flow [B, h, h, 2]`` and ``valid [B, h, h]`` at the generator's cells, minus the identity.

    Their places count from the middles of the outermost pixels of a frame of ``size`` pixels, the cells from its edges.
    """
    side, ends = flow.shape[1], (size - 1) / size
    change = (flow - ends * coordinate_grid(side, side, flow)).permute(0, 3, 1, 2)
    known = valid[:, None].to(flow.dtype)
    grid = (cells(GRID, flow) / ends).expand(len(flow), -1, -1, -1)
    at = F.grid_sample(torch.cat([change, known], dim=1), grid, padding_mode="border", align_corners=True)
    return at[:, :2], (at[:, 2:] > 0.99).to(flow.dtype)


def _edges(a: Tensor, b: Tensor) -> Tensor:
    across = ((a[..., 1:] - a[..., :-1]) - (b[..., 1:] - b[..., :-1])).abs().mean()
    down = ((a[..., 1:, :] - a[..., :-1, :]) - (b[..., 1:, :] - b[..., :-1, :])).abs().mean()
    return across + down


def shaken(points: Tensor) -> Tensor:
    """Points ``[B, 468, 3]`` as unsteady as those of real frames are."""
    return points + 0.004 * torch.rand(len(points), 1, 1, device=points.device) * torch.randn_like(points)


def blemished(images: Tensor) -> Tensor:
    """Blur, other colours and noise at random, for each picture alone."""
    return noisy(recoloured(softened(images)[:, None])[:, 0])


def recoloured(pictures: Tensor) -> Tensor:
    """``[B, N, 3, H, W]`` with colours, brightness and contrast changed at random, alike for the N of an item."""

    def each(channels: int = 1) -> Tensor:
        return torch.randn(len(pictures), 1, channels, 1, 1, device=pictures.device)

    gamma, colour, gain = (0.25 * each()).exp(), 1 + 0.12 * each(3), 1 + 0.1 * each()
    return (pictures.clamp(1e-4, 1) ** gamma * colour * gain).clamp(0, 1)
