"""Expressions found in clips whose heads keep still, and taught to z_exp."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import yaml
from tiny import write_tiny

from modules.config import load_config
from modules.data.frames import FrameDataset
from modules.data.synthetic.dataset import Plan, write_dataset
from modules.sid.encoders import Semantics
from modules.sid.expressions import Teaching, teach
from modules.sid.face_motion import GRID, face_motions, gather, mirrored, principal_motions
from modules.sid.keypoints import Keypoints
from modules.sid.losses import relative_distance
from modules.sid.weights import load_model

ROOT = Path(__file__).parent.parent
CHECKPOINT, CONFIG = ROOT / "SID_Checkpoints/sid-adv-cpk.pth", ROOT / "config/synthetic-128-encoders.yaml"
MOMENTS = 6


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    """Clips of the face world: ``resting`` heads, ``moving`` ones, and a folder of both."""
    folder = tmp_path_factory.mktemp("expressions")
    for name, share, seed in (("resting", 1.0, 0), ("moving", 0.0, 1)):
        write_dataset(folder / name, Plan(6, 1, MOMENTS, Fraction(5, 2), seed=seed, calm_share=share), progress=False)
    return {name: folder / name for name in ("resting", "moving")}


def config_of(path: Path, *roots: Path) -> Path:
    """The encoders' configuration with other clips."""
    values = yaml.safe_load(CONFIG.read_text())
    values["dataset_params"]["root_dir"] = [{"path": str(root), "weight": 1} for root in roots]
    values["dataset_params"].pop("cache_dir", None)
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def encoder():
    return load_model(load_config(CONFIG).model_params, CHECKPOINT).encoders.semantic


@pytest.fixture(scope="module")
def gathered(roots, encoder, tmp_path_factory):
    path = config_of(tmp_path_factory.mktemp("config") / "c.yaml", *roots.values())
    return gather(encoder, FrameDataset(load_config(path).dataset_params), MOMENTS, torch.device("cpu"))


def test_clips_are_told_apart_by_whether_their_heads_rest(gathered):
    """The bundled encoder judges by pictures alone; of six each it may be wrong about one."""
    assert abs(len(gathered.faces) - 6) <= 1
    assert len(gathered.faces) * MOMENTS + len(gathered.others) == 12 * MOMENTS
    assert gathered.faces.shape[1:] == (MOMENTS, 3, 64, 64) and gathered.places.shape == (len(gathered.faces), 4)


def test_motion_is_measured_where_the_face_is_and_from_the_mean(gathered):
    """Faces of three moments, shifted by 0, 2 and 4 pixels: about the mean that is -2, 0 and 2 pixels of 63/2."""
    face = gathered.faces[:2, :1]
    shifted = torch.cat([face.roll(shift, dims=-1) for shift in (0, 2, 4)], dim=1)
    middle = face_motions(shifted)[:, :, :, 12:20, 12:20].mean(dim=(-1, -2))
    expected = torch.tensor([-2.0, 0.0, 2.0]) * 2 / 63
    # the window's fading leaves 0.93 of it on average there; the flow of flat skin is not exact
    assert torch.allclose(middle[:, :, 0], expected.expand(2, 3), atol=0.02)
    assert float(middle[:, :, 1].abs().max()) < 0.01


def test_a_mirrored_clip_moves_as_in_a_mirror(gathered):
    """Correlation, since the flow's coarse-to-fine windows do not fall on mirrored pixels."""
    faces = gathered.faces[:3]
    expected, found = mirrored(face_motions(faces)), face_motions(faces.flip(-1))
    assert float(torch.corrcoef(torch.stack([expected.flatten(), found.flatten()]))[0, 1]) > 0.95


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


def test_teaching_tells_expressions_and_keeps_the_pose(gathered):
    """Of faces that slide up and down as a whole, which 100 steps tell; z_pose stays within a tenth of its spread."""
    model = load_model(load_config(CONFIG).model_params, CHECKPOINT).encoders.semantic
    shifts = torch.linspace(-10, 10, MOMENTS).round()
    slid = [gathered.faces[:, :1].roll(int(shift), dims=-2) for shift in shifts]
    gathered = gathered._replace(faces=torch.cat(slid, dim=1))
    motions = torch.zeros(len(gathered.faces), MOMENTS, 2, GRID, GRID)
    motions[:, :, 1] = (shifts * 2 / 63)[:, None, None]
    finder = {name: t.clone() for name, t in model.finder.state_dict().items()}
    faces, places = gathered.faces.flatten(0, 1).float() / 255, gathered.places.repeat_interleave(MOMENTS, dim=0)
    with torch.no_grad():
        before = model.embed(faces, places)
    teach(model, gathered, motions, Teaching(steps=100, clips=6, others=8))
    with torch.no_grad():
        after = model.embed(faces, places)
    wanted = (motions.flatten(2) @ principal_motions(motions, model.sizes[0], 0.5)).flatten(0, 1)
    assert float((after.expression - wanted).square().mean() / wanted.square().mean()) < 0.6
    assert float(relative_distance(after.pose, before.pose)) < 0.1
    assert all(torch.equal(t, finder[name]) for name, t in model.finder.state_dict().items())


def _only_the_pose_moves_key_points(model) -> None:
    size, (expression, pose) = 3, model.encoders.semantic.sizes
    source = Keypoints(torch.rand(size, 10, 2) - 0.5, torch.eye(2).expand(size, 10, 2, 2))
    first = Semantics(torch.randn(size, expression), torch.randn(size, pose))
    with torch.no_grad():
        smiled = model.encoders.motion_head(source, first, first._replace(expression=torch.randn(size, expression)))
        turned = model.encoders.motion_head(source, first, first._replace(pose=torch.randn(size, pose)))
    assert torch.allclose(smiled.value, source.value, atol=1e-6)
    assert not torch.allclose(turned.value, source.value, atol=1e-2)


def run(*options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "modules.sid.expressions", "--cpu", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_command_writes_a_checkpoint_that_differs_in_its_semantics_alone(roots, tmp_path):
    config, out = config_of(tmp_path / "c.yaml", roots["resting"]), tmp_path / "taught.pth"
    done = run("--config", config, "--checkpoint", CHECKPOINT, "--out", out, "--moments", MOMENTS, "--steps", 20)
    assert done.returncode == 0, done.stderr
    params = load_config(config).model_params
    models = [load_model(params, path) for path in (CHECKPOINT, out)]
    before, after = (model.state_dict() for model in models)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    taught = ("encoders.semantic.features", "encoders.semantic.project", "encoders.motion_head.layers.0.weight")
    assert changed and all(name.startswith(taught) for name in changed)
    _only_the_pose_moves_key_points(models[1])


def test_what_cannot_be_taught_is_one_line(roots, tmp_path):
    moving = run("--config", config_of(tmp_path / "c.yaml", roots["moving"]), "--checkpoint", CHECKPOINT, "--out",
                 tmp_path / "x.pth", "--moments", 100)
    assert moving.returncode == 2 and "head that keeps still" in moving.stderr.strip().splitlines()[-1]
    tiny = write_tiny(tmp_path / "tiny.yaml", **{"model_params.encoder_params.face_pixels": None})
    blind = run("--config", tiny, "--checkpoint", CHECKPOINT, "--out", tmp_path / "x.pth")
    assert blind.returncode == 2 and "face_pixels" in blind.stderr and len(blind.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x.pth").exists()
