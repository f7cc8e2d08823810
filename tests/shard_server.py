"""A real web server of shards, and fixtures of tests that name this module as their plugin."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from pathlib import Path

import pytest
from tiny_mef import write_workshop

from modules.data.portraits import read_portraits
from modules.data.shards.writing import write_shards
from modules.storage import places

NAME = "portraits-{00000..00002}.tar"  # of eight portraits, three in a shard


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; with ranges, as web servers and stores do, unless told not to."""

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.asked: list[tuple[str, str | None]] = []  # path, range
        self.failing, self.ranges = 0, True
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        if self.server.failing:
            self.server.failing -= 1
            self.send_error(503)
            return
        if wanted is None or not self.server.ranges:
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted).groups()
        part = content[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    folder = write_workshop(tmp_path_factory.mktemp("workshop"))
    write_shards(read_portraits(folder / "portraits")[0], folder / "shards", 3)
    return folder


@pytest.fixture
def server(workshop):
    with Server(workshop) as made:
        yield made
        made.shutdown()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(places, "PAUSES", (0.01, 0.01))
