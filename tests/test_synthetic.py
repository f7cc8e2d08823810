"""The face world: independent seeded factors, action units that move what they should, truth that fits the picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch

from modules import media
from modules.config.data import DatasetParams
from modules.config.files import section_from_dict
from modules.data.frames import FrameDataset
from modules.data.portraits import read_portraits
from modules.data.synthetic import dataset as writing
from modules.data.synthetic.__main__ import main as run_command
from modules.data.synthetic.sheet import random_faces, write_sheet
from modules.errors import UserError
from modules.world import (
    ACTION_UNITS,
    EXPRESSIONS,
    IDENTITY,
    POSE,
    Faces,
    attributes,
    camera,
    captions,
    clip,
    draw_expressions,
    draw_identities,
    draw_poses,
    draw_scenes,
    expression,
    geometry,
    project_landmarks,
    render,
)
from modules.world import parameters as world
from modules.world.body import BODY_SHAPE, EAR_SHAPE
from modules.world.curves import unit
from modules.world.parameters import CATEGORIES, neutral, set_category

ROOT = Path(__file__).parent.parent

JAW, BROWS, NOSE, LIDS, MOUTH = range(0, 17), range(17, 27), range(27, 36), range(36, 48), range(48, 68)
INNER_BROWS, OUTER_BROWS, CORNERS = [21, 22], [17, 26], [48, 54]
UPPER_LIDS, LOWER_LIDS, UPPER_LIP, LOWER_LIP, CHIN = [37, 38, 43, 44], [40, 41, 46, 47], [51, 62], [57, 66], [7, 8, 9]


def marks(faces: Faces) -> np.ndarray:
    """Landmarks [B, 68, 2] in interocular distances (of the mean face), x outwards from the middle, y up."""
    points = project_landmarks(faces).numpy()
    rest = project_landmarks(neutral())[0].numpy()
    unit = np.linalg.norm(rest[36:42].mean(0) - rest[42:48].mean(0))
    points[..., 0] *= np.sign(rest[:, 0]) * (np.abs(rest[:, 0]) > 0.01)
    return points / unit * [1, -1]


def with_units(**strengths: float) -> Faces:
    face = neutral()
    for name, strength in strengths.items():
        face.action_units[:, ACTION_UNITS.index(name)] = strength
    return face


@pytest.fixture(scope="module")
def moved() -> dict[str, np.ndarray]:
    """How far each action unit alone, at full strength, moves the 68 landmarks of the mean face."""
    faces = Faces.cat([neutral()] + [with_units(**{name: 1.0}) for name in ACTION_UNITS])
    points = marks(faces)
    return dict(zip(ACTION_UNITS, points[1:] - points[0], strict=True))


# Action unit, landmarks, axis (0 outwards, 1 up), and the range of their mean movement in interocular distances of
# 63 mm.  The skin of a face moves by up to 10 mm or so over the brows and 15 mm at the corners of the mouth (0.16 and
# 0.24 of the distance); lids open by 3 mm; the jaw drops by some 25 mm before the mouth is stretched.
MOVEMENTS = [
    ("AU1", INNER_BROWS, 1, 0.06, 0.18),
    ("AU2", OUTER_BROWS, 1, 0.05, 0.18),
    ("AU4", INNER_BROWS, 1, -0.16, -0.05),
    ("AU4", INNER_BROWS, 0, -0.1, -0.02),
    ("AU5", UPPER_LIDS, 1, 0.02, 0.07),
    ("AU6", LOWER_LIDS, 1, 0.01, 0.08),
    ("AU7", LOWER_LIDS, 1, 0.01, 0.06),
    ("AU9", [31, 35], 1, 0.03, 0.12),
    ("AU10", UPPER_LIP, 1, 0.05, 0.14),
    ("AU12", CORNERS, 0, 0.06, 0.2),
    ("AU12", CORNERS, 1, 0.1, 0.24),
    ("AU14", CORNERS, 0, 0.03, 0.12),
    ("AU15", CORNERS, 1, -0.2, -0.08),
    ("AU17", CHIN, 1, 0.002, 0.08),
    ("AU17", LOWER_LIP, 1, 0.02, 0.1),
    ("AU20", CORNERS, 0, 0.08, 0.2),
    ("AU23", CORNERS, 0, -0.12, -0.03),
    ("AU25", LOWER_LIP, 1, -0.14, -0.04),
    ("AU26", CHIN, 1, -0.5, -0.2),
    ("AU26", LOWER_LIP, 1, -0.5, -0.2),
    ("AU43", UPPER_LIDS, 1, -0.2, -0.08),
]

# What an action unit leaves where it is, but for 0.03 distances (2 mm).
UNTOUCHED = {
    "AU1": [NOSE, MOUTH, JAW],
    "AU2": [NOSE, MOUTH, JAW],
    "AU4": [MOUTH, JAW],
    "AU5": [BROWS, NOSE, MOUTH, JAW],
    "AU6": [MOUTH, JAW, NOSE],
    "AU7": [BROWS, NOSE, MOUTH, JAW],
    "AU9": [JAW],
    "AU10": [BROWS, LIDS, JAW],
    "AU12": [BROWS, LIDS],
    "AU14": [BROWS, LIDS, NOSE],
    "AU15": [BROWS, LIDS, NOSE],
    "AU17": [BROWS, LIDS, NOSE],
    "AU20": [BROWS, LIDS, NOSE],
    "AU23": [BROWS, LIDS, NOSE, JAW],
    "AU25": [BROWS, LIDS, NOSE, JAW],
    "AU26": [BROWS, LIDS, NOSE],
    "AU43": [BROWS, NOSE, MOUTH, JAW],
}


@pytest.mark.parametrize(("unit", "points", "axis", "low", "high"), MOVEMENTS)
def test_action_units_move_their_landmarks_plausibly(moved, unit, points, axis, low, high):
    assert low <= moved[unit][points, axis].mean() <= high


@pytest.mark.parametrize("unit", ACTION_UNITS)
def test_action_units_leave_the_rest_alone(moved, unit):
    others = [point for group in UNTOUCHED[unit] for point in group]
    assert np.abs(moved[unit][others]).max() < 0.03
    assert np.abs(moved[unit]).max() < 0.55


def test_asymmetry_is_of_the_persons_left_and_right():
    faces = Faces.cat([neutral(), with_units(AU12=1.0), with_units(AU12=1.0)])
    faces.asymmetry[1] = 1.0
    faces.asymmetry[2] = -1.0
    points = marks(faces)
    right, left = (points[:, i, 1] - points[0, i, 1] for i in (48, 54))  # the left is on the image's right
    assert left[1] > 0.1 > 0.03 > abs(right[1])
    assert right[2] > 0.1 > 0.03 > abs(left[2])


def test_a_closed_eye_is_closed_and_an_open_mouth_open():
    points = marks(Faces.cat([with_units(AU43=1.0), with_units(AU25=1.0, AU26=1.0), neutral()]))
    assert abs(points[0, 37, 1] - points[0, 41, 1]) < 0.03
    assert points[1, 62, 1] - points[1, 66, 1] > 0.3
    assert abs(points[2, 62, 1] - points[2, 66, 1]) < 0.01


def test_same_parameters_same_bytes():
    faces = random_faces(4, 3)
    first, second = render(faces, 48), render(faces, 48)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_pictures_do_not_depend_on_their_neighbours_in_the_batch():
    faces = random_faces(6, 3)
    together, alone = render(faces, 48), render(faces.take([4]), 48)
    # sums over other shapes may round differently, and a pixel's sample may then fall to the other triangle
    assert (together.image[4] - alone.image[0]).abs().mean() < 1e-4
    assert torch.allclose(together.landmarks[4], alone.landmarks[0], atol=1e-5)


def test_a_draw_does_not_depend_on_how_many_are_drawn():
    for draw in (draw_identities, draw_poses, draw_scenes):
        assert torch.equal(draw(3, 5), draw(50, 5)[:3])
        assert not torch.equal(draw(3, 5), draw(3, 6))
    for few, many in zip(draw_expressions(3, 5), draw_expressions(50, 5), strict=True):
        assert torch.equal(few, many[:3])


def test_parameters_stay_in_their_ranges():
    faces = random_faces(400, 1, extent=1.0)
    assert faces.identity.abs().max() <= 1
    assert faces.identity.std(0).min() > 0.4  # everybody differs in everything
    assert faces.action_units.min() >= 0 and faces.action_units.max() <= 1
    assert faces.asymmetry.abs().max() <= 1
    yaw, pitch, roll = faces.pose[:, :3].abs().amax(0).tolist()
    assert 30 < yaw <= 45 and 15 < pitch <= 30 and 15 < roll <= 30
    for name, values in CATEGORIES.items():
        assert set(world.category(faces, name).tolist()) == set(range(len(values)))


def test_the_scene_leaves_the_truth_of_the_face_alone():
    faces = random_faces(5, 8)
    other = faces._replace(scene=draw_scenes(5, 99))
    first, second = render(faces, 48), render(other, 48)
    assert torch.equal(first.landmarks, second.landmarks)
    assert (first.image - second.image).abs().mean() > 0.05


def test_expression_leaves_the_rest_of_the_head_alone():
    faces = random_faces(4, 8)
    calm = faces._replace(action_units=torch.zeros_like(faces.action_units), gaze=torch.zeros_like(faces.gaze))
    first, second = render(faces, 64), render(calm, 64)
    outside = (first.mask + second.mask) == 0
    outside = outside.expand_as(first.image)
    # hair, ears, clothes and background; the edge of the jaw moves, which is inside one of the two masks
    assert (first.image - second.image)[outside].abs().mean() < 2e-3


@pytest.mark.parametrize("name", IDENTITY)
def test_every_identity_parameter_is_visible(name):
    faces = Faces.cat([neutral(), neutral()])
    faces = faces._replace(scene=set_category(faces.scene, "hair_style", "buzz-cut"))
    faces.identity[:, IDENTITY.index("freckles")] = 0.5
    faces.identity[:, IDENTITY.index(name)] = torch.tensor([-1.0, 1.0])
    faces.pose[:, 0] = 20.0  # from an angle, so that depth shows as well
    result = render(faces, 128)
    change = (result.image[0] - result.image[1]).abs().amax(0)
    # a good many pixels change by what is easily seen: 6 of 255 grey levels
    assert (change > 6 / 255).sum() > 25


def test_pose_turns_the_face_as_documented():
    faces = Faces.cat([neutral()] * 4)
    faces.pose[1, POSE.index("yaw")] = 25.0
    faces.pose[2, POSE.index("pitch")] = 20.0
    faces.pose[3, POSE.index("roll")] = 20.0
    points = project_landmarks(faces)
    nose, chin = points[:, 30], points[:, 8]
    assert nose[1, 0] > nose[0, 0] + 0.1  # to the right of the image
    assert nose[2, 1] < nose[0, 1] - 0.05  # up
    assert chin[3, 0] < chin[0, 0] - 0.05  # the crown leans to the right, so the chin goes to the left


def test_light_falls_on_the_shoulders_as_they_are_turned_and_not_as_the_head_is():
    face = neutral()
    face.pose[:, 0] = 45.0
    surface = geometry.build(face)
    turned = camera.turn(surface.points - torch.tensor(camera.PIVOT), face.pose, surface.follows)
    normals = unit(camera.turn(surface.normals, face.pose, surface.follows), -1)
    rows, columns = BODY_SHAPE
    first = surface.head[0, ..., 0].numel() + 2 * EAR_SHAPE[0] * EAR_SHAPE[1]
    body = slice(first, first + rows * columns)
    truth = geometry.grid_normals(turned[:, body].view(1, rows, columns, 3)).flatten(1, 2)
    likeness = (truth * normals[:, body]).sum(-1)
    # the neck between shoulders and head is sheared as well as turned, by up to 34 degrees over its few rows
    assert likeness[:, surface.follows[body] == 0].min() > 0.99 and likeness.min() > 0.85


def test_parts_at_different_depth_move_differently():
    faces = Faces.cat([neutral(), neutral()])
    faces.pose[1, 0] = 20.0
    shift = (lambda points: points[1] - points[0])(project_landmarks(faces))[:, 0]
    assert shift[30] > 1.2 * shift[27] > 0  # the tip of the nose leads its root
    assert shift[27] > 1.2 * shift[[36, 45]].mean()  # which leads the outer corners of the eyes


def test_landmarks_lie_on_what_they_name():
    """Colour-coded rendering: lips are painted dark red, and lips' landmarks must be where the red begins and ends."""
    face = neutral()
    face.pose[:, :3] = torch.tensor([12.0, 6.0, -8.0])
    scene = set_category(face.scene, "hair_style", "bald")
    plain = render(face._replace(scene=scene), 256)
    painted = render(face._replace(scene=set_category(scene, "makeup", "dark lipstick")), 256)
    shut = face._replace(action_units=with_units(AU43=1.0).action_units, scene=scene)
    closed = render(shut, 256)
    points = ((plain.landmarks[0] + 1) / 2 * 255).numpy()

    lips = (plain.image - painted.image)[0].abs().amax(0).numpy()
    lips[: int(points[33, 1])] = 0  # make-up colours the cheeks as well
    inside = lips > 0.5 * lips.max()
    rows, columns = np.nonzero(inside)
    mouth = points[48:60]
    assert abs(columns.min() - mouth[:, 0].min()) < 8 and abs(columns.max() - mouth[:, 0].max()) < 8
    assert abs(rows.min() - mouth[:, 1].min()) < 5 and abs(rows.max() - mouth[:, 1].max()) < 5

    eyes = (plain.image - closed.image)[0].abs().amax(0).numpy() > 0.15
    for eye in (points[36:42], points[42:48]):
        left, top = eye.min(0) - 4
        right, bottom = eye.max(0) + 4
        box = eyes[int(top) : int(bottom) + 1, int(left) : int(right) + 1]
        assert box.mean() > 0.2
        eyes[int(top) - 8 : int(bottom) + 8, int(left) - 4 : int(right) + 5] = False  # the folds around them move too
    assert eyes.sum() < 30  # nothing else opens or shuts


def test_the_mask_is_the_face():
    faces = random_faces(6, 4, extent=0.3)
    faces = faces._replace(scene=set_category(set_category(faces.scene, "glasses", "none"), "hat", "none"))
    faces = faces._replace(scene=set_category(faces.scene, "hair_style", "short"))
    result = render(faces, 96)
    assert result.mask.min() >= 0 and result.mask.max() <= 1.0001
    pixels = ((result.landmarks + 1) / 2 * 95).round().long()
    for i in range(faces.size):
        x, y = pixels[i, 27:].T  # nose, eyes, mouth
        assert (result.mask[i, 0, y, x] > 0.5).float().mean() > 0.97
    share = result.mask.mean((1, 2, 3))
    assert share.min() > 0.08 and share.max() < 0.4
    glasses = faces._replace(scene=set_category(faces.scene, "glasses", "sunglasses"))
    assert (render(glasses, 96).mask.mean((1, 2, 3)) < share).all()


def test_a_detector_trained_on_photographs_finds_the_faces():
    from benchmarks.synthetic import detected, near_frontal

    found = detected(render(near_frontal(40, 3)))
    assert np.mean(found) > 0.93  # of 300 it is all: three misses in 40 are not chance


def test_basic_expressions_are_apart():
    units = torch.stack([expression(name) for name in EXPRESSIONS])
    distance = torch.cdist(units, units) + 9 * torch.eye(len(units))
    assert distance.min() > 0.8


def test_a_clip_moves_smoothly():
    identity, scene = draw_identities(1, 2)[0], draw_scenes(1, 2)[0]
    steps = []
    for seed in range(6):
        faces = clip(identity, scene, seed, 100)
        assert faces.size == 100 and torch.equal(faces.identity[0], identity) and torch.equal(faces.scene[-1], scene)
        points = project_landmarks(faces)
        steps.append((points[1:] - points[:-1]).norm(dim=-1).amax())
    # In half frames.  A blink takes a lid down by 0.07 in three frames, speech the jaw at most by 0.05 in one.
    assert max(steps) < 0.08
    assert min(steps) > 0.004  # and something moves


def test_heads_rest_in_as_many_clips_as_asked_while_faces_go_on():
    """Resting heads drift by a seventh of what others do at most; their expressions are the very same.

    Of 200 clips 60 are to rest, with a standard deviation of 6.5.
    """
    identity, scene = draw_identities(1, 0)[0], draw_scenes(1, 0)[0]

    def turns(seed: int, share: float) -> float:
        return float(clip(identity, scene, seed, 100, calm_share=share).pose[:, :3].std(dim=0).max())

    for seed in range(8):
        resting, moving = (clip(identity, scene, seed, 100, calm_share=share) for share in (1.0, 0.0))
        assert turns(seed, 1.0) < 0.2 * turns(seed, 0.0)
        assert torch.equal(resting.action_units, moving.action_units) and torch.equal(resting.gaze, moving.gaze)
    resting = sum(turns(seed, 0.3) == turns(seed, 1.0) for seed in range(200))
    assert 40 <= resting <= 80


def test_a_clip_is_the_same_movement_at_any_rate_and_length():
    identity, scene = draw_identities(1, 2)[0], draw_scenes(1, 2)[0]
    slow, fast = clip(identity, scene, 4, 300, fps=25), clip(identity, scene, 4, 600, fps=50)
    for name, a, b in zip(Faces._fields, slow, fast, strict=True):
        torch.testing.assert_close(a, b[::2], atol=1e-5, rtol=0, msg=name)
    for length in (1, 20, 170):  # from no blink at all to several events of every kind
        for name, a, b in zip(Faces._fields, clip(identity, scene, 4, length), slow, strict=True):
            torch.testing.assert_close(a, b[:length], atol=1e-6, rtol=0, msg=f"{name} of {length} frames")


def test_captions_name_the_scene_and_not_the_person():
    faces = random_faces(300, 6)
    words = attributes(faces)
    for text, known in zip(captions(faces), words, strict=True):
        assert text.startswith("a portrait photo of a person with")
        assert known["background"] in text and known["light"] in text and known["clothing_color"] in text
        for name in ("beard", "makeup", "glasses", "hat"):
            assert known[name] == "none" or known[name] in text
        assert not any(f" {word} " in text for word in ("none", "nose", "skin", "jaw", "eyes", "freckles", "age"))
    moods = captions(neutral()._replace(action_units=expression("anger")[None]), expression=True)
    assert "anger" in moods[0]


def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess:
    result = scripts.run("-m", "modules.data.synthetic", *arguments)
    assert result.returncode == code, result.stderr
    return result


def command(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["synthetic", "--cpu", *arguments])
    run_command()


def test_the_command_writes_what_training_reads(tmp_path, monkeypatch):
    out = tmp_path / "world"
    options = ("--identities", "2", "--clips", "2", "--test", "1", "--stills", "1", "--frames", "12", "--size", "32")
    command(monkeypatch, "--out", str(out), *options)
    assert sorted(p.name for p in (out / "train").iterdir()) == [f"p0000{i}#{j}.mp4" for i in (0, 1) for j in (0, 1)]
    assert sorted(p.name for p in (out / "test").iterdir()) == ["p00002#0.mp4", "p00002#1.mp4"]
    assert not list(out.rglob("*.partial*"))

    params = section_from_dict(DatasetParams, {"root_dir": str(out), "frame_shape": [32, 32, 3]})
    dataset = FrameDataset(params)
    assert len(set(dataset.identities)) == 2 and not dataset.bad_clips
    assert dataset[0, 0]["frames"].shape == (2, 3, 32, 32)
    params = section_from_dict(DatasetParams, {"root_dir": str(out / "stills"), "frame_shape": [32, 32, 3]})
    stills = FrameDataset(params)
    assert len(stills) == 2

    lines = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and all((out / line["file_name"]).exists() and line["text"] for line in lines)
    labels = np.load(out / "labels" / "p00001#1.npz")
    faces = Faces(*(torch.from_numpy(labels[name]) for name in Faces._fields))
    picture = render(faces.take([7]), 32)
    np.testing.assert_allclose(picture.landmarks[0], labels["landmarks"][7], atol=1e-5)
    frame = media.read_frames(out / "train" / "p00001#1.mp4", [7])[0] / 255
    assert np.abs(frame - picture.image[0].permute(1, 2, 0).numpy()).mean() < 0.03  # the codec halves colour
    with pytest.raises(UserError, match="already"):
        command(monkeypatch, "--out", str(out), *options)


def test_stills_are_portraits_to_train_mef_on(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_AT_ONCE", 4 * 32**2)  # four are drawn together, of two people
    options = ("--identities", "2", "--test", "1", "--clips", "0", "--stills", "3", "--size", "32")
    command(monkeypatch, "--out", str(tmp_path / "world"), *options)
    for split, people in (("train", {"p00000", "p00001"}), ("test", {"p00002"})):
        portraits, bad = read_portraits(tmp_path / "world" / "stills", split)
        assert not bad and len(portraits) == 3 * len(people) and {p.identity for p in portraits} == people
        for portrait in portraits:
            assert portrait.text.startswith("a portrait photo")
            assert media.read_image(portrait.image).shape == (32, 32, 3)
            labels = np.load(tmp_path / "world" / "labels" / f"{portrait.image.stem}.npz")
            truth = render(Faces(*(torch.from_numpy(labels[name]) for name in Faces._fields)), 32)
            image, mask = (media.read_image(path) / 255 for path in (portrait.image, portrait.mask))
            np.testing.assert_allclose(image, truth.image[0].permute(1, 2, 0), atol=0.5 / 255 + 1e-4)
            np.testing.assert_allclose(mask[..., 0], truth.mask[0, 0], atol=0.5 / 255 + 1e-4)
            np.testing.assert_allclose(labels["landmarks"], truth.landmarks, atol=1e-5)
    with pytest.raises(UserError, match="already"):
        command(monkeypatch, "--out", str(tmp_path / "world"), *options)


def test_the_rest_of_an_interrupted_data_set_is_not_mixed_with_another(tmp_path, monkeypatch):
    (tmp_path / "world" / "labels").mkdir(parents=True)  # metadata would have come last
    with pytest.raises(UserError, match="already, or part of one"):
        command(monkeypatch, "--out", str(tmp_path / "world"), "--identities", "1", "--clips", "1", "--size", "32")


def test_frames_instead_of_videos(tmp_path, monkeypatch):
    options = ("--identities", "1", "--clips", "1", "--frames", "3", "--size", "32", "--format", "frames")
    command(monkeypatch, "--out", str(tmp_path / "a"), *options)
    command(monkeypatch, "--out", str(tmp_path / "b"), *options)
    first, second = (sorted((tmp_path / name / "train" / "p00000#0").iterdir()) for name in "ab")
    assert [p.name for p in first] == ["0000000.png", "0000001.png", "0000002.png"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("arguments", [("--fps", "0"), ("--size", "x"), (), ("--identities", "0"), ("--clips", "0")])
def test_bad_arguments_are_one_line_and_status_2(tmp_path, arguments):
    out = ("--out", str(tmp_path / "x")) if arguments else ()
    result = run(*out, *arguments, code=2)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert not (tmp_path / "x").exists()


def test_sheets_are_written(tmp_path):
    write_sheet(tmp_path / "sheet.png", 16, count=9, truth=True)
    assert media.read_image(tmp_path / "sheet.png").shape == (2 * 16, 8 * 16, 3)
