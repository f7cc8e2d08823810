"""What asks the page of app.py for an animated photograph, without a browser."""

from __future__ import annotations

from pathlib import Path

from gradio_client import Client, handle_file

from modules.app.chooser import OWN

LOOK = ["model", "largest", False]


def animate(
    client: Client,
    photo: Path | None,
    driver: Path | None,
    kind: str = "Picture",
    face: str = "largest",
    own: tuple[Path | None, ...] = (),
    relative: bool = False,
) -> list:
    """``own``: drivers of faces from the left, in place of ``driver``."""
    given = (photo, driver, *own, *[None] * (OWN - len(own)))
    photo, driver, *own = (None if path is None else handle_file(str(path)) for path in given)
    video, picture = (driver, None) if kind == "Video" else (None, driver)
    look = [face if value == "largest" else value for value in LOOK]
    return client.predict(photo, kind, video, picture, "both", 1, relative, *look, *own, api_name="/animate")


def path_of(shown: object) -> Path:
    value = shown.get("value", shown) if isinstance(shown, dict) else shown
    return Path(value.get("video", value.get("path")) if isinstance(value, dict) else value)
