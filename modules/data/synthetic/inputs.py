"""Render ``Inputs/``: people of the face world whom no model is trained on."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch
from tqdm import tqdm

from ... import media
from ...arguments import Parser
from ...errors import run_script
from ...world import EXPRESSIONS, Faces, Render, draw_identities, draw_poses, draw_scenes, expression, render
from .performance import close_pose, perform

SEED = 2_000_003  # people of data sets, of measuring networks and of measurements have other seeds
SIZE = 256
FRAMES, RATE = 100, 25
PEOPLE = 6
# Which of the seed's people drive: chosen by looking, since some have features that overlap.
DRIVERS, POSERS = (44, 40, 46), (20, 16, 30)  # in videos, in pictures


def write_inputs(folder: Path) -> None:
    """Write ``Identities``, ``driving videos`` and ``driving static images`` under ``folder``."""
    count = 1 + max(DRIVERS + POSERS)
    identities, scenes = draw_identities(count, SEED), draw_scenes(count, SEED)
    poses = draw_poses(PEOPLE + len(EXPRESSIONS), SEED, extent=0.25)
    nothing = expression("neutral")
    for number in tqdm(range(PEOPLE), desc="identities", unit="picture"):
        face = _portrait(identities[number], scenes[number], nothing, poses[number])
        _write_picture(folder / "Identities" / f"person-{number + 1}.png", render(face, SIZE))
    for number, who in enumerate(tqdm(DRIVERS, desc="driving videos", unit="video")):
        moving = perform(identities[who], scenes[who], SEED + number, FRAMES, RATE)
        _write_video(folder / "driving videos" / f"driver-{number + 1}.mp4", moving)
    close = close_pose(poses)  # drivers are seen as closely as whatever reads them looks
    for number, name in enumerate(tqdm(EXPRESSIONS, desc="driving pictures", unit="picture")):
        who = POSERS[number % len(POSERS)]
        face = _portrait(identities[who], scenes[who], expression(name), close[PEOPLE + number])
        _write_picture(folder / "driving static images" / f"{name}.png", render(face, SIZE))


def _portrait(identity: torch.Tensor, scene: torch.Tensor, units: torch.Tensor, pose: torch.Tensor) -> Faces:
    return Faces(identity[None], units[None], torch.zeros(1, len(units)), torch.zeros(1, 2), pose[None], scene[None])


def _pictures(rendered: Render):
    return (rendered.image.permute(0, 2, 3, 1) * 255).round().byte().numpy()


def _write_picture(path: Path, rendered: Render) -> None:
    media.write_image(path, _pictures(rendered)[0])


def _write_video(path: Path, faces: Faces) -> None:
    with media.VideoWriter(path, SIZE, SIZE, Fraction(RATE)) as writer:
        for start in range(0, len(faces.pose), 10):
            part = faces.take(torch.arange(start, min(start + 10, len(faces.pose))))
            for offset, picture in enumerate(_pictures(render(part, SIZE))):
                writer.write(picture, (start + offset) / RATE)


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--out", default="Inputs", help="folder to write")
    write_inputs(Path(parser.parse_args().out))


if __name__ == "__main__":
    run_script(main)
