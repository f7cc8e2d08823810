"""Close crops, and results that are put back into the whole picture."""

from __future__ import annotations

import shlex
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from PIL import Image
from skimage.data import astronaut

from modules import media
from modules.config.files import load_config
from modules.config.sid import FramingParams
from modules.errors import UserError
from modules.evaluation.people import portraits
from modules.faces.analysis import load_analyser
from modules.faces.blend import Blender, with_face
from modules.faces.close_crop import Crop, cut_crop, face_crop, steady_crop
from modules.faces.detail import Detail, enlarged_grid
from modules.faces.framer import Framer, chosen
from modules.faces.paste import Paster
from modules.geometry import coordinate_grid
from modules.sid import inference
from modules.sid.animator import Animator
from modules.sid.framing import Framing
from modules.sid.motion_options import MotionOptions
from modules.sid.weights import load_model
from modules.world import ACTION_UNITS, project_landmarks
from modules.world.control.chain import Chain
from modules.world.control.options import Control

ROOT = Path(__file__).parent.parent
FACE = Crop(224, 131, 90)  # the astronaut's, brows to chin
PARAMS = FramingParams(size=2.2)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(((a.astype(float) - b) ** 2).mean() / 255**2 + 1e-12))


def test_a_crop_rests_as_the_mouth_opens_and_turns_as_the_head_leans():
    faces = portraits(1, 3, seed=3)
    faces = faces._replace(identity=faces.identity[:1].expand(3, -1), action_units=torch.zeros_like(faces.action_units))
    pose = torch.tensor([0, 0, 0, 0, 0, 1.0]).repeat(3, 1)
    pose[2, 2] = 20  # roll, clockwise
    units = faces.action_units.clone()
    units[1, ACTION_UNITS.index("AU26")] = 1  # the jaw drops
    marks = (project_landmarks(faces._replace(pose=pose, action_units=units)).numpy() + 1) * 128
    calm, open_mouth, leaning = (face_crop(each) for each in marks)
    # a jaw that drops in full pulls the mouth's corners along, by a fraction of what the chin goes
    assert np.abs(np.array(open_mouth[:3]) - calm[:3]).max() < 0.11 * calm.side
    assert np.ptp(marks[1][:, 1]) > 1.1 * np.ptp(marks[0][:, 1])  # which did open
    assert np.rad2deg(leaning.angle - calm.angle) == pytest.approx(20, abs=1)
    assert leaning.side == pytest.approx(calm.side, rel=0.02)
    assert face_crop(marks[2], upright=False).angle == 0


def test_the_crop_of_a_photograph_shows_the_face_from_brows_to_chin():
    crop = Framer(1.0).picture(astronaut(), "astronaut", upright=False)
    assert np.abs(np.array(crop[:3]) - FACE[:3]).max() < 6
    wider = crop.wider(2.0, above=0.1)
    assert wider.side == 2 * crop.side and wider.y == pytest.approx(crop.y - 0.2 * crop.side)


def test_a_crop_is_cut_as_its_matrix_says():
    """A ramp of x and y: each pixel of the crop tells where it comes from."""
    y, x = np.mgrid[:200, :200].astype(np.uint8)
    ramp = np.stack([x, y, x], axis=-1)
    for crop, size in (Crop(100, 90, 60, 0.3), 30), (Crop(100.5, 90, 40, -0.2), 40), (Crop(90, 100, 20), 60):
        cut = cut_crop(ramp, crop, size)
        for row, column in ((3, 5), (size // 2, size - 4), (size - 3, 2)):
            place = crop.matrix @ [(column + 0.5) / size, (row + 0.5) / size, 1]
            assert cut[row, column, :2].astype(float) + 0.5 == pytest.approx(place, abs=1)
    outside = cut_crop(ramp, Crop(0, 100, 40), 40)
    assert (outside[:, :20, 0] == 0).all()  # the edge goes on


def pasted(change, crop: Crop, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The astronaut with what ``change`` makes of her face, and the mask ``[512, 512]``."""
    picture = astronaut()
    own = cut_crop(picture, crop, side)
    paster = Paster(picture, crop, own)
    result = change(own)
    mask = np.zeros((512, 512))
    share = paster._spread(Blender(own, torch.device("cpu")).blend(result).share.repeat(1, 3, 1, 1))
    paster._place(mask)[:] = share[..., 0] / 255
    return paster.paste(result), mask


def test_what_is_not_changed_is_pasted_back_as_it_was():
    crop = FACE.wider(2.35, above=0.11)._replace(angle=0.15)
    whole, _ = pasted(lambda own: own, crop, round(crop.side))
    assert (whole == astronaut()).all()  # though it was turned there and back


def test_a_result_is_shown_where_the_person_is_and_was_and_nowhere_else():
    crop = FACE.wider(2.35, above=0.11)._replace(angle=0.15)
    whole, mask = pasted(np.zeros_like, crop, round(crop.side))
    assert whole[131, 224].max() < 5 and whole[60, 224].max() < 5  # face and hair, but for their light
    assert (whole[mask == 0] == astronaut()[mask == 0]).all()
    assert mask[100, 128] == mask[100, 320] == 0  # the wall beside her, within the crop
    assert np.abs(np.diff(mask, axis=1)).max() < 0.2  # which fades over ten pixels, not in a step


def steepness(picture: np.ndarray, where: np.ndarray) -> float:
    """Mean gradient of the brightness, in levels per pixel."""
    return float(np.hypot(*np.gradient(picture.astype(float).mean(axis=2)))[where].mean())


@pytest.mark.parametrize(("shift", "light"), [(0, 14), (8, 0), (6, 10)])
def test_no_seam_shows_where_a_result_is_brighter_or_has_moved(shift, light):
    def change(own: np.ndarray) -> np.ndarray:
        return np.roll(own, shift, axis=1).clip(0, 255 - light) + np.uint8(light)

    whole, mask = pasted(change, FACE.wider(2.35, above=0.11), 256)
    border = (mask > 0.02) & (mask < 0.98)
    border[200:] = False  # below is the suit, whose edges have moved
    assert steepness(whole, border) == pytest.approx(steepness(astronaut(), border), rel=0.1)


def test_a_result_larger_than_its_place_is_antialiased():
    """Lines of a pixel, black and white, are grey where four of them meet in a pixel."""
    lines = np.zeros((256, 256, 3), np.uint8)
    lines[:, ::2] = 255
    whole, mask = pasted(lambda own: lines, Crop(224, 131, 64), 256)
    assert (mask > 0.99).sum() > 1000 and steepness(whole, mask > 0.99) < 5  # without, tens of levels


def test_one_square_holds_a_face_that_moves():
    faces = [Crop(100 + 4 * i, 80, 50) for i in range(21)]
    square = steady_crop(faces, 2.0)
    assert square.x == pytest.approx(140) and 100 + 72 - 4 <= square.side <= 100 + 80
    assert steady_crop([*faces, Crop(5000, 80, 50)], 2.0).side < 250  # one mistake does not count


def test_detail_moves_as_the_model_moves_its_picture():
    torch.manual_seed(0)
    source = torch.rand(1, 3, 96, 96)
    small = torch.nn.functional.interpolate(source, (24, 24), mode="bilinear", antialias=True)
    detail = Detail(source, small)
    still = coordinate_grid(24, 24, source)[None]
    torch.testing.assert_close(detail.add(small, still), source)  # whatever the model's picture of it is
    wrong = Detail(source, small * 0.8)
    torch.testing.assert_close(wrong.add(small * 0.8, still), source)
    # by three of its pixels, which are twelve of the source's, as the picture is moved
    grid = coordinate_grid(24, 24, source)[None] + torch.tensor([6 / 23, 0.0])
    moved = detail.add(torch.roll(small, -3, dims=3), grid)
    inner = slice(20, 72)
    torch.testing.assert_close(moved[..., inner], torch.roll(source, -12, dims=3)[..., inner], atol=2e-3, rtol=0)
    blurred = torch.nn.functional.interpolate(small, (96, 96), mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(detail.add(small, grid, torch.zeros(1, 1, 24, 24)), blurred)  # what is painted has none


def test_a_grid_is_enlarged_about_the_edges_pictures_have_in_common():
    grid = coordinate_grid(16, 16, torch.zeros(1))[None]
    torch.testing.assert_close(enlarged_grid(grid, 64, 48), coordinate_grid(64, 48, torch.zeros(1))[None])


@pytest.fixture(scope="module")
def two_people() -> np.ndarray:
    """A small face on the left of a large one, 600 x 300."""
    face = cut_crop(astronaut(), FACE.wider(2.2), 300)
    small = media.resize(face, 150, 150)
    picture = np.full((300, 600, 3), 200, np.uint8)
    picture[100:250, 50:200], picture[:, 300:] = small, face[:, ::-1]
    return picture


def test_one_of_several_faces_is_chosen(two_people):
    faces = load_analyser(torch.device("cpu")).analyse(two_people)
    assert len(faces) == 2
    middles = {which: chosen(faces, which, "x").box.centre[0] for which in ("largest", "left", "right", "1", "2")}
    assert middles["left"] == middles["1"] < 200 and middles["right"] == middles["2"] == middles["largest"] > 300
    with pytest.raises(UserError, match="--face 3: 2 faces are found in group.jpg"):
        chosen(faces, "3", "group.jpg")
    with pytest.raises(UserError, match="no face found in wall.jpg"):
        chosen([], "largest", "wall.jpg")


def test_source_and_driver_have_choices_of_their_own(two_people, tmp_path):
    Image.fromarray(two_people).save(tmp_path / "group.png")
    Image.fromarray(astronaut()).save(tmp_path / "me.png")
    framing = Framing((64, 64), params=PARAMS, face="1", cpu=True)
    assert framing.source(tmp_path / "group.png").crop.x < 200
    right, left = (
        Framing((64, 64), params=PARAMS, driver_face=which, cpu=True).image(tmp_path / "group.png")
        for which in ("2", "1")
    )
    assert (framing.image(tmp_path / "group.png") == right).all() and (left != right).any()  # the larger one
    of_driver = Framing((64, 64), params=PARAMS, driver_face="2", cpu=True)
    with pytest.raises(UserError, match="--driver_face 2: one face is found in .*me.png"):
        of_driver.image(tmp_path / "me.png")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Two frames of a wall, three of a face, two of a wall, two of the face elsewhere: 25 a second."""
    path = tmp_path_factory.mktemp("video") / "driver.mp4"
    wall, face = np.full((160, 160, 3), 120, np.uint8), cut_crop(astronaut(), FACE.wider(3.2), 160)
    frames = [wall] * 2 + [face] * 3 + [wall] * 2 + [np.roll(face, 8, axis=1)] * 2
    with media.VideoWriter(path, 160, 160, 25) as writer:
        for number, image in enumerate(frames):
            writer.write(image, number / 25)
    return path


@pytest.mark.parametrize("track", [False, True])
def test_frames_without_a_face_are_held_over_or_skipped(video, track):
    kept = Framing((64, 64), params=PARAMS, track=track, cpu=True).video(video)
    frames = list(kept.frames())
    assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(9)]) and kept.faceless == 4
    assert all(
        (frame.image == frames[0].image).all() for frame in frames[:2]
    )  # the first face is shown before it comes
    assert (frames[5].image == frames[4].image).all() and (frames[6].image == frames[4].image).all()
    skipped = Framing((64, 64), params=PARAMS, track=track, faceless="skip", cpu=True).video(video)
    frames = list(skipped.frames())
    assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(5)], abs=1e-3)
    assert skipped.faceless == 4


class Still:
    """An animator of a picture that stays as it is, which reads drivers in large batches."""

    def __init__(self, source):
        self.image, self.chain = source.image, Chain(Control(), torch.ones(1), torch.zeros(1))

    def prepare(self, frames, for_pose=False):
        pass

    def animate(self, frames, pose_frames=None, pose_moves=False):
        while batch := list(islice(frames, 16)):
            if pose_frames is not None:
                assert len(list(islice(pose_frames, 16))) == len(batch)
            yield from (self.image for _ in batch)


def test_what_is_skipped_takes_no_time_in_the_result(video, tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "me.png")
    for faceless, count in (("keep", 9), ("skip", 5)):
        framing = Framing((64, 64), params=PARAMS, paste_back=False, faceless=faceless, cpu=True)
        result = tmp_path / f"{faceless}.mp4"
        assert inference.animate_video(Still, tmp_path / "me.png", video, result, framing) == count
        assert media.probe_video(result).duration == pytest.approx(count / 25, abs=2e-3)


@pytest.mark.parametrize("pose", ["video", "picture"])
def test_an_animator_may_ask_for_more_poses_than_there_are(video, tmp_path, pose):
    Image.fromarray(astronaut()).save(tmp_path / "me.png")
    framing = Framing((64, 64), params=PARAMS, paste_back=False, cpu=True)
    source, result = tmp_path / "me.png", tmp_path / "result.mp4"
    poses = {"video": video, "picture": source}[pose]
    assert inference.animate_video(Still, source, video, result, framing, poses) == 9


def test_another_face_that_walks_into_a_resting_crop_is_not_the_one_that_was_there():
    framer = Framer(3.0)
    picture = np.full((512, 512, 3), 90, np.uint8)
    picture[190:330, 40:180] = cut_crop(astronaut(), FACE.wider(1.6), 140)  # within the crop, at its side
    crop = Crop(256, 256, 460)
    image = cut_crop(picture, crop, 256)
    assert framer.shows_face(image, crop, [Crop(110, 260, 88)])
    assert framer.shows_face(image, crop, [Crop(400, 260, 88), Crop(150, 260, 88)])  # on its way
    assert not framer.shows_face(image, crop, [Crop(300, 260, 88)])
    assert not framer.shows_face(image, crop, [Crop(110, 260, 200)])  # a small face far behind


def test_of_two_people_in_a_crop_only_the_one_with_the_face_is_pasted():
    person = torch.zeros(1, 1, 256, 256)
    person[..., 60:, 80:170] = 1
    other = torch.zeros_like(person)
    other[..., 90:, 200:] = 0.7
    assert (with_face(person + other) == person).all()


def test_a_crop_that_tracks_goes_where_the_face_goes(tmp_path):
    face = cut_crop(astronaut(), FACE.wider(3.0), 120)
    with media.VideoWriter(tmp_path / "walk.mp4", 320, 120, 25) as writer:
        for number in range(40):
            image = np.full((120, 320, 3), 120, np.uint8)
            image[:, 4 * number : 4 * number + 120] = face
            writer.write(image, number / 25)
    rests, follows = (Framing((64, 64), params=PARAMS, track=track, cpu=True) for track in (False, True))
    wide, close = ([f.image for f in each.video(tmp_path / "walk.mp4").frames()] for each in (rests, follows))
    change = [float(np.abs(frames[-1].astype(float) - frames[20]).mean()) for frames in (wide, close)]
    assert change[1] < 0.7 * change[0]


def test_the_first_look_frames_a_face_as_the_frames_do(tmp_path):
    """A face that walks is small in the crop that rests, and so it is in what the calm frame is chosen from."""
    face = astronaut()[60:230, 150:300]
    with media.VideoWriter(tmp_path / "walk.mp4", 480, 240, 10) as writer:
        for step in range(8):
            frame = np.full((240, 480, 3), 200, np.uint8)
            frame[30:200, 20 + 40 * step : 170 + 40 * step] = face
            writer.write(frame, step / 10)
    video = Framing((96, 96), params=PARAMS, cpu=True).video(tmp_path / "walk.mp4")
    analyse = load_analyser("cpu").analyse
    shown = [face_crop(analyse(frame.image)[0].landmarks68.numpy()) for frame in video.frames()]
    looked_at = [face_crop(analyse(image)[0].landmarks68.numpy()) for image in video.some()]
    assert max(place.side for place in looked_at) < 1.1 * max(place.side for place in shown)
    assert np.ptp([place.x for place in looked_at]) == pytest.approx(np.ptp([place.x for place in shown]), rel=0.1)


def test_a_crop_that_tracks_is_at_once_where_a_face_comes_back():
    wall, face = np.full((160, 480, 3), 120, np.uint8), cut_crop(astronaut(), FACE.wider(3.2), 160)
    left, right = wall.copy(), wall.copy()
    left[:, :160], right[:, 320:] = face, face
    frames = [media.Frame(image, n / 5) for n, image in enumerate([left, *[wall] * 10, right])]
    (_, first), *_, (_, last) = Framer(2.2, cpu=True).follow(iter(frames))
    assert last.x - first.x > 0.98 * 320


def test_the_crop_of_a_video_stays_with_one_of_two_alike(tmp_path):
    """Now one is larger and now the other: who is seen most, large and central, is followed, not both."""
    face = cut_crop(astronaut(), FACE.wider(2.2), 200)
    with media.VideoWriter(tmp_path / "two.mp4", 420, 200, 8) as writer:
        for number in range(8):
            picture = np.full((200, 420, 3), 200, np.uint8)
            for left, side in ((0, 200 - 30 * (number % 2)), (215, 170 + 30 * (number % 2))):
                picture[200 - side :, left : left + side] = media.resize(face, side, side)
            writer.write(picture, number / 8)
    crop = Framer(2.2, cpu=True).video(tmp_path / "two.mp4")
    assert crop.side < 260 and (crop.x < 160 or crop.x > 260)  # both together would take 400


def test_a_source_keeps_its_size_and_what_is_around_its_face(tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "me.png")
    framing = Framing((64, 64), params=PARAMS, side_by_side=True, cpu=True)
    source = framing.source(tmp_path / "me.png")
    assert source.image.shape == (64, 64, 3) and len(source.large) == round(source.crop.side)
    result = framing.finisher(source)(source.large)
    assert psnr(result, astronaut()) > 40
    assert framing.shown(source, source.image, result).shape == (512, 3 * 512, 3)
    square = Framing((64, 64), params=PARAMS, paste_back=False, cpu=True)
    bare = square.source(tmp_path / "me.png")
    assert bare.large is None and square.finisher(bare)(bare.image) is bare.image
    assert max(Framing((64, 64), params=PARAMS, result_size=200).source(tmp_path / "me.png").picture.shape) == 200
    whole = Framing((64, 64), params=PARAMS, crop=False).source(tmp_path / "me.png")
    assert (whole.image == media.fit(astronaut(), 64, 64)).all() and whole.crop is None


def test_without_strength_a_photograph_comes_back_as_it_was(tmp_path):
    """By the bundled model: to a level outside the face, and within the face but for what rounding makes."""
    Image.fromarray(astronaut()).save(tmp_path / "me.png")
    config = load_config(ROOT / "config/synthetic-128-adv.yaml")
    model = load_model(config.model_params, ROOT / "SID_Checkpoints/sid-adv-cpk.pth")
    framing = Framing(config.dataset_params.frame_shape[:2], params=config.framing_params, cpu=True)
    source = framing.source(tmp_path / "me.png")
    driver = framing.image(ROOT / "Inputs/driving static images/surprise.png")
    (picture,) = Animator(model, source.image, MotionOptions(strength=0.0), large=source.large).animate([driver])
    whole = framing.finisher(source)(picture)
    change = np.abs(whole.astype(int) - astronaut())
    face = np.zeros((512, 512), bool)
    face[80:190, 175:275] = True
    assert change[~face].max() <= 1
    assert psnr(whole[face], astronaut()[face]) > 40


def test_a_photograph_comes_out_whole_with_its_face_moved(tmp_path):
    """The bundled weights, and no option but the files."""
    Image.fromarray(astronaut()).save(tmp_path / "me.png")
    Image.fromarray(np.full((300, 300, 3), 90, np.uint8)).save(tmp_path / "wall.png")

    def run(source: str, *options: str) -> subprocess.CompletedProcess:
        driver = str(ROOT / "Inputs/driving static images/surprise.png")
        command = [sys.executable, str(ROOT / "Inference.py"), "--cpu", "--source_image", source]
        return subprocess.run(
            [*command, "--driving_video", driver, *options], cwd=tmp_path, capture_output=True, text=True
        )

    done = run("me.png", "--watermark", "none")
    assert done.returncode == 0, done.stderr
    result, own = media.read_image(tmp_path / "result.png"), astronaut()
    assert result.shape == own.shape and (result[300:] == own[300:]).all() and (result[:, 400:] == own[:, 400:]).all()
    assert np.abs(result[80:180, 180:270].astype(float) - own[80:180, 180:270]).mean() > 2
    wall = run("wall.png")
    assert wall.returncode == 2 and "no face found in wall.png" in wall.stderr and wall.stderr.count("\n") == 1
    for which, said in (
        ("2", "--face 2: one face is found in me.png"),
        ("0", "'0' is not largest, left, right or a number"),
    ):
        refused = run("me.png", "--face", which)
        assert refused.returncode == 2 and said in refused.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--no-crop --track", "--track needs a configuration with framing_params"),
        ("--no-crop --paste_back", "--paste_back needs a configuration"),
        ("--config config/sid-64.yaml --checkpoint x.pth --result_size 300", "--result_size needs a configuration"),
        ("--detector face-alignment", "--detector is of configurations without framing_params"),
        ("--no-paste_back --result_size 300", "leave out --no-paste_back"),
        ("--faceless skip --pose_video 'Inputs/driving videos/driver-1.mp4'", "no time can be left out"),
        ("--motion mesh --adapt_scale", "--motion mesh needs no model"),
        ("--motion mesh --precision fp32", "--motion mesh needs no model"),
        ("--cpu --precision fp16", "--precision fp16 is of GPUs"),
        ("--motion mesh --config config/sid-64.yaml", "--motion mesh needs no model"),
    ],
)
def test_options_that_contradict_each_other_are_one_line(options, said):
    refused = scripts.run(ROOT / "Inference.py", "--cpu", *shlex.split(options))
    assert refused.returncode == 2 and said in refused.stderr and refused.stderr.count("\n") == 1
