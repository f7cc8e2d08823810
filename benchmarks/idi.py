"""How well cross-identity pairs are told from others, against the face world's truth.

    python -m benchmarks.idi limits    true pairs, pairs of other expressions and of one person: what each limit keeps
    python -m benchmarks.idi sid       exemplars that SID makes: how many are kept, and what the measuring network says

People and expressions are random ones whom nothing was trained on.  Limits were chosen by the first, not by the second.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from modules import media
from modules.arguments import Parser, number
from modules.bundled import bundled
from modules.data.portraits import Portrait
from modules.errors import UserError, run_script
from modules.evaluation.disentanglement import ridge
from modules.evaluation.judges.face_meter import find_meter, load_meter
from modules.evaluation.people import PROBE_SEED, render_all
from modules.evaluation.portrait_figures import read
from modules.evaluation.portrait_tasks import CLASSES, ask
from modules.media.tensors import to_images
from modules.mef.idi.judge import CONFIG, WEIGHTS, Limits, PairJudge, Seen
from modules.mef.idi.makers import FromPortraits, FromWorld, by_sid
from modules.world.rendering import render

SEED = 4_100_041  # of the people that limits are chosen by; those that are measured with are evaluation's
SIZE, TAUGHT = 192, 600
SHARES = (0.06, 0.08, 0.1, 0.12, 0.15), (3.0, 4.5, 6.0, 9.0), (0.5, 0.55, 0.6, 0.65, 0.7)


def limits(count: int, cpu: bool) -> None:
    """Each limit alone: the share that it keeps of true pairs, and of pairs that it is there to tell."""
    judge, world = PairJudge(Limits(), cpu), FromWorld(SIZE, SEED)
    seen: list[list[Seen]] = []
    for i in tqdm(range(count), desc="looking", unit="pair"):
        try:
            pictures = to_images(render(world.faces(i), SIZE).image)
            seen.append([judge.see(picture, f"picture {i}") for picture in pictures])
        except UserError:
            continue
    print(f"{len(seen)} of {count} with faces found")
    following = seen[1:] + seen[:1]
    true = [judge.verdict(target, exemplar) for target, exemplar, _ in seen]
    others = [judge.verdict(target, exemplar) for (target, _, _), (_, exemplar, _) in zip(seen, following, strict=True)]
    person = [judge.verdict(target, other) for target, _, other in seen]
    told = {"expression": (true, others), "pose": (true, others), "identity": (true, person)}
    for (name, (good, bad)), steps in zip(told.items(), SHARES, strict=True):
        for most in steps:
            kept, passed = (100 * sum(getattr(v, name) <= most for v in of) / len(of) for of in (good, bad))
            print(f"{name:10} up to {most:5.2f}: {kept:5.1f} % of true pairs, {passed:5.1f} % of others")


def sid(count: int, cpu: bool) -> None:
    """Of exemplars that SID makes: the class of their expression, of eight, and whose picture they are.

    The measuring network tells both: classes by a linear readout that is taught on renders of others.
    """
    asked, taught, meter = ask(200, 5, close=True), ask(TAUGHT, 1, PROBE_SEED, True), load_meter(find_meter(None))
    pictures, known = (render_all(faces.truth, 128, "rendering")[0] for faces in (asked, taught))
    with tempfile.TemporaryDirectory() as folder:
        portraits = []
        for i, picture in enumerate(pictures.permute(0, 2, 3, 1).numpy()):
            file = Path(folder) / f"{i}.png"
            media.write_image(file, picture)
            portraits.append(Portrait(file, "a person", str(int(asked.person[i]))))
        maker = FromPortraits(portraits, by_sid(str(bundled(CONFIG)), str(bundled(WEIGHTS)), cpu), 0)
        judge, rows, made, verdicts = PairJudge(Limits(), cpu), [], [], []
        for i in tqdm(range(count), desc="making", unit="pair"):
            try:
                pair = maker(i)
            except UserError:
                continue
            verdicts.append(judge.judge(pair.picture, pair.exemplar, pair.target))
            rows.append((int(pair.target.stem), int(pair.donor)))
            made.append(torch.from_numpy(pair.exemplar).permute(2, 0, 1))
    found, truth = read(meter, torch.stack(made)), read(meter, pictures)
    target, donor = torch.tensor(rows).unbind(dim=1)
    classes = F.one_hot(taught.shown, len(CLASSES)).double()
    scores = ridge(read(meter, known).z_exp.double(), classes, 1, found.z_exp.double())
    right = scores.argmax(dim=1) == asked.shown[target]
    people = F.normalize(truth.z_id.unflatten(0, (200, 5)).mean(dim=1), dim=1)
    nearer = (found.z_id * people[donor]).sum(dim=1) > (found.z_id * people[asked.person[target]]).sum(dim=1)
    kept = torch.tensor([verdict.against is None for verdict in verdicts])
    print(f"{len(made)} of {count} made; kept {100 * kept.float().mean():.1f} %")
    for name, chosen in (("all", torch.ones_like(kept)), ("kept", kept), ("refused", ~kept)):
        if chosen.any():
            shares = (100 * float(values[chosen].float().mean()) for values in (right, nearer))
            print(
                f"{name:8} expression right of eight: {next(shares):.1f} %; nearer to the donor: {next(shares):.1f} %"
            )


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("part", choices=["limits", "sid"])
    parser.add_argument("--count", type=number(int, 8, 10**5), default=1000, help="pairs")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    args = parser.parse_args()
    {"limits": limits, "sid": sid}[args.part](args.count, args.cpu)


if __name__ == "__main__":
    run_script(main)
