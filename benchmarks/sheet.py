"""The picture at the top of README: photographs with the expressions of rendered drivers.

    python -m benchmarks.sheet --out docs/example.png

Sources (left) are scikit-image's astronaut and one of the face world's people; drivers (above) come with the project.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from skimage.data import astronaut

from modules import media
from modules.arguments import Parser
from modules.config.files import load_rigged_config
from modules.errors import run_script
from modules.sid.framing import Framing
from modules.sid.inference import POINT_FRAMES
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.model import load_rigged

ROOT = Path(__file__).parent.parent
DRIVERS = ("neutral", "surprise", "happiness", "anger", "fear", "sadness")
SHOWN = 160  # pixels of a picture's side


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="picture to write")
    parser.add_argument("--config", default=str(ROOT / "config/rigged.yaml"), help="of a rigged model")
    parser.add_argument("--checkpoint", default=str(ROOT / "SID_Checkpoints/sid-rigged-cpk.pth"), help="its weights")
    args = parser.parse_args()
    model = load_rigged(args.checkpoint)
    framing = Framing(POINT_FRAMES, params=load_rigged_config(args.config).framing_params, cpu=True)
    drivers = [framing.image(ROOT / f"Inputs/driving static images/{name}.png") for name in DRIVERS]
    with TemporaryDirectory() as folder:
        photograph = Path(folder) / "astronaut.png"
        media.write_image(photograph, astronaut())
        sources = [framing.source(path) for path in (photograph, ROOT / "Inputs/Identities/person-3.png")]
    rows = [[np.full_like(drivers[0], 255), *drivers]]
    for source in sources:
        animator = RiggedAnimator(model, source.image)
        rows.append([source.image, *(next(animator.animate([driver])) for driver in drivers)])
    sheet = [np.concatenate([media.resize(image, SHOWN, SHOWN) for image in row], axis=1) for row in rows]
    media.write_image(args.out, np.concatenate(sheet))
    print(args.out)


if __name__ == "__main__":
    run_script(main)
