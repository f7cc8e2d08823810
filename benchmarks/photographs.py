"""Photographs of real people that installed packages bring, in the public domain, and one of the face world's people.

    python -m benchmarks.photographs --out DIR

Grace Hopper (by the US Navy) comes with matplotlib, Eileen Collins (by NASA) with scikit-image.  Nothing bundled was
trained on any of them.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib import get_data_path
from skimage.data import astronaut

from modules import media
from modules.arguments import Parser
from modules.data.synthetic.inputs import SEED
from modules.errors import UserError, run_script
from modules.media.tensors import to_images
from modules.world import draw_identities, draw_scenes, render
from modules.world.parameters import neutral

HOPPER = Path(get_data_path()) / "sample_data" / "grace_hopper.jpg"
PERSON, SIDE = 12, 384  # which of the people of SEED, chosen by looking; pixels of a side


def write_photographs(folder: Path) -> list[Path]:
    """Write ``hopper.png``, ``collins.png`` and ``person.png`` into a folder; their paths.

    Raises:
        UserError: the installed matplotlib comes without its sample data.
    """
    if not HOPPER.is_file():
        raise UserError(
            f"{HOPPER}: not there; install matplotlib with its sample data: pip install -r requirements.txt"
        )
    scene, identity = (draw(PERSON + 1, SEED)[-1:] for draw in (draw_scenes, draw_identities))
    (person,) = to_images(render(neutral(1)._replace(identity=identity, scene=scene), SIDE).image)
    pictures = {"hopper": media.read_image(HOPPER), "collins": astronaut(), "person": person}
    paths = []
    for name, picture in pictures.items():
        paths.append(folder / f"{name}.png")
        media.write_image(paths[-1], picture)
    return paths


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    for path in write_photographs(parser.parse_args().out):
        print(path)


if __name__ == "__main__":
    run_script(main)
