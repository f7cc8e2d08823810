"""--mode evaluate and its parts: figures whose right value is known beforehand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny import tiny

from modules import checkpoint as files
from modules.config import EncoderParams, config_from_dict
from modules.data.synthetic import ACTION_UNITS, IDENTITY, render
from modules.evaluation import disentanglement, reenactment
from modules.evaluation.meter import FRAMES_PER_PERSON, FaceMeter, load_meter, save_meter, train_meter
from modules.evaluation.world import TRAINING_SEED, cross_pair, portraits
from modules.sid import weights
from modules.sid.model import SID

ROOT = Path(__file__).parent.parent
SMALL = EncoderParams(identity_dim=8, expression_dim=8, pose_dim=4, block_expansion=8, max_features=16, num_blocks=3)
PEOPLE, FRAMES = 60, 5


@pytest.fixture(scope="module")
def faces():
    return portraits(PEOPLE, FRAMES, seed=5)


def test_retrieval_of_what_knows_the_person_and_of_what_does_not(faces):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(faces.identity.shape, generator=generator)
    assert disentanglement.rank1(faces.identity + 1e-3 * noise, FRAMES) == 1
    assert disentanglement.rank1(noise, FRAMES) < 0.1  # chance is 1/60


def test_a_probe_reads_what_is_there_linearly_and_nothing_else(faces):
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(len(ACTION_UNITS), 40, generator=generator)
    z = faces.action_units @ mixing
    half = len(z) // 2 // FRAMES * FRAMES
    known = disentanglement.ridge_r2(z[:half], faces.action_units[:half], z[half:], faces.action_units[half:], FRAMES)
    assert known.mean() > 0.9
    other = disentanglement.ridge_r2(z[:half], faces.identity[:half], z[half:], faces.identity[half:], FRAMES)
    assert other.mean() < 0.2


def test_pictures_of_one_person_differ_in_all_but_the_person(faces):
    person = faces.identity.unflatten(0, (PEOPLE, FRAMES))
    assert (person == person[:, :1]).all() and not (person[0] == person[1]).all()
    for name in ("action_units", "pose", "scene"):
        values = getattr(faces, name).unflatten(0, (PEOPLE, FRAMES))
        assert not (values[:, 0] == values[:, 1]).all(), name
    alike = portraits(4, 2, seed=5, same_face=True)
    assert (alike.pose == alike.pose[:1]).all() and (alike.action_units == alike.action_units[:1]).all()
    assert not (alike.scene == alike.scene[:1]).all()


def test_the_truth_of_a_cross_pair_is_one_persons_look_and_the_others_face():
    pair = cross_pair(3, 4, seed=7)
    assert (pair.truth.identity == pair.source.identity).all() and (pair.truth.scene == pair.source.scene).all()
    for name in ("action_units", "asymmetry", "gaze", "pose"):
        assert torch.equal(getattr(pair.truth, name), getattr(pair.driving, name)), name
    assert not (pair.driving.identity == pair.source.identity).all()
    again = cross_pair(3, 4, seed=7)
    assert all(torch.equal(a, b) for a, b in zip(pair.truth, again.truth, strict=True))


def test_masked_figures_look_at_the_mask_alone():
    torch.manual_seed(0)
    target = torch.rand(2, 3, 32, 32)
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 8:24, 8:24] = 1
    wrong = target + 0.1 * mask - 0.3 * (1 - mask)
    torch.testing.assert_close(reenactment.masked_psnr(wrong, target, mask), torch.full((2,), 20.0), atol=1e-3, rtol=0)
    outside = torch.where(mask.bool(), target, 0.5)
    inner = torch.zeros_like(mask)
    inner[:, :, 14:18, 14:18] = 1  # an SSIM window (11 pixels) about these stays inside what is equal
    torch.testing.assert_close(reenactment.masked_ssim(outside, target, inner), torch.ones(2), atol=1e-4, rtol=0)
    assert reenactment.masked_ssim(outside, target, mask).max() < 0.999


def test_a_meter_learns_from_the_truth_and_is_read_back_from_its_file(tmp_path):
    """A few steps on sixteen people teach nothing of others; on them it must do better than the mean face."""
    meter = train_meter(SMALL, 32, people=16, steps=100)
    save_meter(meter, tmp_path / "meter.pth")
    again = load_meter(tmp_path / "meter.pth")
    images, _, landmarks = render(portraits(16, FRAMES_PER_PERSON, TRAINING_SEED).take(torch.arange(16)), 32)
    read, copy = meter(images), again(images)
    torch.testing.assert_close(read.pose, copy.pose, atol=0.5, rtol=0.02)  # kept in half precision
    assert read.identity.shape == (16, len(IDENTITY)) and read.landmarks.shape == (16, 68, 2)
    guess = (landmarks - landmarks.mean(dim=0)).abs().mean()
    assert (read.landmarks - landmarks).abs().mean() < 0.85 * guess


def test_landmarks_teach_the_embeddings_nothing():
    """Face shape in z_sem, or pose in z_id, would make the network and the ceiling leak what they should not know."""
    meter = FaceMeter(SMALL, 32)
    meter(torch.rand(2, 3, 32, 32)).landmarks.sum().backward()
    taught = {name.split(".")[0] for name, parameter in meter.named_parameters() if parameter.grad is not None}
    assert taught == {"landmarks"}


def test_evaluate_writes_figures_tables_and_a_report(tmp_path):
    config = config_from_dict(tiny())
    torch.manual_seed(0)
    files.save(weights.state(SID(config.model_params)), tmp_path / "model.pth")
    save_meter(FaceMeter(SMALL, 32), tmp_path / "meter.pth")
    save_meter(FaceMeter(config.model_params.encoder_params, 32), tmp_path / "ceiling.pth")
    values = tiny()
    values["evaluate_params"] = {
        "meter": str(tmp_path / "meter.pth"), "ceiling": str(tmp_path / "ceiling.pth"),
        "people": 8, "frames": 3, "pairs": 2, "clip_frames": 3,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "run.py", "--config", str(tmp_path / "config.yaml"), "--mode", "evaluate", "--cpu"]
    command += ["--checkpoint", str(tmp_path / "model.pth")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    rows = {"embedding", "absolute", "relative", "relative, scaled", "no motion", "truth"}
    assert rows <= set(figures["reenactment"])
    assert figures["reenactment"]["truth"]["PSNR"] == 100
    assert set(figures["disentanglement"]) == {"model", "supervised ceiling"}
    assert "rank1" in result.stdout and "--drive expression" in result.stdout
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert "<table>" in page and (tmp_path / "evaluation" / "sheet.png").is_file()

    (tmp_path / "meter.pth").unlink()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2 and "meter.pth: no such file; train it: python -m" in result.stderr
