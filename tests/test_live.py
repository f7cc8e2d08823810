"""Live: a photograph that follows a video played in real time, or what a browser's camera sees."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import scripts
import torch
from app_server import DRIVER, PERSON, free_port

from modules import media
from modules.bundled import BUNDLED, bundled
from modules.config.files import load_animation_config
from modules.devices import best_device
from modules.faces.close_crop import Crop
from modules.faces.framer import Framer, Pursuit
from modules.live.film import Film
from modules.live.performance import Performance
from modules.sid import inference
from modules.sid.framing import Framing
from modules.sid.motion_options import MotionOptions
from modules.world.control.chain import Chain
from modules.world.control.options import Control

FRAMES = [frame.image for frame, _ in zip(media.read_video(DRIVER), range(50), strict=False)]
WIDE_OPEN = 40  # frame with another expression than the first
PATIENCE = 120  # seconds, for machines with much else to do


@pytest.fixture(scope="module")
def performance() -> Callable[[], Performance]:
    """Makes one of the face's square, with models that are loaded once."""
    config = load_animation_config(bundled(BUNDLED["config"]))
    moves = inference.prepare(config, bundled(BUNDLED["checkpoint"]), best_device(cpu=True))
    framing = Framing((256, 256), params=config.framing_params, cpu=True, paste_back=False)
    options = MotionOptions(relative=True, control=Control(smooth=True))
    return lambda: Performance(moves(options), framing, str(PERSON))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Two seconds of the bundled driver."""
    path = tmp_path_factory.mktemp("clip") / "two seconds.mp4"
    with media.VideoWriter(path, *FRAMES[0].shape[1::-1], 25) as writer:
        for index, frame in enumerate(FRAMES):
            writer.write(frame, index / 25)
    return path


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean over pixels, of 255."""
    return np.abs(one.astype(int) - other).mean()


def test_the_neutral_frame_leaves_the_photograph_and_another_moves_it(performance):
    live = performance()
    own = live.shown
    assert live.draw(FRAMES[0], 0.0)
    # the model's own picture of the photograph, both times: exact but for rounding in bytes
    assert difference(live.shown, own) < 0.5
    for index in range(WIDE_OPEN, WIDE_OPEN + 8):  # the filter has to settle
        live.draw(FRAMES[index], index / 25)
    assert difference(live.shown, own) > 2


def test_calibrating_takes_the_present_face_as_neutral(performance):
    live = performance()
    own = live.shown
    live.draw(FRAMES[0], 0.0)
    live.draw(FRAMES[WIDE_OPEN], 1.0)
    moved = difference(live.shown, own)
    live.calibrate()
    live.draw(FRAMES[WIDE_OPEN], 1.04)
    assert difference(live.shown, own) < 0.5 < moved


def test_a_face_is_followed_through_the_frame_lost_and_found_again():
    pursuit, wall = Pursuit(Framer(1.9, 0.07, cpu=True)), np.full((300, 700, 3), 90, np.uint8)

    def found(x: int, time: float) -> Crop:
        frame = wall.copy()
        frame[20:276, x : x + 256] = FRAMES[0]
        return pursuit.find(frame, time)

    first = found(60, 0.0)
    # by a little, by more, by so much that it is sought anew; seconds apart, so that the crop is where the face is
    for number, x in enumerate((70, 90, 160, 320, 20), start=1):
        crop = found(x, 9.0 * number)
        off = np.array([crop.x - first.x - (x - 60), crop.y - first.y, crop.side - first.side]) / first.side
        assert np.abs(off).max() < 0.02  # what landmarks of one picture differ by in another square
    assert pursuit.find(wall, 60.0) is None
    assert found(400, 70.0).x - first.x == pytest.approx(340, abs=0.02 * first.side)


def test_a_frame_without_a_face_changes_nothing(performance):
    live = performance()
    live.draw(FRAMES[WIDE_OPEN], 0.0)
    before = live.shown
    assert not live.draw(np.full((300, 700, 3), 90, np.uint8), 1.0)
    assert live.shown is before


@pytest.mark.parametrize(("rate", "followed"), [(5.0, 0.653), (50.0, 0.159)])
def test_smoothing_goes_by_the_frames_that_are_drawn(rate, followed):
    chain = Chain(Control(smooth=True), torch.ones(1), torch.zeros(1))
    chain.smoothed([torch.zeros(1, 1)])  # at 25 frames a second
    chain.pace(rate)
    (found,) = chain.smoothed([torch.full((1, 1), 1e-6)])
    # so small a step does not quicken the filter: 1 / (1 + rate / (2 pi 1.5 Hz)) of it
    assert float(found) / 1e-6 == pytest.approx(followed, abs=1e-3)


def test_a_film_drops_what_nobody_asks_for_in_time(clip):
    film, late = Film(clip), []
    for frame in film:
        late.append(time.monotonic() - frame.time)
        time.sleep(0.15)
    assert film.passed == len(FRAMES) and 2 <= len(late) <= 15  # 2 s by 0.15 s, or more on a busy machine
    # in a queue the last one would be 50 times 0.11 s late; what is late here is so by the machine's doing
    assert min(late) >= 0 and late[-1] < 1


def start(*options: str | Path) -> tuple[Any, int]:
    """A running program and its port."""
    port = free_port()
    script = scripts.start("-m", "modules.live", "--cpu", "--source", PERSON, "--port", str(port), *options)
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket() as door:
            if door.connect_ex(("127.0.0.1", port)) == 0:
                return script, port
        assert script.poll() is None, script.communicate()
        assert time.monotonic() < deadline, "the page does not come"
        time.sleep(0.2)


class Visitor:
    """Asks what the page asks, without a browser."""

    def __init__(self, port: int):
        self.connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.name = re.search(r'PAGE = "([^"]+)"', self.ask("GET", "/")[1].decode()).group(1)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Any = None) -> tuple[int, bytes, Any]:
        self.connection.request(method, path, body, headers or {})
        answer = self.connection.getresponse()
        return answer.status, answer.read(), answer.headers

    def post(self, path: str, body: bytes | None = None) -> tuple[int, bytes, Any]:
        return self.ask("POST", path, body, {"X-Page": self.name, "X-Round-Trip": "0.05"})


def test_frames_of_a_video_come_to_its_end_and_figures_are_told(clip):
    script, port = start("--video", clip, "--smooth")
    visitor, pictures = Visitor(port), []
    while (answer := visitor.post("/frame"))[0] == 200:
        assert answer[2]["X-Face"] == "yes" and b"compositeWithTrainedAlgorithmicMedia" in answer[1]
        pictures.append(media.from_jpeg(answer[1], "frame"))
    assert answer[0] == 204
    said, complaint = script.communicate(timeout=PATIENCE)
    assert script.returncode == 0 and complaint == ""
    told = re.search(r"drew (\d+) of 50 frames, [\d.]+ a second; latency \d+ ms \(median\), \d+ ms \(99th", said)
    assert int(told.group(1)) == len(pictures) >= 2
    assert "in the browser, from frame to picture, 50 ms (median), 50 ms (99th percentile)" in said
    assert pictures[0].shape == media.read_image(PERSON).shape
    assert difference(pictures[0], pictures[len(pictures) // 2]) > 0.5


def test_who_may_not_ask_gets_nothing_and_ctrl_c_ends_it(tmp_path):
    script, port = start("--no-paste_back")
    old, new = Visitor(port), Visitor(port)
    face = media.to_jpeg(FRAMES[0])
    assert old.post("/frame", face)[:2] == (409, b"This is open in another window.")
    assert new.ask("POST", "/frame", face)[0] == 409
    assert new.ask("GET", "/", headers={"Host": f"evil.example:{port}"})[0] == 400
    assert new.ask("GET", "/", headers={"Sec-Fetch-Site": "cross-site"})[0] == 403  # it would end the open page
    assert new.ask("GET", "/../../etc/passwd")[0] == 404 and new.post("/etc/passwd")[0] == 404
    assert new.post("/frame", b"no picture")[:2][0] == 400
    assert new.post("/frame", face[:500])[1].endswith(b"is the file complete?")
    status, wall, headers = new.post("/frame", media.to_jpeg(np.full((80, 80, 3), 90, np.uint8)))
    assert status == 200 and headers["X-Face"] == "no" and media.from_jpeg(wall, "wall").shape == (256, 256, 3)
    assert new.post("/frame", face)[2]["X-Face"] == "yes" and new.post("/neutral")[0] == 204
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as door:  # and goes away in the middle
        door.sendall(f"POST /frame HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 999\r\n\r\n".encode())
    for length in ("99999999", "-1", "many", ""):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as door:
            door.sendall(f"POST /frame HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode())
            assert door.recv(999).startswith(b"HTTP/1.1 413")
    script.send_signal(signal.SIGINT)
    said, complaint = script.communicate(timeout=PATIENCE)
    assert script.returncode == 0 and complaint == "" and "drew 1 frames" in said  # one shows no face


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--source", "WALL"), "error: no face found in WALL"),
        (("--video", "nowhere.mp4"), "error: nowhere.mp4: no such file"),
        (("--config", "config/vox-256.yaml"), "error: --config and --checkpoint belong together"),
        (("--config", "config/vox-256.yaml", "--checkpoint", "k.pth"), "error: config/vox-256.yaml: has no framing"),
        (("--port", "TAKEN"), "error: --port TAKEN: cannot be used"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(tmp_path, options, said):
    wall = tmp_path / "wall.png"
    media.write_image(wall, np.full((80, 80, 3), 90, np.uint8))
    with socket.create_server(("127.0.0.1", 0)) as other:
        meant = {"WALL": str(wall), "TAKEN": str(other.getsockname()[1])}
        ran = scripts.run("-m", "modules.live", "--cpu", "--source", PERSON, *(meant.get(o, o) for o in options))
    for name, value in meant.items():
        said = said.replace(name, value)
    assert ran.returncode == 2 and ran.stderr.startswith(said) and ran.stderr.count("\n") == 1


def test_a_video_without_a_face_is_told_at_its_end(tmp_path):
    with media.VideoWriter(tmp_path / "wall.mp4", 80, 80, 25) as writer:
        for index in range(5):
            writer.write(np.full((80, 80, 3), 90, np.uint8), index / 25)
    script, port = start("--video", tmp_path / "wall.mp4")
    visitor = Visitor(port)
    while (answer := visitor.post("/frame"))[0] == 200:
        assert answer[2]["X-Face"] == "no"
    assert "error: no face found in the driving video" in script.communicate(timeout=PATIENCE)[1]
    assert script.returncode == 2


@pytest.fixture(scope="module")
def camera(tmp_path_factory) -> Path:
    """What a camera sees: the bundled driver."""
    path = tmp_path_factory.mktemp("camera") / "camera.y4m"
    height, width = FRAMES[0].shape[:2]
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n".encode())
        for frame in FRAMES:
            planes = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
            file.write(b"FRAME\n" + planes.to_ndarray().tobytes())
    return path


def test_a_browsers_camera_is_followed_and_closing_the_page_ends_it(camera):
    pytest.importorskip("playwright", reason="a browser is driven by Playwright: pip install -r requirements-dev.txt")
    import browsers
    from playwright.sync_api import expect

    if browsers.FOUND is None:
        pytest.skip(browsers.MISSING)
    script, port = start("--no-paste_back")
    with browsers.chromium(camera) as chromium:
        page = chromium.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://127.0.0.1:{port}/")
        quick = re.compile(r"\d+ pictures a second, \d+ ms from frame to picture")
        expect(page.locator("#state")).to_have_text(quick, timeout=1000 * PATIENCE)
        assert page.evaluate("[document.querySelector('canvas').width, camera.videoWidth]") == [256, 256]

        def canvas() -> str:
            return page.evaluate("document.querySelector('canvas').toDataURL()")

        before, deadline = canvas(), time.monotonic() + PATIENCE
        while canvas() == before:
            assert time.monotonic() < deadline, "the picture does not change"
            page.wait_for_timeout(100)
        with page.expect_response("**/neutral") as calibrated:
            page.keyboard.press("n")
        assert calibrated.value.status == 204
        page.wait_for_timeout(500)
        expect(page.locator("#state")).to_have_text(quick)
        assert all(url.startswith((f"http://127.0.0.1:{port}/", "data:")) for url in asked)
        page.close()
    said, complaint = script.communicate(timeout=PATIENCE)
    assert script.returncode == 0 and complaint == "" and "in the browser, from frame to picture" in said


def test_a_camera_that_is_not_there_is_told_on_the_page(camera):
    pytest.importorskip("playwright", reason="a browser is driven by Playwright: pip install -r requirements-dev.txt")
    import browsers
    from playwright.sync_api import expect

    if browsers.FOUND is None:
        pytest.skip(browsers.MISSING)
    script, port = start("--camera", "7")
    with browsers.chromium(camera) as chromium:
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator("#state")).to_have_text("There is no camera 7; the browser finds 1.", timeout=30_000)
    script.terminate()
    script.communicate(timeout=PATIENCE)
    assert script.returncode == 143
