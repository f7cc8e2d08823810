"""crop-video.py as a user runs it: its commands given to a real ffmpeg, its files read back."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
import scripts
from media_files import encode
from PIL import Image
from skimage.data import astronaut
from test_faces import canvas, write_video

from modules import faces, media
from modules.config.files import load_config, load_rigged_config
from modules.faces import tracks
from modules.faces.close_crop import cut_crop
from modules.faces.framer import Framer
from modules.sid.framing import Framing

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "crop-video.py"
OPTIONS = ("--min_frames", "40", "--image_shape", "128,128", "--detector", "retinaface")


def run(folder: Path, *arguments: str, fresh: bool = False) -> subprocess.CompletedProcess[str]:
    return scripts.run(SCRIPT, *arguments, cwd=folder, fresh=fresh)


def run_printed(folder: Path, line: str) -> Path:
    """Run a printed command with the ffmpeg that imageio brings; returns the file it wrote."""
    words = shlex.split(line)
    assert words[0] == "ffmpeg"
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *words[1:]], cwd=folder, check=True)
    return folder / words[-1]


def shows_a_face(path: Path) -> bool:
    """Whether each tenth frame has a whole face of about the right size in its middle."""
    detector = faces.load_detector("retinaface")
    for frame in list(media.read_video(path))[::10]:
        box = faces.find_face(frame.image, detector)
        side = frame.image.shape[0]
        # Expected is 1 / (1 + 2 * 0.4) = 0.56 of the side; less where the crop also covers the face's way.
        if box is None or not 0.35 < box.width / side < 0.65 or np.abs(np.array(box.centre) / side - 0.5).max() > 0.2:
            return False
    return True


@pytest.fixture(scope="module")
def two_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two faces for 50 frames: one still, one that moves by 49 pixels; then an empty picture for 45 (1.8 s)."""
    images = [canvas((20, 40), (350 + i, 100)) for i in range(50)] + [canvas()] * 45
    return write_video(tmp_path_factory.mktemp("two faces") / "a clip.mp4", images)


@pytest.fixture(scope="module")
def printed(two_faces: Path) -> list[Path]:
    """The files that the printed commands make of it."""
    done = run(two_faces.parent, "--inp", two_faces.name, *OPTIONS, fresh=True)
    assert done.returncode == 0, done.stderr
    return [run_printed(two_faces.parent, line) for line in done.stdout.splitlines()]


def test_printed_commands_crop_each_face(printed: list[Path]) -> None:
    assert [path.name for path in printed] == ["crop-0.mp4", "crop-1.mp4"]
    for path in printed:
        info = media.probe_video(path)
        assert (info.width, info.height) == (128, 128)
        assert 46 <= len(info.times) <= 50  # the detector looks at every fifth frame
        assert shows_a_face(path)


def test_out_writes_what_the_command_would(two_faces: Path, printed: list[Path], tmp_path: Path) -> None:
    video = tmp_path / "two {faces} %d.mp4"  # nothing in a name is a placeholder
    shutil.copy(two_faces, video)
    done = run(tmp_path, "--inp", video.name, *OPTIONS, "--out", "crops")
    assert done.returncode == 0, done.stderr
    names = [f"{video.stem}#{n:02d}.mp4" for n in range(2)]
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [f"crops/{name}" for name in names]
    assert sorted(path.name for path in (tmp_path / "crops").iterdir()) == names
    again = run(tmp_path, "--inp", video.name, *OPTIONS, "--out", "crops")
    assert again.returncode == 2 and "already exists" in again.stderr
    for path, name in zip(printed, names, strict=True):
        ours = list(media.read_video(tmp_path / "crops" / name))
        theirs = list(media.read_video(path))
        assert len(ours) == len(theirs)
        assert ours[-1].time == pytest.approx(theirs[-1].time, abs=1e-3)
        a, b = (np.stack([frame.image for frame in frames]).astype(int) for frames in (ours, theirs))
        # Two encodings after two kinds of resampling: not equal, but nearer than a crop that is off by one pixel of the
        # result could be (measured: 3 levels against 10).
        for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
            assert np.abs(a - b).mean() < 0.5 * np.abs(np.roll(a, step, axis) - b).mean()


def test_face_at_the_edge_of_a_small_picture(tmp_path: Path) -> None:
    images = [canvas((-50, -60), size=(211, 131))] * 12  # a crop of the usual room would be larger than the picture
    write_video(tmp_path / "small.mkv", [image[:130, :210] for image in images])
    done = run(tmp_path, "--inp", "small.mkv", "--min_frames", "12", "--detector", "retinaface", "--increase", "0.6")
    assert done.returncode == 0, done.stderr
    assert "crop=130:130:0:0" in done.stdout
    assert len(list(media.read_video(run_printed(tmp_path, done.stdout)))) == 12


@pytest.mark.parametrize("options", [[], ["--out", "crops"]])
def test_no_face(tmp_path: Path, options: list[str]) -> None:
    write_video(tmp_path / "empty.mp4", [canvas()] * 5)
    done = run(tmp_path, "--inp", "empty.mp4", "--detector", "retinaface", *options)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: no face found in empty.mp4: ")
    assert not (tmp_path / "crops").exists()


def test_too_short(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", [canvas((200, 60))] * 12)
    done = run(tmp_path, "--inp", "short.mp4", "--detector", "retinaface")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "no face stays for 150 frames in short.mp4: set --min_frames 12 or less"
    )


def test_bad_input(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    for name in ("notes.mp4", "missing.mp4"):
        done = run(tmp_path, "--inp", name, "--detector", "retinaface")
        assert done.returncode == 2 and name in done.stderr and "Traceback" not in done.stderr


def test_damage_half_way_leaves_no_half_file(two_faces: Path, tmp_path: Path) -> None:
    content = bytearray(two_faces.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    (tmp_path / "damaged.mp4").write_bytes(content)
    done = run(tmp_path, "--inp", "damaged.mp4", "--min_frames", "5", "--detector", "retinaface", "--out", "crops")
    assert done.returncode == 2 and "damaged.mp4" in done.stderr
    assert not (tmp_path / "crops").exists()


@pytest.mark.parametrize("option", [["--image_shape", "256"], ["--image_shape", "255,255"], ["--min_frames", "0"]])
def test_bad_options(tmp_path: Path, option: list[str]) -> None:
    done = run(tmp_path, "--inp", "x.mp4", *option)
    assert done.returncode == 2 and option[0] in done.stderr


def test_help_is_quick(tmp_path: Path) -> None:
    begin = time.monotonic()
    done = run(tmp_path, "--help", fresh=True)
    assert done.returncode == 0 and "--iou_with_initial" in done.stdout
    assert time.monotonic() - begin < 1


@pytest.mark.parametrize("rotation", [0, 90])
def test_the_printed_command_cuts_the_same_of_pixels_that_are_not_square(tmp_path, rotation):
    path = encode(tmp_path / "a.mp4", count=10, aspect=Fraction(3, 2), rotation=rotation)
    info, box = media.probe_video(path), faces.Box(16, 20, 80, 84)
    track = tracks.Track(box, 0, 0.0, 9, 0.36, box)
    line = tracks.ffmpeg_command(path, track, info, box, (64, 64), tmp_path / "crop.mp4")
    with av.open(str(run_printed(tmp_path, line))) as file:
        assert file.streams.video[0].sample_aspect_ratio in (None, 1)
    cropped = next(media.read_video(tmp_path / "crop.mp4")).image
    expected = faces.cut(next(media.read_video(path)).image, box, (64, 64))
    assert np.abs(cropped.astype(float) - expected).mean() < 6  # coded once more; the wrong place differs by dozens


CONFIG = ROOT / "config" / "synthetic-128-adv.yaml"
CLOSE = ("--config", str(CONFIG), "--cpu")


def images(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in media.read_video(path)]).astype(int)


def test_a_clip_for_a_model_is_cut_as_inference_cuts_a_driver(tmp_path: Path) -> None:
    """By the printed command and by --out, resting and following the face, which moves by 20 pixels."""
    video = write_video(tmp_path / "me.mp4", [canvas((200 + i, 60)) for i in range(21)])
    params = load_config(CONFIG).framing_params
    for more in ([], ["--out", "rests"], ["--track", "--out", "follows"]):
        done = run(tmp_path, "--inp", "me.mp4", "--min_frames", "20", *CLOSE, *more)
        assert done.returncode == 0, done.stderr
        clip = images(tmp_path / more[-1] / "me#00.mp4" if more else run_printed(tmp_path, done.stdout))
        framing = Framing((128, 128), params=params, track="--track" in more, cpu=True)
        driver = np.stack([frame.image for frame in framing.video(video).frames()]).astype(int)
        assert clip.shape == driver.shape == (21, 128, 128, 3)
        # coded once more, by frames that are not all the same: nearer than two of its pixels to either side
        for axis, step in ((1, 2), (1, -2), (2, 2), (2, -2)):
            assert np.abs(clip - driver).mean() < 0.7 * np.abs(np.roll(clip, step, axis) - driver).mean()
        if not more:
            width, height, left, top = map(int, re.findall(r"crop=(\d+):(\d+):(\d+):(\d+)", done.stdout)[0])
            place = Framer(params.size, params.above, cpu=True).video(video)
            assert width == height == pytest.approx(place.side, abs=4)
            assert (left + width / 2, top + height / 2) == pytest.approx((place.x, place.y), abs=3)


def test_a_crop_by_landmarks_that_sticks_out_repeats_the_edges(tmp_path: Path) -> None:
    images = [canvas((-50, -60), size=(210, 130))] * 12
    write_video(tmp_path / "edge.mkv", images)
    done = run(tmp_path, "--inp", "edge.mkv", "--min_frames", "12", *CLOSE)
    assert done.returncode == 0, done.stderr
    made = next(media.read_video(run_printed(tmp_path, done.stdout))).image.astype(float)
    place = Framer(2.35, 0.11, cpu=True).picture(images[0], "", upright=False)
    assert np.abs(made - cut_crop(images[0], place, 128)).mean() < 6
    assert np.abs(made[:, 3] - made[:, 10]).mean() < 4  # both are left of the picture


def test_tracks_with_a_crop_that_moves_go_on_where_the_face_leaves_its_place(tmp_path: Path) -> None:
    write_video(tmp_path / "walk.mp4", [canvas((16 * i, 60)) for i in range(25)])
    rests = run(tmp_path, "--inp", "walk.mp4", "--min_frames", "20", *CLOSE)
    assert rests.returncode == 2 and "no face stays for 20 frames" in rests.stderr
    moves = run(tmp_path, "--inp", "walk.mp4", "--min_frames", "20", *CLOSE, "--track", "--out", "crops")
    assert moves.returncode == 0, moves.stderr
    (made,) = (tmp_path / "crops").iterdir()
    clip = images(made)
    # smoothly behind the face, but not ever farther
    assert len(clip) == 25 and np.abs(clip[24] - clip[20]).mean() < 0.5 * np.abs(clip[20] - clip[20][:, ::-1]).mean()


def test_photographs_are_cut_for_the_rigged_model_too(tmp_path: Path) -> None:
    Image.fromarray(astronaut()).save(tmp_path / "me.png")
    done = run(tmp_path, "--inp", "me.png", "--config", str(ROOT / "config/rigged.yaml"), "--cpu", "--out", "crops")
    assert done.returncode == 0, done.stderr
    params = load_rigged_config(ROOT / "config/rigged.yaml").framing_params
    expected = Framing((256, 256), params=params, cpu=True).source(tmp_path / "me.png").image
    assert (media.read_image(tmp_path / "crops" / "me.png") == expected).all()


def test_photographs_are_cut_as_inference_cuts_a_source(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    picture = np.asarray(Image.fromarray(astronaut()).rotate(20))
    Image.fromarray(picture).save(folder / "me#1.png")
    Image.fromarray(canvas()).save(folder / "wall#1.jpg")
    done = run(tmp_path, "--inp", "photographs", *CLOSE, "--out", "crops")
    assert done.returncode == 0, done.stderr
    assert "left out: photographs/wall#1.jpg: no face found" in done.stdout and "1 of 2 photographs" in done.stdout
    framing = Framing((128, 128), params=load_config(CONFIG).framing_params, cpu=True)
    made = media.read_image(tmp_path / "crops" / "me#1.png")
    assert (made == framing.source(folder / "me#1.png").image).all()  # upright
    leaning = run(tmp_path, "--inp", "photographs/me#1.png", *CLOSE, "--no-upright", "--size", "3", "--out", "leaning")
    assert leaning.returncode == 0, leaning.stderr
    place = Framer(3, 0.11, cpu=True).picture(picture, "", upright=False)
    assert (media.read_image(tmp_path / "leaning" / "me#1.png") == cut_crop(picture, place, 128)).all()
    again = run(tmp_path, "--inp", "photographs", *CLOSE, "--out", "crops")
    assert again.returncode == 2 and "already exists" in again.stderr
    Image.fromarray(picture).save(folder / "me#1.jpg")
    twice = run(tmp_path, "--inp", "photographs", *CLOSE, "--out", "other")
    assert twice.returncode == 2 and "both would be me#1.png" in twice.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--inp", "x.mp4", "--track"], "--track has no meaning without --config or --size"),
        (["--inp", "x.mp4", "--size", "2", "--track"], "--track needs --out"),
        (["--inp", "x.mp4", "--size", "2", "--increase", "0.5"], "--increase has no meaning with --config or --size"),
        (["--inp", "x.mp4", "--size", "2", "--image_shape", "128,64"], "--image_shape: what is cut by landmarks"),
        (["--inp", "x.mp4", "--config", str(ROOT / "config/sid-64.yaml")], "has no framing_params"),
        (["--inp", "me.png"], "me.png: photographs are cut out by landmarks: give --config or --size"),
        (["--inp", "me.png", "--size", "2"], "me.png: give --out"),
        (["--inp", "me.png", "--size", "2", "--out", "x", "--min_frames", "3"], "--min_frames is of videos"),
        (["--inp", "empty", "--size", "2", "--out", "x"], "empty: no photographs here"),
        (["--inp", "wall.png", "--size", "2", "--out", "x"], "no face found in wall.png"),
        (["--inp", "wall.mp4", "--size", "2", "--out", "x"], "no face found in wall.mp4: lower --min_size"),
    ],
)
def test_what_cannot_be_cut_by_landmarks_is_one_line(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "empty").mkdir()
    Image.fromarray(astronaut()).save(tmp_path / "me.png")
    Image.fromarray(canvas()).save(tmp_path / "wall.png")
    write_video(tmp_path / "wall.mp4", [canvas()] * 5)
    done = run(tmp_path, "--cpu", *options)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and said in errors[0] and "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()
