"""SFSR as users run it: a face painted into a picture, and what is not the face left alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import scripts
import tiny_base
import torch
from test_mef_training import train
from test_sfsr_training import SFSR, write_people
from tiny_mef import write_config, write_sid

from benchmarks.sfsr import real
from benchmarks.sfsr.estimates import Painted
from modules import media
from modules.errors import UserError
from modules.evaluation import face_tasks
from modules.faces.close_crop import Crop
from modules.faces.framer import Framer
from modules.faces.region import Region, face_region
from modules.mef.estimators import estimate_clean
from modules.mef.inference import load_pipeline
from modules.mef.options import PortraitOptions
from modules.mef.painter import FacePainter

ROOT = Path(__file__).parent.parent
PEOPLE = [ROOT / "Inputs" / "Identities" / f"person-{i}.png" for i in (1, 2, 3)]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> Path:
    """Of a tiny base that has been trained for a few steps; its SID says how closely it sees faces."""
    folder = tmp_path_factory.mktemp("sfsr")
    tiny_base.save("sd15", folder / "sd15")
    write_people(write_sid(folder, framing_params={"size": 2.35, "above": 0.11}))
    changes = SFSR | {"train_params.num_epochs": 1}
    config = write_config(folder / "sfsr.yaml", folder, **changes)
    return train(config, log_dir=str(folder / "log")) / "adapters"


@pytest.fixture(scope="module")
def painter(adapters) -> FacePainter:
    return FacePainter(load_pipeline(str(adapters), cpu=True), PortraitOptions("", steps=2))


def run(adapters: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return scripts.run("Inference.py", "--cpu", "--checkpoint", str(adapters), "--steps", "2", *options)


@pytest.fixture(scope="module")
def group() -> np.ndarray:
    return np.concatenate([media.read_image(path) for path in PEOPLE], axis=1)


def test_a_region_is_found_again_in_a_crop():
    region, crop = Region(60.0, 50.0, 20.0, 30.0, 0.3), Crop(55.0, 52.0, 80.0, 0.3)
    inside = region.within(crop, 160)
    assert inside.across == 40 and inside.down == 60 and inside.angle == 0
    place = crop.matrix @ (inside.x / 160, inside.y / 160, 1)
    assert place == pytest.approx((60, 50))
    # an oval's area, to the pixels of its outline
    assert float(region.mask(128, 128).sum()) == pytest.approx(np.pi * 20 * 30, rel=0.01)


def test_a_region_holds_the_landmarks_whatever_way_the_head_leans(painter):
    picture = media.read_image(PEOPLE[0])
    for turned in (picture, np.rot90(picture, 1).copy()):
        place = painter.place(turned, "picture")
        landmarks = Framer(2.35, 0.11, cpu=True).landmarks(turned, "picture")
        distance = face_region(landmarks).distance(*turned.shape[:2])
        x, y = landmarks.round().astype(int).T
        assert float(distance[y, x].max()) < 1
        assert place.region.is_inside(turned)


@pytest.mark.parametrize(("face", "number"), [("left", 0), ("2", 1), ("right", 2)])
def test_only_the_chosen_face_of_a_group_changes(painter, group, face, number):
    place = painter.place(group, "group", face)
    (painted,) = painter.paint(place, identity=torch.ones(1, painter.pipeline.adapters.widths[0]))
    result = place.pasted(painted, torch.device("cpu"))
    assert result.shape == group.shape
    changed = np.argwhere((result != group).any(axis=2))
    inside = place.region.distance(*group.shape[:2]).numpy() < 1
    assert len(changed) > 500
    assert inside[tuple(changed.T)].all()
    side = group.shape[1] // 3
    assert (changed[:, 1] // side == number).all()


def test_the_script_writes_the_picture_at_its_own_size(adapters, tmp_path):
    target, result = tmp_path / "target.png", tmp_path / "swapped.png"
    picture = media.resize(media.read_image(PEOPLE[0]), 300, 300)
    media.write_image(target, picture)
    options = "--target_image", str(target), "--source_image", str(PEOPLE[1]), "--result_image", str(result)
    done = run(adapters, *options, "--watermark", "none", "--reference_image", str(PEOPLE[2]))
    assert done.returncode == 0, done.stderr
    found = media.read_image(result)
    assert found.shape == picture.shape
    assert np.array_equal(found[:, :20], picture[:, :20]) and not np.array_equal(found, picture)


def test_without_a_target_the_picture_is_drawn_first(adapters, tmp_path):
    done = run(
        adapters, "--prompt", "a red hat", "--source_image", str(PEOPLE[1]), "--result_image", str(tmp_path / "a.png")
    )
    # what a network that has learnt next to nothing draws shows no face, and that is told
    assert done.returncode == 2
    assert "no face" in done.stderr and "what the prompt has drawn" in done.stderr


def faulty(kind: str, folder: Path) -> list[str]:
    """The options of one fault."""
    target = folder / "target.png"
    picture = media.read_image(PEOPLE[0])
    source = ["--source_image", str(PEOPLE[1])]
    nobody = folder / "nobody.png"
    media.write_image(nobody, np.full_like(picture, 128))
    if kind == "no face":
        picture = np.full_like(picture, 128)
    elif kind == "nobody":
        source = ["--source_image", str(nobody)]
    elif kind == "no expression":
        source = ["--reference_image", str(nobody)]
    elif kind == "tight":  # all of the face is there, but the oval reaches beyond the picture
        landmarks = Framer(2.35, 0.11, cpu=True).landmarks(picture, "picture")
        (left, top), (right, bottom) = np.floor(landmarks.min(axis=0) - 3), np.ceil(landmarks.max(axis=0) + 3)
        picture = picture[max(0, int(top)) : int(bottom), max(0, int(left)) : int(right)]
    elif kind == "edge":
        picture = picture[70:]
    elif kind == "number":
        source += ["--face", "3"]
    elif kind == "word":
        source += ["--expression", "joyy"]
    elif kind == "nothing":
        source = []
    elif kind == "video":
        source += ["--driving_video", str(target)]
    elif kind == "option":
        source += ["--strength", "0.5"]
    elif kind == "result":
        source += ["--result_video", str(folder / "a.mp4")]
    media.write_image(target, picture)
    return ["--target_image", str(target), *source]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no face", "no face"),
        ("edge", "the face is at the picture's edge"),
        ("tight", "the face is at the picture's edge"),
        ("nobody", "no face found in the identity picture"),
        ("no expression", "no face found in the expression picture"),
        ("number", "--face 3: one face is found in"),
        ("word", "joy"),
        ("nothing", "--target_image needs --source_image"),
        ("video", "--driving_video has no meaning with --target_image"),
        ("option", "--strength has no meaning with --target_image"),
        ("result", "--result_video: --target_image gives a picture"),
    ],
)
def test_bad_input_is_told_in_one_line(adapters, tmp_path, kind, message):
    result = tmp_path / "result.png"
    done = run(adapters, *faulty(kind, tmp_path), "--result_image", str(result))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not result.exists()


def test_a_base_for_text_paints_nothing(tmp_path):
    pipeline = load_pipeline(str(ROOT / "MEF_Checkpoints" / "adapters"), cpu=True)
    with pytest.raises(UserError, match="its UNet reads no background"):
        FacePainter(pipeline, PortraitOptions(""))


def test_real_photographs_are_painted_and_judged(adapters, tmp_path, capsys):
    for i, path in enumerate(PEOPLE):
        media.write_image(tmp_path / f"p{i}#1.png", media.read_image(path))
    media.write_image(tmp_path / "nobody.png", np.full((64, 64, 3), 128, np.uint8))
    real.real(tmp_path, adapters, pairs=3, steps=1, seed=0, sheet=tmp_path / "out" / "sheet.png")
    told = capsys.readouterr().out
    assert "left out: no face found in nobody.png" in told and "3 triples of 3 photographs of 3 people" in told
    cells = {line.split("  ")[0]: line.split()[-20:] for line in told.splitlines()}
    for task in face_tasks.TASKS:
        assert f"{task}, SFSR" in cells
    # found, outside, to source, to target: the target is itself
    unchanged = [part for part in cells["swap, target as it is"] if "±" not in part]
    assert (unchanged[0], unchanged[1], unchanged[3]) == ("100.00", "0.00", "1.00")
    assert media.read_image(tmp_path / "out" / "sheet.png").shape == (3 * real.SIDE, 6 * real.SIDE, 3)


def test_triples_are_of_three_people_and_every_photograph_is_painted_into(painter, tmp_path):
    for i, path in enumerate(PEOPLE):
        for j in (1, 2):
            media.write_image(tmp_path / f"p{i}#{j}.png", media.read_image(path))
    photographs = real.read_photographs(tmp_path, painter)
    triples = real.draw_triples(photographs, 6, seed=1)
    assert all(len({photograph.person for photograph in triple}) == 3 for triple in triples)
    assert {id(triple.target) for triple in triples} == {id(photograph) for photograph in photographs}
    assert [[p.person for p in triple] for triple in real.draw_triples(photographs, 6, seed=1)] == [
        [p.person for p in triple] for triple in triples
    ]


def test_estimates_of_x0_see_the_background():
    people = Painted(ROOT / "MEF_Checkpoints" / "sfsr", face_tasks.ask(2, 1).asked(face_tasks.BOTH))
    steps = torch.full((2,), 400)
    noisy = people.noise.add_noise(people.clean, people.drawn, steps)
    with torch.no_grad():
        clean = estimate_clean(people.noise, "one_step", noisy, people.predict(noisy, steps), steps, people.predict)
        apart = (people.decode(clean) - people.decode(people.clean)).abs().mean(dim=1, keepdim=True)
    inside, outside = people.looked_at, 1 - people.looked_at
    assert 0.1 < inside.mean() < 0.9
    # what is given need not be guessed
    assert (apart * outside).sum() / outside.sum() < 0.7 * (apart * inside).sum() / inside.sum()


def test_too_few_people_to_swap_are_told(painter, tmp_path):
    media.write_image(tmp_path / "a.png", media.read_image(PEOPLE[0]))
    with pytest.raises(UserError, match="fewer than three people"):
        real.read_photographs(tmp_path, painter)
