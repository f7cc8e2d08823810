"""Cross-reenactment against rendered truth: person A in A's scene doing what B does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from tqdm import tqdm

from ..media.tensors import to_images, to_tensor
from ..sid.animator import Animator
from ..sid.model import SID
from ..sid.motion_options import MotionOptions
from ..world import Render, render
from .metrics import Figures
from .people import MEASURING_SEED, CrossPair, cross_pair
from .ruler import Ruler, reading_errors


@dataclass(frozen=True)
class Mode:
    """One way to drive a model."""

    name: str
    options: MotionOptions
    best_frame: bool = False  # relative motion starts from the driver's frame posed most like the source


def modes(model: SID) -> list[Mode]:
    """All ways a model can be driven: the embedding's if it has encoders, and FOMM's four."""
    keypoints = [
        Mode("absolute", MotionOptions("keypoints")),
        Mode("relative", MotionOptions("keypoints", relative=True), best_frame=True),
        Mode("relative, scaled", MotionOptions("keypoints", relative=True, adapt_scale=True), best_frame=True),
    ]
    return keypoints if model.encoders is None else [Mode("embedding", MotionOptions("embedding")), *keypoints]


@dataclass
class RenderedPair:
    """A pair's pictures: source ``[1, 3, H, W]``, driving and truth of T frames."""

    pair: CrossPair
    source: Tensor
    driving: Tensor
    truth: Render


def render_pairs(size: int, pairs: int, frames: int) -> list[RenderedPair]:
    """The pairs every model is measured on, rendered as 8-bit pictures, as files would hold them."""
    rendered = []
    for number in tqdm(range(pairs), desc="rendering pairs", unit="pair", leave=False):
        pair = cross_pair(number, frames, MEASURING_SEED)
        source, driving, truth = (render(faces, size) for faces in pair)
        rendered.append(RenderedPair(pair, *map(_quantised, (source.image, driving.image)), truth))
    return rendered


def _quantised(images: Tensor) -> Tensor:
    return (images * 255).round() / 255


def reenact(model: SID, pair: RenderedPair, mode: Mode, static: bool = False) -> Tensor:
    """The model's pictures ``[T, 3, H, W]``; with ``static`` each frame is animated as if it were the only one."""
    (source,), frames = to_images(pair.source), to_images(pair.driving)
    if static:
        return to_tensor([next(Animator(model, source, mode.options).animate([frame])) for frame in frames])
    animator = Animator(model, source, mode.options)
    if mode.best_frame:
        animator.start_from_best(frames)
    return to_tensor(list(animator.animate(frames)))


def only(part: str, pair: RenderedPair) -> RenderedPair:
    """The same pair where only the driver's ``expression`` or ``pose`` is wanted, the other part being the source's."""
    faces, own = pair.pair.truth, pair.pair.source
    kept = ("pose",) if part == "expression" else ("action_units", "asymmetry", "gaze")
    faces = faces._replace(**{name: getattr(own, name).expand_as(getattr(faces, name)) for name in kept})
    truth = render(faces, pair.source.shape[-1])
    return RenderedPair(pair.pair._replace(truth=faces), pair.source, pair.driving, truth)


def measure(model: SID, mode: Mode, pairs: list[RenderedPair], ruler: Ruler, static: bool = False) -> list[Figures]:
    """:func:`pair_figures` of every pair."""
    return [
        pair_figures(reenact(model, pair, mode, static), pair, ruler)
        for pair in tqdm(pairs, desc=mode.name, unit="pair", leave=False)
    ]


def trivial(pairs: list[RenderedPair], ruler: Ruler) -> dict[str, list[Figures]]:
    """What costs nothing (the source itself), and what is best possible (the truth: the meter's own error)."""
    still = [pair_figures(pair.source.expand_as(pair.truth.image), pair, ruler) for pair in pairs]
    return {"no motion": still, "truth": [pair_figures(pair.truth.image, pair, ruler) for pair in pairs]}


@torch.inference_mode()
def pair_figures(result: Tensor, pair: RenderedPair, ruler: Ruler) -> Figures:
    """Figures of ``result [T, 3, H, W]``, means over frames.

    - PSNR (dB) and SSIM within the truth's face mask;
    - CSIM: cosine of the meter's z_id on the result and on the source (1: the same person);
    - SIM: distance of the meter's z_exp on the result and on the truth, whose expression is the one that is wanted, in
      units of the distance of unrelated pictures, which is measured once (0: the same expression);
    - AU: mean error of action units, and each unit's by its name; pose: mean error of yaw, pitch and roll, degrees;
      identity: mean error of the identity parameters; landmarks: mean distance in distances of the pupils as they are
      seen from the front; all of the meter's reading against truth.
    """
    faces, truth = pair.pair.truth, pair.truth
    read, wanted, source = (ruler.meter(images) for images in (result, truth.image, pair.source))
    errors = reading_errors(read, faces, truth.landmarks)
    return {
        "PSNR": float(masked_psnr(result, truth.image, truth.mask).mean()),
        "SSIM": float(masked_ssim(result, truth.image, truth.mask).mean()),
        "CSIM": float((read.z_id * source.z_id).sum(dim=1).mean()),
        "SIM": float(ruler.expression_distance(read, wanted).mean()),
        **{name: float(value.mean()) for name, value in errors.items()},
    }


def masked_psnr(image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """PSNR over the pixels of ``mask [B, 1, H, W]``, each counted by its weight, ``[B]``; at most 100 dB."""
    weight = mask.expand_as(image)
    error = ((image - target).square() * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)).clamp(min=1e-6)
    return (-10 * torch.log10(error.clamp(min=1e-10))).clamp(max=100)


def masked_ssim(image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """SSIM's map averaged over ``mask``, ``[B]``."""
    _, full = structural_similarity_index_measure(
        image, target, data_range=1.0, reduction="none", return_full_image=True
    )
    weight = mask.expand_as(full)
    return (full * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)).clamp(min=1e-6)
