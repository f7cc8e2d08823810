"""Faces of a small base's estimates beside the pictures' own: what squared errors of latents hardly see."""

from __future__ import annotations

from pathlib import Path

import pytest
import scripts
import tiny_base
import torch
import yaml
from diffusers import DDPMScheduler
from test_small_base import write_config
from tiny_mef import write_portraits, write_sid

from modules.config.mef import SIDParams
from modules.config.small_base import FaceFeatureParams
from modules.data.portraits import read_portraits
from modules.mef.embeddings import SIDEncoders
from modules.mef.small_base.face_features import FaceFeatures


@pytest.fixture(scope="module")
def sid(tmp_path_factory) -> SIDParams:
    folder = write_sid(tmp_path_factory.mktemp("sid"))
    return SIDParams(config=str(folder / "sid.yaml"), checkpoint=str(folder / "sid.pth.tar"))


@pytest.fixture(scope="module")
def portraits(tmp_path_factory) -> list:
    return read_portraits(str(write_portraits(tmp_path_factory.mktemp("data") / "portraits")))[0]


class Bench:
    """Four clean latents, noise, and the losses of predictions."""

    def __init__(self, sid: SIDParams, portraits: list, **changes: float):
        params = FaceFeatureParams(sid_params=sid, expression=1.0, identity=1.0, **changes)
        vae = tiny_base.autoencoder().eval().requires_grad_(False)
        self.schedule = DDPMScheduler(prediction_type="v_prediction")
        encoders = SIDEncoders.from_sid(sid)
        self.losses = FaceFeatures(vae, self.schedule, encoders, params, portraits, 32)
        self.clean, self.noise = torch.randn(4, 4, 16, 16), torch.randn(4, 4, 16, 16)

    def __call__(self, steps: list[int], off: torch.Tensor | float = 0.0) -> dict[str, torch.Tensor]:
        t = torch.tensor(steps)
        self.prediction = (self.schedule.get_velocity(self.clean, self.noise, t) + off).requires_grad_()
        noisy = self.schedule.add_noise(self.clean, self.noise, t)
        return self.losses(self.clean, noisy, self.prediction, t)


def test_what_shows_the_truth_costs_nothing_and_what_does_not_has_a_gradient(sid, portraits):
    bench = Bench(sid, portraits, share=1.0)
    for value in bench([10, 200, 400, 600]).values():
        assert float(value) == pytest.approx(0, abs=1e-4)  # rounding of x0 from x_t and v
    terms = bench([10, 200, 400, 600], off=torch.randn(4, 4, 16, 16))
    assert all(float(value) > 1e-3 for value in terms.values())
    sum(terms.values()).backward()
    assert (bench.prediction.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_sid_reads_faces_in_training_as_it_always_does(sid, portraits):
    """Not by a batch's own statistics, nor does it learn them."""
    bench = Bench(sid, portraits, share=1.0)
    before = {name: value.clone() for name, value in bench.losses.sid.state_dict().items()}
    resting = bench([10, 200, 400, 600], off=0.5)
    bench.losses.train()  # what differs then is rounding
    assert {name: float(value) for name, value in bench([10, 200, 400, 600], off=0.5).items()} == {
        name: pytest.approx(float(value), rel=1e-3) for name, value in resting.items()
    }
    assert all(torch.equal(value, before[name]) for name, value in bench.losses.sid.state_dict().items())


def test_only_a_share_of_what_is_in_range_is_looked_at(sid, portraits):
    bench = Bench(sid, portraits, share=0.5, max_timestep=300)
    sum(bench([500, 100, 200, 50], off=1.0).values()).backward()
    assert (bench.prediction.grad.abs().sum(dim=(1, 2, 3)) > 0).tolist() == [False, True, True, False]
    nothing = bench([500, 600, 700, 800], off=1.0)
    assert [float(value) for value in nothing.values()] == [0, 0]
    sum(nothing.values()).backward()  # other processes wait for a gradient


def test_the_command_trains_with_it(tmp_path: Path, sid):
    path = write_config(tmp_path)
    config = yaml.safe_load(path.read_text())
    faces = {"sid_params": {"config": sid.config, "checkpoint": sid.checkpoint}, "max_timestep": 1000}
    config["denoiser_train_params"] = config["denoiser_train_params"] | {"face_feature_params": faces}
    path.write_text(yaml.safe_dump(config))
    for part in ("autoencoder", "denoiser"):
        places = ("--config", path, "--out", tmp_path / "base", "--log_dir", tmp_path / "log")
        result = scripts.run("-m", "modules.mef.small_base", "--part", part, *places, "--cpu")
        assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "log" / "denoiser").iterdir()
    log = (run / "log.txt").read_text()
    assert "expression - " in log and "identity - " in log
