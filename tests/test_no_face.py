"""Without the face that is asked for: one line, exit status 2 and no result; or what is documented."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from PIL import Image
from test_faces import canvas, write_video
from tiny import randomized, tiny, write_tiny

from modules import media
from modules.config.files import config_from_dict
from modules.sid import weights
from modules.sid.model import SID
from modules.training.checkpoint import save_checkpoint

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face (the astronaut's) and a wall as picture and video, a video that shows the face late, a small model."""
    folder = tmp_path_factory.mktemp("faces")
    face, wall = canvas((60, 20), size=(320, 240)), canvas(size=(320, 240))
    Image.fromarray(face).save(folder / "me.png")
    Image.fromarray(wall).save(folder / "wall.png")
    write_video(folder / "me.mp4", [face] * 4, rate=4)
    write_video(folder / "wall.mp4", [wall] * 4, rate=4)
    write_video(folder / "late.mp4", [wall] * 5 + [face] * 4, rate=4)  # 1.25 s of wall
    write_tiny(folder / "tiny.yaml", framing_params={"size": 2.3})
    torch.manual_seed(0)
    save_checkpoint(weights.state(randomized(SID(config_from_dict(tiny()).model_params))), folder / "model.pth.tar")
    return folder


def animate(files: Path, folder: Path, line: str):
    """Inference.py with the small model, in ``folder``; files are named as in ``files``."""
    model = [] if "mesh" in line else ["--config", "tiny.yaml", "--checkpoint", "model.pth.tar"]
    words = [*model, "--cpu", *shlex.split(line)]
    words = [str(files / word) if (files / word).is_file() else word for word in words]
    return scripts.run(ROOT / "Inference.py", *words, cwd=folder)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--source_image wall.png --driving_video wall.mp4", "no face found in {}wall.png: choose one with"),
        ("--source_image wall.png --driving_video me.mp4", "no face found in {}wall.png: choose one with"),
        ("--source_image me.png --driving_video wall.mp4", "no face found in {}wall.mp4: choose one with"),
        ("--source_image me.png --driving_video wall.mp4 --track", "no face found in {}wall.mp4: choose one with"),
        ("--source_image me.png --driving_video wall.png", "no face found in {}wall.png: choose one with"),
        ("--source_image me.png --driving_video wall.mp4 --motion mesh", "no face found in {}wall.mp4: choose one"),
        ("--source_image me.png --driving_video me.mp4 --pose_video wall.mp4", "no face found in {}wall.mp4: choose"),
        ("--source_image me.png --driving_video me.mp4 --face 2", "--face 2: one face is found in {}me.png"),
        (
            "--source_image me.png --driving_video me.mp4 --driver_face 3",
            "--driver_face 3: one face is found in {}me.mp4",
        ),
        ("--source_image me.png --driving_video me.mp4 --driver_face 3 --track", "--driver_face 3: one face"),
        (
            "--source_image me.png --driving_video me.png --driver_face 2",
            "--driver_face 2: one face is found in {}me.png",
        ),
        (
            "--source_image me.png --driving_video late.mp4 --driver_face 2",
            "--driver_face 2: one face is found in {}late",
        ),
        ("--source_image me.png --driving_video wall.mp4 --driver_face 2", "no face found in {}wall.mp4"),
    ],
)
def test_a_face_that_is_not_there_is_one_line(files, tmp_path, line, said):
    done = animate(files, tmp_path, line)
    errors = [each for each in done.stderr.splitlines() if each.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and "Traceback" not in done.stderr, done.stderr
    assert said.format(f"{files}/") in errors[0] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", ["", "--track", "--driver_face 1", "--find_best_frame", "--faceless skip"])
def test_a_video_may_show_its_face_late(files, tmp_path, options):
    done = animate(files, tmp_path, f"--source_image me.png --driving_video late.mp4 --side_by_side {options}")
    assert done.returncode == 0, done.stderr
    frames = [frame.image.astype(float) for frame in media.read_video(tmp_path / "result.mp4")]
    if "skip" in options:
        assert len(frames) == 4 and "5 frames without a face left out, with the sound" in done.stderr
    else:
        assert len(frames) == 9 and "5 frames without a face show the face before" in done.stderr
        assert all(np.abs(frame - frames[5]).mean() < 3 for frame in frames)  # the first of them, at its beginning


@pytest.mark.parametrize("missing", ["source_image", "reference_image"])
def test_a_portrait_of_nobody_is_one_line(files, tmp_path, missing):
    """MEF's bundled weights, whose SID wants faces cut out; without that it takes what it is given."""
    other = ({"source_image", "reference_image"} - {missing}).pop()
    words = [f"--{missing}", str(files / "wall.png"), f"--{other}", str(files / "me.png")]
    words = ["--prompt", "a portrait", "--steps", "1", "--cpu", *words]
    done = scripts.run(ROOT / "Inference.py", *words, cwd=tmp_path)
    name = {"source_image": "identity", "reference_image": "expression"}[missing]
    assert done.returncode == 2 and f"error: no face found in the {name} picture: choose one" in done.stderr
    assert done.stderr.count("error: ") == 1 and not list(tmp_path.iterdir())
    whole = scripts.run(ROOT / "Inference.py", *words, "--no-crop", cwd=tmp_path)
    assert whole.returncode == 0 and (tmp_path / "result.png").exists(), whole.stderr


def test_a_clip_is_cut_where_its_face_is(files, tmp_path):
    options = ["--inp", str(files / "late.mp4"), "--size", "2.3", "--min_frames", "3", "--cpu", "--out", "crops"]
    done = scripts.run(ROOT / "crop-video.py", *options, cwd=tmp_path)
    assert done.returncode == 0 and "4 frames from 1.25 s" in done.stdout, done.stderr
