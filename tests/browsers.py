"""A real browser without a window, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "no Chromium on this machine: apt-get install chromium"


def _found() -> str | None:
    """A Chromium that answers: Ubuntu's package of that name may only point at another."""
    for path in filter(None, map(shutil.which, NAMES)):
        if subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return path
    return None


FOUND = _found()


@contextlib.contextmanager
def chromium(camera: Path | None = None) -> Iterator[Any]:
    """The browser; what sees a camera sees a test picture in its place, or the .y4m file ``camera``, over and over."""
    args = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    args += [] if camera is None else [f"--use-file-for-fake-video-capture={camera}"]
    args += ["--no-sandbox"] if os.getuid() == 0 else []  # which root has none of
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=FOUND, args=args)
        yield opened
        opened.close()
