"""What is to be known of inputs and results before any work is done."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from .file import opened
from .image import check_result, image_size, is_image
from .pillow import is_animation


def check_inputs(inputs: list[str], pictures: list[str], videos: list[str]) -> None:
    """Before a model is built or a file begun: UserError for an input that is not there or that a result replaces.

    ``pictures`` and ``videos`` are the results that will be written; one that cannot be is a UserError as well.
    """
    for path in inputs:
        if not Path(path).is_file():
            raise UserError(f"{path}: {'is a folder, not a file' if Path(path).is_dir() else 'no such file'}")
    for result in [*pictures, *videos]:
        check_result(result, is_picture=result in pictures)
        for path in inputs:
            if Path(result).resolve() == Path(path).resolve():
                raise UserError(f"{path}: is an input and would be overwritten by the result; choose another name")


def check_picture(path: str) -> None:
    """UserError where the file is no picture, by its header."""
    image_size(path)


def check_opens(path: str) -> None:
    """UserError where the file is neither a picture nor a video, by its header."""
    if is_image(path):
        check_picture(path)
    elif not is_animation(path):
        with opened(path):
            pass
