"""Expressions found in clips whose heads keep still, and taught to z_exp."""

from __future__ import annotations

import copy
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
import yaml
from tiny import OWN_EXPRESSION, tiny, write_tiny
from torch.utils.data import default_collate

from modules.config.files import config_from_dict, load_config
from modules.data.frames import FrameDataset
from modules.data.synthetic.dataset import Plan, write_dataset
from modules.errors import UserError
from modules.faces.window import cut_out, whole_face, window
from modules.sid import expressions, face_motion, objectives, weights
from modules.sid.encoders import Encoders, Seen
from modules.sid.expressions import Moments, Teaching, teach
from modules.sid.face_motion import (
    GRID,
    FoundFaces,
    face_motions,
    find_faces,
    halves_motions,
    mirror_signs,
    mirrored,
    principal_motions,
)
from modules.sid.model import SID
from modules.training.checkpoint import save_checkpoint
from modules.training.run import build_accelerator

ROOT = Path(__file__).parent.parent
CHECKPOINT, CONFIG = ROOT / "SID_Checkpoints/sid-adv-cpk.pth", ROOT / "config/synthetic-128-encoders.yaml"
MOMENTS, CLIPS = 6, 6


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    """Clips of the face world: a folder of ``resting`` heads and one of ``moving`` ones."""
    folder = tmp_path_factory.mktemp("expressions")
    for name, share, prefix in (("resting", 1.0, "r"), ("moving", 0.0, "m")):
        plan = Plan(CLIPS, 1, MOMENTS, Fraction(5, 2), prefix=prefix, calm_share=share)
        write_dataset(folder / name, plan, progress=False)
    return {name: folder / name for name in ("resting", "moving")}


def config_of(path: Path, *roots: Path) -> Path:
    """The encoders' configuration with other clips."""
    values = yaml.safe_load(CONFIG.read_text())
    values["dataset_params"]["root_dir"] = [{"path": str(root), "weight": 1} for root in roots]
    values["dataset_params"].pop("cache_dir", None)
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def config(roots, tmp_path_factory) -> Path:
    return config_of(tmp_path_factory.mktemp("config") / "c.yaml", *roots.values())


@pytest.fixture(scope="module")
def checkpoint(config, tmp_path_factory) -> Path:
    """The bundled weights as they were before they were taught expressions."""
    params = load_config(config).model_params
    found = weights.state(weights.load_model(params, CHECKPOINT))
    torch.manual_seed(0)
    model = SID(params)
    new = ("semantic.expression.", "semantic.in_mirror", "moving.", "dense_motion_network.face_flow.")
    for entry, network in weights.networks(model).items():
        learnt = {name: value for name, value in found[entry].items() if not name.startswith(new)}
        missing, unexpected = network.load_state_dict(learnt, strict=False)
        assert not unexpected and all(name.startswith(new) for name in missing)
    path = tmp_path_factory.mktemp("checkpoint") / "untaught.pth"
    save_checkpoint(weights.state(model), path)
    return path


@pytest.fixture
def model(config, checkpoint) -> SID:
    return weights.load_model(load_config(config).model_params, checkpoint)


@pytest.fixture(scope="module")
def data(config) -> FrameDataset:
    return FrameDataset(load_config(config).dataset_params)


@pytest.fixture(scope="module")
def found(config, checkpoint, data) -> FoundFaces:
    return find_faces(weights.load_model(load_config(config).model_params, checkpoint).encoders, data, MOMENTS)


def test_clips_are_told_apart_by_whether_their_heads_rest(found, data, model, roots, tmp_path):
    """By pictures alone: of six clips of either kind two may be misjudged."""
    in_each = []
    for name, root in roots.items():
        one_kind = FrameDataset(load_config(config_of(tmp_path / f"{name}.yaml", root)).dataset_params)
        try:
            in_each.append(len(find_faces(model.encoders, one_kind, MOMENTS).faces))
        except UserError:  # none
            in_each.append(0)
    resting, moving = in_each
    assert resting >= CLIPS - 2 and moving <= 2 and resting + moving == len(found.faces)
    assert found.faces.shape[1:] == (MOMENTS, 3, 64, 64)
    assert found.poses.shape == (2, len(found.faces), MOMENTS, model.encoders.semantic.sizes[1])
    # shorter clips have no part in it, whatever their heads do
    with pytest.raises(UserError, match="has 7 frames of a head that keeps still"):
        find_faces(model.encoders, data, MOMENTS + 1)


def test_the_whole_face_is_in_the_square(model, data):
    """Brows, lips and chin of nearly everybody, in the square that z_exp reads."""
    inside = []
    for clip in data.clips:
        image = data.read(clip, [0])
        with torch.no_grad():
            square = window(whole_face(model.encoders.semantic.finder(image)))[0]
        labels = np.load(clip.path.parent.parent / "labels" / f"{clip.path.stem}.npz")["landmarks"][0]
        marks = torch.from_numpy(labels[[8, 17, 21, 22, 26, 48, 54, 57]]).float()
        at = (torch.inverse(square[:, :2]) @ (marks - square[:, 2]).T).abs().amax()
        inside.append(float(at) < 1)
    assert sum(inside) >= len(inside) - 2


def test_no_head_rests_where_none_may_move(data, model, monkeypatch):
    monkeypatch.setattr(face_motion, "STILL", 1e-9)
    with pytest.raises(UserError, match=f"none of {2 * CLIPS} clips has {MOMENTS} frames of a head"):
        find_faces(model.encoders, data, MOMENTS)


def test_encoders_that_find_every_face_in_the_middle_are_refused(config, data):
    untaught = Encoders(load_config(config).model_params.encoder_params, 10, True).eval()
    with pytest.raises(UserError, match="have not learnt to read poses"):
        find_faces(untaught, data, MOMENTS)
    torch.nn.init.normal_(untaught.motion_head.affine.weight)
    with pytest.raises(UserError, match="have not learnt to find faces"):
        find_faces(untaught, data, MOMENTS)
    torch.nn.init.constant_(untaught.semantic.finder.read.weight, 1e-9)
    with pytest.raises(UserError, match="all faces are found in the same place"):
        find_faces(untaught, data, MOMENTS)


def test_motion_is_measured_where_the_face_is_and_from_the_mean(found):
    """Faces of three moments, shifted by 0, 2 and 4 pixels: about the mean that is -2, 0 and 2 pixels of 63/2."""
    face = found.faces[:2, :1]
    shifted = torch.cat([face.roll(shift, dims=-1) for shift in (0, 2, 4)], dim=1)
    middle = face_motions(shifted)[:, :, :, 12:20, 12:20].mean(dim=(-1, -2))
    expected = torch.tensor([-2.0, 0.0, 2.0]) * 2 / 63
    # the flow of flat skin is not exact
    assert torch.allclose(middle[:, :, 0], expected.expand(2, 3), atol=0.012)
    assert float(middle[:, :, 1].abs().max()) < 0.01


def test_a_mirrored_clip_moves_as_in_a_mirror(found):
    """Correlation, since the flow's coarse-to-fine windows do not fall on mirrored pixels."""
    faces = found.faces[:3]
    expected, seen = mirrored(face_motions(faces)), face_motions(faces.flip(-1))
    assert float(torch.corrcoef(torch.stack([expected.flatten(), seen.flatten()]))[0, 1]) > 0.95


def test_principal_motions_read_what_moves_independently():
    """Two symmetric movements of standard deviations 3 and 1: read apart, in that proportion or made equal."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(2, 2, GRID, GRID, generator=generator)
    patterns = half + mirrored(half)
    patterns[1] -= patterns[0] * (patterns[0] * patterns[1]).sum() / patterns[0].square().sum()
    patterns /= patterns.flatten(1).norm(dim=1)[:, None, None, None]
    amounts = torch.randn(200, 10, 2, generator=generator) * torch.tensor([3.0, 1.0])
    motions = torch.einsum("ntk,kcyx->ntcyx", amounts, patterns)
    for whitening, proportion in ((0.0, 3.0), (1.0, 1.0)):
        read = motions.flatten(2) @ principal_motions(motions, 2, whitening)
        strongest, other = read.flatten(0, 1).std(dim=0)
        assert float(strongest / other) == pytest.approx(proportion, rel=0.1)
        correlation = torch.corrcoef(torch.cat([read, amounts], dim=2).flatten(0, 1).T).abs()
        assert float(correlation[0, 2]) > 0.99 and float(correlation[1, 3]) > 0.99
        assert float(read.square().mean()) == pytest.approx(1.0, rel=0.02)
    with pytest.raises(UserError, match="nothing moves"):
        principal_motions(torch.zeros(2, 3, 2, GRID, GRID), 2, 0.5)


def test_a_principal_motion_is_the_same_on_both_sides_of_a_face_or_opposite():
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(2, 2, GRID, GRID, generator=generator)
    patterns = half + torch.tensor([1.0, -1.0])[:, None, None, None] * mirrored(half)
    amounts = torch.randn(200, 10, 2, generator=generator) * torch.tensor([1.0, 3.0])
    reader = principal_motions(torch.einsum("ntk,kcyx->ntcyx", amounts, patterns), 2, 0.5)
    assert mirror_signs(reader).tolist() == [-1, 1]  # the second is the stronger one


def test_brows_are_told_however_much_a_mouth_moves_in_other_ways():
    """Four movements of the lower face, ten times as strong as two of the upper: each half has its own numbers."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(6, 2, GRID, GRID, generator=generator)
    half[:4, :, : GRID // 2 + 2] = 0
    half[4:, :, GRID // 2 - 4 :] = 0
    patterns = half + mirrored(half)
    amounts = torch.randn(200, 10, 6, generator=generator) * torch.tensor([10.0] * 4 + [1.0] * 2)
    motions = torch.einsum("ntk,kcyx->ntcyx", amounts, patterns)
    found = [motions.flatten(2) @ read(motions, 4, 0.75) for read in (principal_motions, halves_motions)]
    together, apart = (torch.linalg.lstsq(read.flatten(0, 1), amounts.flatten(0, 1)) for read in found)
    left = [
        float((read.flatten(0, 1) @ fit.solution - amounts.flatten(0, 1))[:, 4:].square().mean())
        for read, fit in zip(found, (together, apart), strict=True)
    ]
    assert left[0] > 0.9 and left[1] < 0.01
    assert float(found[1].square().mean()) == pytest.approx(1.0, rel=0.02)
    assert mirror_signs(halves_motions(motions, 4, 0.75)).tolist() == [1, 1, 1, 1]


def test_a_mirrored_face_says_mirrored_numbers(model, found):
    semantic = model.encoders.semantic
    semantic.in_mirror.copy_(torch.tensor([1.0, -1.0]).repeat(semantic.sizes[0] // 2))
    faces = found.faces[:, 0].float() / 255
    with torch.no_grad():
        plain, seen = semantic.read_expression(faces), semantic.read_expression(faces.flip(-1))
        alone = semantic.expression(faces)
        both = (alone + semantic.in_mirror * semantic.expression(faces.flip(-1))) / 2
    torch.testing.assert_close(seen, semantic.in_mirror * plain)
    torch.testing.assert_close(plain, both)


def test_mirrored_faces_are_to_tell_mirrored_motions(monkeypatch):
    """One clip whose face is a ramp of its own number, so that a batch's faces say what was drawn and how."""
    monkeypatch.setattr(expressions, "SHAKE", 0.0)
    ramp = torch.linspace(0, 200, 64).byte().expand(3, 64, 64)
    faces = torch.stack([ramp + number for number in range(5)])[None]
    targets = torch.arange(10.0).reshape(2, 1, 5, 1)  # mirrored ones are 5 more
    moments = Moments(FoundFaces(faces, targets + 100), targets, Teaching(steps=3, batch_size=4))
    items = default_collate([moments[0, index] for index in range(len(moments))])
    shown, pose, wanted = (items[name].flatten(0, 1) for name in ("faces", "pose", "targets"))
    assert shown.shape == (48, 3, 64, 64) and wanted.shape == (48, 1)
    is_mirrored = shown[:, 0, 0, 0] > shown[:, 0, 0, -1]
    assert is_mirrored.any() and not is_mirrored.all()
    number = (torch.minimum(shown[:, 0, 0, 0], shown[:, 0, 0, -1]) * 255).round()
    assert torch.equal(wanted[:, 0], number + 5 * is_mirrored)
    assert torch.equal(pose, wanted + 100)


def test_the_mirrored_place_is_where_a_mirrored_frame_shows_the_face():
    frame = torch.rand(1, 3, 48, 80)
    place = torch.tensor([[0.1, 0.3, 0.2, -0.1]])
    mirrored_place = face_motion._in_mirror(Seen(frame, frame, place)).place
    seen = cut_out(frame.flip(-1), mirrored_place, 32)
    torch.testing.assert_close(seen, cut_out(frame, place, 32).flip(-1), atol=1e-4, rtol=0)


def test_teaching_tells_expressions_and_leaves_the_pose_alone(found, model, tmp_path):
    """Of faces that slide as a whole, which 100 steps tell; z_pose tells it too, so here nothing keeps them apart."""
    encoder = model.encoders.semantic
    shifts = torch.linspace(-10, 10, MOMENTS).round()
    slid = [found.faces[:, :1].roll(int(shift), dims=-2) for shift in shifts]
    found = found._replace(faces=torch.cat(slid, dim=1))
    motions = torch.zeros(len(found.faces), MOMENTS, 2, GRID, GRID)
    motions[:, :, 1] = (shifts * 2 / 63)[:, None, None]
    faces, frames = found.faces.flatten(0, 1).float() / 255, torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        before, untaught = encoder(frames), encoder.read_expression(faces)
    assert not untaught.any() and not before.expression.any()
    teaching = Teaching(steps=100, batch_size=8, apart=0)
    told = teach(encoder, found, motions, teaching, build_accelerator(teaching, cpu=True), tmp_path)
    with torch.no_grad():
        after, taught = encoder(frames), encoder.read_expression(faces)
    wanted = (motions.flatten(2) @ halves_motions(motions, encoder.sizes[0], Teaching().whitening)).flatten(0, 1)
    assert float((taught - wanted).square().mean() / wanted.square().mean()) < 0.6
    assert after.expression.any() and torch.equal(after.pose, before.pose)
    # and z_exp tells the motions themselves
    shown = (taught - taught.mean(dim=0)) @ told.flatten(1)
    assert float((shown - motions.flatten(0, 1).flatten(1)).square().mean() / motions.square().mean()) < 0.4


def test_an_expression_is_told_alike_whatever_light_it_is_seen_in(model, found):
    expression = model.encoders.semantic.expression.eval()
    faces = found.faces[:, 0].float() / 255
    light = torch.tensor([0.5, 0.7, 0.6])[:, None, None]
    with torch.no_grad():
        plain, dim, blank = expression(faces), expression(0.5 * faces + 0.4 * light), expression(torch.ones_like(faces))
    assert blank.isfinite().all()
    # LEAST_CONTRAST counts for twice as much in half the contrast; the bare light would be many times the spread
    assert float((dim - plain).norm()) < 0.5 * float((plain - plain.mean(dim=0)).norm())


def test_a_taught_expression_stays_as_it_is_while_the_rest_learns():
    """Also its batch norms; and other losses do not reach it."""
    learning = objectives.build(config_from_dict(tiny(**OWN_EXPRESSION)))
    learning.model.encoders.semantic.in_mirror.fill_(1)
    for p in learning.model.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
    batch = {
        "frames": torch.rand(4, 4, 3, 32, 32),
        "times": torch.arange(4.0).expand(4, 4),
        "identity": torch.tensor([0, 1, 2, 0]),
        "elsewhere": torch.rand(4, 3, 32, 32),
    }
    before = copy.deepcopy(learning.model.encoders.semantic.state_dict())
    (generator, *_) = learning.objectives
    terms, _ = generator.module.train()(batch)
    sum(terms.values()).backward()
    for optimizer in generator.optimizers.values():
        optimizer.step()
    after = learning.model.encoders.semantic.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any(name.startswith(("expression.", "in_mirror")) for name in changed)


def run(*options, fresh: bool = False) -> subprocess.CompletedProcess:
    return scripts.run("-m", "modules.sid.expressions", "--cpu", *options, fresh=fresh)


def test_the_command_changes_z_exp_and_what_depended_on_it(roots, checkpoint, tmp_path):
    """The rest of the file is the checkpoint's, and z_exp now moves the face as it is told, and nothing else."""
    config, out = config_of(tmp_path / "c.yaml", roots["resting"]), tmp_path / "taught.pth"
    options = ("--config", config, "--checkpoint", checkpoint, "--out", out, "--moments", MOMENTS, "--steps", 20)
    done = run(*options, "--log_dir", tmp_path / "log")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "log/expressions").iterdir()
    assert {"log.txt", "log.jsonl", "00000000-checkpoint.pth.tar"} <= {path.name for path in folder.iterdir()}
    again = run(*options, "--log_dir", tmp_path / "log", "--resume", "auto")
    assert again.returncode == 0 and "nothing left to train" in again.stdout
    params = load_config(config).model_params
    before, model = (weights.load_model(params, path) for path in (checkpoint, out))
    old, new = before.state_dict(), model.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    parts = (
        "encoders.semantic.expression.features.",
        "encoders.semantic.expression.project.",
        "encoders.semantic.in_mirror",
        "encoders.motion_head.layers.0.weight",
        "generator.film.",
        "generator.dense_motion_network.semantic_flow.",
        "generator.dense_motion_network.face_flow.motions",
    )
    assert all(name.startswith(parts) for name in changed)
    assert all(any(name.startswith(part) for name in changed) for part in parts)
    face = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        source, semantics, z_id = model.kp_detector(face), model.encoders.semantic(face), model.encoders.identity(face)
        place = model.encoders.semantic.finder(face)

        def shown(change):
            keypoints = model.encoders.motion_head(source, semantics, change)
            return model.generator(face, source, keypoints, model.condition(z_id, semantics, change, place)).prediction

        plain = shown(semantics)
        smile = semantics._replace(expression=semantics.expression + torch.randn_like(semantics.expression))
        smiling = shown(smile)
        turned = shown(semantics._replace(pose=semantics.pose + 0.3 * torch.randn_like(semantics.pose)))
        model.generator.dense_motion_network.face_flow.motions.zero_()
        torch.testing.assert_close(shown(smile), plain, atol=1e-5, rtol=0)
    assert float((smiling - plain).abs().max()) > 0.01 and float((turned - plain).abs().max()) > 0.05


def test_what_cannot_be_taught_is_one_line(config, checkpoint, tmp_path):
    short = run("--config", config, "--checkpoint", checkpoint, "--out", tmp_path / "x.pth", "--moments", 100)
    assert short.returncode == 2 and "head that keeps still" in short.stderr.strip().splitlines()[-1]
    config_of_both, out = write_tiny(tmp_path / "t.yaml"), tmp_path / "x.pth"
    joint = run("--config", config_of_both, "--checkpoint", checkpoint, "--out", out, fresh=True)
    assert joint.returncode == 2 and "nothing can be taught" in joint.stderr
    assert len(joint.stderr.strip().splitlines()) == 1
    nowhere = run("--config", config, "--checkpoint", checkpoint, "--out", tmp_path)
    assert nowhere.returncode == 2 and "is a folder" in nowhere.stderr
    assert not (tmp_path / "x.pth").exists()


def test_what_two_embeddings_share_is_measured_in_the_units_of_the_first():
    pose = 5 * torch.randn(4000, 3)
    alone, both = torch.randn(4000, 2), 0.1 * pose[:, :2]
    assert float(expressions._shared(alone, pose)) < 2e-3  # chance: 1 / 4000
    # each of two numbers is half as large as one of three independent ones of deviation 5, and unrelated to two
    assert float(expressions._shared(both, pose)) == pytest.approx(0.5**2 / 3, rel=0.1)
    assert float(expressions._shared(2 * both, pose)) == pytest.approx(4 * float(expressions._shared(both, pose)))
