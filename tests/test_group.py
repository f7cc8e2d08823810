"""Several faces of a picture or a video, each driven by a driver of its own and put back into the whole."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path

import media_files
import numpy as np
import pytest
import scripts
import torch

from modules import media
from modules.bundled import bundled
from modules.config.files import load_rigged_config
from modules.devices import best_device
from modules.errors import UserError
from modules.faces.analysis import load_analyser
from modules.faces.boxes import Box
from modules.faces.close_crop import Crop
from modules.faces.framer import Look, Overview, across, several
from modules.faces.territory import territory
from modules.sid import inference, named
from modules.sid.drivers import Drivers
from modules.sid.framing import Framing
from modules.sid.group import GroupFraming, together
from modules.sid.motion_options import MotionOptions
from modules.sid.template import Template

ROOT = Path(__file__).parent.parent
PARAMS = load_rigged_config(bundled("config/rigged.yaml")).framing_params
WEIGHTS = bundled("SID_Checkpoints/sid-rigged-256-cpk.pth")
STILLS = ROOT / "Inputs" / "driving static images"
SURPRISE, ANGER = str(STILLS / "surprise.png"), str(STILLS / "anger.png")
SIDE = 256


@pytest.fixture(scope="module")
def people() -> list[np.ndarray]:
    return [media.read_image(ROOT / "Inputs" / "Identities" / f"person-{i}.png") for i in (3, 2)]


@pytest.fixture(scope="module")
def group(people, tmp_path_factory) -> Path:
    """Two people beside each other."""
    path = tmp_path_factory.mktemp("group") / "group.png"
    media.write_image(path, np.concatenate(people, axis=1))
    return path


@pytest.fixture(scope="module")
def moves():
    return inference.prepare(load_rigged_config(bundled("config/rigged.yaml")), WEIGHTS, best_device(cpu=True))


def framing(**options) -> Framing:
    kind = GroupFraming if "drivers" in options else Framing
    return kind((SIDE, SIDE), params=PARAMS, cpu=True, **options)


def clip(path: Path, frames: list[np.ndarray], rate: float = 25, sound: Path | None = None) -> str:
    with media.VideoWriter(path, frames[0].shape[1], frames[0].shape[0], rate, sound) as writer:
        for number, image in enumerate(frames):
            writer.write(image, number / rate)
    return str(path)


def part_of(number: int, start: int, count: int) -> list[np.ndarray]:
    """A piece of a bundled driver."""
    frames = media.read_video(ROOT / "Inputs" / "driving videos" / f"driver-{number}.mp4")
    return [frame.image for frame in itertools.islice(frames, start, start + count)]


def frames_of(path: str | Path) -> list[np.ndarray]:
    return [frame.image for frame in media.read_video(path)]


def change(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of the middle of a face in a square, in levels."""
    middle = slice(SIDE // 3, -SIDE // 4), slice(SIDE // 3, -SIDE // 3)
    return float(np.abs(a[middle].astype(float) - b[middle]).mean())


def test_a_picture_is_shared_out_among_its_faces():
    places = [Crop(100, 100, 120), Crop(170, 110, 90, 0.2), Crop(500, 100, 120)]
    shares = [territory(places, number)[0, 0] for number in range(3)]
    middle = slice(112, 144)
    assert all((share[middle, middle] == 1).all() for share in shares) and (shares[2] == 1).all()
    # the same place of the picture, in both crops: what one lacks the other has
    for x, y in ((135, 100), (138, 104), (140, 115), (143, 100)):
        found = []
        for place, share in zip(places[:2], shares, strict=False):
            inverse = np.linalg.inv(np.vstack([place.matrix, [0, 0, 1]]))
            column, row, _ = (inverse @ (x, y, 1) * 256).astype(int)
            found.append(float(share[row, column]))
        # a pixel of the mask, by which both are off, is half a pixel of the picture
        assert sum(found) == pytest.approx(1, abs=0.06) and min(found) < 1


def test_faces_count_from_the_left_and_none_is_taken_twice(group):
    faces = load_analyser(torch.device("cpu")).analyse(media.read_image(group))
    both = several(faces, None, "x")
    assert both == across(faces) == several(faces, ("1", "2"), "x") and both[0].box.centre[0] < SIDE
    assert several(faces, ("right", "left"), "x") == both[::-1]
    with pytest.raises(UserError, match="--face left: is a face of group.jpg that another"):
        several(faces, ("1", "left"), "group.jpg")
    with pytest.raises(UserError, match="no face found in wall.jpg"):
        several([], None, "wall.jpg")


def test_people_of_a_video_are_told_by_the_frames_that_show_as_many_as_most():
    look = Look(Box(0, 0, 1, 1), Crop(0, 0, 1), np.zeros((1, 1, 3)))
    seen = Overview([[look] * count for count in (2, 0, 3, 2, 1, 2, 0)], (640, 480))
    assert [len(each) for each in seen.usual.faces] == [2, 2, 2]
    assert Overview([[], []], (640, 480)).usual.faces == []


def test_each_face_comes_out_as_it_does_alone_and_nothing_else_changes(moves, group, tmp_path):
    animated, result, source = moves(MotionOptions()), tmp_path / "both.png", media.read_image(group)
    inference.animate_image(
        together(moves)(MotionOptions()), group, (SURPRISE, ANGER), str(result), framing(drivers=2, face="all")
    )
    both = media.read_image(result)
    for number, driver in enumerate((SURPRISE, ANGER)):
        inference.animate_image(animated, group, driver, str(result), framing(face=str(number + 1)))
        alone, own = media.read_image(result), slice(number * SIDE, (number + 1) * SIDE)
        assert np.array_equal(both[:, own], alone[:, own]) and change(alone[:, own], source[:, own]) > 4
        crop = framing(face=str(number + 1)).source(group).crop.bounds
        outside = np.ones((SIDE, SIDE), bool)
        outside[int(max(0, crop.top)) :, int(max(0, crop.left - own.start)) : int(crop.right - own.start)] = False
        assert np.array_equal(both[:, own][outside], source[:, own][outside])


def test_neighbours_do_not_undo_each_other(moves, people, tmp_path):
    """So near that each is in the other's crop."""
    close = np.concatenate([person[:, 58:198] for person in people], axis=1)
    media.write_image(tmp_path / "close.png", close)
    crops = [person.crop for person in framing(drivers=1, face="all").source(tmp_path / "close.png").people]
    assert crops[0].bounds.right > crops[1].x - 40
    done = {}
    for name, animated, how in (
        ("both", together(moves), {"face": "all", "drivers": 2}),
        ("1", moves, {"face": "1"}),
        ("2", moves, {"face": "2"}),
    ):
        driver = {"both": (SURPRISE, ANGER), "1": SURPRISE, "2": ANGER}[name]
        inference.animate_image(
            animated(MotionOptions()), tmp_path / "close.png", driver, str(tmp_path / "x.png"), framing(**how)
        )
        done[name] = media.read_image(tmp_path / "x.png")
    for name, crop in zip(("1", "2"), crops, strict=True):
        x, y, half = round(crop.x), round(crop.y), round(crop.side / 5)
        face = slice(y - half, y + half), slice(x - half, x + half)
        assert np.array_equal(done["both"][face], done[name][face])
        assert np.abs(done[name][face].astype(float) - close[face]).mean() > 4


def test_drivers_run_by_the_clock_until_the_shortest_ends(tmp_path):
    grey = [np.full((64, 64, 3), 10 * number, np.uint8) for number in range(20)]
    slow, quick = clip(tmp_path / "slow.mp4", grey[:5], 10), clip(tmp_path / "quick.mp4", grey, 50)
    media.write_image(tmp_path / "still.png", grey[15])
    fitted = Framing((64, 64), crop=False)
    drivers = Drivers([fitted.driver(tmp_path / "still.png"), fitted.video(slow), fitted.video(quick)])
    assert drivers.info.duration == pytest.approx(0.4) and drivers.info.frame_rate == 10
    shown = list(drivers.frames())
    assert [frame.time for frame in shown] == pytest.approx([0, 0.1, 0.2, 0.3])
    levels = [[float(image.mean()) for image in frame.image] for frame in shown]
    # to what a codec does to grey
    assert np.array(levels) == pytest.approx(np.array([[150, 10 * n, 50 * n] for n in range(4)]), abs=2)
    late = next(itertools.islice(drivers.at_times(iter([0.0, 0.33])), 1, None))
    assert [float(image.mean()) for image in late] == pytest.approx([150, 30, 160], abs=2)


def test_a_video_template_and_picture_drive_a_face_each(moves, people, tmp_path):
    source = tmp_path / "three.png"
    media.write_image(source, np.concatenate([*people, people[0]], axis=1))
    tone = Path(media_files.encode(tmp_path / "tone.mp4", 30, sound=("aac", 0.0, 1.2)))
    long, short = (
        clip(tmp_path / "long.mp4", part_of(1, 0, 8), 25, tone),
        clip(tmp_path / "short.mp4", part_of(2, 20, 4)),
    )
    template = Template(WEIGHTS, str(tmp_path / "short.motion"))
    alone, result = tmp_path / "alone.mp4", tmp_path / "result.mp4"
    inference.animate_video(moves(MotionOptions()), source, short, str(alone), framing(face="2"), template=template)
    kept, one = str(tmp_path / "short.motion"), framing(face="2")
    inference.animate_video(moves(MotionOptions()), source, kept, str(alone), one, template=Template(WEIGHTS))
    drivers, shown = (long, kept, SURPRISE), framing(drivers=3, face="all", side_by_side=True)
    options = together(moves)(MotionOptions())
    assert inference.animate_video(options, source, drivers, str(result), shown, template=Template(WEIGHTS)) == 4
    assert media.probe_video(result).duration == pytest.approx(0.16, abs=2e-3)
    assert media_files.sound_of(result)[2] == pytest.approx(0.16, abs=0.05)  # two frames of its codec
    frames = frames_of(result)
    # three people, the two drivers that have pictures, three people
    assert frames[0].shape[1] == 8 * SIDE
    faces = [[frame[:, (5 + number) * SIDE : (6 + number) * SIDE] for frame in frames] for number in range(3)]
    for ours, whole in zip(faces[1], frames_of(alone), strict=True):
        assert change(ours, whole[:, SIDE : 2 * SIDE]) < 3  # both went through a codec
    assert change(faces[2][0], faces[2][-1]) < 1 < change(faces[2][0], people[0])  # a picture's face rests
    assert change(faces[0][0], faces[0][-1]) > 1


def test_several_faces_of_a_video_move_and_who_is_not_seen_is_left(moves, people, tmp_path):
    both = np.concatenate(people, axis=1)
    gone = both.copy()
    gone[:, SIDE:] = 120
    source = clip(tmp_path / "source.mp4", [both, both, gone, both], 10)
    options, shown = together(moves)(MotionOptions(drive="expression")), framing(drivers=2, face="all")
    result = str(tmp_path / "result.mp4")
    assert inference.animate_source_video(options, source, (SURPRISE, ANGER), result, shown) == 4
    before, after = frames_of(source), frames_of(result)
    for number in range(2):
        own = slice(number * SIDE, (number + 1) * SIDE)
        assert change(after[1][:, own], before[1][:, own]) > 3
    assert change(after[2][:, SIDE:], before[2][:, SIDE:]) < 1 and change(after[2][:, :SIDE], before[2][:, :SIDE]) > 3
    # the wall beside the first, but for the codec
    assert np.abs(after[1][:60, :30].astype(float) - before[1][:60, :30]).mean() < 1.5


def test_no_more_frames_are_held_than_are_read_together(moves, group):
    """So memory does not grow with the driver's length."""
    ensemble = together(moves)(MotionOptions())(framing(drivers=1, face="all").source(group))
    picture, read = framing().image(SURPRISE), []

    def frames():
        for number in range(12):
            read.append(number)
            yield picture

    held = [len(read) - given for given, _ in enumerate(ensemble.animate(frames()), 1)]
    assert len(held) == 12 and max(held) < 8  # of a batch, which is 8


def test_a_video_without_faces_is_told(tmp_path):
    wall = clip(tmp_path / "wall.mp4", [np.full((64, 64, 3), 120, np.uint8)] * 3)
    with pytest.raises(UserError, match="no face found in .*wall.mp4"):
        framing(drivers=2, face="all").source_video(wall)


def test_fitted_heads_move_together(group, tmp_path):
    words = f"--cpu --motion mesh --face right --face left --source_image {group} --watermark none"
    drivers = f"--driving_video '{SURPRISE}' --driving_video '{ANGER}'"
    done = scripts.run(ROOT / "Inference.py", *shlex.split(f"{words} {drivers}"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    faces = across(load_analyser(torch.device("cpu")).analyse(media.read_image(tmp_path / "result.png")))
    lips, eyes = (
        [float((face.landmarks68[a] - face.landmarks68[b]).norm()) for face in faces] for a, b in ((62, 66), (36, 45))
    )
    # the right one's mouth is open, as the driver's that was given first
    assert lips[1] / eyes[1] > 0.1 and lips[1] / eyes[1] > 2 * lips[0] / eyes[0]


def test_an_expression_by_name_is_everybodys(moves, group, people, tmp_path):
    shown = framing(drivers=1, face="all")
    named.show_image(together(moves)(MotionOptions()), group, "surprise", str(tmp_path / "result.png"), shown)
    result = media.read_image(tmp_path / "result.png")
    for number, person in enumerate(people):
        assert change(result[:, number * SIDE : (number + 1) * SIDE], person) > 3


THREE = "--driving_video a.png --driving_video a.png --driving_video a.png"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (f"--face all {THREE}", "--driving_video: 3 drivers for 2 faces of group.png"),
        ("--face 1 --face 3", "--face 3: 2 faces are found in group.png"),
        ("--face left --face 1", "--face 1: is a face of group.png that another --face names as well"),
        (f"--face 1 --face 2 {THREE}", "--driving_video: 3 drivers for 2 faces"),
        (THREE, "several drivers are for several faces"),
        ("--face all --face 1", "leave the other --face out"),
        ("--face 1 --face 1", "1 is named twice"),
        ("--face all --find_best_frame", "--find_best_frame looks at one face"),
        ("--face all --save_motion x.motion", "--save_motion looks at one face"),
        ("--face all --no-paste_back", "--no-paste_back writes the square of one face"),
        ("--face all --no-crop", "--face needs a configuration with framing_params"),
        ("--face all --faceless skip", "--faceless skip: a frame may lack"),
        (f"--face all {THREE} --reference_image a.png", "each face has a driver already"),
        ("--face all --target_image group.png", "--target_image paints one; name one"),
        (f"{THREE} --prompt 'a man'", "--prompt draws one; give one"),
        (
            "--face all --relative --driving_video a.png --driving_video clip.mp4",
            "--relative: a driving picture has no",
        ),
        ("--driver_face all", "'all' is not largest, left, right or a number"),
    ],
)
def test_what_several_faces_cannot_have_is_one_line(group, tmp_path, options, said):
    (tmp_path / "group.png").write_bytes(group.read_bytes())
    (tmp_path / "a.png").write_bytes(Path(ANGER).read_bytes())
    (tmp_path / "clip.mp4").write_bytes((ROOT / "Inputs/driving videos/driver-1.mp4").read_bytes())
    words = options if "--driving_video" in options else f"--driving_video a.png {options}"
    words = words if "--prompt" in words or "--target" in words else f"--source_image group.png {words}"
    refused = scripts.run(ROOT / "Inference.py", "--cpu", *shlex.split(words), cwd=tmp_path)
    assert refused.returncode == 2 and said in refused.stderr and refused.stderr.count("\n") == 1, refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "clip.mp4", "group.png"]


def test_a_row_of_a_batch_says_which_faces(group, tmp_path):
    (tmp_path / "rows.csv").write_text(
        f"source,driver,result,face\n{group},{SURPRISE},all.png,all\n{group},{SURPRISE},1.png,1\n"
    )
    line = "--cpu --batch rows.csv --out out --face 2 --watermark none"
    done = scripts.run(ROOT / "Inference.py", *shlex.split(line), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    source, whole, first = (
        media.read_image(path) for path in (group, tmp_path / "out/all.png", tmp_path / "out/1.png")
    )
    assert np.array_equal(whole[:, :SIDE], first[:, :SIDE]) and np.array_equal(first[:, SIDE:], source[:, SIDE:])
    assert change(whole[:, SIDE:], source[:, SIDE:]) > 4
