"""The invisible mark: how often it is found after re-encoding, how often where it is not, what it costs.

Pictures are rendered people, and with ``--pictures FOLDER`` those of a folder as well.  What is counted is files above
the test's threshold.  Unmarked pictures are measured as they are; as no number of pictures shows a rate of one in a
million, their z is told beside the one that independent signs give: mean 0, deviation 1.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from modules import media
from modules.arguments import Parser, number
from modules.errors import run_script
from modules.evaluation.people import portraits
from modules.mark import spread
from modules.media.tensors import to_images
from modules.world import render

Change = Callable[[np.ndarray], list[np.ndarray]]
FRAMES = 10  # of a video


def jpeg(quality: int, scale: float = 1.0) -> Change:
    def change(image: np.ndarray) -> list[np.ndarray]:
        size = round(scale * image.shape[1]), round(scale * image.shape[0])
        file = io.BytesIO()
        Image.fromarray(image).resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=quality)
        return [np.asarray(Image.open(file))]

    return change


def h264(crf: int) -> Change:
    """As a video that shows it for a while."""

    def change(image: np.ndarray) -> list[np.ndarray]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.mp4"
            with media.VideoWriter(path, image.shape[1], image.shape[0], 25, crf=crf) as writer:
                for i in range(FRAMES):
                    writer.write(image, i / 25)
            return [frame.image for frame in media.read_video(path)]

    return change


CHANGES: dict[str, Change] = {
    "as written": lambda image: [image],
    "JPEG, quality 80": jpeg(80),
    "JPEG, quality 50": jpeg(50),
    "half the size, JPEG 80": jpeg(80, 0.5),
    "H.264, crf 23": h264(23),
    "H.264, crf 28": h264(28),
}


def rendered(count: int, side: int) -> Iterator[np.ndarray]:
    """Rendered people, uint8 ``[side, side, 3]``."""
    for seed in range(0, count, 10):
        yield from to_images(render(portraits(min(10, count - seed), 1, seed=seed), side).image)


def pictures_of(folder: Path) -> Iterator[np.ndarray]:
    for path in sorted(folder.rglob("*")):
        if media.names_image(path):
            yield media.read_image(path)


def measure(name: str, pictures: Callable[[], Iterator[np.ndarray]], marked: int, unmarked: int) -> None:
    psnr, seconds = [], []
    scores: dict[str, list[float]] = {change: [] for change in CHANGES}
    for picture in islice(pictures(), marked):
        start = time.perf_counter()
        made = spread.add(picture)
        seconds.append(time.perf_counter() - start)
        psnr.append(-10 * np.log10(((made.astype(float) - picture) ** 2).mean() / 255**2))
        for change, apply in CHANGES.items():
            scores[change].append(spread.score(apply(made)))
    height, width = made.shape[:2]
    print(f"{name}: {len(psnr)} marked, PSNR {statistics.median(psnr):.1f} dB (least {min(psnr):.1f})")
    print(f"  {1000 * statistics.median(seconds):.1f} ms a picture (the last one is {width} x {height})")
    for change, found in scores.items():
        share = sum(z > spread.THRESHOLD for z in found)
        print(f"  {change}: found {share} of {len(found)}, z {statistics.median(found):.1f} (least {min(found):.1f})")
    plain = [spread.score([picture]) for picture in islice(pictures(), unmarked)]
    alarms = sum(z > spread.THRESHOLD for z in plain)
    print(
        f"  unmarked: {alarms} false alarms of {len(plain)}, z {statistics.mean(plain):.2f} +- "
        f"{statistics.stdev(plain):.2f} (most {max(plain):.1f}; the threshold is {spread.THRESHOLD:.2f})"
    )


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="pictures beside the rendered ones")
    parser.add_argument("--marked", type=number(int, 2, 100000), default=100, help="pictures that are marked")
    parser.add_argument("--unmarked", type=number(int, 2, 100000), default=1000, help="pictures that are not")
    parser.add_argument("--side", type=number(int, 16, 4096), default=256, help="pixels of rendered people")
    args = parser.parse_args()
    count = max(args.marked, args.unmarked)
    measure("rendered people", lambda: rendered(count, args.side), args.marked, args.unmarked)
    if args.pictures is not None:
        measure(str(args.pictures), lambda: pictures_of(args.pictures), args.marked, args.unmarked)


if __name__ == "__main__":
    run_script(main)
