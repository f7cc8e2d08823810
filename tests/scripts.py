"""The project's scripts, run as processes of their own from a nursery, which has imported PyTorch for all of them."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
FRESH = os.environ.get("DEEPEXPR_FRESH") == "1"  # whether every script is a Python of its own: slow
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """What Python and PyTorch look at when they start, and never again."""
    return {name: value for name, value in environment.items() if name.startswith(("PYTHON", "OMP_"))}


NURSERY = _read_at_start(os.environ | ENVIRONMENT)  # whose processes can be had from the nursery


class Script:
    """A running script, to be used as a ``subprocess.Popen``; what it writes is kept in files, not in pipes."""

    def __init__(self, args: Sequence[str], cwd: Path, env: Mapping[str, str], new_session: bool):
        self.args = list(args)
        self.returncode: int | None = None
        self._written = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
        self._report, report = os.pipe()
        request = {"args": self.args, "cwd": str(cwd), "env": dict(env), "new_session": new_session}
        descriptors = [*(file.fileno() for file in self._written), report]
        socket.send_fds(_nursery(), [json.dumps(request).encode()], descriptors)
        os.close(report)
        self.pid = int(self._line())

    def _line(self) -> str:
        """The next line of the report: the process number, then the status."""
        line = b""
        while not line.endswith(b"\n"):
            part = os.read(self._report, 1)
            if not part:
                raise RuntimeError(f"the nursery did not start {self.args}")
            line += part
        return line.decode()

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; a signal's number, negative.  Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._line())
            os.close(self._report)
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait; what it wrote to stdout and to stderr."""
        self.wait(timeout)
        said = []
        for file in self._written:
            file.seek(0)
            said.append(file.read())
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _nursery() -> socket.socket:
    """The socket to ask at."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, str(Path(__file__).with_name("nursery.py")), str(theirs.fileno())]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    nursery = subprocess.Popen(command, env=os.environ | ENVIRONMENT, pass_fds=[theirs.fileno()], cwd=ROOT, **quiet)
    theirs.close()
    atexit.register(_close, ours, nursery)
    return ours


def _close(door: socket.socket, nursery: subprocess.Popen) -> None:
    """It ends once its door is closed and its scripts have ended."""
    door.close()
    nursery.wait()


def start(
    *args: str | Path,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    new_session: bool = False,
    fresh: bool = False,
) -> Script | subprocess.Popen:
    """Start ``script.py ...`` or ``-m module ...``.

    Args:
        env: added to the environment, which has no GPU, one thread, and the project among the places to import from.
        new_session: as a group of its own, to which signals can be sent.
        fresh: by a new Python, which imports everything itself; as when the environment asks for another Python.
    """
    words, environment = [str(arg) for arg in args], os.environ | ENVIRONMENT | (env or {})
    if fresh or FRESH or sys.platform != "linux" or _read_at_start(environment) != NURSERY:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [sys.executable, *words], cwd=cwd, env=environment, start_new_session=new_session, **pipes
        )
    return Script(words, cwd, environment, new_session)


def run(*args: str | Path, timeout: float = 300, **how) -> subprocess.CompletedProcess[str]:
    """Start it as :func:`start` does and wait for its end; kill it and raise subprocess.TimeoutExpired if it lasts."""
    script = start(*args, **how)
    try:
        stdout, stderr = script.communicate(timeout=timeout)
    except BaseException:
        script.kill()
        raise
    return subprocess.CompletedProcess(script.args, script.returncode, stdout, stderr)


def run_together(count: int, *args: str | Path, timeout: float = 300, **how) -> None:
    """``count`` processes of a script, told of each other as torchrun tells them; all are to succeed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    shared |= {"LOCAL_WORLD_SIZE": str(count)}
    ranks = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    running = [start(*args, env=rank, **how) for rank in ranks]
    deadline = time.monotonic() + timeout
    try:
        for script in running:
            _, stderr = script.communicate(timeout=deadline - time.monotonic())
            assert script.returncode == 0, stderr
    finally:
        for script in running:
            script.kill()
