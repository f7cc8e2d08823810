"""--motion mesh: a photograph driven by way of the fitted head."""

from __future__ import annotations

import subprocess
import sys
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from modules import media
from modules.errors import UserError
from modules.faces.close_crop import Crop, cut_crop
from modules.faces.paste import Paster
from modules.media.tensors import to_images
from modules.world import ACTION_UNITS, POSE, draw_identities, draw_scenes, render
from modules.world.parameters import neutral
from modules.world.puppets.animator import PuppetAnimator

ROOT = Path(__file__).parent.parent
CROP = Crop(224, 125, 90).wider(2.3)
PHOTO = cut_crop(astronaut(), CROP, 256)


def driver(**changes: list[float]) -> list[np.ndarray]:
    """One person of the face world, a frame per value of the named action units and numbers of the pose."""
    count = len(next(iter(changes.values())))
    faces = neutral(count)
    units, pose = faces.action_units.clone(), faces.pose.clone()
    pose[:, POSE.index("scale")] = 1.3
    for name, values in changes.items():
        if name == "gaze":
            faces.gaze[:, 0] = torch.tensor(values, dtype=torch.float32)
        elif name in ACTION_UNITS:
            units[:, ACTION_UNITS.index(name)] = torch.tensor(values, dtype=torch.float32)
        else:
            pose[:, POSE.index(name)] = torch.tensor(values, dtype=torch.float32)
    scenes = draw_scenes(1, 7).expand(count, -1)
    identity = draw_identities(1, 7).expand(count, -1)
    faces = faces._replace(identity=identity, scene=scenes, action_units=units, pose=pose)
    return list(to_images(render(faces, 256).image))


def animator(**options) -> PuppetAnimator:
    torch.manual_seed(0)
    return PuppetAnimator(PHOTO, cpu=True, **options)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(((a.astype(float) - b) ** 2).mean() / 255**2 + 1e-12))


def shape(puppet: PuppetAnimator, picture: np.ndarray) -> dict[str, float]:
    """What the landmarks of a result tell, in distances of the eyes."""
    marks = puppet._faces([picture])[0].landmarks
    eyes = (marks[42:48].mean(0) - marks[36:42].mean(0)).norm()
    lids = (marks[[41, 40, 47, 46], 1] - marks[[37, 38, 43, 44], 1]).mean()
    turn = (marks[30, 0] - (marks[36, 0] + marks[45, 0]) / 2) / eyes
    return {"mouth": float((marks[66, 1] - marks[62, 1]) / eyes), "lids": float(lids / eyes), "turn": float(turn)}


@pytest.fixture(scope="module")
def moved() -> tuple[PuppetAnimator, list[np.ndarray]]:
    """The photograph, driven by a jaw that drops and a head that turns, each alone."""
    frames = driver(AU26=[0, 1, 0], AU25=[0, 1, 0], yaw=[0, 0, 18])
    puppet = animator()
    puppet.prepare(frames)
    held = [frame for frame in frames for _ in range(5)]  # frames around one count: the middle one is what it is
    return puppet, list(puppet.animate(iter(held)))[2::5]


def test_what_the_driver_does_the_photograph_does(moved):
    puppet, (calm, opened, turned) = moved
    at_rest = shape(puppet, calm)
    assert shape(puppet, opened)["mouth"] > at_rest["mouth"] + 0.15
    assert abs(shape(puppet, turned)["turn"] - at_rest["turn"]) > 0.08
    assert all(picture.shape == PHOTO.shape for picture in (calm, opened, turned))
    # nothing but the head moves: the picture's upper corners are the photograph's
    assert all(psnr(picture[:60, :25], PHOTO[:60, :25]) > 35 for picture in (calm, opened))


def test_eyes_turn_as_the_drivers_do():
    frames = driver(gaze=[0, 18, -18])
    puppet = animator()
    puppet.prepare(frames[:1])
    held = [frame for frame in frames for _ in range(5)]
    ahead, right, left = (puppet._faces([p])[0].look for p in list(puppet.animate(iter(held)))[2::5])
    assert right > ahead + 0.025 and left < ahead - 0.025  # of an eye's width: a sixth of the driver's 0.15
    still = animator(drive="pose")
    still.prepare(frames[:1])
    looks = [still._faces([p])[0].look for p in list(still.animate(iter(held)))[2::5]]
    assert max(looks) - min(looks) < 0.02


def test_without_strength_the_photograph_stays_as_it_is():
    puppet = animator(strength=0.0, rests=True)
    frames = driver(AU26=[0, 1])
    puppet.prepare(frames)
    paste = Paster(astronaut(), CROP, PHOTO).paste
    face = np.zeros((512, 512), bool)
    face[80:190, 175:275] = True
    for picture in puppet.animate(iter(frames)):
        assert psnr(picture, PHOTO) > 45  # the flow at rest is the photograph's own to a hundredth of a pixel
        whole = paste(picture)
        assert np.abs(whole.astype(int) - astronaut())[~face].max() <= 1
        assert psnr(whole[face], astronaut()[face]) > 40


def test_one_part_alone(moved):
    frames = driver(AU26=[0, 1], AU25=[0, 1], yaw=[0, 18])
    both = moved[0]
    for drive, follows, rests in (("expression", "mouth", "turn"), ("pose", "turn", "mouth")):
        puppet = animator(drive=drive)
        puppet.prepare(frames)
        first, *_, last = puppet.animate(frame for frame in frames for _ in range(5))
        change = {name: shape(both, last)[name] - shape(both, first)[name] for name in ("mouth", "turn")}
        assert abs(change[follows]) > 0.06 and abs(change[rests]) < 0.04


def test_from_the_best_frame_only_what_changes_is_shown():
    """The astronaut smiles: at the frame that counts as without change she is to go on smiling."""
    puppet = animator()
    assert float(puppet.own.units.sum()) > 0.2  # else this shows nothing
    frames = driver(AU12=[0, 1], AU25=[0, 0.5])
    puppet.prepare(frames)
    best = puppet.start_from_best(frames)
    (picture,) = puppet.animate([frames[best]])
    assert psnr(picture, PHOTO) > 35


def test_a_single_picture_drives_by_itself():
    puppet = animator()
    (frame,) = driver(AU26=[1], AU25=[1])
    (picture,) = puppet.animate([frame])
    assert shape(puppet, picture)["mouth"] > 0.2
    (held,) = puppet.animate([frame], repeat(driver(yaw=[15.0])[0]))  # the pose of another
    assert abs(shape(puppet, held)["turn"] - shape(puppet, picture)["turn"]) > 0.05


def test_results_have_as_many_frames_as_the_driver_and_do_not_depend_on_batches(monkeypatch):
    frames = driver(AU12=[0, 0.3, 0.6, 0.9, 1.0])
    results = []
    for size in (16, 2):
        monkeypatch.setattr("modules.world.puppets.animator.BATCH", size)
        puppet = animator()
        puppet.prepare(frames[:1])
        results.append(list(puppet.animate(iter(frames))))
    assert len(results[0]) == len(results[1]) == 5
    assert all(psnr(a, b) > 40 for a, b in zip(*results, strict=True))


def test_what_cannot_be_driven_is_one_line():
    wall = np.full((128, 128, 3), 120, np.uint8)
    with pytest.raises(UserError, match="no face found in the source picture"):
        PuppetAnimator(wall, cpu=True)
    puppet = animator()
    with pytest.raises(UserError, match="no face found in the driver"):
        puppet.prepare([wall])
    with pytest.raises(UserError, match="no face found in the driving picture"):
        next(puppet.animate([wall]))


def test_the_command_animates_a_whole_photograph(tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "me.png")
    with media.VideoWriter(tmp_path / "driver.mp4", 256, 256, 25) as writer:
        for number, image in enumerate(driver(AU26=[0, 0, 1, 1, 1, 1], AU25=[0, 0, 1, 1, 1, 1])):
            writer.write(image, number / 25)
    command = [sys.executable, str(ROOT / "Inference.py"), "--cpu", "--motion", "mesh", "--source_image", "me.png"]

    def run(*options: str) -> subprocess.CompletedProcess:
        return subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)

    done = run("--driving_video", "driver.mp4")
    assert done.returncode == 0 and "(6 frames)" in done.stdout, done.stderr
    *_, last = (frame.image for frame in media.read_video(tmp_path / "result.mp4"))
    assert last.shape == (512, 512, 3) and psnr(last[300:], astronaut()[300:]) > 28  # but for the codec
    refused = run("--driving_video", "driver.mp4", "--no-crop")
    assert refused.returncode == 2 and "--no-crop" in refused.stderr


def test_a_relative_pose_counts_from_the_first_frame():
    """Of a driver turned throughout the photograph takes the turn; relative, only what it turns beyond that."""
    frames = driver(yaw=[15, 15, 15, 15])
    turns = {}
    for relative in (False, True):
        puppet = animator(relative=relative)
        puppet.prepare(frames)
        motion = next(puppet.motions(iter(frames)))
        turns[relative] = float(puppet._state(motion, motion, relative, None).pose[0, 0])
        assert float(motion.pose[0, 0]) == pytest.approx(15, abs=5)
        if not relative:
            assert turns[relative] == pytest.approx(float(motion.pose[0, 0]), abs=0.1)
    assert turns[True] == pytest.approx(float(puppet.own.pose[0, 0]), abs=0.1)
    assert abs(turns[False] - turns[True]) > 5


def test_a_turned_photograph_is_held_back_whatever_the_strength():
    puppet = animator(strength=2.0)
    puppet.own = puppet.own._replace(pose=puppet.own.pose + torch.tensor([-20.0, 0, 0, 0, 0, 0]))
    puppet.prepare(frames := driver(yaw=[18]))
    motion = next(puppet.motions(iter(frames)))
    turned = float(puppet._state(motion, motion, False, None).pose[0, 0] - puppet.own.pose[0, 0])
    assert 0 < turned <= 25


def test_the_best_frame_is_turned_as_the_photograph_is():
    puppet = animator()
    own = float(puppet.own.pose[0, 0])
    frames = driver(yaw=[own + 18, own, own - 18])
    puppet.prepare(frames)
    assert puppet.start_from_best(frames) == 1
