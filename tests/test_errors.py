"""What scripts say: whatever becomes of their words, the work is done, and a mistake is one line of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WORK = """
import sys
from pathlib import Path
from modules.errors import UserError, run_script

def main():
    for name in ("ж.txt", "2.txt"):
        Path(name).touch()
        print(f"wrote {name}", flush=True)

run_script(main)
"""


def script(text: str, folder: Path, redirect: str = "", **environment: str) -> subprocess.CompletedProcess:
    (folder / "script.py").write_text(text, encoding="utf-8")
    return subprocess.run(
        ["sh", "-c", f'"{sys.executable}" script.py {redirect}'],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_a_name_that_stdout_cannot_encode_is_spelt_out(tmp_path, encoding):
    result = script(WORK, tmp_path, PYTHONIOENCODING=encoding)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "wrote \\u0436.txt\nwrote 2.txt\n"


@pytest.mark.parametrize("flush", ["flush=True", "flush=False"])
@pytest.mark.parametrize(
    ("redirect", "status", "message"),
    [("> /dev/full", 2, "No space left on device"), (">&-", 0, ""), ("> /dev/full 2>&1", 2, None)],
)
def test_the_work_is_done_whatever_becomes_of_stdout(tmp_path, redirect, status, message, flush):
    result = script(WORK.replace("flush=True", flush), tmp_path, redirect)
    assert (tmp_path / "ж.txt").exists() and (tmp_path / "2.txt").exists()
    assert result.returncode == status and len(result.stderr.splitlines()) == (1 if message else 0)
    assert (message or "") in result.stderr


def test_a_reader_that_goes_away_does_not_end_the_work(tmp_path):
    result = script(WORK.replace("print(", 'print("word " * 50000, '), tmp_path, "| head -c 1")
    assert (tmp_path / "2.txt").exists()
    assert (
        result.stderr == "error: stdout: cannot be written (Broken pipe); the work is done, but its messages are lost\n"
    )


def test_an_error_has_a_line_of_its_own_beside_a_progress_bar(tmp_path):
    text = WORK.replace(
        'print(f"wrote {name}", flush=True)',
        "for _ in __import__('tqdm').tqdm(range(3), mininterval=0, bar_format='|{n_fmt}|'): raise UserError('no face')",
    )
    result = script(text, tmp_path)
    assert result.stderr.splitlines()[-1] == "error: no face" and result.returncode == 2
    assert result.stderr.endswith("|0|\nerror: no face\n")
