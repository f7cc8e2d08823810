"""Writing a data set of the face world: clips and stills in the training layout, and their labels beside them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ... import media
from ...atomic import replacing, write_text, writing_errors
from ...errors import UserError
from ...world.clips import CALM_SHARE, clip
from ...world.draws import draw_close_poses, draw_expressions, draw_identities, draw_poses, draw_scenes
from ...world.parameters import Faces
from ...world.rendering import Render, render
from ...world.words import attributes, captions
from ..clips import SPLITS
from ..portraits import METADATA

_AT_ONCE = 2**22  # pixels rendered before they are written: 256 pictures of 128 x 128, which a GPU draws together
_CRF = 10  # of H.264: what is learnt should be the world, not the codec


@dataclass(frozen=True)
class Plan:
    """What to write."""

    identities: int  # people in train/
    clips: int  # of each
    frames: int = 100  # of each clip
    fps: Fraction = Fraction(25)
    size: int = 128  # pixels of a side
    stills: int = 0  # photographs of each person, every one with an expression, pose and scene of its own
    test: int = 0  # people in test/, none of them in train/
    seed: int = 0
    format: str = "mp4"  # or "frames": a folder of pictures per clip
    device: str = "cpu"
    prefix: str = "p"  # of people's names: person 0 of two seeds is two people, and data sets are mixed by name
    calm_share: float = CALM_SHARE  # of the clips: their heads keep almost still, their faces do not
    close: bool = False  # the faces of stills fill almost half of the frame's height, and turn less

    @property
    def pictures(self) -> int:
        return (self.identities + self.test) * (self.clips * self.frames + self.stills)

    def person(self, number: int) -> str:
        return f"{self.prefix}{number:05d}"

    def split(self, number: int) -> str:
        return "train" if number < self.identities else "test"


def write_dataset(out: str | Path, plan: Plan, progress: bool = True) -> Path:
    """Write the data set into ``out``, which must not hold one already, and return ``out``.

    ``train/<person>#<clip>.mp4`` and ``test/`` likewise, with their captions in ``metadata.jsonl``;
    ``stills/train/<person>#s<number>.png`` and ``stills/test/``, each with the ``metadata.jsonl`` that
    :func:`.data.portraits.read_portraits` reads, and their face masks in ``stills/masks/``; and one
    ``labels/<name>.npz`` for each clip and still.  The same plan gives the same pictures; person i is the same in every
    data set of its seed.
    """
    out = Path(out)
    stills = {split: out / "stills" / split for split in SPLITS}
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give the name of a folder")
    if any(path.exists() for path in (out / METADATA, out / "labels", *(out / s for s in SPLITS), *stills.values())):
        raise UserError(f"{out}: there is a data set already, or part of one; choose another folder or remove that one")
    people = draw_identities(plan.identities + plan.test, plan.seed)
    lines: dict[Path, list[str]] = defaultdict(list)  # of each folder's metadata
    with tqdm(total=plan.pictures, desc=f"rendering {out}", unit="frame", disable=not progress) as bar:
        for number, identity in enumerate(people):
            split = plan.split(number)
            scenes = draw_scenes(plan.clips, _seed(plan, number, 0))
            for i, scene in enumerate(scenes):
                seed = _seed(plan, number, 1 + i)
                faces = clip(identity, scene, seed, plan.frames, float(plan.fps), plan.calm_share)
                name = f"{plan.person(number)}#{i}"
                file, marks = _write_clip(out / split / name, faces, plan, bar)
                _write_labels(out, name, faces, marks)
                lines[out].append(_metadata(out, file, faces.take([0]), split=split))
        for name, split, face, image, mask, marks in _stills(people, plan):
            # apart from the stills: a folder of training data holds nothing but what is to be learnt
            file, mask_file = stills[split] / f"{name}.png", out / "stills" / "masks" / f"{name}.png"
            media.write_image(file, image)
            media.write_image(mask_file, mask)
            _write_labels(out, name, face, marks)
            lines[file.parent].append(_metadata(file.parent, file, face, mask=f"../masks/{mask_file.name}"))
            bar.update()
    for folder, described in lines.items():
        write_text(folder / METADATA, "".join(described))
    return out


def _seed(plan: Plan, number: int, purpose: int) -> int:
    """A seed for one purpose of one person."""
    return int(np.random.SeedSequence([plan.seed, number, purpose]).generate_state(1)[0])


def _stills(people: torch.Tensor, plan: Plan) -> Iterator[tuple[str, str, Faces, np.ndarray, np.ndarray, torch.Tensor]]:
    """All people's stills: name, split, face, picture and mask (uint8 [H, W, 3]), landmarks [1, 68, 2]."""
    count, at_once = plan.stills, _at_once(plan)
    for start in range(0, len(people) * count, at_once):  # a person's few would leave a GPU waiting
        numbers = range(start, min(start + at_once, len(people) * count))
        whose = sorted({n // count for n in numbers})
        drawn = Faces.cat([_faces(people[number], plan, number) for number in whose])
        faces = drawn.take([n - whose[0] * count for n in numbers])
        picture = _render(faces, plan)
        images, masks = _bytes(picture.image), _bytes(picture.mask.expand_as(picture.image))
        for i, n in enumerate(numbers):
            name = f"{plan.person(n // count)}#s{n % count}"
            yield name, plan.split(n // count), faces.take([i]), images[i], masks[i], picture.landmarks[i : i + 1]


def _faces(identity: torch.Tensor, plan: Plan, number: int) -> Faces:
    """A person's stills."""
    seed = _seed(plan, number, 2**20)
    expressions = draw_expressions(plan.stills, seed)
    poses = (draw_close_poses if plan.close else draw_poses)(plan.stills, seed)
    return Faces(identity.expand(plan.stills, -1), *expressions, poses, draw_scenes(plan.stills, seed))


def _at_once(plan: Plan) -> int:
    return max(1, _AT_ONCE // plan.size**2)


def _render(faces: Faces, plan: Plan) -> Render:
    return Render(*(value.cpu() for value in render(faces.to(plan.device), plan.size)))


def _bytes(images: torch.Tensor) -> np.ndarray:
    """uint8 [B, H, W, 3] of [B, 3, H, W] in [0, 1]."""
    return (images * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def _write_clip(path: Path, faces: Faces, plan: Plan, bar: tqdm) -> tuple[Path, torch.Tensor]:
    """Write a clip next to ``path``, whose ending depends on the format; the file, and the landmarks [T, 68, 2]."""
    marks, at_once = [], _at_once(plan)

    def images() -> Iterator[np.ndarray]:
        for start in range(0, faces.size, at_once):
            picture = _render(faces.take(slice(start, start + at_once)), plan)
            marks.append(picture.landmarks)
            for image in _bytes(picture.image):
                yield image
                bar.update()

    if plan.format == "mp4":
        file = path.with_name(f"{path.name}.mp4")
        with media.VideoWriter(file, plan.size, plan.size, plan.fps, crf=_CRF) as writer:
            for i, image in enumerate(images()):
                writer.write(image, float(i / plan.fps))
    else:
        file = path
        for i, image in enumerate(images()):
            media.write_image(path / f"{i:07d}.png", image)
    return file, torch.cat(marks)


def _write_labels(out: Path, name: str, faces: Faces, landmarks: torch.Tensor) -> None:
    path = out / "labels" / f"{name}.npz"
    with replacing(path) as temporary, writing_errors(path), open(temporary, "wb") as file:
        np.savez(file, **{key: value.numpy() for key, value in faces._asdict().items()}, landmarks=landmarks.numpy())


def _metadata(folder: Path, file: Path, face: Faces, **more: str) -> str:
    """The line of ``file`` in the metadata of ``folder``.  A clip has no expression of its own to name."""
    still = file.suffix == ".png"
    words = {
        "file_name": file.relative_to(folder).as_posix(),
        "identity": file.name.split("#")[0],
        "text": captions(face, expression=still)[0],
        **more,
        **attributes(face)[0],
    }
    return json.dumps(words) + "\n"
