"""Motion templates: what is read off a driver, kept without any picture of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from safetensors.torch import load_file, save_file

from modules import media
from modules.bundled import bundled
from modules.config.files import load_rigged_config
from modules.devices import best_device
from modules.digest import digest
from modules.errors import UserError
from modules.sid import inference
from modules.sid.encoders import Semantics
from modules.sid.framing import Framing
from modules.sid.motion_options import MotionOptions
from modules.sid.rigged.codes import EXPRESSION, POSE, UNITS, without_rest
from modules.sid.template import DrivingMotion, MotionInfo, Template, save_motion

ROOT = Path(__file__).parent.parent
WEIGHTS = bundled("SID_Checkpoints/sid-rigged-256-cpk.pth")
SOURCE, DRIVER = bundled("Inputs/Identities/person-3.png"), bundled("Inputs/driving videos/driver-2.mp4")
FRAMES = 6


@pytest.fixture(scope="module")
def driver(tmp_path_factory) -> Path:
    """A short piece of a bundled driver."""
    path = tmp_path_factory.mktemp("driver") / "short.mp4"
    frames = [frame.image for frame, _ in zip(media.read_video(DRIVER), range(FRAMES), strict=False)]
    with media.VideoWriter(path, frames[0].shape[1], frames[0].shape[0], 25) as writer:
        for i, frame in enumerate(frames):
            writer.write(frame, i / 25)
    return path


@pytest.fixture(scope="module")
def moves():
    return inference.prepare(load_rigged_config(bundled("config/rigged.yaml")), WEIGHTS, best_device(cpu=True))


@pytest.fixture(scope="module")
def saved(driver, moves, tmp_path_factory) -> tuple[Path, list[np.ndarray]]:
    """A template, and the result beside which it was saved."""
    place = tmp_path_factory.mktemp("saved")
    template = Template(WEIGHTS, str(place / "driver.motion"))
    return place / "driver.motion", animate(moves, driver, place / "result.mp4", template)


def animate(moves, driver: Path, result: Path, template: Template, **options) -> list[np.ndarray]:
    framing = Framing((256, 256), params=load_rigged_config(bundled("config/rigged.yaml")).framing_params, cpu=True)
    animated = moves(MotionOptions(**options))
    inference.animate_video(animated, str(SOURCE), str(driver), str(result), framing, template=template)
    return [frame.image for frame in media.read_video(result)]


def test_a_template_drives_as_its_driver_did(moves, driver, saved, tmp_path):
    path, _ = saved
    # since the first frame, which what the driver does at rest is no part of
    driven = animate(moves, driver, tmp_path / "driven.mp4", Template(WEIGHTS), relative=True)
    again = animate(moves, path, tmp_path / "again.mp4", Template(WEIGHTS), relative=True)
    assert len(again) == len(driven) == FRAMES
    # the numbers are the same but for rounding; what is left is an encoder's choice at a grey level
    assert np.abs(np.stack(again).astype(int) - np.stack(driven)).mean() < 0.5


def test_a_template_does_not_tell_how_its_driver_rests():
    generator = torch.Generator().manual_seed(0)
    said = Semantics(*(torch.rand(9, size, generator=generator) for size in (EXPRESSION, POSE)))
    habit = torch.rand(1, EXPRESSION + POSE, generator=generator)
    habit[:, :UNITS] = 0  # the calmest frame's units have been taken away before
    other = Semantics(*(said.cat() + habit).split([EXPRESSION, POSE], dim=1))
    one, two = without_rest(said), without_rest(other)
    assert torch.allclose(one.cat(), two.cat(), atol=1e-6)
    assert torch.allclose(one.cat().diff(dim=0), said.cat().diff(dim=0), atol=1e-6)  # and all that it moves by


def test_what_is_saved_tells_no_rest_of_the_head(saved):
    semantics = DrivingMotion(saved[0]).semantics
    assert semantics.pose.median(dim=0).values.abs().max() < 1e-6
    assert semantics.expression[:, UNITS:].median(dim=0).values.abs().max() < 1e-6


def test_a_template_takes_the_options_of_drivers(moves, saved, tmp_path):
    path, driven = saved
    still = animate(moves, path, tmp_path / "still.mp4", Template(WEIGHTS), strength=0.0)
    assert np.abs(np.stack(still).astype(int) - still[0]).mean() < 0.5
    assert np.abs(np.stack(still).astype(int) - np.stack(driven)).mean() > 0.5


def test_a_template_holds_codes_and_no_picture(saved):
    path, _ = saved
    assert {name: tuple(t.shape) for name, t in load_file(path).items()} == {
        "expression": (FRAMES, EXPRESSION),
        "pose": (FRAMES, POSE),
        "times": (FRAMES,),
    }
    motion = DrivingMotion(path)
    assert motion.weights == digest(WEIGHTS)
    assert motion.info.frame_rate == 25 and np.allclose(motion.info.times, np.arange(FRAMES) / 25)
    assert motion.info.duration == pytest.approx(FRAMES / 25)


def template_of(path: Path, frames: int = 3, **changes) -> Path:
    said = Semantics(torch.zeros(frames, EXPRESSION), torch.zeros(frames, POSE))
    info = MotionInfo(tuple(i / 25 for i in range(frames)), 25, frames / 25)
    save_motion(path, said, list(info.times), info, **{"weights": "0" * 64, **changes})
    return path


def test_other_weights_are_refused(tmp_path):
    motion = DrivingMotion(template_of(tmp_path / "a.motion"))
    with pytest.raises(UserError, match="was read by other weights than"):
        motion.check(WEIGHTS)
    DrivingMotion(template_of(tmp_path / "b.motion", weights=digest(WEIGHTS))).check(WEIGHTS)


@pytest.mark.parametrize("fault", ["text", "plain", "nan", "short"])
def test_broken_files_are_one_line(tmp_path, fault):
    path = template_of(tmp_path / "a.motion")
    if fault == "text":
        path.write_text("no template")
    elif fault == "plain":
        save_file({"expression": torch.zeros(3, 2)}, path)
    elif fault == "nan":
        said = Semantics(torch.full((3, EXPRESSION), torch.nan), torch.zeros(3, POSE))
        save_motion(path, said, [0.0, 0.1, 0.2], MotionInfo((0.0, 0.1, 0.2), 10, 0.3), "0")
    else:
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="motion template"):
        DrivingMotion(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--driving_video", "{motion}"], "was read by other weights than"),
        (["--driving_video", "{motion}", "--motion", "mesh"], "leave --motion mesh out"),
        (["--reference_image", "{motion}"], "holds no picture"),
        (["--save_motion", "walk.mp4"], "has to end in .motion"),
        (["--save_motion", "x.motion", "--expression", "joy"], "--save_motion keeps what a driving video does"),
    ],
)
def test_what_templates_cannot_be_is_one_line_with_status_2(options, said, tmp_path):
    motion = template_of(tmp_path / "a.motion")
    filled = [option.format(motion=motion) for option in options]
    done = scripts.run(ROOT / "Inference.py", "--cpu", *filled, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("PyTorch")]
    assert done.returncode == 2 and len(lines) == 1 and said in lines[0], done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.motion"]
