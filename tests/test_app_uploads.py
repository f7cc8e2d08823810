"""What may be given to app.py, and what nobody gets: traversal, wrong kinds, too much, and all at once."""

from __future__ import annotations

import io
import json
import socket
import struct
import urllib.parse
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

pytest.importorskip("gradio", reason="the page needs gradio: pip install -r requirements-app.txt")

import app_server
import httpx
from app_client import LOOK, animate, path_of
from app_server import DRIVER, PERSON, SMILE
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from modules import media
from modules.app.files import LARGEST
from modules.app.page import WAITING

ROOT = Path(__file__).parent.parent
SCRIPT = b"<script>alert(1)</script>"
MULTIPART = {"Content-Type": "multipart/form-data; boundary=B"}
HEAD = b'--B\r\nContent-Disposition: form-data; name="files"; filename="c.mp4"\r\nContent-Type: video/mp4\r\n\r\n'


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    with app_server.running(tmp_path_factory.mktemp("app")) as (url, folder, _):
        yield url, folder


@pytest.fixture(scope="module")
def client(page, tmp_path_factory) -> Client:
    return Client(page[0], download_files=str(tmp_path_factory.mktemp("got")), verbose=False)


def upload(url: str, name: str, content: bytes) -> httpx.Response:
    return httpx.post(f"{url}/gradio_api/upload", files={"files": (name, content)}, timeout=60)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../../../../etc/passwd",
        "..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        str(ROOT / "README.md"),
        str(ROOT / "app.py"),
        "README.md",
        "file:///etc/passwd",
        "{temporary}",
        "{temporary}/../../etc/passwd",
    ],
)
def test_no_file_of_the_computer_can_be_read(page, path):
    url, folder = page
    path = path.replace("{temporary}", str(folder))
    for route in ("/gradio_api/file=", "/gradio_api/file/", "/static/", "/assets/", "/"):
        answer = httpx.get(url + route + path)
        # every unknown page is answered by an error, or by the page itself
        assert "root:" not in answer.text and "DeepExpr is" not in answer.text and "def main" not in answer.text
        if route.startswith("/gradio_api"):
            assert answer.status_code in (403, 404)


@pytest.mark.parametrize("path", ["/etc/hostname", str(PERSON.parent / "../../LICENSE"), "http://127.0.0.1:1/me.png"])
def test_a_path_in_place_of_an_upload_is_refused(page, path):
    url, _ = page
    with pytest.raises(AppError):
        Client(url, verbose=False).predict(
            {"path": path, "meta": {"_type": "gradio.FileData"}}, "joy", 1, "Picture", 3, *LOOK, api_name="/express"
        )


@pytest.mark.parametrize(
    "name",
    [
        "../../../../evil.png",
        "..\\..\\evil.png",
        "/etc/cron.d/evil.png",
        "%2e%2e%2f%2e%2e%2fevil.png",
        "..",
        "a\nb.png",
        "a\0b.png",
        "x" * 300 + ".png",
        "evil.html",
        "evil.svg",
    ],
)
def test_a_files_name_leads_nowhere_else_and_nothing_given_runs_in_a_browser(page, name):
    url, folder = page
    around = set(folder.parent.iterdir())
    answer = upload(url, name, SCRIPT)
    assert set(folder.parent.iterdir()) == around
    if answer.status_code != 200:
        assert name == ".." and answer.status_code == 400
        return
    (place,) = answer.json()
    assert Path(place).resolve().is_relative_to(folder)
    shown = httpx.get(f"{url}/gradio_api/file={place}")
    kind = shown.headers["content-type"]
    is_saved = shown.headers.get("content-disposition", "").startswith("attachment")
    assert shown.status_code != 200 or kind == "image/png" or (kind == "application/octet-stream" and is_saved)


def picture(kind: str, **options) -> bytes:
    data = io.BytesIO()
    Image.open(PERSON).save(data, kind, **options)
    return data.getvalue()


def huge() -> bytes:
    """A picture of 400 million pixels, as its head says."""
    head = struct.pack(">4sIIBBBBB", b"IHDR", 20_000, 20_000, 8, 2, 0, 0, 0)
    whole = picture("PNG")
    return whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]


def moving() -> bytes:
    return picture("GIF", save_all=True, append_images=[Image.open(SMILE)], duration=40)


def listing(secret: Path) -> bytes:
    """A playlist that names a file of this computer."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n".encode()


@pytest.fixture(scope="module")
def secret(tmp_path_factory) -> Path:
    """A video of this computer that nobody has given to the page."""
    path = tmp_path_factory.mktemp("home") / "secret.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", 25)
        stream.width = stream.height = 64
        frames = (av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * n, np.uint8)) for n in range(5))
        for packet in (packet for frame in (*frames, None) for packet in stream.encode(frame)):
            container.mux(packet)
    return path


PHOTOGRAPHS = {
    "notes.png": (lambda: b"no picture at all", "is not a picture"),
    "empty.jpg": (lambda: b"", "is not a picture"),
    "page.svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
    "page.jpg": (lambda: SCRIPT, "is not a picture"),
    "clip.png": (DRIVER.read_bytes, "is not a picture"),
    "moving.gif": (moving, "is not a picture"),
    "cut off.png": (lambda: PERSON.read_bytes()[:9000], "cannot be read"),
    "huge.png": (huge, "has more than 178 million pixels"),
}
VIDEOS = {
    "text.mp4": lambda secret: b"no video at all\n" * 200,
    "picture.mp4": lambda secret: PERSON.read_bytes(),
    "empty.mp4": lambda secret: b"",
    "cut off.mp4": lambda secret: DRIVER.read_bytes()[:9000],
    "list.m3u8": listing,
    "list.mp4": listing,
    "list.ffconcat": lambda secret: b"ffconcat version 1.0\nfile 'secret.ts'\n",
    "stream.sdp": lambda secret: b"v=0\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("name", [*PHOTOGRAPHS, None])
def test_what_is_no_photograph_is_refused_in_one_line(client, tmp_path, name):
    photo, said = None, "Photograph: nothing is there yet"
    if name is not None:
        content, said = PHOTOGRAPHS[name]
        photo = tmp_path / name
        photo.write_bytes(content())
    with pytest.raises(AppError) as told:
        animate(client, photo, SMILE)
    line = str(told.value)
    assert said in line and (name or "") in line and "\n" not in line and "/tmp" not in line


@pytest.mark.parametrize("name", VIDEOS)
def test_what_is_no_video_is_refused_in_one_line_and_names_no_other_file(client, tmp_path, secret, name):
    video = tmp_path / name
    video.write_bytes(VIDEOS[name](secret))
    with pytest.raises(AppError) as told:
        animate(client, PERSON, video, "Video")
    line = str(told.value)
    assert name in line and "\n" not in line and "secret" not in line and "/tmp" not in line


@pytest.mark.parametrize("is_told", [True, False])
def test_what_is_too_large_is_refused_and_not_kept(page, is_told):
    url, folder = page
    before, part = app_server.kept(folder), bytes(2**20)

    def content() -> Iterator[bytes]:
        yield HEAD
        yield from (part for _ in range(LARGEST + 1))
        yield b"\r\n--B--\r\n"

    length = {"Content-Length": str(sum(map(len, content())))} if is_told else {}  # else in chunks
    answer = httpx.post(f"{url}/gradio_api/upload", content=content(), headers=MULTIPART | length, timeout=60)
    assert answer.status_code == 413 and "maximum allowed size" in answer.text
    assert app_server.kept(folder) == before


@pytest.mark.parametrize("length", ["Content-Length: 99999999", "Transfer-Encoding: chunked"])
def test_an_upload_that_breaks_off_is_gone_at_once(page, length):
    url, folder = page
    known, before, body = set(folder.iterdir()), app_server.kept(folder), HEAD + bytes(2**20)
    with socket.create_connection(("127.0.0.1", urllib.parse.urlsplit(url).port)) as door:
        lines = ["POST /gradio_api/upload HTTP/1.1", "Host: 127.0.0.1", length]
        lines += [f"{name}: {value}" for name, value in MULTIPART.items()]
        chunk = f"{len(body):x}\r\n".encode() if "chunked" in length else b""
        door.sendall("\r\n".join([*lines, "", ""]).encode() + chunk + body)
        app_server.wait_for(lambda: app_server.kept(folder) > before + 2**19, "nothing has come")
    app_server.wait_for(lambda: set(folder.iterdir()) == known, "the upload stays")
    assert httpx.get(url).status_code == 200


@pytest.mark.parametrize(
    "how",
    [
        {"files": [("files", (f"{number}.png", b"1")) for number in range(1001)]},
        {"content": b"nonsense", "headers": MULTIPART},
        {"content": HEAD[:30], "headers": MULTIPART},
        {"content": b"nonsense"},
    ],
    ids=["many", "no parts", "half a part", "no kind"],
)
def test_what_is_no_upload_is_refused(page, how):
    url, folder = page
    before = app_server.kept(folder)
    answer = httpx.post(f"{url}/gradio_api/upload", timeout=60, **how)
    assert (answer.status_code == 400 or answer.json() == []) and "Traceback" not in answer.text
    assert app_server.kept(folder) == before


def test_files_given_at_once_are_kept_apart(page):
    url, folder = page
    contents = [bytes([number]) * 500_000 for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda content: upload(url, "me.png", content), contents))
    places = [Path(answer.json()[0]) for answer in answers]
    assert len(set(places)) == 12 and [place.read_bytes() for place in places] == contents


def test_people_who_come_together_get_what_is_theirs(page, tmp_path):
    url, _ = page
    people = sorted(PERSON.parent.glob("*.png"))[:4]

    def corner(path: Path) -> np.ndarray:  # it stays as it was, but for the mark that is not seen
        return media.read_image(path)[2, 2].astype(int)

    def ask(photo: Path) -> np.ndarray:
        own = Client(url, download_files=str(tmp_path / photo.stem), verbose=False)
        _, picture, _, _ = animate(own, photo, SMILE)
        return corner(path_of(picture))

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(ask, people))
    apart = [[np.abs(color - corner(photo)).max() for photo in people] for color in got]
    assert all(row[i] <= 5 < min(row[:i] + row[i + 1 :]) for i, row in enumerate(apart)), apart


def test_more_than_can_wait_are_told_so_at_once(page):
    url, _ = page
    (place,) = upload(url, "me.png", PERSON.read_bytes()).json()
    config = json.loads(httpx.get(f"{url}/config").text)
    (express,) = (call["id"] for call in config["dependencies"] if call["api_name"] == "express")

    def ask(number: int, *fields) -> int:
        asked = {"data": [*fields, *LOOK, None], "fn_index": express, "session_hash": f"person{number}"}
        return httpx.post(f"{url}/gradio_api/queue/join", json=asked, timeout=60).status_code

    photo = {"path": place, "meta": {"_type": "gradio.FileData"}}
    assert ask(0, photo, "joy", 1, "Clip", 10) == 200  # which keeps the page busy while the others come
    told = [ask(number, None, "joy", 1, "Picture", 3) for number in range(1, WAITING + 4)]
    assert told.count(200) in (WAITING, WAITING + 1)  # as the first one has left the queue by then or not
    assert set(told[-2:]) == {503} and httpx.get(url).status_code == 200
