"""--source_video: a video of a person, driven, with its own sound, timing and background."""

from __future__ import annotations

import shlex
from pathlib import Path

import media_files
import numpy as np
import pytest
import scripts
import torch
from skimage.data import astronaut

from modules import media
from modules.config.files import load_config
from modules.faces.close_crop import Crop, cut_crop
from modules.sid import inference
from modules.sid.framing import Framing
from modules.sid.motion_options import MotionOptions

ROOT = Path(__file__).parent.parent
DRIVER = ROOT / "Inputs/driving videos/driver-1.mp4"
FACE = cut_crop(astronaut(), Crop(224, 131, 320), 320)


def write(path: Path, images: list[np.ndarray], sound: Path | None = None) -> Path:
    """A video of 10 frames a second."""
    with media.VideoWriter(path, images[0].shape[1], images[0].shape[0], 10, sound) as writer:
        for number, image in enumerate(images):
            writer.write(image, number / 10)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """12 frames of the astronaut who moves to the right, one of them without her."""
    images = [np.roll(FACE, number, axis=1) for number in range(12)]
    images[5] = np.full_like(FACE, 120)
    return write(tmp_path_factory.mktemp("source") / "me.mp4", images)


@pytest.fixture(scope="module")
def model():
    config = load_config(ROOT / "config/synthetic-128-adv.yaml")
    checkpoint = ROOT / "SID_Checkpoints/sid-adv-cpk.pth"
    made = inference.prepare_model(config.model_params, checkpoint, torch.device("cpu"))
    return made, Framing(config.dataset_params.frame_shape[:2], params=config.framing_params, cpu=True)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(((a.astype(float) - b) ** 2).mean() / 255**2 + 1e-12))


def test_without_strength_a_video_comes_back_as_it_was(model, source, tmp_path):
    made, framing = model
    result = tmp_path / "result.mp4"
    options = MotionOptions(strength=0.0)
    assert (
        inference.animate_source_video(
            inference.by_model(made, options), str(source), str(DRIVER), str(result), framing
        )
        == 12
    )
    pairs = zip(media.read_video(source), media.read_video(result), strict=True)
    for before, after in pairs:
        assert after.time == pytest.approx(before.time, abs=1e-3)
        assert psnr(after.image, before.image) > 38  # encoded once more; also the frame without a face


def test_a_picture_drives_all_of_a_video_and_a_video_until_it_ends(model, source, tmp_path):
    made, framing = model
    result = tmp_path / "result.mp4"
    surprise = ROOT / "Inputs/driving static images/surprise.png"
    options = MotionOptions(drive="expression")
    assert (
        inference.animate_source_video(
            inference.by_model(made, options), str(source), str(surprise), str(result), framing
        )
        == 12
    )
    before, after = ([frame.image for frame in media.read_video(path)] for path in (source, result))
    assert np.abs(after[0].astype(float) - before[0])[100:220, 110:220].mean() > 2
    assert psnr(after[0][:60, :40], before[0][:60, :40]) > 38  # the wall behind her, but for the codec
    short = write(tmp_path / "short.mp4", [FACE] * 4)
    assert (
        inference.animate_source_video(inference.by_model(made, options), str(source), str(short), str(result), framing)
        == 4
    )
    assert media.probe_video(result).duration == pytest.approx(0.4, abs=2e-3)


def test_the_sound_of_a_source_is_kept_as_far_as_its_pictures_go(model, tmp_path):
    made, framing = model
    tone = media_files.encode(tmp_path / "tone.mp4", 30, sound=("aac", 0.0, 1.2))
    source = write(tmp_path / "me.mp4", [FACE] * 12, tone)
    short, result = write(tmp_path / "short.mp4", [FACE] * 4), tmp_path / "result.mp4"
    for driver, length in ((DRIVER, 1.2), (short, 0.4)):
        inference.animate_source_video(
            inference.by_model(made, MotionOptions()), str(source), str(driver), str(result), framing
        )
        codec, start, kept = media_files.sound_of(result)
        assert codec == "aac" and start == pytest.approx(0, abs=0.03)
        assert kept == pytest.approx(length, abs=0.05)  # two of its frames, of 1024 samples


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--source_image me.png", "give one of the two"),
        ("--motion mesh", "fits a head to one photograph"),
        ("--result_image x.png", "name it with --result_video"),
        ("--no-crop", "--source_video needs a configuration with framing_params"),
        ("--reference_image 'Inputs/driving static images/surprise.png' --driving_video me.mp4", "takes one driver"),
    ],
)
def test_what_a_source_video_cannot_have_is_one_line(options, said):
    command = "--source_video 'Inputs/driving videos/driver-1.mp4' " + options
    refused = scripts.run(ROOT / "Inference.py", "--cpu", *shlex.split(command))
    assert refused.returncode == 2 and said in refused.stderr and refused.stderr.count("\n") == 1
