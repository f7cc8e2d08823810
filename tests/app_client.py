"""What asks the page of app.py for an animated photograph, without a browser."""

from __future__ import annotations

from pathlib import Path

from gradio_client import Client, handle_file

LOOK = ["model", "largest", False]


def animate(client: Client, photo: Path | None, driver: Path | None, kind: str = "Picture") -> list:
    photo, driver = (None if path is None else handle_file(str(path)) for path in (photo, driver))
    video, picture = (driver, None) if kind == "Video" else (None, driver)
    return client.predict(photo, kind, video, picture, "both", 1, False, *LOOK, api_name="/animate")


def path_of(shown: object) -> Path:
    value = shown.get("value", shown) if isinstance(shown, dict) else shown
    return Path(value.get("video", value.get("path")) if isinstance(value, dict) else value)
