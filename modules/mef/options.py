"""What is asked of a portrait: looked at before anything heavy is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ..errors import UserError

SEEDS = 2**64  # that torch's generators take


def check_prompt(prompt: str | Sequence[str] | None) -> None:
    """Raise UserError for a prompt without words."""
    prompts = [prompt] if isinstance(prompt, str) else list(prompt or [])
    if not prompts or not all(text.strip() for text in prompts):
        raise UserError("the prompt is empty: say what the picture shows")


@dataclass(frozen=True)
class PortraitOptions:
    """What to draw, and how.  Raises UserError for a value that cannot be."""

    prompt: str
    negative_prompt: str | None = None
    num_images: int = 1  # pictures, of the seeds ``seed``, ``seed + 1``, ...
    seed: int = 0
    steps: int = 30
    guidance_scale: float = 5.0  # of text, identity and expression together; 1 is none
    identity_scale: float = 1.0  # strength of the identity adapter, 0 is off
    expression_scale: float = 1.0  # of the expression adapter
    identity_guidance: float | None = None  # a guidance weight of its own, at twice the time
    expression_guidance: float | None = None
    scheduler: str | None = None  # ddim, dpm++, euler, lcm; None: the base's own
    grid: bool = False  # one picture: source | driver | results

    def __post_init__(self) -> None:
        for name, least in (("num_images", 1), ("steps", 1), ("guidance_scale", 1), ("seed", 0)):
            if not getattr(self, name) >= least:
                raise UserError(f"--{name}: expected {least} or more, found {getattr(self, name)}")
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"--{option.name}: expected a finite number, found {value}")
        if self.seed + self.num_images > SEEDS:
            raise UserError(f"--seed: expected {SEEDS - self.num_images} or less, found {self.seed}")

    def files(self, result: str) -> list[Path]:
        """The files of the pictures: ``result.png``, or ``result-1.png``, ``result-2.png``, ... for several."""
        path = Path(result)
        if self.grid or self.num_images == 1:
            return [path]
        return [path.with_stem(f"{path.stem}-{i + 1}") for i in range(self.num_images)]

    def check_video(self) -> None:
        """Raise UserError where a driving video cannot be drawn so."""
        if self.num_images > 1:
            raise UserError("--num_images: a driving video gives one portrait per frame; leave it at 1")
