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
from .model import RiggedSID, Shown
from .motion import GRID, cells
from .parts import EYES, MOUTH, cut, part_square

SPREAD_OF = 4096  # random states that tell how much each number of the truth varies
LEAST_SPREAD = 0.1


class EncoderStep(nn.Module):
    """Losses of the semantic encoder and the motion head.  All three pictures of a triple are read."""

    def __init__(self, model: RiggedSID, weights: RiggedWeights) -> None:
        super().__init__()
        self.encoder, self.rig, self.weights = model.encoder, model.rig, weights
        drawn = semantics_of(draw_states(SPREAD_OF, 0).codes)
        for name, values in drawn._asdict().items():
            self.register_buffer(f"{name}_spread", values.std(dim=0).clamp(min=LEAST_SPREAD), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        names = ("source", "target", "driver")
        images = blemished(torch.cat([batch[name] for name in names]).float() / 255)
        seen = torch.cat([batch[f"{name}_points"] for name in names])
        before, after = semantics_of(batch["before"]), semantics_of(batch["after"])
        truth = Semantics(*(torch.cat([b, a, a]) for b, a in zip(before, after, strict=True)))
        said = self.encoder(images, shaken(seen))
        points, wanted = batch["source_points"], batch["target_points"]
        source, _, driver = (Semantics(*z) for z in zip(*(z.chunk(3) for z in said), strict=True))
        return {
            "expression": self.weights.expression
            * ((said.expression - truth.expression) / self.expression_spread).square().mean(),
            "pose": self.weights.pose * ((said.pose - truth.pose) / self.pose_spread).square().mean(),
            "points": self.weights.points * _apart(self.rig(points, before, after), wanted),
            # what is read off somebody else moves them there too: mistakes that cancel do not count
            "driven": self.weights.driven * _apart(self.rig(points, source, driver), wanted),
        }, None


class GeneratorStep(nn.Module):
    """Losses of the generator.  Encoder and motion head are as they are."""

    def __init__(self, model: RiggedSID, weights: RiggedWeights, from_encoder: bool) -> None:
        super().__init__()
        self.model, self.weights, self.from_encoder = model, weights, from_encoder
        for frozen in (model.points, model.encoder, model.rig):
            frozen.requires_grad_(False)

    def train(self, mode: bool = True) -> GeneratorStep:
        super().train(mode)
        self.model.encoder.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Shown]:
        source, target, driver = (batch[name].float() / 255 for name in ("source", "target", "driver"))
        source, target = recoloured(torch.stack([source, target], dim=1)).unbind(dim=1)
        if self.from_encoder:
            before = self.model.encoder(source, batch["source_points"])
            after = self.model.encoder(driver, batch["driver_points"])
            driven = self.model.rig(batch["source_points"], before, after)
        else:
            before, after = semantics_of(batch["before"]), semantics_of(batch["after"])
            driven = batch["target_points"]
        shown = self.model.generator(source, batch["source_points"], driven, before, after)
        return self._losses(shown, target, batch), shown

    def _losses(self, shown: Shown, target: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        weights, terms = self.weights, {}
        terms["pixel"] = weights.pixel * ((shown.image - target).abs().mean() + (shown.warped - target).abs().mean())
        parts = []
        for part in (MOUTH, *EYES):
            squares = part_square(batch["target_points"], part, target)
            parts.append((cut(shown.image, squares, part), cut(target, squares, part)))
        terms["closeup"] = weights.closeup * torch.stack([(a - b).abs().mean() for a, b in parts]).sum()
        terms["edges"] = weights.edges * torch.stack([_edges(a, b) for a, b in parts]).sum()
        flow, valid = true_motion(batch["flow"], batch["valid"], target.shape[-1])
        known = valid.sum().clamp(min=1)
        terms["flow"] = weights.flow * ((shown.motion.flow - flow).abs() * valid).sum() / known
        terms["shown"] = weights.shown * -(shown.motion.shown.clamp(min=1e-4).log() * valid).sum() / known
        return terms


def _apart(points: Tensor, others: Tensor) -> Tensor:
    return (points - others)[..., :2].abs().mean()


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
