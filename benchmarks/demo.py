"""Photographs of real people driven by a bundled video: driver, photograph, --motion mesh, and the bundled SID.

    python -m benchmarks.demo --out build/demo/people.mp4        # of `make demo`
    python -m benchmarks.demo --out docs/demo.gif --side 96 --close

Each row is one of benchmarks.photographs, with its moved face pasted back; --close shows its part around the face.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from modules import media
from modules.arguments import Parser, number
from modules.config.files import load_rigged_config
from modules.config.sid import FramingParams
from modules.errors import UserError, run_script
from modules.faces.close_crop import Crop, cut_crop
from modules.sid import inference
from modules.sid.frames import MESH_FRAMING, POINT_FRAMES
from modules.sid.framing import Framing
from modules.sid.motion_options import MotionOptions

from .photographs import write_photographs

ROOT = Path(__file__).parent.parent
CONFIG, WEIGHTS = ROOT / "config/rigged.yaml", ROOT / "SID_Checkpoints/sid-rigged-256-cpk.pth"
ROOM = 1.5  # side of what --close shows, in sides of SID's crop
DRIVER = ROOT / "Inputs/driving videos/driver-1.mp4"

Pictures = Iterator[list[np.ndarray]]  # for each frame that is shown, one of every photograph
Way = Callable[[list[Path], str, slice], Pictures]


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="video to write: .mp4, .gif, ...")
    parser.add_argument("--driver", default=str(DRIVER), help="driving video")
    parser.add_argument("--side", type=number(int, 16, 2048), default=256, help="pixels of a picture's side")
    parser.add_argument("--every", type=number(int, 1, 100), default=4, help="show every so many frames alone")
    parser.add_argument("--close", action="store_true", help="show the part around the face instead of whole pictures")
    args = parser.parse_args()
    info, every = media.probe_video(args.driver), args.every
    rate = info.frame_rate / every
    with TemporaryDirectory() as folder, ExitStack() as stack:
        photographs = write_photographs(Path(folder))
        wholes = [media.read_image(path) for path in photographs]
        rooms = rooms_around(photographs, ROOM) if args.close else [None] * len(photographs)
        frames = islice(media.read_video(args.driver), 0, None, every)
        shown = slice(0, None, every)
        moved = stack.enter_context(side_by_side([by_mesh, by_sid], photographs, args.driver, shown))
        bar = tqdm(moved, total=-(-len(info.times) // every), unit="frame", desc=Path(args.out).name)
        with media.VideoWriter(args.out, 4 * args.side, len(photographs) * args.side, rate) as writer:
            for count, (frame, results) in enumerate(zip(frames, bar, strict=True)):
                sheet = []
                for room, *row in zip(rooms, wholes, *results, strict=True):
                    pictures = [square(frame.image, args.side), *(square(p, args.side, room) for p in row)]
                    sheet.append(np.concatenate(pictures, axis=1))
                writer.write(np.concatenate(sheet), float(count / rate))
    print(args.out)


@contextmanager
def side_by_side(ways: list[Way], *given: Any) -> Iterator[Iterator[list[list[np.ndarray]]]]:
    """What all the ways show, frame by frame, each of them computed by a process of its own."""
    spawn = get_context("spawn")
    with ExitStack() as stack:
        results = []
        for way in ways:
            result, sender = spawn.Pipe(duplex=False)
            process = spawn.Process(target=_send_all, args=(way, sender, given), daemon=True)
            process.start()
            sender.close()  # so that only the process holds it, and its end is noticed
            stack.callback(process.terminate)  # which has nothing left to do, or nobody to do it for
            results.append(result)
        yield _received(results)


def _received(results: list[Connection]) -> Iterator[list[list[np.ndarray]]]:
    try:
        while all(rows := [result.recv() for result in results]):
            yield rows
    except EOFError as error:
        raise UserError("a process of the demo has ended early; its message, if it had one, is above") from error


def _send_all(way: Way, sender: Connection, given: tuple) -> None:
    """Each frame's pictures, then nothing."""
    torch.set_num_threads(1)  # a photograph on every core is quicker than every core on one
    for pictures in way(*given):
        sender.send(pictures)
    sender.send([])


def by_mesh(photographs: list[Path], driver: str, shown: slice) -> Pictures:
    """By fitted heads, at the driver's ``shown`` frames.  All frames are read, once, to be smoothed over time."""
    framing = framed(MESH_FRAMING)
    sources, video = [framing.source(path) for path in photographs], framing.video(driver)
    animated = inference.by_mesh(MotionOptions(), cpu=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        animators = list(pool.map(animated, sources))
        animators[0].prepare(video.some())
        motions = animators[0].motions(frame.image for frame in video.frames())
        finishers = [framing.finisher(source) for source in sources]
        first = next(motions)
        for motion in islice(chain([first], motions), shown.start, None, shown.step):
            shown_by = [partial(animator.show_motion, motion, first) for animator in animators]
            yield list(pool.map(lambda show, finish: finish(show()), shown_by, finishers))


def by_sid(photographs: list[Path], driver: str, shown: slice) -> Pictures:
    """By the bundled SID, at the driver's ``shown`` frames."""
    config = load_rigged_config(CONFIG)
    framing = framed(config.framing_params)
    sources, video = [framing.source(path) for path in photographs], framing.video(driver)
    animated = inference.prepare(config, WEIGHTS, torch.device("cpu"))(MotionOptions())
    some, ways = list(video.some()), []
    frames = [frame.image for frame in islice(video.frames(), shown.start, None, shown.step)]
    for source in sources:
        animator = animated(source)
        animator.prepare(some)
        ways.append(map(framing.finisher(source), animator.animate(iter(frames))))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in frames:
            yield list(pool.map(next, ways))


def framed(params: FramingParams) -> Framing:
    return Framing(POINT_FRAMES, params=params, cpu=True)


def rooms_around(photographs: list[Path], size: float) -> list[Crop]:
    """Squares about the faces of photographs, ``size`` times those that the bundled SID sees."""
    framing = framed(load_rigged_config(CONFIG).framing_params)
    return [framing.source(path).crop.wider(size) for path in photographs]


def square(picture: np.ndarray, side: int, room: Crop | None = None) -> np.ndarray:
    """What a square shows of a picture; without one, all of it in the middle of a white square."""
    if room is not None:
        return cut_crop(picture, room, side)
    scale = side / max(picture.shape[:2])
    height, width = (round(length * scale) for length in picture.shape[:2])
    whole = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    whole[top : top + height, left : left + width] = media.resize(picture, height, width)
    return whole


if __name__ == "__main__":
    run_script(main)
