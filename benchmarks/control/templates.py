"""What a motion template tells of its driver."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor
from tqdm import tqdm

from modules import media
from modules.data.expression_pictures import people_showing
from modules.evaluation.output import table
from modules.evaluation.people import MEASURING_SEED
from modules.media.tensors import to_images
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.model import load_rigged
from modules.world import draw_expressions, draw_identities

from ..demo import WEIGHTS
from .people import PHOTOGRAPH, SIZE, rendered

RIDGE = 0.1  # of the readouts, of the mean variance


def templates(people: int, clips: int, frames: int = 12) -> None:
    """Readouts of who it is, taught on all clips of everybody but one and tried on that, in turn."""
    model = load_rigged(WEIGHTS)
    animator = RiggedAnimator(model, media.fit(media.read_image(PHOTOGRAPH), SIZE, SIZE))
    known: dict[str, list[Tensor]] = {"template": [], "without the calmest frame's": [], "points": []}
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
            known["template"].append(_statistics(said.cat()))
            known["without the calmest frame's"].append(_statistics(raw.semantics.cat()))
            known["points"].append(_statistics(model.rig.to_head(raw.points, raw.semantics.pose).flatten(1)))
    owner = torch.arange(people).repeat(clips)
    rows = []
    for name, features in known.items():
        right = _recognised(torch.stack(features), owner, people)
        test = binomtest(right, len(owner), 1 / people)
        low, high = test.proportion_ci()
        rows.append(
            [name, f"{100 * right / len(owner):.1f}", f"{100 * low:.1f} to {100 * high:.1f}", f"{test.pvalue:.2g}"]
        )
    print(table(["read off", "right %", "95 %", f"p, against {100 / people:.1f} %"], rows))


def _statistics(codes: Tensor) -> Tensor:
    """Mean and deviation over time of ``[T, K]``: what does not depend on when something is done."""
    return torch.cat([codes.mean(dim=0), codes.std(dim=0)]).double()


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
