"""Reconstruction and animation through run.py, and the figures they report."""

from __future__ import annotations

import json
import shutil
import weakref
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from test_inference import SIZE, run
from tiny import randomized, tiny, write_tiny
from torchvision.models import alexnet

from modules import media
from modules.config.files import config_from_dict, load_config
from modules.data.astronaut import moving_face, write_clips
from modules.data.frames import test_clips as find_test_clips
from modules.errors import UserError
from modules.evaluation import output
from modules.evaluation.animation import choose_pairs
from modules.evaluation.metrics import ClipMetrics, Figures, best_affine_warp, load_lpips, mean_over_people
from modules.evaluation.output import unique_names
from modules.geometry import RandomTransform
from modules.media.tensors import to_tensor
from modules.sid import weights
from modules.sid.animator import Animator
from modules.sid.driving import pairs
from modules.sid.model import SID
from modules.training.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with clips of four people, a configuration that names them, and a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    write_clips(folder / "clips", clips=6, frames=12, size=SIZE, people=4, test_people=2)
    write_tiny(folder / "tiny.yaml", **{"dataset_params.root_dir": str(folder / "clips")})
    torch.manual_seed(0)
    save_checkpoint(weights.state(randomized(SID(config_from_dict(tiny()).model_params))), folder / "model.pth.tar")
    return folder


def work(trained: Path, mode: str, config: str = "tiny.yaml", fresh: bool = False):
    return run(
        trained,
        trained,
        "--mode",
        mode,
        "--cpu",
        script="run.py",
        fresh=fresh,
        config=str(trained / config),
        checkpoint=str(trained / "model.pth.tar"),
        source_image=None,
        driving_video=None,
    )


def test_reconstruction_writes_videos_strips_figures_and_a_table(trained):
    result = work(trained, "reconstruction", fresh=True)
    assert result.returncode == 0, result.stderr
    folder = trained / "reconstruction"
    clips = sorted(path.stem for path in (trained / "clips" / "test").iterdir())
    assert sorted(path.stem for path in folder.glob("*.mp4")) == clips
    metrics = json.loads((folder / "metrics.json").read_text())
    assert sorted(clip["clip"] for clip in metrics["clips"]) == clips
    assert metrics["summary"]["all"]["people"] == 2
    assert f"{metrics['summary']['all']['model']['PSNR']:.2f}" in result.stdout
    faces = metrics["faces"]["means"]
    assert faces["repeat"]["MKR"] == 0 and 0 < faces["affine"]["AKD"] < faces["repeat"]["AKD"]
    assert f"{faces['repeat']['CSIM']:.3f}" in result.stdout
    assert ("LPIPS is left out" in result.stdout) == ("LPIPS" not in metrics["summary"]["all"]["model"])

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
    metrics = json.loads((trained / "animation" / "metrics.json").read_text())
    assert len(metrics["pairs"]) == len(made) and metrics["faces"]["means"]["source repeated"]["jitter"] == 0
    assert "mouth range" in result.stdout
    for path in made:
        path.unlink()

    first, second = sorted(path.stem for path in (trained / "clips" / "test").iterdir())[:2]
    (trained / "pairs.csv").write_text(f"source,driving\n{first},{second}.mp4\n", "utf-8-sig")  # as Excel
    data = {"root_dir": str(trained / "clips"), "pairs_list": str(trained / "pairs.csv")}
    write_tiny(trained / "listed.yaml", **{f"dataset_params.{key}": value for key, value in data.items()})
    assert work(trained, "animate", "listed.yaml").returncode == 0
    assert [path.stem for path in (trained / "animation").glob("*.mp4")] == [f"{first}-{second}"]

    (trained / "pairs.csv").write_text("source,driving\nnobody,nothing\n")
    result = work(trained, "animate", "listed.yaml")
    assert result.returncode == 2 and "line 2: the test split has no clip 'nobody'" in result.stderr


def with_data(trained: Path, name: str, **data) -> str:
    write_tiny(trained / name, **{f"dataset_params.{key}": value for key, value in data.items()})
    return name


def test_a_list_that_cannot_be_used_is_one_line(trained):
    clips, listed = str(trained / "clips"), trained / "listed.csv"
    config = with_data(trained, "listed2.yaml", root_dir=[{"path": clips}, {"path": clips}], pairs_list=str(listed))
    config = load_config(trained / config)
    found = find_test_clips(config.dataset_params)
    first, second = sorted(path.name for path in (trained / "clips" / "test").iterdir())[:2]
    cases = [
        (f"source,driving\n{first},{second}\n".encode("utf-16"), "is not UTF-8 text"),
        (b"source,driving\n", "holds no pair"),
        (b"", "must name the columns"),
        (b"source,driving\na" + b"x" * 200_000 + b",b\n", "is not CSV"),
        (f"source,driving\n{first}\n".encode(), f"line 2: {first!r} may be any of"),
        (b"\xef\xbb\xbfsource,driving\nnobody,nothing\n", "line 2: the test split has no clip 'nobody'"),
    ]
    for content, message in cases:
        listed.write_bytes(content)
        with pytest.raises(UserError) as caught:
            choose_pairs(found, config)
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_results_of_equal_names_do_not_replace_one_another(trained, tmp_path):
    """One clip in two roots, and a video beside a gif of its name."""
    name = sorted((trained / "clips" / "test").iterdir())[0]
    for root in ("a", "b"):
        (tmp_path / root / "test").mkdir(parents=True)
        shutil.copy(name, tmp_path / root / "test" / "anna#1.mp4")
    with media.VideoWriter(tmp_path / "b" / "test" / "anna#1.gif", SIZE, SIZE, 25) as writer:
        for i, image in enumerate(moving_face(2, 12, SIZE)):
            writer.write(image, i / 25)
    config = with_data(trained, "twice.yaml", root_dir=[{"path": str(tmp_path / root)} for root in "ab"])
    shutil.rmtree(trained / "reconstruction", ignore_errors=True)
    shutil.rmtree(trained / "animation", ignore_errors=True)
    assert work(trained, "reconstruction", config).returncode == 0
    names = ["anna#1", "anna#1-2", "anna#1-3"]
    assert sorted(path.stem for path in (trained / "reconstruction").glob("*.mp4")) == names
    metrics = json.loads((trained / "reconstruction" / "metrics.json").read_text())["clips"]
    assert sorted(clip["clip"] for clip in metrics) == names and len({clip["path"] for clip in metrics}) == 3
    assert work(trained, "animate", config).returncode == 0
    assert len(list((trained / "animation").glob("*.mp4"))) == 6  # each of three by each other
    assert unique_names(["a", "a", "a-2", "A"]) == ["a", "a-3", "a-2", "A-4"]


def test_a_clip_is_written_as_it_comes_in_strips_that_can_be_read_back(tmp_path, monkeypatch):
    """Three frames fit into a strip here: seven make three; and a clip that breaks off leaves nothing."""
    monkeypatch.setattr(output, "STRIP_PIXELS", 3 * SIZE * SIZE)
    frames = moving_face(0, 7, SIZE)
    with output.clip_files(tmp_path / "whole", "clip", ".mp4", Fraction(25)) as add:
        for i, frame in enumerate(frames):
            add([frame, frame], i / 25)
    assert len(media.probe_video(tmp_path / "whole" / "clip.mp4").times) == 7
    parts = [tmp_path / "whole" / "png" / f"clip{part}.png" for part in ("", ".part2", ".part3")]
    row = np.concatenate([media.read_image(part) for part in parts], axis=1)
    assert np.array_equal(row, np.concatenate(frames, axis=1))

    with pytest.raises(UserError), output.clip_files(tmp_path / "broken", "clip", ".mp4", Fraction(25)) as add:
        for i, frame in enumerate(frames):
            add([frame, frame], i / 25)
        raise UserError("the clip breaks off")
    assert not [path for path in (tmp_path / "broken").rglob("*") if path.is_file()]


def test_memory_does_not_grow_with_the_length_of_a_clip(trained, tmp_path):
    """Of the arrays held at the end of a clip ten times as long; PNG strips, at most 100 MB, are apart."""
    model = SID(config_from_dict(tiny()).model_params).eval()
    frames = moving_face(0, 4, SIZE)
    held = []

    def counted(count):
        for i in range(count):
            held.append(weakref.ref(frame := frames[i % 4].copy()))
            yield frame

    most = 0
    for _ in pairs(Animator(model, frames[0], batch_size=4), counted(100)):
        most = max(most, sum(ref() is not None for ref in held))
    assert len(held) == 100 and most <= 3 * 4


def test_lpips_is_measured_where_alexnets_weights_are_at_hand(tmp_path, monkeypatch):
    """With weights of no meaning: that it is found, that equal pictures are 0 apart and others are not."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert load_lpips(torch.device("cpu")) is None
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(alexnet().state_dict(), tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth")
    images = torch.rand(3, 3, 64, 64)
    for other, check in ((images, lambda d: d == 0), (images.flip(0), lambda d: d > 1e-4)):
        whole, parts = (ClipMetrics(load_lpips(torch.device("cpu"))) for _ in range(2))
        whole.add(images, other)
        for i in range(3):
            parts.add(images[i : i + 1], other[i : i + 1])
        assert check(whole.means()["LPIPS"])
        assert parts.means() == pytest.approx(whole.means(), rel=1e-4, abs=1e-7)


def clip_metrics(prediction: torch.Tensor, target: torch.Tensor) -> Figures:
    metrics = ClipMetrics()
    metrics.add(prediction, target)
    return metrics.means()


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
