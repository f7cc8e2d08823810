"""Losses on the decoded estimate of x0: does it show the person and the expression that were asked for?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor, nn

from ..config.mef import MEFTrainParams
from ..sid.perceptual import build_perceptual, feature_distance
from .estimators import estimate_clean
from .expression_error import ExpressionError
from .frozen import FrozenNetworks, Rows
from .tables import Tables

NEEDS = {  # of each loss: person, face, or both of them
    "identity": [0],
    "expression": [1],
    "perceptual": [0],
    "reference": [1],
    "alignment": [0, 1],
}
LAYERS = [1.0] * 5  # of the perceptual network: the paper does not say which

Predict = Callable[[Rows, Tensor, Tensor], Tensor]  # rows, x_t and t -> what the network predicts


class FaceLosses(nn.Module):
    """Weighted losses of the noise levels between ``min_timestep`` and ``max_timestep``.

    An item is x_t = sqrt(a_t) z + sqrt(1 - a_t) n, of its latent z, its noise n and a uniform t; x0(c) is the picture
    decoded from the estimate (:mod:`.estimators`) that the network gives of x_t under the conditions c: the text, the
    identity i and the expression e.  An item counts where min_timestep <= t < max_timestep and what a loss compares
    with was given; sums are over all items of the batch, so a loss is smaller, not noisier, where fewer count.

    - ``identity``: 1 - cos(z_id(x0(i, e)), z_id(identity picture))
    - ``expression``: squared errors of z_exp and z_pose of x0(i, e) from the exemplar's (:class:`ExpressionError`)
    - ``perceptual``: distance of VGG-19's features from the identity picture, and ``reference``: mean squared error of
      pixels from the expression picture; both in [0, 1] at the base's resolution (the paper, eqs. 4 to 6, our reading)
    - ``alignment``: 1 - cos(z_id(x0(i, e)), stop(z_id(x0(i, 0)))), both from the same x_t; 0 is the embedding of
      zeros that stands for no expression, and ``stop`` lets no gradient through, or the person without expression would
      come to meet it

    EmojiDiff (WACV 2026) does not publish its equations, so this is our reading.  Its ID-enhanced contrast alignment
    (ICA) is ``alignment`` and ``expression`` together: L = E_{t < T} [w_a (1 - cos(...)) + w_e expression_error], which
    moves the person back and holds the expression to the exemplar; ``identity`` may be added.  Its adaptive noise
    inversion (ANI), the one-step x0 at truncated noise levels, is ``estimator: one_step`` with T = ``max_timestep``:
    x0 = (x_t - sqrt(1 - a_t) e(x_t, t)) / sqrt(a_t), of which the error grows with sqrt((1 - a_t) / a_t).

    Args:
        tables: what the rows' face numbers mean.
        expressions: ``[N, width]`` of the data set, by whose variance an estimate's errors are measured.
    """

    def __init__(
        self,
        noise: DDPMScheduler,
        frozen: FrozenNetworks,
        tables: Tables,
        params: MEFTrainParams,
        expressions: Tensor,
    ):
        super().__init__()
        self.noise, self.frozen, self.tables, self.weights = noise, frozen, tables, params.loss_weights
        self.perceptual = build_perceptual(params.perceptual_network) if self.weights.perceptual else None
        self.expression_error = ExpressionError(frozen.embedder.sid.semantic.sizes, expressions)

    @property
    def names(self) -> list[str]:
        """The losses that have a weight."""
        return [name for name in NEEDS if getattr(self.weights, name)]

    def forward(self, rows: Rows, noisy: Tensor, prediction: Tensor, predict: Predict) -> dict[str, Tensor]:
        """The losses by name; of items whose condition was left out, or whose noise is out of range, 0.

        Args:
            rows: a batch with what the frozen networks give of it.
            noisy, prediction: x_t and what the network predicts of it.
            predict: further predictions, which some estimators need.
        """
        weights, steps = self.weights, rows["timestep"]
        in_range = (steps >= weights.min_timestep) & (steps < weights.max_timestep)
        asked = rows["keep"][:, 1:] & in_range[:, None]
        chosen = asked.any(dim=1)
        if not chosen.any():
            return {name: prediction.sum() * 0.0 for name in self.names}
        part = {name: values[chosen] for name, values in rows.items()}
        pictures = self._estimate(part, noisy[chosen], prediction[chosen], predict)
        without = self._without_expression(part, noisy[chosen], predict) if weights.alignment else None
        with torch.autocast(noisy.device.type, enabled=False):
            distances = self._embedding_distances(part, pictures, without) | self._picture_distances(part, pictures)
        return {
            name: getattr(weights, name)
            * (distances[name] * asked[chosen][:, NEEDS[name]].all(dim=1)).sum()
            / len(steps)
            for name in self.names
        }

    def _estimate(self, rows: Rows, noisy: Tensor, prediction: Tensor, predict: Predict) -> Tensor:
        """Pictures in [0, 1]."""
        start = noisy, prediction, rows["timestep"]
        return self.frozen.decode(
            estimate_clean(self.noise, self.weights.estimator, *start, predict=partial(predict, rows))
        )

    @torch.no_grad()
    def _without_expression(self, rows: Rows, noisy: Tensor, predict: Predict) -> Tensor:
        kept = rows["keep"].clone()
        kept[:, 2] = False
        rows = rows | {"keep": kept}
        return self._estimate(rows, noisy, predict(rows, noisy, rows["timestep"]), predict)

    def _embedding_distances(self, rows: Rows, pictures: Tensor, without: Tensor | None) -> dict[str, Tensor]:
        weights = self.weights
        if not (weights.identity or weights.expression or weights.alignment):
            return {}
        sid = self.frozen.embedder.sid
        identity, expression = sid.of_pictures(pictures)
        wanted = rows["identity"][:, : identity.shape[1]]  # SID's part of a compound
        distances = {
            "identity": 1 - F.cosine_similarity(identity, wanted),
            "expression": self.expression_error(expression, rows["expression"]),
        }
        if without is not None:
            distances["alignment"] = 1 - F.cosine_similarity(identity, sid.of_pictures(without)[0])
        return distances

    def _picture_distances(self, rows: Rows, pictures: Tensor) -> dict[str, Tensor]:
        distances = {}
        if self.perceptual is not None:
            maps = self.perceptual(self._pictures(rows["identity_face"])), self.perceptual(pictures)
            each = [[[level[i] for level in levels] for levels in maps] for i in range(len(pictures))]
            distances["perceptual"] = torch.stack([feature_distance(*pair, LAYERS) for pair in each])
        if self.weights.reference:
            errors = (pictures - self._pictures(rows["expression_face"])).square()
            distances["reference"] = errors.mean(dim=(1, 2, 3))
        return distances

    def _pictures(self, numbers: Tensor) -> Tensor:
        return self.frozen.pictures([self.tables.pictures[i] for i in numbers.tolist()])
