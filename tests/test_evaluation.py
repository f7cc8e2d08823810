"""Reconstruction and animation through run.py, and the figures they report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_inference import SIZE, run
from test_sid import randomized
from tiny import tiny, write_tiny

from modules import checkpoint as files
from modules import media
from modules.config import config_from_dict
from modules.data.astronaut import moving_face, write_clips
from modules.evaluation.metrics import best_affine_warp, clip_metrics, mean_over_people
from modules.geometry import RandomTransform
from modules.sid import weights
from modules.sid.animator import to_tensor
from modules.sid.model import SID


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with clips of four people, a configuration that names them, and a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    write_clips(folder / "clips", clips=6, frames=12, size=SIZE, people=4, test_people=2)
    write_tiny(folder / "tiny.yaml", **{"dataset_params.root_dir": str(folder / "clips")})
    torch.manual_seed(0)
    files.save(weights.state(randomized(SID(config_from_dict(tiny()).model_params))), folder / "model.pth.tar")
    return folder


def work(trained: Path, mode: str, config: str = "tiny.yaml"):
    return run(
        trained, trained, "--mode", mode, "--cpu", script="run.py",
        config=str(trained / config), checkpoint=str(trained / "model.pth.tar"), source_image=None, driving_video=None,
    )


def test_reconstruction_writes_videos_strips_figures_and_a_table(trained):
    result = work(trained, "reconstruction")
    assert result.returncode == 0, result.stderr
    folder = trained / "reconstruction"
    clips = sorted(path.stem for path in (trained / "clips" / "test").iterdir())
    assert sorted(path.stem for path in folder.glob("*.mp4")) == clips
    metrics = json.loads((folder / "metrics.json").read_text())
    assert sorted(clip["clip"] for clip in metrics["clips"]) == clips
    assert metrics["summary"]["all"]["people"] == 2
    assert f"{metrics['summary']['all']['model']['PSNR']:.2f}" in result.stdout

    # the strip is loss-less: the figures can be had from it and the clip alone
    (clip, *_) = metrics["clips"]
    strip = media.read_image(folder / "png" / f"{clip['clip']}.png")
    assert strip.shape == (SIZE, 12 * SIZE, 3)
    predictions = np.split(strip, 12, axis=1)[1:]
    frames = [f.image for f in media.read_video(trained / "clips" / "test" / f"{clip['clip']}.mp4")][1:]
    again = clip_metrics(to_tensor(predictions), to_tensor(frames))
    assert again == pytest.approx(clip["model"], rel=1e-6)


def test_animation_of_listed_and_of_drawn_pairs(trained):
    result = work(trained, "animate")
    assert result.returncode == 0, result.stderr
    made = list((trained / "animation").glob("*.mp4"))
    assert len(made) == len(list((trained / "animation" / "png").glob("*.png"))) > 0
    for path in made:
        path.unlink()

    first, second = sorted(path.stem for path in (trained / "clips" / "test").iterdir())[:2]
    (trained / "pairs.csv").write_text(f"source,driving\n{first},{second}.mp4\n")
    data = {"root_dir": str(trained / "clips"), "pairs_list": str(trained / "pairs.csv")}
    write_tiny(trained / "listed.yaml", **{f"dataset_params.{key}": value for key, value in data.items()})
    assert work(trained, "animate", "listed.yaml").returncode == 0
    assert [path.stem for path in (trained / "animation").glob("*.mp4")] == [f"{first}-{second}"]

    (trained / "pairs.csv").write_text("source,driving\nnobody,nothing\n")
    result = work(trained, "animate", "listed.yaml")
    assert result.returncode == 2 and "line 2: the test split has no clip 'nobody'" in result.stderr


def test_people_count_equally_however_many_clips_they_have():
    figures = [("a", {"L1": 1.0}), ("a", {"L1": 3.0}), ("b", {"L1": 6.0})]
    assert mean_over_people(figures) == {"L1": 4.0}


def test_metrics_of_known_pictures():
    target = torch.rand(3, 3, 32, 32)
    assert clip_metrics(target, target) == pytest.approx({"L1": 0, "PSNR": 100, "SSIM": 1}, abs=1e-5)
    grey = torch.full((1, 3, 32, 32), 0.5)
    off = clip_metrics(grey + 0.1, grey)
    assert off["L1"] == pytest.approx(0.1, rel=1e-5) and off["PSNR"] == pytest.approx(20, rel=1e-4)


def test_the_affine_baseline_finds_an_affine_warp():
    image = to_tensor(moving_face(0, 1, 64))
    theta = torch.tensor([[[1.05, -0.08, 0.06], [0.08, 1.05, -0.04]]])
    target = RandomTransform(theta).warp_image(image)
    inside = (slice(None), slice(None), slice(12, 52), slice(12, 52))  # away from what the warp brings in
    before = (image - target)[inside].abs().mean()
    after = (best_affine_warp(image, target) - target)[inside].abs().mean()
    # 150 steps from the identity: the rest is sub-pixel; a fifth is far from anything but the right warp
    assert after < 0.2 * before
