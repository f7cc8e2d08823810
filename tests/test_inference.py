"""Inference.py as users run it: real files in every shape, timing and sound kept, one line for what cannot be."""

from __future__ import annotations

import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from media_files import encode, images_of, sound_of
from PIL import Image
from skimage.data import astronaut
from tiny import randomized, tiny, write_tiny

from modules import media
from modules.config.files import config_from_dict
from modules.data.astronaut import moving_face
from modules.sid import weights
from modules.sid.model import SID
from modules.training.checkpoint import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parent.parent
SIZE = 32


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """A folder with a small SID model, its configuration, a source picture and a driving video."""
    folder = tmp_path_factory.mktemp("workshop")
    write_tiny(folder / "tiny.yaml")
    torch.manual_seed(0)
    model = randomized(SID(config_from_dict(tiny()).model_params))
    save_checkpoint(weights.state(model), folder / "model.pth.tar")
    media.write_image(folder / "source.png", moving_face(0, 1, 64)[0])
    write_video(folder / "driving.mp4", [i / 25 for i in range(20)])
    return folder


def write_video(path: Path, times: list[float], size: int = 64, frame_rate: Fraction = Fraction(25)) -> Path:
    faces = moving_face(1, len(times), size)
    with media.VideoWriter(path, size, size, frame_rate) as writer:
        for image, time in zip(faces, times, strict=True):
            writer.write(image, time)
    return path


def run(
    workshop: Path, cwd: Path, *options: str, script: str = "Inference.py", fresh: bool = False, **replaced: str | None
):
    """Run the script in ``cwd``; named options have defaults from the workshop, None leaves one out."""
    defaults = {
        "config": str(workshop / "tiny.yaml"),
        "checkpoint": str(workshop / "model.pth.tar"),
        "source_image": str(workshop / "source.png"),
        "driving_video": str(workshop / "driving.mp4"),
    }
    named = [part for name, value in (defaults | replaced).items() if value for part in (f"--{name}", value)]
    return scripts.run(ROOT / script, *named, *options, cwd=cwd, timeout=120, fresh=fresh)


def succeed(*args, **options) -> str:
    result = run(*args, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_video_drives_frame_by_frame_with_its_own_timing(workshop, tmp_path):
    times = [0, 0.04, 0.1, 0.13, 0.3, 0.34, 0.5, 1.0, 1.02]  # variable rate
    driver = write_video(tmp_path / "variable.mp4", times)
    out = succeed(workshop, tmp_path, driving_video=str(driver))
    assert "wrote result.mp4 (9 frames)" in out
    for options, count in ((), 1), (("--cpu",), 0):  # the CPU is named where it was not asked for
        said = run(workshop, tmp_path, *options, driving_video=str(driver)).stderr
        assert said.count("computing on the CPU") == count
    info = media.probe_video(tmp_path / "result.mp4")
    assert (info.width, info.height) == (SIZE, SIZE)
    assert info.times == pytest.approx(times, abs=1e-3)  # the promise: within 1 ms


def test_sound_is_kept(workshop, tmp_path):
    driver = encode(tmp_path / "sound.mp4", count=50, sound=("aac", 0.0, 2.0))
    succeed(workshop, tmp_path, driving_video=str(driver))
    codec, start, length = sound_of(tmp_path / "result.mp4")
    expected = sound_of(driver)
    assert (codec, length) == (expected[0], pytest.approx(expected[2], abs=1e-6))  # packets are copied
    assert start == pytest.approx(expected[1], abs=1e-3)


def test_a_rotated_video_is_animated_as_a_player_shows_it(workshop, tmp_path):
    rotated = encode(tmp_path / "rotated.mp4", count=4, rotation=90)
    with media.VideoWriter(tmp_path / "upright.mp4", 96, 128, 25) as writer:
        for i, image in enumerate(images_of(rotated)):
            writer.write(image, i / 25)
    results = []
    for name in ("rotated", "upright"):
        succeed(workshop, tmp_path, "--side_by_side", driving_video=f"{name}.mp4", result_video=f"{name}-result.mp4")
        results.append(np.stack(images_of(tmp_path / f"{name}-result.mp4")).astype(float))
    # the upright copy was coded once more: a few grey levels, where a wrong turn would differ by dozens
    assert np.abs(results[0] - results[1]).mean() < 3
    assert np.abs(results[0] - results[1][:, :, ::-1]).mean() > 10


def test_an_image_drives_a_picture_and_both_write_both(workshop, tmp_path):
    media.write_image(tmp_path / "reference.png", moving_face(2, 1, 64)[0])
    out = succeed(workshop, tmp_path, "--Reference_image", "reference.png", "--relative", "--adapt_scale")
    assert "wrote result.mp4 (20 frames)" in out and "wrote result.png" in out and "no first frame" in out
    assert media.read_image(tmp_path / "result.png").shape == (SIZE, SIZE, 3)
    succeed(workshop, tmp_path, "--side_by_side", driving_video="reference.png", result_image="three.jpg")
    assert media.read_image(tmp_path / "three.jpg").shape == (SIZE, 3 * SIZE, 3)


def test_names_that_the_terminal_cannot_show_are_spelt_out(workshop, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    named = {"reference_image": str(workshop / "source.png"), "result_image": "ж.png", "result_video": "ж.mp4"}
    out = succeed(workshop, tmp_path, **named)
    assert r"wrote \u0436.png" in out and r"wrote \u0436.mp4 (20 frames)" in out
    assert (tmp_path / "ж.png").exists() and (tmp_path / "ж.mp4").exists()


def test_what_is_not_written_may_be_an_input(workshop, tmp_path):
    media.write_image(tmp_path / "result.png", moving_face(0, 1, 64)[0])  # the picture of an earlier run is the source
    succeed(workshop, tmp_path, source_image="result.png")
    write_video(tmp_path / "result.mp4", [0.0, 0.04])
    succeed(workshop, tmp_path, "--pose_video", "result.mp4", driving_video="result.png", result_image="b.png")


@pytest.mark.parametrize("suffix", [".jfif", ".avif", ".webp", ".tga"])
def test_pictures_of_any_common_kind_drive(workshop, tmp_path, suffix):
    Image.fromarray(moving_face(2, 1, 64)[0]).save(tmp_path / f"driver{suffix}")
    assert "wrote result.png" in succeed(workshop, tmp_path, driving_video=f"driver{suffix}")


def test_gif_and_side_by_side(workshop, tmp_path):
    succeed(workshop, tmp_path, "--side_by_side", result_video="result.gif")
    frames = images_of(tmp_path / "result.gif")
    assert len(frames) == 20 and frames[0].shape == (SIZE, 3 * SIZE, 3)
    source = media.fit(media.read_image(workshop / "source.png"), SIZE, SIZE)
    assert np.abs(frames[7][:, :SIZE].astype(int) - source).mean() < 8  # 256 colours a frame


def _variants() -> dict[str, tuple[Image.Image, np.ndarray]]:
    """Pictures to save, and what a viewer shows of each."""
    photo = astronaut()[:300, 50:351]  # 301 x 300: odd and not square
    grey = photo[..., 1]
    clear = np.zeros(grey.shape, np.uint8)
    clear[40:] = 255  # the first rows are transparent: white
    over_white = photo.copy()
    over_white[:40] = 255
    return {
        "odd.png": (Image.fromarray(photo), photo),
        "alpha.png": (Image.fromarray(np.dstack([photo, clear])), over_white),
        "grey.png": (Image.fromarray(grey), np.dstack([grey] * 3)),
        "deep.png": (Image.fromarray(grey.astype(np.uint16) * 257), np.dstack([grey] * 3)),
    }


@pytest.mark.parametrize("name", sorted(_variants()))
def test_every_kind_of_picture_gives_the_picture_of_its_plain_copy(workshop, tmp_path, name):
    picture, shown = _variants()[name]
    picture.save(tmp_path / name)
    Image.fromarray(shown).save(tmp_path / "plain.png")
    for source, result in ((name, "a.png"), ("plain.png", "b.png")):
        driver = str(workshop / "source.png")
        succeed(workshop, tmp_path, source_image=source, driving_video=driver, result_image=result)
    assert np.array_equal(media.read_image(tmp_path / "a.png"), media.read_image(tmp_path / "b.png"))


def test_a_photograph_turned_by_its_exif_is_animated_upright(workshop, tmp_path):
    upright = Image.fromarray(astronaut()[:300, 50:350])
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    for name in ("upright", "turned"):
        succeed(
            workshop,
            tmp_path,
            source_image=f"{name}.png",
            driving_video=str(workshop / "source.png"),
            result_image=f"{name}-result.png",
        )
    first, second = (media.read_image(tmp_path / f"{name}-result.png") for name in ("upright", "turned"))
    assert np.array_equal(first, second)


def test_crop_finds_the_face_in_source_and_driver(workshop, tmp_path):
    media.write_image(tmp_path / "wide.png", astronaut())
    canvas = np.zeros((360, 640, 3), np.uint8)
    with media.VideoWriter(tmp_path / "wide.mp4", 640, 360, 25) as writer:
        for i in range(8):
            frame = canvas.copy()
            frame[40:300, 300 + i : 560 + i] = astronaut()[0:260, 96:356]
            writer.write(frame, i / 25)
    succeed(
        workshop,
        tmp_path,
        "--crop",
        "--detector",
        "retinaface",
        "--side_by_side",
        source_image="wide.png",
        driving_video="wide.mp4",
    )
    frames = images_of(tmp_path / "result.mp4")
    assert len(frames) == 8
    driver = frames[0][:, SIZE : 2 * SIZE]
    assert (driver.max(axis=2) > 20).mean() > 0.9  # the face fills the crop: little of the black around it is left


def test_motion_options_change_what_they_should(workshop, tmp_path):
    outputs = {}
    for name, options in {
        "default": (),
        "embedding": ("--motion", "embedding"),
        "keypoints": ("--motion", "keypoints"),
        "expression": ("--drive", "expression"),
        "none": ("--strength", "0"),
        "best": ("--motion", "keypoints", "--find_best_frame"),
        "pose": ("--pose_video", str(workshop / "driving.mp4")),
    }.items():
        succeed(workshop, tmp_path, *options, result_video=f"{name}.mp4")
        outputs[name] = np.stack(images_of(tmp_path / f"{name}.mp4")).astype(int)
    assert np.array_equal(outputs["default"], outputs["embedding"])  # ours is the default with encoders
    assert np.array_equal(outputs["default"], outputs["pose"])  # the same video for the pose changes nothing
    assert not np.array_equal(outputs["default"], outputs["keypoints"])
    assert not np.array_equal(outputs["default"], outputs["expression"])
    assert not np.array_equal(outputs["keypoints"], outputs["best"])
    assert np.abs(outputs["none"] - outputs["none"][:1]).max() <= 2  # a still, but for the codec


BAD = {
    "missing source": ({"source_image": "nowhere.png"}, (), "nowhere.png: no such file"),
    "missing driver": ({"driving_video": "nowhere.mp4"}, (), "nowhere.mp4: no such file"),
    "source is no image": ({"source_image": "text.png"}, (), "text.png"),
    "driver is no video": ({"driving_video": "text.mp4"}, (), "text.mp4"),
    "weights of unknown make": ({"config": None}, (), "--config is needed as well: give the one that belongs to"),
    "corrupt driver": ({"driving_video": "smashed.mp4"}, (), "smashed.mp4"),
    "no face": ({"source_image": "empty.png"}, ("--crop", "--detector", "retinaface"), "no face found in empty.png"),
    "unknown key": ({"config": "bad.yaml"}, (), "train_params.lr_genrator"),
    "config does not fit": ({"config": "other.yaml"}, (), "does not fit the configuration"),
    "no encoders": ({"config": "plain.yaml"}, (), "has encoders, but the configuration has no"),
    "not a checkpoint": ({"checkpoint": "text.png"}, (), "text.png: refused"),
    "result is the driver": ({"driving_video": "copy.mp4", "result_video": "copy.mp4"}, (), "copy.mp4: is an input"),
    "no strength": ({}, ("--strength", "nan"), "--strength: expected a number of 0 or more"),
    # told before the work: else the checkpoint would be found to be none
    "cannot write": ({"result_video": "result.txt", "checkpoint": "text.png"}, (), "result.txt: cannot write a video"),
    "no picture": (
        {"driving_video": "empty.png", "result_image": "a.mp4", "checkpoint": "text.png"},
        (),
        "a.mp4: cannot write a picture of type '.mp4'",
    ),
    "no place": ({"result_video": "text.png/a.mp4", "checkpoint": "text.png"}, (), "text.png is not a folder"),
    "reference is no picture": (
        {"driving_video": None, "reference_image": "copy.mp4"},
        (),
        "copy.mp4: is not a picture",
    ),
    "two pictures": ({"driving_video": "empty.png", "reference_image": "empty.png"}, (), "give a video, or one of the"),
    "an option of MEF": ({}, ("--seed", "0"), "--seed draws new portraits; it needs --prompt"),
    "a switch of MEF": ({}, ("--grid",), "--grid draws new portraits; it needs --prompt"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_with_status_2_and_nothing_written(workshop, tmp_path, case):
    replaced, options, message = BAD[case]
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "copy.mp4").write_bytes((workshop / "driving.mp4").read_bytes())
    media.write_image(tmp_path / "empty.png", np.full((200, 200, 3), 90, np.uint8))
    video = bytearray((workshop / "driving.mp4").read_bytes())
    middle = video.index(b"mdat") + (len(video) - video.index(b"mdat")) // 2
    video[middle : middle + 400] = bytes(400)
    (tmp_path / "smashed.mp4").write_bytes(video)
    write_tiny(tmp_path / "bad.yaml", **{"train_params.lr_genrator": 1e-4})
    write_tiny(tmp_path / "other.yaml", **{"model_params.common_params.num_kp": 7})
    write_tiny(
        tmp_path / "plain.yaml",
        **{"model_params.encoder_params": None, "train_params.head_probability": 0, "train_params.loss_weights": {}},
    )
    before = {path.name for path in tmp_path.iterdir()}
    result = run(workshop, tmp_path, *options, **replaced)
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.replace("\r", "\n").splitlines() if "error:" in line]
    assert len(lines) == 1 and message in lines[0], result.stderr
    assert "Traceback" not in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == before


def test_numbers_that_are_not_finite_are_named_instead_of_drawn_black(workshop, tmp_path):
    for changed, message in (
        ({"final.bias": torch.nan}, "broken.pth: generator: final.bias is not finite"),
        ({"first.norm.running_var": -1}, "the model's pictures are not finite"),
    ):
        checkpoint = load_checkpoint(workshop / "model.pth.tar")
        for name, value in changed.items():
            checkpoint["generator"][name].fill_(value)
        save_checkpoint(checkpoint, tmp_path / "broken.pth")
        for driver in ("driving.mp4", "source.png"):
            result = run(workshop, tmp_path, checkpoint="broken.pth", driving_video=str(workshop / driver))
            assert result.returncode == 2 and message in result.stderr, result.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["broken.pth"]


def test_a_terminated_run_leaves_nothing(workshop, tmp_path):
    driver = write_video(tmp_path / "driver.mp4", [i / 25 for i in range(1000)], size=32)
    options = {"config": "tiny.yaml", "checkpoint": "model.pth.tar", "source_image": "source.png"}
    named = [part for name, file in options.items() for part in (f"--{name}", str(workshop / file))]
    script = scripts.start(ROOT / "Inference.py", "--cpu", *named, "--driving_video", driver, cwd=tmp_path)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("*.partial*")) and script.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    script.terminate()
    _, said = script.communicate(timeout=60)
    assert script.returncode == 143 and "Traceback" not in said
    assert list(tmp_path.iterdir()) == [driver]


@pytest.mark.parametrize(
    "script", ["Inference.py", "run.py", "train_sid.py", "train_mef.py", "crop-video.py", "modules.evaluation.meter"]
)
def test_help_needs_no_heavy_imports_and_tells_defaults_where_there_are_some(script):
    start = f"run_path({str(ROOT / script)!r}" if script.endswith(".py") else f"run_module({script!r}"
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.{start}, run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(sorted({'torch', 'av', 'skimage', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert result.stdout.splitlines()[-1] == "[]", result.stdout + result.stderr
    assert "default: None" not in result.stdout and "default: False" not in result.stdout
    if script == "train_sid.py":
        assert "(default: log)" in result.stdout
    if script == "modules.evaluation.meter":
        assert "(default: 0)" in result.stdout
