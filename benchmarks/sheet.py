"""The picture at the top of README: photographs with the expressions of a rendered driver.

    python -m benchmarks.sheet --out docs/example.jpg

Sources (left) are those of benchmarks.photographs, each twice: moved by the bundled SID, then by --motion mesh.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from modules import media
from modules.arguments import Parser, number
from modules.errors import run_script

from .demo import DRIVER, by_mesh, by_sid, rooms_around, square
from .photographs import write_photographs

SHOWN = slice(4, None, 12)  # frames of the driver: at rest, then one of each expression
ROOM = 1.15  # of SID's crop, about a face


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="picture to write")
    parser.add_argument("--driver", default=str(DRIVER), help="driving video")
    parser.add_argument("--side", type=number(int, 16, 1024), default=128, help="pixels of a picture's side")
    args = parser.parse_args()
    side = args.side
    frames = [frame.image for frame in islice(media.read_video(args.driver), SHOWN.start, None, SHOWN.step)]
    rows = [[np.full((side, side, 3), 255, np.uint8), *(square(frame, side) for frame in frames)]]
    with TemporaryDirectory() as folder:
        photographs = write_photographs(Path(folder))
        wholes, rooms = [media.read_image(path) for path in photographs], rooms_around(photographs, ROOM)
        ways = [by_sid(photographs, args.driver, SHOWN), by_mesh(photographs, args.driver, SHOWN)]
        moved = [zip(*tqdm(way, total=len(frames), unit="frame"), strict=True) for way in ways]
        for own, room, *results in zip(wholes, rooms, *moved, strict=True):
            rows += [[square(picture, side, room) for picture in (own, *result)] for result in results]
    media.write_image(args.out, np.concatenate([np.concatenate(row, axis=1) for row in rows]))
    print(args.out)


if __name__ == "__main__":
    run_script(main)
