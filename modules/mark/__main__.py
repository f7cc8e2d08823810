"""Tell whether pictures and videos were made by a machine, by their metadata and by the invisible mark."""

from __future__ import annotations

import sys

from .. import media
from ..arguments import Parser
from ..errors import UserError, run_script
from ..media.xmp import read_xmp
from . import spread
from .provenance import Provenance, read


def provenance_of(path: str) -> Provenance | None:
    """What a file's metadata says."""
    packet = read_xmp(path)
    return None if packet is None else read(packet)


def score_of(path: str) -> float:
    """The test's z for a picture or a video.  Raises UserError where it cannot be read."""
    return spread.score([media.read_image(path)] if media.is_image(path) else media.frames_throughout(path))


def tell(path: str) -> bool:
    """Print what there is; return whether there is something."""
    try:
        said, z = provenance_of(path), score_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the name") from None
    is_marked = z > spread.THRESHOLD
    print(f"{path}: {'made by a machine' if said or is_marked else 'no mark found, which proves nothing'}")
    if said is None:
        print("  metadata: none that says where it comes from")
    else:
        print(f"  metadata: {said.source_type}, by {' '.join(filter(None, (said.system, said.version)))}")
    chance = f"{round(1 / spread.FALSE_ALARMS):,}"
    test = f"z = {z:.1f}; more than {spread.THRESHOLD:.2f} in at most 1 of {chance} unmarked files"
    print(f"  invisible mark: {'found' if is_marked else 'not found'} ({test})")
    return said is not None or is_marked


def main() -> None:
    parser = Parser(__doc__ + "  Exit status 1: nothing was found in some of them.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="picture or video")
    found = [tell(path) for path in parser.parse_args().files]
    if not all(found):
        sys.exit(1)


if __name__ == "__main__":
    run_script(main)
