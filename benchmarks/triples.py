"""Cross-reenactment against exact truth: a source, a driver who is somebody else, and the source as the driver is.

    python -m benchmarks.triples --checkpoint FILE --triples DIR

DIR is a folder of python -m modules.data.triples with people that no network has seen.  Beside the model stand what
needs no learning (the source as it is, the best affine map of its points, the spline through the points of the true
result), the model moved by the true numbers or to the driver's own points as FOMM does, and the model with the same
driver showing another expression.  Beside PSNR stand how far a head is turned from where it should be (the bundled
landmarks), and the cosine of the result's identity and the source's (FaceRes, which trained nothing here).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from modules.arguments import Parser, number
from modules.data.triples.dataset import TripleDataset
from modules.errors import run_script
from modules.faces.pose import HeadPose
from modules.faces.recognition import FaceRes
from modules.sid.encoders import Semantics
from modules.sid.rigged.codes import UNITS, semantics_of
from modules.sid.rigged.model import RiggedSID, load_rigged
from modules.sid.rigged.motion import GRID, cells, moved
from modules.sid.rigged.parts import EYES, MOUTH, cut, part_square
from modules.sid.rigged.plate import affine, thin_plate
from modules.sid.rigged.points import FaceMeshPoints

BATCH = 16


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="of the rigged model")
    parser.add_argument("--triples", nargs="+", required=True, help="folders of people never seen")
    parser.add_argument("--count", type=number(int, 16, 10**6), default=200, help="triples")
    args = parser.parse_args()
    model, data = load_rigged(args.checkpoint), TripleDataset(args.triples)
    recogniser, rows = FaceRes().eval(), dict[str, list[Tensor]]()
    said, meant = [], []
    for start in tqdm(range(0, args.count, BATCH), unit="batch"):
        batch = default_collate([data[i] for i in range(start, min(start + BATCH, args.count))])
        with torch.inference_mode():
            source, target = (batch[name].float() / 255 for name in ("source", "target"))
            who, there = identity(recogniser, source, model.points(source)), model.points(target)
            for name, picture in pictures(model, batch).items():
                rows.setdefault(name, []).append(figures(picture, batch, who, there, model.points, recogniser))
            said.append(driver_semantics(model, batch).cat())
            meant.append(semantics_of(batch["after"]).cat())
    names = ("frame", "face", "mouth", "eyes", "pose", "CSIM")
    print(f"{'PSNR (dB), degrees':24} " + " ".join(f"{name:>7}" for name in names) + f"   of {args.count} triples")
    for name, values in rows.items():
        print(f"{name:24} " + " ".join(f"{value:7.2f}" for value in torch.cat(values).mean(0).tolist()))
    read, truth = torch.cat(said), torch.cat(meant)
    explained = 1 - (read - truth).square().mean(0) / truth.var(0)
    units, gaze = explained[:UNITS].mean(), explained[UNITS : UNITS + 2].mean()
    print(f"read off drivers: action units R2 {units:.2f}, gaze {gaze:.2f}")
    print("yaw, pitch, roll R2 " + " ".join(f"{value:.3f}" for value in explained[UNITS + 2 : UNITS + 5].tolist()))


def driver_semantics(model: RiggedSID, batch: dict[str, Tensor]) -> Semantics:
    return model.encoder(batch["driver"].float() / 255, batch["driver_points"])


def pictures(model: RiggedSID, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    source, points = batch["source"].float() / 255, batch["source_points"]
    driven, chosen = batch["target_points"], model.rig.moved
    places = cells(GRID, source).flatten(0, 1)[None]

    def warped(fit) -> Tensor:
        flow = fit(driven[:, chosen, :2], points[:, chosen, :2], places) - places
        return moved(source, flow.mT.unflatten(2, (GRID, GRID)))

    exact = semantics_of(batch["before"]), semantics_of(batch["after"])
    read = model.encoder(source, points), driver_semantics(model, batch)
    # where faces are in their frames is not what is compared
    other = Semantics(read[1].expression.roll(1, 0), read[1].pose)

    def shown(before: Semantics, after: Semantics) -> Tensor:
        return model.generator(source, points, model.rig(points, before, after), before, after).image

    return {
        "the true result": batch["target"].float() / 255,
        "source as it is": source,
        "affine map of points": warped(affine),
        "spline of points": warped(thin_plate),
        "model, true points": model.generator(source, points, driven, *exact).image,
        "model, true numbers": shown(*exact),
        "model": shown(*read),
        "model, wrong expression": shown(read[0], other),
        "model, driver's points": model.generator(source, points, batch["driver_points"], *read).image,
    }


def identity(recogniser: FaceRes, frames: Tensor, points: Tensor) -> Tensor:
    """Embeddings of faces with ``points [B, 468, 3]`` in half frames."""
    return recogniser(frames, (points[..., :2] + 1) * (frames.shape[-1] / 2))


def figures(
    picture: Tensor, batch: dict[str, Tensor], who: Tensor, there: Tensor, mesh: FaceMeshPoints, recogniser: FaceRes
) -> Tensor:
    """[B, 6] dB of the frame, of the square about the face's points, of the mouth, of the eyes; degrees; cosine.

    ``who`` is the identity of the source, ``there`` the points seen in the target.
    """
    target, points = batch["target"].float() / 255, batch["target_points"]
    error = (picture - target).square().mean(1, keepdim=True)
    place = cells(error.shape[-1], error)
    low, high = (f(points[..., :2], 1)[:, None, None] for f in (torch.amin, torch.amax))
    inside = ((place > low) & (place < high)).all(-1)[:, None]
    face = (error * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3))
    parts = [cut(error, part_square(points, part, error), part).mean((1, 2, 3)) for part in (MOUTH, *EYES)]
    columns = [error.mean((1, 2, 3)), face, parts[0], (parts[1] + parts[2]) / 2]
    close = -10 * torch.stack(columns, dim=1).clamp(min=1e-6).log10()
    half = picture.shape[-1] / 2
    seen = half * mesh(picture)
    turned = HeadPose()(torch.cat([seen, half * there])).chunk(2)
    apart = (turned[0] - turned[1]).abs().mean(1), (identity(recogniser, picture, seen / half) * who).sum(1)
    return torch.cat([close, torch.stack(apart, dim=1)], dim=1)


if __name__ == "__main__":
    run_script(main)
