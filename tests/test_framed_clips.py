"""The test clips of run.py's modes: what is cut out close, and what is left as it is."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from test_faces import canvas, write_video
from test_inference import run
from tiny import randomized, tiny, write_tiny

from modules import media
from modules.config.files import config_from_dict
from modules.config.sid import Config, FramingParams
from modules.data.clips import UnreadableClip, find_clips
from modules.errors import UserError
from modules.evaluation.framed import ClipFraming
from modules.evaluation.people import portraits
from modules.faces.close_crop import Crop, cut_crop
from modules.faces.framer import Framer
from modules.sid import weights
from modules.sid.framing import Framing
from modules.sid.model import SID
from modules.training.checkpoint import save_checkpoint
from modules.world import render

SIZE = 96
FACE = Crop(224, 131, 90)  # the astronaut's, brows to chin
PARAMS = FramingParams(size=2.35, above=0.11)


def config(root: Path, **changes: object) -> Config:
    values = tiny(**{"dataset_params.root_dir": str(root), "dataset_params.frame_shape": [SIZE, SIZE, 3], **changes})
    return replace(config_from_dict(values), framing_params=PARAMS)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Uncut: a video, a folder of frames, a photograph.  Cut out: a video.  And a video without a face."""
    root = tmp_path_factory.mktemp("clips")
    uncut = [canvas((60 + 2 * n, 40)) for n in range(6)]
    write_video(root / "anna#1.mp4", uncut)
    (root / "bert#1").mkdir()
    for number, image in enumerate(uncut):
        Image.fromarray(image).save(root / "bert#1" / f"{number}.png")
    Image.fromarray(astronaut()).rotate(20).save(root / "cleo#1.png")
    close = cut_crop(astronaut(), FACE.wider(2.1, 0.05), 160)
    write_video(root / "dora#1.mp4", [close] * 4)
    write_video(root / "emil#1.mp4", [canvas()] * 4)
    return root


def framed(root: Path, crop: bool | None = None) -> dict[str, object]:
    found, _ = find_clips(root, "all", (SIZE, SIZE, 3))
    framing = ClipFraming(config(root), crop, cpu=True)
    return {clip.name.partition("#")[0]: (clip, lambda clip=clip: framing(clip)) for clip in found}


def test_an_uncut_clip_is_framed_as_inference_frames_it(clips):
    framing = Framing((SIZE, SIZE), params=PARAMS, cpu=True)
    found = framed(clips)
    of_driver = np.stack([frame.image for frame in framing.video(clips / "anna#1.mp4").frames()])
    of_source = framing.source(clips / "cleo#1.png").image
    for person, expected in (("anna", of_driver), ("cleo", of_source[None])):
        clip, cut = found[person]
        assert (cut().read(range(len(clip))) == expected).all() and (np.stack(list(cut().frames())) == expected).all()
    frames = found["bert"][1]().read([0, 5])  # the same frames as anna's, but for what H.264 lost
    assert np.abs(frames.astype(float) - of_driver[[0, 5]]).mean() < 4


def test_what_is_cut_out_already_is_left_as_it_is(clips):
    clip, cut = framed(clips)["dora"]
    assert cut() is clip
    forced = framed(clips, crop=True)["dora"][1]()
    assert (forced.read([0]) != clip.read([0])).any()
    clip, cut = framed(clips, crop=False)["anna"]
    assert cut() is clip


def test_a_clip_without_a_face_is_left_as_it_is_or_left_out(clips, capsys):
    clip, cut = framed(clips)["emil"]
    assert cut() is clip and "no face found" in capsys.readouterr().err
    with pytest.raises(UnreadableClip, match=r"no face found in .*emil#1.mp4"):
        framed(clips, crop=True)["emil"][1]()


def test_frames_of_the_face_world_count_as_cut_out():
    """Its people are nearer and farther, turned and off the middle."""
    framer = Framer(PARAMS.size, PARAMS.above, cpu=True)
    faces = portraits(12, 1, seed=2)
    images = (render(faces, 128).image.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    places = []
    for image in images:
        with suppress(UserError):
            places.append(framer.picture(image, "it", upright=False))
    assert len(places) >= 10 and all(place.is_whole(images[0]) for place in places)


def test_a_square_is_the_whole_picture_where_it_is_large_and_in_the_middle():
    picture = np.zeros((100, 160, 3), np.uint8)
    assert Crop(80, 50, 100).is_whole(picture) and Crop(80, 50, 170).is_whole(picture)
    assert Crop(90, 40, 80).is_whole(picture)
    assert not Crop(80, 50, 60).is_whole(picture) and not Crop(40, 50, 100).is_whole(picture)


@pytest.mark.parametrize("mode", ["compare-real", "reconstruction", "animate"])
def test_every_mode_on_users_clips_frames_them(clips, tmp_path, mode):
    """By their own choice; compare-real is told to cut all, and leaves out what has no face."""
    root = tmp_path / "clips" / "test"
    root.mkdir(parents=True)
    for name in ("anna#1.mp4", "emil#1.mp4", *(["dora#1.mp4"] if mode == "compare-real" else [])):
        (root / name).symlink_to(clips / name)
    changes = {"dataset_params.root_dir": str(root.parent), "dataset_params.frame_shape": [SIZE, SIZE, 3]}
    write_tiny(tmp_path / "tiny.yaml", **changes, framing_params={"size": 2.35, "above": 0.11})
    torch.manual_seed(0)
    save_checkpoint(weights.state(randomized(SID(config_from_dict(tiny()).model_params))), tmp_path / "model.pth.tar")
    paths = {"config": str(tmp_path / "tiny.yaml"), "checkpoint": str(tmp_path / "model.pth.tar")}
    options = ["--real_faces", str(root), "--crop"] if mode == "compare-real" else []
    unused = {"source_image": None, "driving_video": None}
    done = run(tmp_path, tmp_path, "--mode", mode, "--cpu", *options, script="run.py", **paths, **unused)
    assert done.returncode == 0, done.stderr
    if mode == "compare-real":
        metrics = json.loads((tmp_path / "compare-real" / "model" / "metrics.json").read_text())
        assert len(metrics["pairs"]) == 2 and len(metrics["skipped"]) == 4
        assert all("emil" in name and "no face found" in why for name, why in metrics["skipped"].items())
    else:
        assert "no face found in" in done.stderr and "emil#1.mp4" in done.stderr and "taken as it is" in done.stderr
    if mode == "reconstruction":
        video = next(media.read_video(tmp_path / "reconstruction" / "anna#1.mp4")).image[:, :SIZE]
        driver = next(Framing((SIZE, SIZE), params=PARAMS, cpu=True).video(clips / "anna#1.mp4").frames()).image
        assert np.abs(video.astype(float) - driver).mean() < 6  # coded once more


def test_options_without_effect_are_one_line(tmp_path):
    write_tiny(tmp_path / "tiny.yaml")
    with pytest.raises(UserError, match="--crop needs a configuration with framing_params"):
        ClipFraming(replace(config(tmp_path), framing_params=None), crop=True)
    paths = {"config": str(tmp_path / "tiny.yaml"), "checkpoint": "x", "source_image": None, "driving_video": None}
    done = run(tmp_path, tmp_path, "--mode", "train", "--no-crop", script="run.py", **paths)
    assert done.returncode == 2 and "--no-crop is not for --mode train" in done.stderr
