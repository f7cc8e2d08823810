"""What a motion template tells of its driver."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor
from tqdm import tqdm

from modules import media
from modules.config.files import load_rigged_config
from modules.data.expression_pictures import people_showing
from modules.evaluation.output import table
from modules.evaluation.people import MEASURING_SEED
from modules.media.tensors import to_images
from modules.sid.encoders import Semantics
from modules.sid.framing import Framing
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.model import RiggedSID, load_rigged
from modules.world import draw_expressions, draw_identities
from modules.world.control.units import lips_apart

from ..demo import CONFIG, WEIGHTS
from .jitter import centred, kept, points_of
from .people import DRIVERS, PHOTOGRAPH, SIZE, rendered

RIDGE = 0.1  # of the readouts, of the mean variance
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def templates(people: int, clips: int, frames: int = 12) -> None:
    """Readouts of who it is, taught on all clips of everybody but one and tried on that, in turn."""
    model = load_rigged(WEIGHTS)
    animator = RiggedAnimator(model, media.fit(media.read_image(PHOTOGRAPH), SIZE, SIZE))
    known: dict[str, list[Tensor]] = {"a template": [], "what drives": [], "what is read": [], "points": []}
    identities = draw_identities(people, MEASURING_SEED)
    for clip in tqdm(range(clips), unit="clip"):
        for person in range(people):
            number_ = clip * people + person
            drawn = draw_expressions(frames, MEASURING_SEED + 10 * number_)
            faces = people_showing(*drawn, seed=MEASURING_SEED + 10 * number_)
            scene = faces.scene[:1].expand(frames, -1)  # light and clothes stay in a clip, and change between clips
            faces = faces._replace(identity=identities[person].expand(frames, -1), scene=scene)
            pictures = to_images(rendered(faces))
            animator._calm.clear()
            raw = animator._read(pictures, for_pose=False)
            animator.prepare(pictures)
            said = animator._heard(pictures, for_pose=False).semantics
            known["a template"].append(animator.without_rest(said).cat())
            known["what drives"].append(said.cat())
            known["what is read"].append(raw.semantics.cat())
            known["points"].append(model.rig.to_head(raw.points, raw.semantics.pose).flatten(1))
    owner = torch.arange(people).repeat(clips)
    rows = []
    for name, codes in known.items():
        cells = [name]
        for statistics in (_moments, _quantiles):
            right = _recognised(torch.stack([statistics(each) for each in codes]), owner, people)
            low, high = binomtest(right, len(owner)).proportion_ci()
            cells.append(f"{100 * right / len(owner):.1f} ({100 * low:.0f} to {100 * high:.0f})")
        rows.append(cells)
    print(table(["read off", "right %, by mean and deviation", "by quantiles"], rows))
    print(f"chance: {100 / people:.1f} %; brackets: 95 %\n")
    reproduction(model)


def reproduction(model: RiggedSID, frames: int = 40) -> None:
    """How a photograph moves by templates of the bundled drivers, beside by the drivers themselves."""
    framing = Framing((SIZE, SIZE), params=load_rigged_config(CONFIG).framing_params, cpu=True)
    animator, rows = RiggedAnimator(model, framing.source(PHOTOGRAPH).image), []
    for path in sorted(DRIVERS.iterdir()):
        video = framing.video(path)
        animator.prepare(video.some())
        with torch.inference_mode():
            said = animator._heard([frame.image for frame in islice(video.frames(), frames)], for_pose=False).semantics
        one, two = (_driven(model, animator, some) for some in (said, animator.without_rest(said)))
        eyes = (one[:, 36] - one[:, 45]).norm(dim=-1).mean()
        apart = [(a - b).norm(dim=-1).mean() / eyes for a, b in ((one, two), (centred(one), centred(two)))]
        mouths = np.corrcoef(*(lips_apart(points).numpy() for points in (one, two)))[0, 1]
        shares = [f"{100 * float(value):.1f}" for value in (*apart, centred(one).norm(dim=-1).mean() / eyes)]
        rows.append([path.stem, *shares, f"{mouths:.3f}", f"{100 * kept(one, two)[0]:.0f}"])
    print(table(["driver", "apart", "in motion", "of a motion of", "mouth, r", "mouth kept %"], rows))
    print("distances of landmarks in % of the eyes' distance")


def _driven(model: RiggedSID, animator: RiggedAnimator, said: Semantics) -> Tensor:
    """Landmarks ``[T, 68, 2]`` of the source, driven by so much."""
    frames = [Semantics(*row) for row in zip(*(z.split(1) for z in said), strict=True)]
    return points_of(model, animator.animate(frames))


def _moments(codes: Tensor) -> Tensor:
    """Mean and deviation over time of ``[T, K]``: what does not depend on when something is done."""
    return torch.cat([codes.mean(dim=0), codes.std(dim=0)]).double()


def _quantiles(codes: Tensor) -> Tensor:
    """The same by the numbers' spread."""
    spread = torch.tensor(QUANTILES, dtype=codes.dtype)
    return torch.cat([codes.quantile(spread, dim=0).flatten(), codes.std(dim=0)]).double()


def _recognised(features: Tensor, owner: Tensor, people: int) -> int:
    """How many of the clips, each left out in turn, a ridge readout gives to the right person."""
    clips, right = len(owner) // people, 0
    for clip in range(clips):
        tried = torch.arange(len(owner)) // people == clip
        mean, spread = features[~tried].mean(dim=0), features[~tried].std(dim=0) + 1e-9
        x, z = ((part - mean) / spread for part in (features[~tried], features[tried]))
        wanted = F.one_hot(owner[~tried], people).double() - 1 / people
        kernel = x @ x.T / x.shape[1]
        weights = torch.linalg.solve(kernel + RIDGE * torch.eye(len(x), dtype=x.dtype), wanted)
        right += int(((z @ x.T / x.shape[1]) @ weights).argmax(dim=1).eq(owner[tried]).sum())
    return right
