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
    add = parser.add_argument
    add("what", choices=("jitter", "openings", "sliders", "templates"), help="what to measure")
    what = "folder of videos: that drive, of jitter (default: the bundled ones), or whose first frames sliders change"
    add("--clips", type=Path, help=what)
    add("--photographs", type=Path, help="sliders: folder of photographs to change (default: Inputs)")
    add("--frames", type=number(int, 10, 10**4), default=50, help="jitter: frames of each")
    add("--motion", choices=("rigged", "mesh"), default="rigged", help="jitter: what moves the photograph")
    add("--people", type=number(int, 3, 1000), help="rendered people (default: openings 8, sliders 3, templates 16)")
    add("--clips_each", type=number(int, 2, 100), default=4, help="templates: clips of a person")
    add("--sheet", type=Path, help="picture to write: a row for a person, or for a slider of the last one")
    args = parser.parse_args()
    if args.what == "jitter":
        jitter(args.clips or DRIVERS, args.frames, args.motion)
    elif args.what == "openings":
        openings(args.people or 8, args.sheet)
    elif args.what == "sliders":
        sliders(args.people or 3, args.photographs, args.clips, args.sheet)
    else:
        templates(args.people or 16, args.clips_each)


if __name__ == "__main__":
    run_script(main)
