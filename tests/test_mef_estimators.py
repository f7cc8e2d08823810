"""Estimates of x0 on denoisers whose answers are known, and the losses that look at them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from test_mef_training import Bench
from tiny_mef import values, write_workshop
from torch import Tensor

from modules.config.files import mef_config_from_dict
from modules.errors import UserError
from modules.mef.estimators import clean_of, estimate_clean, noise_of

MEAN, DEVIATION = 0.7, 0.4  # of the data of the analytic denoiser
STEPS = torch.tensor([0, 1, 37, 300, 641, 999])
EXACT = 1e-9  # float64 sums in another order
PREDICTIONS = ("epsilon", "v_prediction")


def schedule(prediction: str) -> DDPMScheduler:
    noise = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction)
    noise.alphas_cumprod = noise.alphas_cumprod.double()
    return noise


class Gaussian:
    """The ideal network for data of a normal distribution: E[x0 | x_t] is linear in x_t."""

    def __init__(self, noise: DDPMScheduler, deviation: float = DEVIATION):
        self.noise, self.deviation = noise, deviation
        self.asked: list[list[int]] = []

    def __call__(self, noisy: Tensor, steps: Tensor) -> Tensor:
        self.asked.append(steps.tolist())
        kept = self.noise.alphas_cumprod[steps][:, None, None, None]
        variance = kept * self.deviation**2 + 1 - kept
        away = noisy - kept.sqrt() * MEAN
        clean = MEAN + kept.sqrt() * self.deviation**2 * away / variance
        error = (1 - kept).sqrt() * away / variance
        is_v = self.noise.config.prediction_type == "v_prediction"
        return kept.sqrt() * error - (1 - kept).sqrt() * clean if is_v else error


def closed_form(noise: DDPMScheduler, noisy: float, step: int, count: int) -> float:
    """DDIM on :class:`Gaussian` shrinks the distance from the mean by a factor a level; the last one leaves x0."""
    levels = [step * (count - i) // count for i in range(count)]
    kept = [float(noise.alphas_cumprod[level]) for level in levels] + [1.0]
    away = noisy - math.sqrt(kept[0]) * MEAN
    for a, b in zip(kept, kept[1:], strict=False):
        variance = a * DEVIATION**2 + 1 - a
        away *= (math.sqrt(a * b) * DEVIATION**2 + math.sqrt((1 - a) * (1 - b))) / variance
    return MEAN + away


def estimated(estimator: str, network: Gaussian, noisy: Tensor, steps: Tensor = STEPS) -> Tensor:
    return estimate_clean(network.noise, estimator, noisy, network(noisy, steps), steps, network)


def start() -> Tensor:
    return torch.linspace(-2, 3, len(STEPS), dtype=torch.float64)[:, None, None, None]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("estimator", "count"), [("one_step", 1), ("midpoint", 2), ("ddim-2", 2), ("ddim-4", 4)])
def test_each_estimator_gives_the_closed_form_answer(prediction, estimator, count):
    network = Gaussian(schedule(prediction))
    found = estimated(estimator, network, start())
    wanted = [closed_form(network.noise, float(x), int(t), count) for x, t in zip(start(), STEPS, strict=True)]
    assert found.flatten().tolist() == pytest.approx(wanted, abs=EXACT)
    assert len(network.asked) == count


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_midpoint_is_diffswaps_formula(prediction):
    network = Gaussian(schedule(prediction))
    noise, noisy, half = network.noise, start(), STEPS // 2

    def kept(steps: Tensor) -> Tensor:
        return noise.alphas_cumprod[steps][:, None, None, None]

    error = noise_of(noise, noisy, network(noisy, STEPS), STEPS)
    first = (noisy - (1 - kept(STEPS)).sqrt() * error) / kept(STEPS).sqrt()
    middle = kept(half).sqrt() * first + (1 - kept(half)).sqrt() * error
    again = noise_of(noise, middle, network(middle, half), half)
    second = (middle - (1 - kept(half)).sqrt() * again) / kept(half).sqrt()
    assert torch.allclose(estimated("midpoint", network, noisy), second, atol=EXACT)
    assert torch.equal(estimated("midpoint", network, noisy), estimated("ddim-2", network, noisy))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_where_all_data_are_one_picture_every_estimator_finds_it(prediction):
    network = Gaussian(schedule(prediction), deviation=0.0)
    for estimator in ("one_step", "midpoint", "ddim-2", "ddim-3", "ddim-4"):
        found = estimated(estimator, network, start())
        assert torch.allclose(found, torch.full_like(found, MEAN), atol=1e-6)  # t = 0 divides by a tiny variance


def test_more_evaluations_come_nearer_to_where_the_flow_ends():
    """The probability flow of normal data keeps x_t's distance from the mean, in deviations.

    DDIM's error is of first order, and here levels are whole numbers: 256 evaluations leave 2 % of one's.
    """
    network = Gaussian(schedule("epsilon"))
    noisy = start()
    kept = network.noise.alphas_cumprod[STEPS][:, None, None, None]
    ends = MEAN + DEVIATION * (noisy - kept.sqrt() * MEAN) / (kept * DEVIATION**2 + 1 - kept).sqrt()
    far = [float((estimated(f"ddim-{n}", network, noisy) - ends).abs().max()) for n in (1, 2, 4, 16, 256)]
    assert far == sorted(far, reverse=True) and far[-1] < 0.03 * far[0]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_noise_and_clean_part_make_up_the_noisy_latent(prediction):
    noise = schedule(prediction)
    noisy, predicted = start(), torch.randn(len(STEPS), 1, 1, 1, dtype=torch.float64)
    kept = noise.alphas_cumprod[STEPS][:, None, None, None]
    parts = clean_of(noise, noisy, predicted, STEPS), noise_of(noise, noisy, predicted, STEPS)
    assert torch.allclose(kept.sqrt() * parts[0] + (1 - kept).sqrt() * parts[1], noisy, atol=EXACT)


# -------------------------------------------------------------------------------------------------- losses on estimates


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    return write_workshop(tmp_path_factory.mktemp("workshop"))


def terms(workshop: Path, kind: str = "sd15", keep: bool = True, steps: int = 200, **weights) -> dict[str, float]:
    bench = Bench(
        workshop,
        kind,
        **{"train_params.loss_weights": weights, "train_params.perceptual_network": {"weights": "small"}},
    )
    batch = bench.batch([0, 1, 2])
    given = {"keep": torch.full((3, 3), keep), "timestep": torch.full((3,), steps)}
    found = bench.losses(batch | given)
    assert bench.gradient().isfinite().all()
    return found


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl"])
def test_losses_follow_the_estimator_of_every_base(workshop, kind):
    asked = {"identity": 1.0, "expression": 0.1}
    found = {name: terms(workshop, kind, estimator=name, **asked) for name in ("one_step", "midpoint", "ddim-2")}
    assert found["midpoint"] == found["ddim-2"] != found["one_step"]
    assert found["midpoint"]["diffusion"] == found["one_step"]["diffusion"]


def test_only_noise_levels_within_the_range_are_looked_at(workshop):
    in_range = {"identity": 1.0, "min_timestep": 100, "max_timestep": 201}
    assert terms(workshop, steps=200, **in_range)["identity"] > 0
    assert terms(workshop, steps=100, **in_range)["identity"] > 0
    assert terms(workshop, steps=201, **in_range)["identity"] == 0
    assert terms(workshop, steps=99, **in_range)["identity"] == 0


@pytest.mark.parametrize("cached", [True, False])
def test_the_papers_losses_compare_the_estimate_with_the_pictures_that_were_given(workshop, cached):
    """Worked out again, from the picture files; one item alone knows who is wanted, another alone the expression."""
    weights = {"perceptual": 2.0, "reference": 3.0, "max_timestep": 1000}
    changes = {"train_params.loss_weights": weights, "train_params.perceptual_network": {"weights": "small"}}
    bench = Bench(workshop, cached=cached, **changes)
    batch, faces = bench.batch([0, 4]), bench.step.faces
    batch["keep"] = torch.tensor([[True, True, False], [True, False, True]])
    shown = []
    decode = bench.frozen.decode
    bench.frozen.decode = lambda latents: shown.append(decode(latents)) or shown[-1]
    found = bench.losses(batch)
    assert set(found) == {"diffusion", "perceptual", "reference"}
    files = [bench.tables.pictures[int(batch[name][i])] for i, name in enumerate(("identity_face", "expression_face"))]
    person, face = bench.frozen.pictures(files)
    with torch.no_grad():
        maps = zip(faces.perceptual(shown[0][:1]), faces.perceptual(person[None]), strict=True)
        distance = sum(float((a - b).abs().mean()) for a, b in maps)
        error = float((shown[0][1] - face).square().mean())
    assert found["perceptual"] == pytest.approx(2.0 * distance / 2, rel=1e-5)  # a batch of two
    assert found["reference"] == pytest.approx(3.0 * error / 2, rel=1e-5)


def test_nobody_asked_for_is_compared_with_nobody(workshop):
    weights = {"identity": 1.0, "perceptual": 1.0, "reference": 1.0}
    found = terms(workshop, keep=False, **weights)
    assert found["identity"] == found["perceptual"] == found["reference"] == 0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"estimator": "two_step"}, "expected one_step, midpoint or ddim-N, such as ddim-4, found 'two_step'"),
        ({"estimator": "ddim-0"}, "found 'ddim-0'"),
        ({"estimator": "ddim-2.5"}, "found 'ddim-2.5'"),
        ({"min_timestep": 300}, "min_timestep: expected less than max_timestep, 300, found 300"),
    ],
)
def test_options_that_cannot_be_are_one_line(workshop, weights, message):
    with pytest.raises(UserError) as error:
        mef_config_from_dict(values(workshop, **{"train_params.loss_weights": weights}))
    assert message in str(error.value) and "\n" not in str(error.value)
