"""What the nursery starts behaves as what a new Python starts, in all that the tests look at."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import scripts

both = pytest.mark.parametrize("fresh", [True, False], ids=["new Python", "nursery"])


@pytest.fixture
def folder(tmp_path) -> Path:
    """With a script, and a package whose ``__main__`` is the same text."""
    text = (
        "import atexit, os, signal, sys, threading, time\n"
        "import beside\n"
        "atexit.register(lambda: print('last'))\n"
        "print(__name__, beside.WORD, *sys.argv[1:], os.getcwd(), os.environ['COLOUR'])\n"
        "print(__spec__ and __spec__.name, sys.modules['__main__'].__dict__ is globals())\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\n"
        "exec(sys.argv[1])\n"
    )
    (tmp_path / "package").mkdir()
    for path in (tmp_path / "script.py", tmp_path / "package" / "__main__.py"):
        path.write_text(text)
    (tmp_path / "beside.py").write_text("WORD = 'found'")
    return tmp_path


@both
@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no')", 1, "no\n"),
        ("sys.exit()", 0, ""),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("os.write(2, b'raw'); os._exit(7)", 7, "raw"),
    ],
)
@pytest.mark.parametrize("started", ["script", "package"])
def test_a_script_ends_with_its_status_and_its_words(folder, fresh, code, status, said, started):
    name = [folder / "script.py"] if started == "script" else ["-m", "package"]
    done = scripts.run(*name, code, "two words", cwd=folder, env={"COLOUR": "red"}, fresh=fresh)
    assert done.returncode == status and done.stderr.endswith(said) and bool(done.stderr) == bool(said)
    if "_exit" in code:
        return
    spec = None if started == "script" else "package.__main__"
    first = " ".join(word for word in ("__main__", "found", code, "two words", str(folder), "red"))
    assert done.stdout.splitlines() == [first, f"{spec} True", "thread", "last"]


@both
def test_signals_reach_it_and_it_alone(folder, fresh):
    """SIGTERM as it handles it, SIGKILL as a number below 0, and a group's signal nobody but the group."""
    wait = "signal.signal(15, lambda *_: sys.exit(143)); open('ready', 'w').close(); time.sleep(60)"
    for send, status in ((os.kill, 143), (os.kill, -signal.SIGKILL), (os.killpg, 143)):
        script = scripts.start(
            folder / "script.py", wait, cwd=folder, env={"COLOUR": ""}, new_session=send is os.killpg, fresh=fresh
        )
        while not (folder / "ready").exists():
            assert script.poll() is None
            time.sleep(0.01)
        with pytest.raises(subprocess.TimeoutExpired):
            script.wait(0.01)
        send(script.pid, signal.SIGKILL if status < 0 else signal.SIGTERM)
        assert script.wait(20) == script.poll() == status
        (folder / "ready").unlink()
