"""--mode evaluate and its parts: figures whose right value is known beforehand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
import yaml
from tiny import tiny

from modules.config.files import config_from_dict, section_from_dict
from modules.config.sid import EncoderParams, EvaluateParams
from modules.errors import UserError
from modules.evaluation import bootstrap, compare, disentanglement, reenactment
from modules.evaluation.judges.face_meter import FaceMeter, load_meter, save_meter
from modules.evaluation.judges.training import PICTURES_PER_PERSON, MeterParams, train_meter
from modules.evaluation.output import evaluation_folder
from modules.evaluation.people import TRAINING_SEED, cross_pair, portraits, pupil_distance, render_all
from modules.evaluation.report import left_out
from modules.evaluation.ruler import calibrate
from modules.faces.window import (
    FACE_SHARE,
    LEAST_CONTRAST,
    LOWER,
    WIDER,
    contrast,
    face_oval,
    whole_face,
    within_whole_face,
)
from modules.sid import weights
from modules.sid.encoders import IdentityEncoder
from modules.sid.model import SID
from modules.training.checkpoint import save_checkpoint
from modules.training.command import Run
from modules.world import ACTION_UNITS, CATEGORIES, IDENTITY, render

ROOT = Path(__file__).parent.parent
SMALL = EncoderParams(
    identity_dim=8,
    expression_dim=8,
    pose_dim=4,
    block_expansion=8,
    max_features=16,
    num_blocks=3,
    face_pixels=32,
    own_expression=True,
    mirrored_identity=True,
)
PEOPLE, FRAMES = 60, 5


@pytest.fixture(scope="module")
def faces():
    return portraits(PEOPLE, FRAMES, seed=5)


def test_retrieval_of_what_knows_the_person_and_of_what_does_not(faces):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(faces.identity.shape, generator=generator)
    assert (disentanglement.rank1(faces.identity + 1e-3 * noise, FRAMES) == 1).all()
    assert disentanglement.rank1(noise, FRAMES).mean() < 0.1  # chance is 1/60


def test_a_probe_reads_what_is_there_linearly_and_nothing_else(faces):
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(len(ACTION_UNITS), 40, generator=generator)
    z = (faces.action_units @ mixing).double()
    assert r2(z, faces.action_units).mean() > 0.9
    assert r2(z, faces.identity).mean() < 0.2


def r2(z, truth):
    half, truth = len(z) // 2 // FRAMES * FRAMES, truth.double()
    read = disentanglement.ridge(z[:half], truth[:half], FRAMES, z[half:])
    return disentanglement.explained_share(read, truth[half:], FRAMES).mean(dim=0)


def test_what_is_alike_in_all_pictures_has_no_figure():
    truth = torch.rand(20 * FRAMES, 3, dtype=torch.double)
    truth[:, 1] = 0.25
    explained = disentanglement.explained_share(truth, truth, FRAMES)
    assert explained.isnan().any(dim=0).tolist() == [False, True, False]
    assert explained.shape == (20, 3) and (explained[:, [0, 2]] == 1).all()
    # means over people are the usual coefficient of determination
    guess = truth + 0.1 * torch.randn(truth.shape, dtype=torch.double)
    usual = 1 - (guess - truth)[:, 0].square().sum() / (truth - truth.mean(dim=0))[:, 0].square().sum()
    torch.testing.assert_close(disentanglement.explained_share(guess, truth, FRAMES)[:, 0].mean(), usual)


def test_too_few_people_are_refused_and_what_is_left_out_is_named():
    for name in ("people", "probe_people"):
        with pytest.raises(UserError, match=f"{name}.*16"):
            section_from_dict(EvaluateParams, {name: 15})
    assert left_out({"without spread": ["AU9", "AU43"]}).endswith("AU9, AU43")
    assert left_out({"without spread": []}) == left_out({}) == ""


def test_people_teach_probes_more_than_few_do():
    """A code of identity among much that is not: a hundred people do not suffice to read it, a thousand do."""
    generator = torch.Generator().manual_seed(0)

    def code(people: int, seed: int):
        identity = portraits(people, 1, seed).identity.double()
        mixing = torch.randn(len(IDENTITY), 96, generator=torch.Generator().manual_seed(1), dtype=torch.double)
        return identity @ mixing + 6 * torch.randn(people, 96, generator=generator, dtype=torch.double), identity

    (z, truth), known = code(200, 1), []
    for people in (100, 1000):
        read = disentanglement.ridge(*code(people, 2), 1, z)
        known.append(float(disentanglement.explained_share(read, truth, 1).mean()))
    assert known[1] > known[0] + 0.1


def test_an_interval_holds_the_mean_and_narrows_with_more_values():
    values = np.random.default_rng(0).normal(3, 1, 400)
    (low, high), (wide_low, wide_high) = bootstrap.interval(values), bootstrap.interval(values[:25])
    assert low < values.mean() < high and high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert wide_high - wide_low > 2 * (high - low)
    assert bootstrap.interval(values) == (low, high)
    assert bootstrap.interval([2.5]) == bootstrap.interval([2.5] * 3) == (2.5, 2.5)


def test_pictures_of_one_person_differ_in_all_but_the_person(faces):
    person = faces.identity.unflatten(0, (PEOPLE, FRAMES))
    assert (person == person[:, :1]).all() and not (person[0] == person[1]).all()
    for name in ("action_units", "pose", "scene"):
        values = getattr(faces, name).unflatten(0, (PEOPLE, FRAMES))
        assert not (values[:, 0] == values[:, 1]).all(), name
    first, second = portraits(4, 2, seed=5, same_face=0), portraits(4, 2, seed=5, same_face=1)
    for alike in (first, second):
        assert (alike.pose == alike.pose[:1]).all() and (alike.action_units == alike.action_units[:1]).all()
        assert not (alike.scene == alike.scene[:1]).all()
    assert torch.equal(first.identity, second.identity)
    assert not (first.pose == second.pose).any() and not torch.equal(first.scene, second.scene)


def test_the_unit_of_landmark_errors_does_not_shrink_as_the_head_turns(faces):
    turned = faces._replace(pose=faces.pose * torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]))
    assert torch.equal(pupil_distance(faces), pupil_distance(turned))
    nearer = faces._replace(pose=faces.pose * torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.2]))
    torch.testing.assert_close(pupil_distance(nearer), 1.2 * pupil_distance(faces))
    assert pupil_distance(faces).min() > 0.2 and pupil_distance(faces).max() < 0.5  # of half a frame


@torch.inference_mode()
def test_the_distance_of_expressions_has_one_unit_whatever_it_is_measured_on():
    torch.manual_seed(0)
    ruler = calibrate(FaceMeter(SMALL, 32).eval(), 32, people=4, frames=3)
    images, _ = render_all(portraits(12, 1, seed=9), 32, "rendering")
    first, second = (ruler.meter(images[rows] / 255) for rows in (slice(0, 6), slice(6, 12)))
    unrelated = ruler.expression_distance(first, second)
    # root mean square distance of other unrelated people: six pairs tell it to some two fifths
    assert float(unrelated.square().mean().sqrt()) == pytest.approx(1, rel=0.5)
    assert (ruler.expression_distance(first, first) == 0).all()
    one = ruler.meter(images[:1] / 255), ruler.meter(images[6:7] / 255)
    torch.testing.assert_close(ruler.expression_distance(*one), unrelated[:1], atol=1e-4, rtol=1e-4)


def test_the_truth_of_a_cross_pair_is_one_persons_look_and_the_others_face():
    pair = cross_pair(3, 4, seed=7)
    assert (pair.truth.identity == pair.source.identity).all() and (pair.truth.scene == pair.source.scene).all()
    for name in ("action_units", "asymmetry", "gaze", "pose"):
        assert torch.equal(getattr(pair.truth, name), getattr(pair.driving, name)), name
    assert not (pair.driving.identity == pair.source.identity).all()
    again = cross_pair(3, 4, seed=7)
    assert all(torch.equal(a, b) for a, b in zip(pair.truth, again.truth, strict=True))


def test_masked_figures_look_at_the_mask_alone():
    torch.manual_seed(0)
    target = torch.rand(2, 3, 32, 32)
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 8:24, 8:24] = 1
    wrong = target + 0.1 * mask - 0.3 * (1 - mask)
    torch.testing.assert_close(reenactment.masked_psnr(wrong, target, mask), torch.full((2,), 20.0), atol=1e-3, rtol=0)
    outside = torch.where(mask.bool(), target, 0.5)
    inner = torch.zeros_like(mask)
    inner[:, :, 14:18, 14:18] = 1  # an SSIM window (11 pixels) about these stays inside what is equal
    torch.testing.assert_close(reenactment.masked_ssim(outside, target, inner), torch.ones(2), atol=1e-4, rtol=0)
    assert reenactment.masked_ssim(outside, target, mask).max() < 0.999


def teach(folder: Path, params: EncoderParams = SMALL, of_model: bool = False) -> FaceMeter:
    run = Run("meter.yaml", log_dir=str(folder), cpu=True)
    steps = 100 if params.face_pixels else 150  # a head that is not held upright is learnt more slowly
    return train_meter(params, 32, 16, MeterParams(steps=steps, warmup_steps=10), run, of_model=of_model)


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> FaceMeter:
    return teach(tmp_path_factory.mktemp("meter"))


def test_a_meter_learns_from_the_truth_and_is_read_back_from_its_file(taught, tmp_path):
    """A few steps on sixteen people teach nothing of others; on them it must do better than the mean face."""
    meter = taught
    save_meter(meter, tmp_path / "meter.pth")
    again = load_meter(tmp_path / "meter.pth")
    images, _, landmarks = render(portraits(16, PICTURES_PER_PERSON, TRAINING_SEED).take(torch.arange(16)), 32)
    read, copy = meter(images), again(images)
    torch.testing.assert_close(read.pose, copy.pose, atol=0.5, rtol=0.02)  # kept in half precision
    assert read.identity.shape == (16, len(IDENTITY)) and read.landmarks.shape == (16, 68, 2)
    assert {name: logits.shape for name, logits in read.scene.items()} == {
        name: (16, len(words)) for name, words in CATEGORIES.items()
    }
    guess = (landmarks - landmarks.mean(dim=0)).abs().mean()
    assert (read.landmarks - landmarks).abs().mean() < 0.85 * guess


@pytest.mark.parametrize(
    "changes, of_model",
    [({}, False), ({}, True), ({"face_pixels": None, "own_expression": False}, True)],
    ids=["meter", "ceiling", "ceiling that looks at the whole frame"],
)
def test_a_meter_learns_what_the_face_does(taught, changes, of_model, tmp_path):
    """With an expression encoder of its own too, which in SID nothing but flow teaches: a meter has the truth."""
    meter = teach(tmp_path, replace(SMALL, **changes), True) if of_model else taught
    faces = portraits(16, PICTURES_PER_PERSON, TRAINING_SEED)
    images, roll = render(faces, 32).image, faces.pose[:, 2]
    read = meter(images)
    assert (read.pose[:, 2] - roll).abs().mean() < 0.85 * (roll - roll.mean()).abs().mean()
    units = faces.action_units - faces.action_units.mean(dim=0)
    assert (read.action_units - faces.action_units).square().mean() < 0.97 * units.square().mean()
    if meter.params.face_pixels is None:
        assert not read.places
        return
    # the finders have learnt to lean as the head does; that of expressions looks higher than identity's, for the whole
    # face about its place is further down by LOWER of its half side
    assert (read.places[1][:, 1].rad2deg() - roll).abs().mean() < 0.85 * (roll - roll.mean()).abs().mean()
    lower = LOWER * FACE_SHARE / WIDER * faces.pose[:, 5].mean() * roll.deg2rad().cos().mean()
    assert float((read.places[0] - read.places[1])[:, 3].mean()) == pytest.approx(float(lower), rel=0.4)
    size = SMALL.face_pixels
    seen = [meter.semantic.read_expression(torch.nn.functional.interpolate(i, size)) for i in (images, images.flip(-1))]
    torch.testing.assert_close(*seen)  # an action unit is as strong in a mirror


def test_a_meter_that_is_led_sees_the_face_where_it_is_told_to():
    torch.manual_seed(0)
    meter = FaceMeter(SMALL, 32).eval()
    torch.nn.init.normal_(meter.identity.finder.read.weight, std=0.1)
    image = torch.rand(2, 3, 32, 32)
    alone = meter(image)
    found = meter(image, [place.clone() for place in alone.places])
    torch.testing.assert_close(alone.z_id, found.z_id)
    elsewhere = meter(image, [place + 0.3 for place in alone.places])
    assert (elsewhere.z_id - alone.z_id).abs().max() > 1e-3  # untrained encoders tell little of anything
    torch.testing.assert_close(elsewhere.places, alone.places)


@pytest.mark.parametrize("changes", [{"face_pixels": None}, {"own_expression": False}, {"mirrored_identity": False}])
def test_a_measuring_network_is_of_one_kind(changes):
    with pytest.raises(UserError, match="needs face_pixels, own_expression and mirrored_identity"):
        FaceMeter(replace(SMALL, **changes), 32)


def test_the_ceiling_of_a_model_is_its_own_encoders(tmp_path):
    """What knows people best measures; a ceiling has to be as SID is."""
    for of_model in (True, False):
        save_meter(FaceMeter(SMALL, 32, of_model), tmp_path / "meter.pth")
        own = {name: value.shape for name, value in IdentityEncoder(SMALL).state_dict().items()}
        again = load_meter(tmp_path / "meter.pth", of_model).identity
        kept = {name: value.shape for name, value in again.state_dict().items()}
        assert (own == kept) == of_model
        with pytest.raises(UserError, match="is not a"):
            load_meter(tmp_path / "meter.pth", not of_model)


def test_who_it_is_shows_at_any_exposure():
    """Of two views one changes with the light, the other does not."""
    torch.manual_seed(0)
    encoder, image = FaceMeter(SMALL, 32).identity.eval(), torch.rand(2, 3, 32, 32)
    place, read = encoder.finder(image), []
    encoder.features.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    for exposed in (image, image / 2):
        encoder.embed(encoder.see(exposed, place))
    seen, _, darker, _ = read  # the others are in a mirror
    torch.testing.assert_close(darker[:, :3], seen[:, :3] / 2)
    # but for what is added to the deviation, whatever the light
    deviation = contrast(seen[:, :3], encoder.oval)[1]
    torch.testing.assert_close(darker[:, 3:], seen[:, 3:] * deviation / (deviation + LEAST_CONTRAST))


def test_a_face_at_one_contrast_has_no_mean_and_one_deviation():
    torch.manual_seed(0)
    face, weight = torch.rand(2, 3, 16, 16), face_oval(16)
    centred, deviation = contrast(face, weight)
    weight = weight / weight.sum()
    torch.testing.assert_close((centred * weight).sum(dim=(2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    assert float((centred.square() * weight).sum(dim=(2, 3)).mean()) == pytest.approx(1 / 12, rel=0.1)
    torch.testing.assert_close(deviation.flatten(), torch.full((2,), 12**-0.5 + 0.03), atol=0.02, rtol=0)
    assert deviation.shape == (2, 1, 1, 1) and contrast(face.double(), weight)[0].dtype == torch.float64


def test_more_pictures_than_fit_are_refused_in_one_line():
    face = portraits(1, 1, seed=4)
    many = face._replace(**{name: value.expand(2**40, -1) for name, value in face._asdict().items()})
    with pytest.raises(UserError, match="more memory than there is; ask for fewer"):
        render_all(many, 128, "rendering")


def test_processes_render_what_one_does():
    faces = portraits(40, 1, seed=4)
    alone, together = (render_all(faces, 16, "rendering", workers) for workers in (0, 2))
    torch.testing.assert_close(together[0], alone[0], atol=1, rtol=0)  # bytes
    torch.testing.assert_close(together[1], alone[1])


def test_a_place_is_within_the_whole_face_about_it():
    torch.manual_seed(0)
    place = torch.randn(5, 4) * 0.3
    torch.testing.assert_close(whole_face(within_whole_face(place)), place)
    torch.testing.assert_close(within_whole_face(whole_face(place)), place)


def test_landmarks_teach_the_embeddings_nothing():
    """Face shape in z_sem, or pose in z_id, would make the network and the ceiling leak what they should not know."""
    meter = FaceMeter(SMALL, 32)
    meter(torch.rand(2, 3, 32, 32)).landmarks.sum().backward()
    taught = {name.split(".")[0] for name, parameter in meter.named_parameters() if parameter.grad is not None}
    assert taught == {"landmarks"}


def assert_compared(path: Path, figures: dict, folder: Path) -> None:
    """An evaluation against one that is better by 0.5 everywhere, and against one of other pairs."""
    for rows in figures["each"].values():
        for row in rows.values():
            row.update({name: [value + 0.5 for value in values] for name, values in row.items()})
    (folder / "better.json").write_text(json.dumps(figures))
    lines = compare.compare(str(path), str(folder / "better.json")).splitlines()
    assert len(lines) > 50 and all("+0.5000" in line and line.endswith("*") for line in lines[2:])
    same = compare.compare(str(path), str(path)).splitlines()
    assert all("+0.0000" in line and not line.endswith("*") for line in same[2:])
    figures["measured"]["pairs"] = 3
    (folder / "other.json").write_text(json.dumps(figures))
    with pytest.raises(UserError, match="measured with pairs 3"):
        compare.compare(str(path), str(folder / "other.json"))
    (folder / "old.json").write_text("{}")
    with pytest.raises(UserError, match="old.json: holds no figures per person"):
        compare.compare(str(path), str(folder / "old.json"))


@pytest.mark.parametrize("others", [[0.1, 0.2], [], "0.1", 0.1])
def test_evaluations_of_other_people_are_not_compared(tmp_path, others):
    for name, values in (("a.json", [0.1, 0.2, 0.3]), ("b.json", others)):
        figures = {"measured": {}, "each": {"reenactment": {"embedding": {"AU": values}}}}
        (tmp_path / name).write_text(json.dumps(figures))
    with pytest.raises(UserError, match="reenactment: embedding: AU: not the same people or pairs"):
        compare.compare(str(tmp_path / "a.json"), str(tmp_path / "b.json"))


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [("run/00000059-checkpoint.pth.tar", "00000059-checkpoint"), ("sid.v2.pth", "sid.v2"), ("mix-0.7/", "mix-0.7")],
)
def test_every_checkpoint_has_an_evaluation_folder_of_its_own(tmp_path, checkpoint, name):
    if checkpoint.endswith("/"):
        (tmp_path / checkpoint).mkdir()
    folder = evaluation_folder(tmp_path / checkpoint)
    assert folder == (tmp_path / checkpoint).parent / "evaluation" / name


def test_evaluate_writes_figures_tables_and_a_report(tmp_path):
    config = config_from_dict(tiny())
    torch.manual_seed(0)
    save_checkpoint(weights.state(SID(config.model_params)), tmp_path / "model.pth")
    save_meter(FaceMeter(SMALL, 32), tmp_path / "meter.pth")
    save_meter(FaceMeter(config.model_params.encoder_params, 32, of_model=True), tmp_path / "ceiling.pth")
    values = tiny()
    values["evaluate_params"] = {
        "meter": str(tmp_path / "meter.pth"),
        "ceiling": str(tmp_path / "ceiling.pth"),
        "people": 16,
        "frames": 3,
        "probe_people": 24,
        "pairs": 2,
        "clip_frames": 3,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    command = ["run.py", "--config", tmp_path / "config.yaml", "--mode", "evaluate", "--cpu"]
    command += ["--checkpoint", tmp_path / "model.pth"]
    result = scripts.run(*command, fresh=True)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "evaluation" / "model" / "metrics.json").read_text())
    rows = {"embedding", "absolute", "relative", "relative, scaled", "no motion", "truth"}
    assert rows <= set(figures["reenactment"])
    truth = figures["reenactment"]["truth"]
    assert truth["PSNR"] == 100 and truth["SIM"] == 0 and set(ACTION_UNITS) <= set(truth)
    assert set(figures["disentanglement"]) == {"model", "supervised ceiling"}
    leak = figures["disentanglement"]["model"]["z_sem"]
    without = set(figures["without spread"])
    assert set(leak) >= {"identity parameters", *ACTION_UNITS, *IDENTITY} - without and not without & set(leak)
    assert ("left out of the means" in result.stdout) == bool(without)
    low, high = figures["intervals"]["model"]["z_sem"]["identity parameters"]
    assert low < leak["identity parameters"] < high and f"[{low:.2f}, {high:.2f}]" in result.stdout
    per_pair = figures["each"]["reenactment"]["embedding"]["AU"]
    assert len(per_pair) == 2 and sum(per_pair) / 2 == pytest.approx(figures["reenactment"]["embedding"]["AU"])
    others = rows - {"embedding", "truth"}
    assert set(figures["differences"]["reenactment"]) == {f"embedding less {row}" for row in others}
    drive, rest = "--drive expression", "no motion, expression wanted"
    apart, (low, high) = figures["differences"]["parts"][f"{drive} less {rest}"]["AU"]
    assert apart == pytest.approx(figures["parts"][drive]["AU"] - figures["parts"][rest]["AU"])
    assert low <= apart <= high and f"{apart:+.3f} [{low:+.3f}, {high:+.3f}]" in result.stdout
    assert len(figures["each"]["model"]["z_id"]["rank1"]) == 16
    own = figures["meter"]
    assert set(own["identity parameters, R2"]) == set(IDENTITY) and {"yaw", "pitch", "roll"} <= set(own["summary"])
    assert_compared(tmp_path / "evaluation" / "model" / "metrics.json", figures, tmp_path)
    assert "rank1" in result.stdout and "--drive expression" in result.stdout
    page = (tmp_path / "evaluation" / "model" / "report.html").read_text()
    assert "<table>" in page and (tmp_path / "evaluation" / "model" / "sheet.png").is_file()

    values["evaluate_params"] |= {"ceiling": str(tmp_path / "other.pth")}
    larger = replace(config.model_params.encoder_params, head_features=40)
    save_meter(FaceMeter(larger, 32, of_model=True), tmp_path / "other.pth")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    result = scripts.run(*command)
    assert result.returncode == 2 and "its encoders differ from the configuration's; train it again" in result.stderr
    (tmp_path / "meter.pth").unlink()
    result = scripts.run(*command)
    assert result.returncode == 2 and "meter.pth: no such file; train it: python -m" in result.stderr
