"""app.py without a browser: what is given, what comes back, and what nobody gets."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scripts

pytest.importorskip("gradio", reason="the page needs gradio: pip install -r requirements-app.txt")

import app_server
import httpx
from app_client import LOOK, animate, path_of
from app_server import DRIVER, PERSON, SMILE, SURPRISE
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from modules import media
from modules.app.chooser import OWN, meant
from modules.app.files import TemporaryFiles
from modules.app.jobs import Failed, Job, Jobs, Stopped
from modules.app.studio import Look, Studio
from modules.errors import UserError
from modules.sid.motion_options import MotionOptions

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with app_server.running(tmp_path_factory.mktemp("app")) as (url, folder, _):
        yield url, folder


@pytest.fixture(scope="module")
def client(page, tmp_path_factory):
    return Client(page[0], download_files=str(tmp_path_factory.mktemp("got")), verbose=False)


@pytest.fixture(scope="module")
def group(tmp_path_factory) -> Path:
    return app_server.group(tmp_path_factory.mktemp("group"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Six frames of the bundled driver."""
    path = tmp_path_factory.mktemp("clip") / "six frames.mp4"
    frames = [frame.image for frame, _ in zip(media.read_video(DRIVER), range(6), strict=False)]
    with media.VideoWriter(path, *frames[0].shape[1::-1], 25) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame, number / 25)
    return path


def test_a_photograph_and_a_video_give_a_video(client, clip):
    video, _, download, state = animate(client, PERSON, clip, "Video")
    assert media.probe_video(path_of(video)).times == pytest.approx([n / 25 for n in range(6)], abs=1e-3)
    assert path_of(download).name == "animated.mp4" and state.startswith("Done in")


def test_a_picture_gives_what_the_command_line_gives(client, tmp_path):
    _, picture, _, _ = animate(client, PERSON, SMILE)
    told = scripts.run(
        *("Inference.py", "--cpu", "--source_image", PERSON, "--driving_video", SMILE),
        *("--result_image", tmp_path / "by command.png"),
    )
    assert told.returncode == 0, told.stderr
    assert np.array_equal(media.read_image(path_of(picture)), media.read_image(tmp_path / "by command.png"))


def test_a_word_gives_a_picture(client):
    _, picture, _, _ = client.predict(
        handle_file(str(PERSON)), "amazement", 1, "Picture", 3, *LOOK, api_name="/express"
    )
    shown, before = media.read_image(path_of(picture)), media.read_image(PERSON)
    assert shown.shape == before.shape and not np.array_equal(shown, before)


def test_a_prompt_gives_portraits_and_says_which_words_are_unknown(client):
    gallery, state = client.predict("a person with a zeppelin", None, "joy", None, 2, 3, 0, False, api_name="/portrait")
    assert len(gallery) == 2 and "zeppelin" in state


def test_a_face_in_a_picture_becomes_what_the_command_line_makes_of_it(client, tmp_path):
    target, who = (PERSON.with_name(f"person-{number}.png") for number in (1, 4))
    photos = [handle_file(str(path)) for path in (target, who)]
    gallery, state = client.predict(*photos, "joy", None, "largest", 1, 2, 0, False, api_name="/swap")
    told = scripts.run(
        *("Inference.py", "--cpu", "--target_image", target, "--source_image", who, "--expression", "joy"),
        *("--result_image", tmp_path / "by command.png"),
    )
    assert told.returncode == 0, told.stderr
    (shown,) = (media.read_image(item["image"]) for item in gallery)
    assert np.array_equal(shown, media.read_image(tmp_path / "by command.png")) and state.startswith("Done in")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ((None, PERSON, "", None), "Picture to change: nothing is there yet"),
        ((PERSON, None, "", None), "nothing is to be changed yet"),
        ((PERSON, None, "joy", SMILE), "the expression: there are a picture and a word"),
    ],
)
def test_what_no_face_can_be_made_of_is_told_in_one_line(client, fields, said):
    given = [handle_file(str(field)) if isinstance(field, Path) else field for field in fields]
    with pytest.raises(AppError) as told:
        client.predict(*given, "largest", 1, 2, 0, False, api_name="/swap")
    assert str(told.value).startswith(said) and "\n" not in str(told.value)


def test_errors_are_those_of_the_command_line_without_the_servers_folders(client, page, tmp_path, clip):
    media.write_image(tmp_path / "wall.png", np.full((80, 80, 3), 128, np.uint8))
    cut_off = tmp_path / "cut off.mp4"
    cut_off.write_bytes(clip.read_bytes()[:-400])
    for photo, driver, kind in ((tmp_path / "wall.png", SMILE, "Picture"), (PERSON, cut_off, "Video")):
        with pytest.raises(AppError) as told:
            animate(client, photo, driver, kind)
        line = str(told.value)
        assert (photo if kind == "Picture" else driver).name in line and "\n" not in line
        assert str(page[1]) not in line and "/tmp" not in line


@pytest.mark.parametrize(
    ("driver", "own", "said"),
    [
        (None, SMILE, "Driving video: nothing is there yet"),
        (DRIVER, ROOT / "README.md", "Driver of face 2: README.md is no picture or video"),
        (DRIVER, SMILE, "--relative: a driving picture has no first frame"),
    ],
    ids=["shared by the others", "of another kind", "not relative"],
)
def test_a_driver_that_cannot_be_is_told_in_one_line(client, group, driver, own, said):
    with pytest.raises(AppError) as told:
        animate(client, group, driver, "Video", "all", (None, own), relative=True)
    assert str(told.value).startswith(said) and "\n" not in str(told.value)


def test_more_faces_than_fields_share_a_driver(client, tmp_path):
    """Nine, of which the first has a driver of its own: the last one moves as it does alone."""
    person = media.read_image(PERSON)
    crowd = tmp_path / "crowd.png"
    media.write_image(crowd, np.concatenate([person] * (OWN + 1), axis=1))
    _, picture, _, _ = animate(client, crowd, SMILE, face="all", own=(SURPRISE,))
    faces = np.split(media.read_image(path_of(picture)).astype(int), OWN + 1, axis=1)
    # Faces alike are moved alike, but for the mark, and for where they fall among pixels.
    assert np.abs(faces[-1] - faces[1]).mean() < 2 < 4 < np.abs(faces[0] - faces[1])[80:200, 80:180].mean()


def test_a_driver_of_a_face_that_is_not_there_is_refused(client):
    with pytest.raises(AppError, match="Driver of face 3: the photograph has fewer faces \\(1\\); take it out"):
        animate(client, PERSON, SMILE, face="all", own=(None, None, SURPRISE))


def test_a_choice_of_face_is_of_the_photograph_it_was_made_for():
    assert meant("group.png", "group.png", "2") == meant("group.png", None, "2") == "2"
    assert meant("another.png", "group.png", "2") == "largest"


def test_other_sites_cannot_use_the_page(page):
    url, _ = page
    assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 400
    answer = httpx.get(f"{url}/gradio_api/info", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_is_on_this_computer_alone_and_asks_no_other(page):
    url, _ = page
    port = urllib.parse.urlsplit(url).port
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.2:{port}")  # another address of this computer
    config = json.loads(httpx.get(f"{url}/config").text)
    assert config["analytics_enabled"] is False
    assert "share" not in [name for part in config["components"] for name in part["props"].get("buttons") or ()]
    assert "googleapis" not in httpx.get(url).text + httpx.get(f"{url}/theme.css").text


def test_a_job_is_cancelled_at_its_next_frame_and_leaves_nothing(tmp_path):
    jobs, folder = Jobs(tmp_path), tmp_path / "result"
    folder.mkdir()

    def show(share: float, what: str) -> None:
        if what.startswith("frame 2"):
            assert jobs.cancel("me")

    def work(job: Job) -> Path:
        return Studio(cpu=True).animate(str(PERSON), str(DRIVER), folder, MotionOptions(), Look())

    with pytest.raises(Stopped, match="Cancelled"):
        jobs.run("me", work, show)
    assert list(folder.iterdir()) == [] and not jobs.cancel("me")


def test_who_waits_for_a_turn_can_be_cancelled_too(tmp_path):
    jobs, begun, go_on = Jobs(tmp_path), threading.Event(), threading.Event()
    worked = []

    def first(job: Job) -> None:
        begun.set()
        go_on.wait(10)

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(jobs.run, "one", first, lambda *_: None)
        assert begun.wait(10)
        two = pool.submit(jobs.run, "two", worked.append, lambda *_: None)
        deadline = time.monotonic() + 10
        while not jobs.cancel("two"):
            assert time.monotonic() < deadline
        go_on.set()
        one.result(10)
        with pytest.raises(Stopped, match="Cancelled"):
            two.result(10)
    assert worked == []


def test_a_fault_of_ours_is_told_in_one_line_and_on_the_terminal(tmp_path, capsys):
    def work(job: Job) -> None:
        raise ZeroDivisionError("secret /etc/place")

    def wrong(job: Job) -> None:
        raise UserError(f"{tmp_path}/0123abc/me.png: has no face")

    with pytest.raises(Failed) as told:
        Jobs(tmp_path).run("me", work, lambda *_: None)
    assert "secret" not in str(told.value) and "ZeroDivisionError" in capsys.readouterr().err
    with pytest.raises(Failed, match="^me.png: has no face$"):
        Jobs(tmp_path).run("me", wrong, lambda *_: None)


def test_old_files_go_and_examples_stay(tmp_path):
    files = TemporaryFiles(tmp_path)
    example = files.new_folder()
    files.keep()
    old, new = files.new_folder(), files.new_folder()
    for folder in (example, old, new):
        (folder / "me.png").write_bytes(b"1")
    for path in (example / "me.png", example, old / "me.png", old):
        os.utime(path, (0, 0))
    files.sweep()
    assert set(tmp_path.iterdir()) == {example, new}


def test_the_temporary_files_are_gone_when_the_process_ends(tmp_path):
    with app_server.running(tmp_path) as (url, folder, _):  # which ends it by SIGTERM
        httpx.post(f"{url}/gradio_api/upload", files={"files": ("me.png", PERSON.read_bytes())})
        assert any(folder.rglob("me.png"))
    assert list(tmp_path.glob("deepexpr-*")) == []


def test_what_is_missing_is_told_in_one_line(tmp_path):
    (tmp_path / "gradio.py").write_text("raise ImportError")
    paths = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    told = scripts.run("app.py", "--port", str(app_server.free_port()), env=paths, fresh=True)
    assert told.returncode == 2 and "pip install -r requirements-app.txt" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_port_that_is_taken_is_told_in_one_line(page):
    port = urllib.parse.urlsplit(page[0]).port
    told = scripts.run("app.py", "--port", str(port))
    assert told.returncode == 2 and f"--port {port}: cannot be used" in told.stderr
