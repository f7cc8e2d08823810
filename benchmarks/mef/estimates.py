"""How good the bundled base's estimates of x0 are, and what adapters or a branch make of faces never seen."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from modules.evaluation import portrait_tasks as portraits
from modules.evaluation.people import render_all
from modules.mef.base import training_noise
from modules.mef.estimators import estimate_clean
from modules.mef.pipeline import DeepExprPipeline

from .sd15 import ROOT

BUNDLED = ROOT / "MEF_Checkpoints" / "adapters"
ESTIMATORS = ("one_step", "midpoint", "ddim-3", "ddim-4")  # midpoint is ddim-2
LEVELS = (50, 100, 200, 300, 400, 600, 800)  # of noise
ESTIMATED, HEARD = 48, 40  # portraits
HEARD_LEVELS = (100, 400, 700)


class Portrayed:
    """People of the face world never seen: their portraits, captions and faces as a saved pipeline reads them."""

    def __init__(self, checkpoint: Path, asked: portraits.Asked):
        self.pipeline = DeepExprPipeline.from_pretrained(checkpoint, crop=False, cpu=True)
        base = self.pipeline.base
        self.vae, self.noise = base.vae.requires_grad_(False), training_noise(base)
        self.unet, self.adapters = base.unet, self.pipeline.adapters
        size = self.vae.config.sample_size
        source, driver, truth = (
            render_all(faces, size, "rendering")[0] for faces in (asked.source, asked.driver, asked.truth)
        )
        self.embeds = [z[:, None] for z in portraits.embed(self.pipeline, asked, source, driver)]
        with torch.no_grad():
            self.states, _ = base.encode_prompt(asked.prompts(), "cpu", 1, False)
            self.clean = self.latents(truth)
        self.drawn = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(0))
        self.truth, self.looked_at = truth, torch.ones(len(truth), 1, size, size)  # where pixels are compared

    def latents(self, pictures: torch.Tensor) -> torch.Tensor:
        """Of pictures in [0, 255]."""
        return self.vae.encode(pictures / 127.5 - 1).latent_dist.mode() * self.vae.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures in [0, 1]."""
        return (self.vae.decode(latents / self.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)

    def predict(
        self, noisy: torch.Tensor, steps: torch.Tensor, given: list[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """What the UNet predicts of the first portraits, under their own embeddings unless others are ``given``."""
        rows = slice(len(noisy))
        embeds = {"image_embeds": [z[rows] for z in given or self.embeds]}
        with self.adapters.acting(self.unet):
            return self.unet(self.shown(noisy), steps, self.states[rows], added_cond_kwargs=embeds).sample

    def shown(self, noisy: torch.Tensor) -> torch.Tensor:
        """What the UNet sees of the first portraits."""
        return noisy


def bundled() -> Portrayed:
    """People for :func:`estimators`, and the bundled base and adapters."""
    return Portrayed(BUNDLED, portraits.ask(ESTIMATED, 1))


def estimators(people: Portrayed, rounds: int) -> None:
    """Of portraits noised and estimated under their own captions and embeddings."""
    noise, sid = people.noise, people.pipeline.embedder.sid

    def estimate(name: str, noisy: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        first = people.predict(noisy, steps)
        return people.decode(estimate_clean(noise, name, noisy, first, steps, people.predict))

    with torch.no_grad():
        pictures = people.decode(people.clean)
        wanted = sid(pictures)
    count = len(pictures)
    print(f"{count} portraits; L1 of pixels (0-255) | 1 - cosine of z_id | RMS of z_sem: errors")
    for level in LEVELS:
        steps = torch.full((count,), level)
        noisy = noise.add_noise(people.clean, people.drawn, steps)
        for name in ESTIMATORS:
            with torch.no_grad():
                found = estimate(name, noisy, steps)
                identity, semantics = sid(found)
            apart = (found - pictures).abs().mean(dim=1, keepdim=True) * people.looked_at
            pixels = float(apart.sum() / people.looked_at.sum()) * 255
            person = float(1 - torch.nn.functional.cosine_similarity(identity, wanted[0]).mean())
            face = float((semantics - wanted[1]).square().mean().sqrt())
            print(f"t {level:3d}  {name:8s}  {pixels:5.1f} | {person:.3f} | {face:.3f}")
    part = noise.add_noise(people.clean, people.drawn, steps)[:4]
    trained = [p.requires_grad_(True) for p in people.adapters.parameters()]
    for name in ESTIMATORS:
        seconds = []
        for _ in range(rounds + 1):
            start = time.process_time()
            torch.autograd.grad(estimate(name, part, steps[:4]).mean(), trained, allow_unused=True)
            seconds.append((time.process_time() - start) / len(part))
        print(f"{name:8s}  {statistics.median(seconds[1:]):.3f} CPU s a picture, decoder and gradients included")


@torch.no_grad()
def heard(checkpoints: list[Path]) -> None:
    """How much better the UNet predicts portraits of people never seen for being told who and which expression.

    The mean squared error of the prediction at several noise levels, without adapters or branch, with embeddings of
    zeros, their own, and other people's: one number each, so that forms can be compared after the same training.
    """
    for checkpoint in checkpoints:
        people = Portrayed(checkpoint, portraits.ask(HEARD, 1))
        none = [torch.zeros_like(z) for z in people.embeds]
        someone = [z.roll(1, dims=0) for z in people.embeds]
        identity, expression = people.embeds
        ways: dict[str, tuple[float, list[torch.Tensor]]] = {
            "base": (0.0, none),
            "none": (1.0, none),
            "own": (1.0, people.embeds),
            "other person": (1.0, [someone[0], expression]),
            "other expression": (1.0, [identity, someone[1]]),
        }
        errors = dict.fromkeys(ways, 0.0)
        for level in HEARD_LEVELS:
            steps = torch.full((HEARD,), level)
            noisy = people.noise.add_noise(people.clean, people.drawn, steps)
            is_v = people.noise.config.prediction_type == "v_prediction"
            target = people.noise.get_velocity(people.clean, people.drawn, steps) if is_v else people.drawn
            for name, (scale, given) in ways.items():
                people.adapters.set_scales(people.pipeline.base, scale, scale)
                error = (people.predict(noisy, steps, given) - target).square().mean()
                errors[name] += float(error) / len(HEARD_LEVELS)
        told = ", ".join(f"{name} {error:.5f}" for name, error in errors.items())
        print(f"{checkpoint}: error of the prediction, {HEARD} portraits at t = {HEARD_LEVELS}: {told}")
