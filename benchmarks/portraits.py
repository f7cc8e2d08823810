"""Portraits by MEF to look at: people by expressions, in several scenes and at several weights of guidance.

    python -m benchmarks.portraits --out portraits.png [--checkpoint DIR] [--guidance 1.5 3 6]

A block per scene and weight; its rows are people, its columns expressions, each shown at the margin.  People and
expressions are bundled pictures; every portrait starts from the same noise, so that only what is asked for differs.
"""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from modules import media
from modules.arguments import Parser, number
from modules.errors import run_script
from modules.mef.inference import load_pipeline
from modules.mef.pipeline import DeepExprPipeline

from .demo import ROOT

PEOPLE = [f"Inputs/Identities/person-{n}.png" for n in (1, 3, 5)]
EXPRESSIONS = [f"Inputs/driving static images/{name}.png" for name in ("neutral", "happiness", "surprise", "anger")]
SCENES = [
    "a portrait photo of a person with curly red hair, wearing a blue hoodie, in front of a brick wall,"
    " in warm light from the left",
    "a portrait photo of a person with short black hair, wearing a yellow sweater, in front of a beach,"
    " in white light from above",
]
SIDE = 128  # of a picture, pixels


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", required=True, help="picture to write")
    add("--checkpoint", default=str(ROOT / "MEF_Checkpoints/adapters"), help="adapters to look at")
    add("--guidance", type=number(float, 1, 50), nargs="+", default=[1.5, 3.0, 6.0], help="weights of guidance")
    add("--steps", type=number(int, 1, 1000), default=25, help="denoising steps")
    args = parser.parse_args()
    pipeline = load_pipeline(args.checkpoint, cpu=not torch.cuda.is_available())
    pipeline.base.set_progress_bar_config(disable=True)
    people, expressions = ([media.read_image(ROOT / path) for path in paths] for paths in (PEOPLE, EXPRESSIONS))
    embedded = [pipeline.embed(person, shown) for person in people for shown in expressions]
    identities, semantics = (torch.cat(column) for column in zip(*embedded, strict=True))
    blocks = [(scene, weight) for scene in SCENES for weight in args.guidance]
    drawn = [
        block(draw(pipeline, scene, weight, args.steps, identities, semantics), people, expressions)
        for scene, weight in tqdm(blocks, unit="block")
    ]
    columns = len(args.guidance)
    rows = [np.concatenate(drawn[i : i + columns], axis=1) for i in range(0, len(drawn), columns)]
    media.write_image(args.out, np.concatenate(rows))
    print(args.out)


def draw(
    pipeline: DeepExprPipeline, scene: str, guidance: float, steps: int, identities: torch.Tensor, shown: torch.Tensor
) -> np.ndarray:
    """bytes ``[N, SIDE, SIDE, 3]``."""
    made = pipeline(
        [scene] * len(identities),
        identity_embedding=identities,
        expression_embedding=shown,
        guidance_scale=guidance,
        num_inference_steps=steps,
        generator=[torch.Generator().manual_seed(0) for _ in identities],
        height=SIDE,
        width=SIDE,
        output_type="np",
    )
    return (made.images * 255).round().astype(np.uint8)


def block(portraits: np.ndarray, people: list[np.ndarray], expressions: list[np.ndarray]) -> np.ndarray:
    """Portraits in rows of a person's, with the photographs at the margins."""
    people, expressions = ([media.fit(picture, SIDE, SIDE) for picture in some] for some in (people, expressions))
    rows = [np.concatenate([np.full_like(people[0], 255), *expressions], axis=1)]
    for person, own in zip(people, np.split(portraits, len(people)), strict=True):
        rows.append(np.concatenate([person, *own], axis=1))
    return np.concatenate(rows)


if __name__ == "__main__":
    run_script(main)
