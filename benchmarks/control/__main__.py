"""What controls motion: how steady, how exact, how linear, and what a motion template tells of its driver.

    python -m benchmarks.control jitter [--clips DIR] [--frames 50] [--motion mesh]
    python -m benchmarks.control openings [--people 8] [--sheet openings.png]
    python -m benchmarks.control sliders [--people 3] [--photographs DIR] [--clips DIR] [--sheet sliders.png]
    python -m benchmarks.control templates [--people 16] [--clips_each 4]

``jitter`` drives a photograph by the bundled drivers, or by the clips in a folder, with and without --smooth.  Its
figure is the mean acceleration of the 68 landmarks from frame to frame, in thousandths of the eyes' distance.
``openings`` and ``sliders`` ask for amounts; what comes out is read by the face mesh, beside renders of people whom
nothing has seen and who do it.  ``templates`` tries to tell who the driver of a template is.
"""

from __future__ import annotations

from pathlib import Path

from modules.arguments import Parser, number
from modules.errors import run_script

from .jitter import jitter
from .openings import openings
from .people import DRIVERS
from .sliders import sliders
from .templates import templates


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="what", required=True)
    by_part = {name: parts.add_parser(name) for name in ("jitter", "openings", "sliders", "templates")}
    add = by_part["jitter"].add_argument
    add("--clips", type=Path, default=DRIVERS, help="folder of videos that drive (default: the bundled ones)")
    add("--frames", type=number(int, 10, 10**4), default=50, help="of each")
    add("--motion", choices=("rigged", "mesh"), default="rigged", help="what moves the photograph")
    for name, people in (("openings", 8), ("sliders", 3), ("templates", 16)):
        by_part[name].add_argument("--people", type=number(int, 3, 1000), default=people, help="rendered people")
    for name in ("openings", "sliders"):
        what = "picture to write: a row for a person, or for a slider of the last one"
        by_part[name].add_argument("--sheet", type=Path, help=what)
    add = by_part["sliders"].add_argument
    add("--photographs", type=Path, help="folder of photographs to change (default: Inputs)")
    add("--clips", type=Path, help="folder of videos whose first frames are changed")
    by_part["templates"].add_argument("--clips_each", type=number(int, 2, 100), default=4, help="clips of a person")
    args = parser.parse_args()
    if args.what == "jitter":
        jitter(args.clips, args.frames, args.motion)
    elif args.what == "openings":
        openings(args.people, args.sheet)
    elif args.what == "sliders":
        sliders(args.people, args.photographs, args.clips, args.sheet)
    else:
        templates(args.people, args.clips_each)


if __name__ == "__main__":
    run_script(main)
