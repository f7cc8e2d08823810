"""Which layers react to the expression: what `model_params.expression_inject` should name.

For each layer the network predicts the noise of portraits twice, with the expression given to that layer alone: once
that of the portrait, once that of another picture of the same person.  What changes within the face is how much the
layer reacts; what changes around it is what else the expression's picture tells it.  Our reading of how EmojiDiff
(WACV 2026) finds its layers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..arguments import Parser, number
from ..config.mef import MEFTrainParams
from ..data.portraits import Portrait, read_portraits
from ..errors import UserError, run_script
from .adapters import Adapters, cross_attention_layers
from .base import training_noise
from .dataset import PortraitDataset
from .frozen import FrozenNetworks
from .inference import load_pipeline
from .pipeline import DeepExprPipeline
from .step import MEFStep
from .tables import Tables

BATCH = 8
COVERED = 0.8  # share of the whole reaction that the suggested layers make up


class Reaction(NamedTuple):
    """Of one layer: root mean square change of the predicted noise, whose own is about 1, within and around faces."""

    layer: str
    inside: float
    outside: float


def reactions(pipeline: DeepExprPipeline, portraits: Sequence[Portrait], seed: int = 0) -> list[Reaction]:
    """Of all layers that hold the expression, the strongest first.

    Raises:
        UserError: no portrait has a mask and another picture of its person, or there is a branch instead of adapters.
    """
    adapters = pipeline.adapters
    if not isinstance(adapters, Adapters):
        raise UserError("--checkpoint: holds a branch; layers are of adapters")
    tables = Tables(portraits)
    pairs = _pairs(tables)
    if not pairs:
        raise UserError(
            "--portraits: none has a face mask and another picture of its person, as metadata.jsonl names them"
        )
    step, dataset = _step(pipeline, tables, seed)
    names = list(cross_attention_layers(pipeline.base.unet))
    held = [i for i, layer in enumerate(adapters.held) if layer[1]]
    totals = torch.zeros(len(held), 2)
    counts = torch.zeros(2)
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        batch = default_collate([dataset[0, own] for own, _ in part])
        batch = {name: values.to(pipeline.base.device) for name, values in batch.items()}
        batch["keep"] = torch.ones_like(batch["keep"])
        others = torch.tensor([other for _, other in part])
        squares, face = _changes(step, batch, others, [adapters.layers[i] for i in held], adapters)
        totals += torch.stack([(squares * face).sum(dim=(1, 2, 3, 4)), (squares * (1 - face)).sum(dim=(1, 2, 3, 4))], 1)
        counts += torch.stack([face.sum(), (1 - face).sum()]) * squares.shape[2]
    means = (totals / counts.clamp_min(1)).sqrt().tolist()
    found = [Reaction(names[i].removesuffix(".attn2"), *mean) for i, mean in zip(held, means, strict=True)]
    return sorted(found, key=lambda reaction: -reaction.inside)


def suggested(found: Sequence[Reaction]) -> list[str]:
    """The fewest layers that make up most of the reaction, of :func:`reactions`; what ``expression_inject`` takes."""
    whole, sofar, names = sum(reaction.inside for reaction in found), 0.0, []
    for reaction in found:
        if sofar >= COVERED * whole:
            break
        names.append(reaction.layer)
        sofar += reaction.inside
    return names


def _pairs(tables: Tables) -> list[tuple[int, int]]:
    """Portraits with a face mask, and another picture of the same person, as rows of the tables."""
    people: dict[str, list[int]] = {}
    for row, portrait in enumerate(tables.portraits):
        people.setdefault(portrait.identity, []).append(row)
    pairs = [(own, other) for rows in people.values() for own, other in zip(rows, rows[1:] + rows[:1], strict=True)]
    pairs = [pair for pair in pairs if tables.portraits[pair[0]].mask is not None]
    expressions = [tables.picture_row[p.reference_image or p.image] for p in tables.portraits]
    return [(own, expressions[other]) for own, other in pairs if expressions[own] != expressions[other]]


def _step(pipeline: DeepExprPipeline, tables: Tables, seed: int) -> tuple[MEFStep, PortraitDataset]:
    base, params = pipeline.base, MEFTrainParams(seed=seed, other_photo=0.0)
    frozen = FrozenNetworks(base, pipeline.embedder, base.unet.config.sample_size * base.vae_scale_factor)
    frozen.to(base.device)
    noise = training_noise(base)
    no_expressions = torch.zeros(1, sum(pipeline.embedder.sid.semantic.sizes))  # no loss asks for their variance
    step = MEFStep(base.unet, pipeline.adapters, noise, frozen, tables, frozen.no_text(), params, no_expressions)
    dataset = PortraitDataset(tables, frozen.latent_shape, noise.config.num_train_timesteps, params)
    return step.to(base.device), dataset


@torch.no_grad()
def _changes(
    step: MEFStep, batch: dict[str, Tensor], others: Tensor, layers: list, adapters: Adapters
) -> tuple[Tensor, Tensor]:
    """Squared changes of the prediction, ``[layers, B, C, h, w]``, and the faces' masks ``[B, 1, h, w]``."""
    rows = batch | step.encode(batch)
    other = rows | step.encode(batch | {"expression_face": others})
    _, noisy = step.noised(rows)
    squares = []
    for layer in layers:
        with _alone(layer, adapters):
            change = step.predict(rows, noisy, rows["timestep"]) - step.predict(other, noisy, rows["timestep"])
        squares.append(change.square().cpu())
    return torch.stack(squares), rows["face"].float().cpu()


@contextlib.contextmanager
def _alone(chosen: torch.nn.Module, adapters: Adapters) -> Iterator[None]:
    """Within the block the expression reaches one layer alone."""
    before = [list(layer.scale) for layer in adapters.layers]
    for layer in adapters.layers:
        if layer is not chosen:
            layer.scale = [layer.scale[0], 0.0]
    try:
        yield
    finally:
        for layer, scale in zip(adapters.layers, before, strict=True):
            layer.scale = scale


def main() -> None:
    parser = Parser("Measure which layers react to the expression.")
    parser.add_argument("--checkpoint", required=True, help="folder of adapters, hub id or checkpoint of train_mef.py")
    parser.add_argument("--portraits", required=True, help="folder with metadata.jsonl, several pictures of a person")
    parser.add_argument("--count", type=number(int, 2, 100_000), default=64, help="portraits to look at (default: 64)")
    parser.add_argument("--base", help="hub id, folder or .safetensors file of the base (default: the adapters' own)")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    args = parser.parse_args()

    portraits, _ = read_portraits(args.portraits)
    pipeline = load_pipeline(args.checkpoint, args.base, cpu=args.cpu)
    if pipeline.embedder is None:
        raise UserError(f"{args.checkpoint}: saved without SID's encoders; give a run's folder or checkpoint")
    found = reactions(pipeline, portraits[: args.count])
    width = max(len(reaction.layer) for reaction in found)
    print(f"{'layer':{width}}  in the face  around it")
    for reaction in found:
        print(f"{reaction.layer:{width}}  {reaction.inside:11.4f}  {reaction.outside:9.4f}")
    print(f"expression_inject: [{', '.join(suggested(found))}]")


if __name__ == "__main__":
    run_script(main)
