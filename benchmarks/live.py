"""How quick live use is: a bundled driver played in real time, drawn frame by frame, each picture made a JPEG file.

    python -m benchmarks.live

Of each way frames drawn a second; latency, from when a frame is due to when its picture is done; and the processors'
time for a frame, which is the same on a machine with much else to do.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from modules import media
from modules.arguments import Parser
from modules.errors import run_script
from modules.live.__main__ import SIZE, perform
from modules.live.figures import Figures
from modules.live.film import Film
from modules.live.performance import Performance

from .demo import DRIVER, ROOT
from .photographs import write_photographs

MODELS: dict[str, dict[str, str | None]] = {
    "the bundled model": {"config": None, "checkpoint": None},
    "the 128-pixel model": {
        "config": str(ROOT / "config/synthetic-128-adv.yaml"),
        "checkpoint": str(ROOT / "SID_Checkpoints/sid-adv-cpk.pth"),
    },
}
PASTED: dict[str, bool | None] = {f"whole photograph, {SIZE} pixels": None, "face's square": False}


def played(performance: Performance, film: Film) -> tuple[Figures, float]:
    """How quick it was, and seconds of processors a frame."""
    figures, busy = Figures(), 0.0
    for image, moment in film:
        begun = time.process_time()
        performance.draw(image, moment)
        media.to_jpeg(performance.shown)
        busy += time.process_time() - begun
        figures.add(time.monotonic() - moment)
    return figures, busy / len(figures.latencies)


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--driver", default=str(DRIVER), help="driving video")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        source, *_ = write_photographs(Path(folder))
        for model, files in MODELS.items():
            for pasted, paste_back in PASTED.items():
                asked = {"source": str(source), "smooth": False, "strength": 1.0, "face": "largest"}
                asked |= {
                    "paste_back": paste_back,
                    "result_size": None if paste_back is False else SIZE,
                    "watermark": "invisible",
                    "cpu": args.cpu,
                }
                performance, _ = perform(argparse.Namespace(**asked, **files))
                film = Film(args.driver)
                figures, busy = played(performance, film)
                told = f"{figures.told(film.passed)}; {1000 * busy:.0f} ms of processors a frame"
                print(f"{model}, {pasted}: {told}", flush=True)


if __name__ == "__main__":
    run_script(main)
