"""A running app.py for tests, and what asks it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import scripts

from modules import media

INPUTS = Path(__file__).parent.parent / "Inputs"
PERSON = INPUTS / "Identities/person-3.png"
SMILE = INPUTS / "driving static images/happiness.png"
SURPRISE = SMILE.with_stem("surprise")
DRIVER = INPUTS / "driving videos/driver-1.mp4"


def group(place: Path) -> Path:
    """A photograph of two people, the larger of whom stands on the right."""
    people = [media.read_image(PERSON.with_name(f"person-{number}.png")) for number in (3, 2)]
    left = np.full_like(people[0], 200)
    left[52:] = media.resize(people[0], 204, 256)
    media.write_image(place / "group.png", np.concatenate([left, people[1]], axis=1))
    return place / "group.png"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def kept(folder: Path) -> int:
    """Bytes of all files in a folder, some of which may be going just now."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def wait_for(is_so: Callable[[], bool], complaint: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)


@contextlib.contextmanager
def running(place: Path) -> Iterator[tuple[str, Path, int]]:
    """The address of the page, the folder of its temporary files, and the process; it is ended with the block."""
    port = free_port()
    script = scripts.start("app.py", "--cpu", "--port", str(port), env={"TMPDIR": str(place)}, fresh=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 180
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(url).status_code == 200:
                    break
            assert script.poll() is None, script.communicate()
            assert time.monotonic() < deadline, "the page does not come"
            time.sleep(0.3)
        (folder,) = place.glob("deepexpr-*")
        yield url, folder, script.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(script.pid, signal.SIGTERM)
        script.communicate(timeout=60)
