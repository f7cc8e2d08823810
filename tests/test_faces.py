"""Face detection, crop boxes and tracks, on a real face: scikit-image's astronaut."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from skimage import data

from modules import faces, media
from modules.errors import UserError
from modules.faces import tracks
from modules.faces.boxes import Box, Detection

FACE = Box(172, 66, 274, 168)  # of the astronaut, by hand: brows to chin


@pytest.fixture(scope="module")
def detector() -> faces.Detector:
    return faces.load_detector("auto", cpu=True)


def canvas(*places: tuple[int, int], size: tuple[int, int] = (640, 360)) -> np.ndarray:
    """A grey picture with the astronaut's head (a face of 102 pixels at (62, 66) of 220) pasted at each (x, y)."""
    picture = Image.new("RGB", size, (96, 104, 112))
    head = Image.fromarray(data.astronaut()[:220, 110:330])
    for place in places:
        picture.paste(head, place)
    return np.asarray(picture)


def face_at(x: int, y: int) -> Box:
    """Where the face is when the head was pasted at (x, y)."""
    return Box(x + 62, y + 66, x + 164, y + 168)


def write_video(path: Path, images: list[np.ndarray], rate: int = 25) -> Path:
    """An H.264 file of ``images``."""
    height, width = images[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def holds(crop: Box, face: Box) -> bool:
    return crop.left <= face.left and crop.top <= face.top and crop.right >= face.right and crop.bottom >= face.bottom


class TestDetection:
    # 0.6: a box is placed to about a tenth of its size, by which two equal squares overlap by 0.7 or more.

    def test_finds_the_face(self, detector: faces.Detector) -> None:
        assert faces.iou(faces.find_face(data.astronaut(), detector), FACE) > 0.6

    @pytest.mark.parametrize("side", [128, 200, 1000])
    def test_finds_it_at_any_size(self, detector: faces.Detector, side: int) -> None:
        image = np.asarray(Image.fromarray(data.astronaut()).resize((side, side)))
        expected = Box(*np.array(FACE) * side / 512)
        assert faces.iou(faces.find_face(image, detector), expected) > 0.6

    @pytest.mark.parametrize("angle", [-90, -45, 25, 35, 90])
    def test_finds_a_leaning_head(self, detector: faces.Detector, angle: int) -> None:
        image = np.asarray(Image.fromarray(data.astronaut()).rotate(angle, Image.Resampling.BILINEAR))
        turn = np.exp(1j * np.deg2rad(-angle))  # y points down: counterclockwise is negative
        centre = complex(*FACE.centre) - 256 * (1 + 1j)
        expected = centre * turn + 256 * (1 + 1j)
        found = faces.find_face(image, detector).centre
        assert abs(complex(*found) - expected) < 0.3 * FACE.width  # the box of a leaning face is less exact

    def test_two_faces_are_two_detections(self, detector: faces.Detector) -> None:
        found = [d.box for d in detector(canvas((40, 60), (380, 80))) if d.score >= tracks.BEGINS]
        assert len(found) == 2
        assert all(max(faces.iou(box, face) for box in found) > 0.6 for face in (face_at(40, 60), face_at(380, 80)))

    def test_the_larger_face_is_the_main_one(self, detector: faces.Detector) -> None:
        image = canvas((380, 80)).copy()
        small = canvas((0, 0), size=(220, 220))
        image[100:210, 40:150] = np.asarray(Image.fromarray(small).resize((110, 110)))
        assert faces.iou(faces.find_face(image, detector), face_at(380, 80)) > 0.6

    @pytest.mark.parametrize("name", ["coffee", "chelsea", "grass", "clock"])
    def test_finds_none_where_there_is_none(self, detector: faces.Detector, name: str) -> None:
        image = getattr(data, name)()
        image = image if image.ndim == 3 else np.stack([image] * 3, axis=-1)
        assert faces.find_face(image, detector) is None
        with pytest.raises(UserError, match="no face found in cup.png"):
            faces.crop_image(image, detector, "cup.png")

    @pytest.mark.parametrize("shape", [(1, 1), (8, 300), (300, 8), (21, 21)])
    def test_tiny_and_narrow_images(self, detector: faces.Detector, shape: tuple[int, int]) -> None:
        assert faces.find_face(np.full((*shape, 3), 128, np.uint8), detector) is None

    def test_min_size(self, detector: faces.Detector) -> None:
        image = canvas((100, 100), size=(2000, 1200))  # a face of 102 pixels, less than 2000 / 12
        assert not [d for d in detector(image) if d.score >= tracks.BEGINS]
        assert [d for d in detector(image, min_size=80) if d.score >= tracks.BEGINS]

    def test_unknown_detector(self) -> None:
        with pytest.raises(UserError, match="haar.*auto, retinaface, face-alignment"):
            faces.load_detector("haar")

    def test_broken_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        weights = tmp_path / "hub" / "checkpoints" / "s3fd-619a316812.pth"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"broken")
        faces.load_detector.cache_clear()
        with pytest.raises(
            UserError, match=r"s3fd-619a316812\.pth is not what it should be.*use the detector retinaface"
        ):
            faces.load_detector("face-alignment", cpu=True)

    def test_importing_is_cheap(self) -> None:
        code = (
            "import sys, modules.faces; print([m for m in ('torch', 'skimage', 'face_alignment') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


class TestCrops:
    def test_room_on_each_side(self) -> None:
        assert faces.crop_box(Box(400, 300, 500, 400), (1000, 800), increase=0.5) == (350, 250, 550, 450)

    def test_moved_inside_the_image(self) -> None:
        assert faces.crop_box(Box(0, 300, 100, 400), (1000, 800), increase=0.5) == (0, 250, 200, 450)
        assert faces.crop_box(Box(900, 700, 1000, 800), (1000, 800), increase=0.5) == (800, 600, 1000, 800)

    def test_gives_up_room_before_it_sticks_out(self) -> None:
        assert faces.crop_box(Box(400, 20, 500, 120), (1000, 150), increase=0.5) == (374, 0, 524, 150)

    def test_sticks_out_where_it_does_not_fit(self) -> None:
        box = faces.crop_box(Box(400, 5, 500, 105), (1000, 120), increase=0.5)
        assert (box.width, box.height) == (140, 140)
        assert box.top <= 0 and box.bottom >= 120

    def test_margin_is_of_the_face_not_of_its_way(self) -> None:
        box = faces.crop_box(Box(300, 300, 500, 400), (1000, 800), increase=0.5, face=100)
        assert box == (250, 200, 550, 500)

    def test_cut_repeats_the_edges(self) -> None:
        image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
        out = faces.cut(image, Box(-2, 1, 8, 11))
        assert out.shape == (10, 10, 3)
        assert np.array_equal(out[0, 2:8], image[1])
        assert np.array_equal(out[0, 0], image[1, 0]) and np.array_equal(out[9, 9], image[3, 5])

    @pytest.mark.parametrize("corner", [(-9, -4), (3, 2), (12, 9), (-30, 5), (4, 40), (60, -60)])
    def test_cut_is_the_same_wherever_the_box_is(self, corner: tuple[int, int]) -> None:
        """Also all outside: each pixel is the nearest one of the image."""
        image = np.random.default_rng(0).integers(0, 256, (13, 17, 3), np.uint8)
        left, top = corner
        rows, columns = (np.arange(a, a + 11).clip(0, n - 1) for a, n in ((top, 13), (left, 17)))
        part = faces.cut(image, Box(left, top, left + 11, top + 11))
        np.testing.assert_array_equal(part, image[rows[:, None], columns])

    def test_cut_to_a_size(self) -> None:
        assert faces.cut(data.astronaut(), Box(100, 0, 400, 300), 64).shape == (64, 64, 3)
        assert faces.cut(data.astronaut(), Box(100, 0, 400, 300), (64, 32)).shape == (32, 64, 3)

    @pytest.mark.parametrize("shape", [(64, 128), (128, 64), (64, 64), (3, 2)])
    def test_a_crop_of_another_shape_keeps_the_whole_square(
        self, detector: faces.Detector, shape: tuple[int, int]
    ) -> None:
        image = data.astronaut()
        square = faces.crop_image(image, detector)
        crop = faces.crop_image(image, detector, shape=shape)
        (rows, columns), side = crop.shape[:2], len(square)
        assert rows / columns == pytest.approx(shape[0] / shape[1], rel=0.02)
        top, left = (rows - side) // 2, (columns - side) // 2
        assert np.array_equal(crop[top : top + side, left : left + side], square)

    def test_crop_of_an_image_shows_the_whole_face(self, detector: faces.Detector) -> None:
        crop = faces.crop_image(canvas((300, 100)), detector)
        assert crop.shape[0] == crop.shape[1] and crop.dtype == np.uint8
        found = faces.find_face(crop, detector)
        assert 0.45 < found.width / crop.shape[0] < 0.65  # 1 / (1 + 2 * 0.4) = 0.56
        assert holds(Box(0, 0, *crop.shape[:2]), found)


class TestVideoBox:
    def test_covers_the_way_of_the_face(self, detector: faces.Detector, tmp_path: Path) -> None:
        path = write_video(tmp_path / "moving.mp4", [canvas((100 + 4 * i, 60)) for i in range(30)])
        box = faces.video_box(path, detector)
        assert box.width == box.height and holds(box, face_at(100, 60)) and holds(box, face_at(216, 60))
        assert box.width < 116 + 2.2 * 102  # its way and the room around a face

    def test_keeps_to_one_face_of_two(self, detector: faces.Detector, tmp_path: Path) -> None:
        images = [canvas((10, 100), (230, 60)) if i < 10 else canvas((230, 60)) for i in range(20)]
        box = faces.video_box(write_video(tmp_path / "two.mp4", images), detector)
        assert holds(box, face_at(230, 60)) and box.width < 2.2 * 102

    def test_no_face(self, detector: faces.Detector, tmp_path: Path) -> None:
        path = write_video(tmp_path / "empty.mp4", [canvas()] * 10)
        with pytest.raises(UserError, match=r"no face found in .*empty\.mp4"):
            faces.video_box(path, detector)


class Scripted:
    """A detector that says what it was told to: the logic of tracks, apart from any detector's."""

    def __init__(self, boxes: list[list[Box]], stride: int = 1) -> None:
        self.stride = stride
        self._boxes = boxes

    def __call__(self, image: np.ndarray, min_size: float | None = None) -> list[Detection]:
        return [Detection(box, 1.0) for box in self._boxes[int(image[0, 0, 0])]]


def numbered(count: int, rate: int = 25) -> list[media.Frame]:
    """Frames that carry their number as their grey level: 1 apart, so none is a change of shot."""
    return [media.Frame(np.full((90, 160, 3), i, np.uint8), i / rate) for i in range(count)]


class TestTracks:
    def spans(self, boxes: list[list[Box]], stride: int = 1, **options: float) -> list[tuple[int, int]]:
        found = tracks.follow_faces(numbered(len(boxes)), Scripted(boxes, stride), **options)
        return sorted((track.start, track.end) for track in found)

    def test_one_face(self) -> None:
        assert self.spans([[Box(10, 10, 50, 50)]] * 40) == [(0, 39)]

    def test_two_faces(self) -> None:
        assert self.spans([[Box(10, 10, 50, 50), Box(90, 10, 130, 50)]] * 40) == [(0, 39), (0, 39)]

    @pytest.mark.parametrize("stride", [1, 5])
    def test_a_blink_does_not_end_a_track(self, stride: int) -> None:
        boxes = [[Box(10, 10, 50, 50)]] * 20 + [[]] * 15 + [[Box(10, 10, 50, 50)]] * 25
        assert self.spans(boxes, stride) == [(0, 59)]

    def test_leaving_does(self) -> None:
        boxes = [[Box(10, 10, 50, 50)]] * 20 + [[]] * 40 + [[Box(10, 10, 50, 50)]] * 25
        assert self.spans(boxes) == [(0, 19), (60, 84)]

    def test_drifting_ends_a_track_and_begins_another(self) -> None:
        boxes = [[Box(10 + i, 10, 50 + i, 50)] for i in range(60)]
        # A shift of s leaves an overlap of (40 - s) / (40 + s): 0.25 at s = 24.
        assert self.spans(boxes) == [(0, 24), (25, 49), (50, 59)]
        assert self.spans(boxes, iou_with_initial=0.1) == [(0, 32), (33, 59)]

    def test_a_change_of_shot_ends_it(self) -> None:
        boxes = [[Box(10, 10, 50, 50)]] * 200
        frames = numbered(20) + [media.Frame(np.full((90, 160, 3), 120 + i, np.uint8), 0.8 + i / 25) for i in range(20)]
        found = list(tracks.follow_faces(frames, Scripted(boxes, stride=7)))
        assert [(track.start, track.end) for track in found] == [(0, 19), (20, 39)]

    def test_one_bad_box_does_not_widen_the_crop(self) -> None:
        boxes = [[Box(50, 20, 90, 60)]] * 10 + [[Box(40, 10, 100, 70)]] + [[Box(50, 20, 90, 60)]] * 10
        (track,) = tracks.follow_faces(numbered(21), Scripted(boxes))
        assert track.place == (50, 20, 90, 60)

    def test_crop_stays_inside_the_picture(self) -> None:
        (track,) = tracks.follow_faces(numbered(5), Scripted([[Box(60, 5, 140, 85)]] * 5))
        box = track.crop((161, 91))
        assert holds(Box(0, 0, 161, 91), box)
        assert box.width == box.height == 90 and holds(box, Box(60, 5, 140, 85))

    def test_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        path = write_video(tmp_path / "my clip.mp4", [frame.image for frame in numbered(5)], rate=30)
        (track,) = tracks.follow_faces(media.read_video(path), Scripted([[]] + [[Box(60, 20, 100, 60)]] * 4))
        info = media.probe_video(path)
        command = tracks.ffmpeg_command("my clip.mp4", track, info, track.crop((160, 90)), (256, 256), "crop-0.mp4")
        assert command == (
            "ffmpeg -i 'my clip.mp4' -ss 0.033 -t 0.133 "
            '-filter:v "crop=72:72:44:4, scale=256:256" -pix_fmt yuv420p crop-0.mp4'
        )
