"""Rigged SID: points of a face, moved by what is read off another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.data import astronaut
from torch.utils.data import default_collate

from modules import media
from modules.config.rigged import PairsParams, RiggedConfig, RiggedTrainParams, RiggedWeights, TriplesParams
from modules.config.sid import FramingParams
from modules.data.frames import FrameDataset
from modules.data.triples.dataset import TripleDataset
from modules.data.triples.mixture import Mixture
from modules.data.triples.shards import Plan, write_shards
from modules.errors import UserError
from modules.faces.alignment import Squares
from modules.sid.encoders import Semantics
from modules.sid.motion_options import MotionOptions
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.closeups import Patch, mirrored, paste, paste_everywhere
from modules.sid.rigged.codes import EXPRESSION, POSE, semantics_of
from modules.sid.rigged.critic import Critic, CriticStep
from modules.sid.rigged.model import RiggedSID, load_rigged
from modules.sid.rigged.motion import cells, moved
from modules.sid.rigged.parts import EYES, MOUTH, cut, part_square
from modules.sid.rigged.plate import affine, thin_plate
from modules.sid.rigged.points import COUNT
from modules.sid.rigged.rig import Rig
from modules.sid.rigged.step import EncoderStep, GeneratorStep, true_motion
from modules.sid.rigged.train import train_rigged
from modules.training.checkpoint import load_checkpoint
from modules.training.command import Run
from modules.world.puppets.states import draw_states

ROOT = Path(__file__).parent.parent

SIZE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("triples")
    write_shards(place, Plan(SIZE, 0, 1.0), None, 1, progress=False)
    return place


@pytest.fixture(scope="module")
def batch(folder):
    data = Mixture(TripleDataset([str(folder)]))
    return default_collate([data[i] for i in range(4)])


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Somebody's two photographs: of one face, once in a mirror."""
    place = tmp_path_factory.mktemp("photographs") / "train"
    for name, picture in (("eileen#1", close_crop()), ("eileen#2", close_crop()[:, ::-1])):
        media.write_image(place / f"{name}.png", np.ascontiguousarray(picture))
    return place.parent


@pytest.fixture(scope="module")
def mixture(folder, photographs):
    return Mixture(TripleDataset([str(folder)]), FrameDataset(pairs(photographs)), share=0.5)


def pairs(photographs, side: int = SIZE) -> PairsParams:
    return PairsParams(root_dir=str(photographs), frame_shape=(side, side, 3), share=0.5)


def random_semantics(count: int, seed: int = 0) -> Semantics:
    return semantics_of(draw_states(count, seed).codes)


def close_crop() -> np.ndarray:
    return astronaut()[0:220, 114:334]


# ---------------------------------------------------------------------------------------------------------- geometry


def test_a_spline_meets_its_points_and_keeps_what_is_affine():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, 12, 2, generator=generator) * 2 - 1
    values = torch.rand(2, 12, 2, generator=generator)
    met = thin_plate(points[:1], values[:1], points[0], ridge=0.0)
    assert torch.allclose(met, values[:1], atol=1e-3)  # single precision; the kernel is steep near a point
    matrix, shift = torch.tensor([[0.8, 0.3], [-0.2, 1.1]]), torch.tensor([0.1, -0.4])
    places = torch.rand(20, 2, generator=generator)
    for fit in (thin_plate, affine):
        assert torch.allclose(
            fit(points, points @ matrix.T + shift, places), (places @ matrix.T + shift)[None], atol=2e-3
        )


def test_a_picture_that_does_not_move_stays_as_it_is():
    image = torch.rand(1, 3, 48, 48)
    assert torch.allclose(moved(image, torch.zeros(1, 2, 64, 64)), image, atol=1e-5)


def test_a_patch_goes_back_to_where_it_was_cut():
    frames, points = smooth_frames(), mean_points()
    for part in (MOUTH, *EYES):
        squares = part_square(points, part, frames)
        colour = cut(frames, squares, part)
        patch = Patch(colour, torch.ones_like(colour[:, :1]), squares, 96, part.mirrored)
        again, cover = paste(torch.zeros_like(frames), patch)
        inside = (cover > 0.99).expand_as(frames)
        assert inside.sum() > 100
        assert (again - frames)[inside].abs().max() < 0.02  # sampled twice; the picture changes by less over a pixel


def test_patches_are_pasted_where_they_are_alone():
    """Elsewhere nothing need be computed: the same but for rounding, at any size and place, also off the frame."""
    generator = torch.Generator().manual_seed(0)
    for size in (96, 250):
        frames = torch.rand(2, 3, size, size, generator=generator)
        for middle, side, angle in ((40, 30, 0.3), (2, 60, -2.0), (50, 120, 1.0), (200, 20, 0.0)):
            squares = Squares(
                torch.tensor([[middle, 50.0], [60.0, middle]]), torch.full((2,), 1.0 * side), torch.tensor(angle)
            )
            squares = squares._replace(angle=squares.angle.expand(2))
            colour, cover = torch.rand(2, 4, 40, 40, generator=generator).split([3, 1], dim=1)
            patch = Patch(colour, cover, squares, 96, mirrored=side == 60)
            for there, everywhere in zip(paste(frames, patch), paste_everywhere(frames, patch), strict=True):
                assert torch.allclose(there, everywhere, atol=1e-4)


def test_the_edges_of_a_face_that_moves_are_drawn_once():
    """They would be if what a warp is off by at rest went along: as light and dark rims around a moved head."""
    own = close_crop()
    animator = RiggedAnimator(load_rigged(ROOT / "SID_Checkpoints/sid-rigged-256-cpk.pth"), own, large=own)
    (person,) = animator.person
    turned = Semantics(person.semantics.expression, person.semantics.pose + torch.tensor([[0.25, 0, 0, 0, 0, 0]]))
    with torch.inference_mode():
        picture = animator._shown(person, turned, animator.model.rig(person.points, person.semantics, turned))
    # Turned by 5 degrees it moves by less than 7 pixels, and shows nothing lighter or darker than what was around a
    # place; what is painted may (0.01 % of the values; 0.3 % were with rims)
    light, dark = F.max_pool2d(person.image, 15, 1, 7), -F.max_pool2d(-person.image, 15, 1, 7)
    beyond = torch.maximum(picture - light, dark - picture)
    assert float((beyond > 0.02).float().mean()) < 0.001


def smooth_frames() -> torch.Tensor:
    place = cells(96, torch.zeros(1))
    return torch.stack([0.5 + 0.4 * place[..., 0], 0.5 + 0.4 * place[..., 1], 0.5 * place.prod(-1) + 0.5])[None]


def mean_points() -> torch.Tensor:
    model = RiggedSID()
    image = torch.from_numpy(close_crop().copy()).permute(2, 0, 1)[None] / 255
    return model.points(image)


def test_what_a_mirror_shows_is_shown_by_a_mirror_twice():
    semantics = random_semantics(5)
    twice = mirrored(mirrored(semantics))
    assert all(torch.equal(a, b) for a, b in zip(semantics, twice, strict=True))


# ------------------------------------------------------------------------------------------------------------ motion


def test_without_a_change_no_point_moves():
    rig, points, semantics = Rig(), torch.randn(3, COUNT, 3), random_semantics(3)
    torch.nn.init.normal_(rig.layers[-1].weight)
    torch.nn.init.normal_(rig.linear.weight)
    assert torch.allclose(rig(points, semantics, semantics), points, atol=1e-4)


def test_a_turn_of_the_head_turns_the_points(batch):
    """An untrained motion head knows a head's turn, place and size: most of what moves points."""
    before, after = semantics_of(batch["before"]), semantics_of(batch["after"])
    moved_points = Rig()(batch["source_points"], before, after)
    error = (moved_points - batch["target_points"])[..., :2].norm(dim=-1).mean()
    still = (batch["source_points"] - batch["target_points"])[..., :2].norm(dim=-1).mean()
    assert error < 0.4 * still


def test_the_truth_of_the_flow_is_the_motion_of_cells():
    size, side = 128, 64
    ends = (size - 1) / size
    line = torch.linspace(-ends, ends, side)
    y, x = torch.meshgrid(line, line, indexing="ij")
    flow = torch.stack([1.1 * x + 0.05, 0.9 * y], -1)[None]
    change, known = true_motion(flow, torch.ones(1, side, side, dtype=torch.bool), size)
    place = cells(64, flow)
    expected = torch.stack([0.1 * place[..., 0] + 0.05, -0.1 * place[..., 1]])
    inside = place.abs().amax(-1) < ends
    assert (change[0] - expected)[:, inside].abs().max() < 1e-4
    assert known.min() == 1


# ---------------------------------------------------------------------------------------------------------- learning


def test_no_number_of_the_truth_reaches_a_picture_that_the_encoder_drives(batch):
    model = RiggedSID()
    step = GeneratorStep(model, RiggedWeights(), from_encoder=True).eval()
    torch.nn.init.normal_(model.rig.linear.weight, std=0.01)
    torch.manual_seed(0)
    _, judged = step(batch)
    lied = batch | {
        name: batch[name].flip(0) for name in ("before", "after", "flow", "valid", "target", "target_points")
    }
    torch.manual_seed(0)
    _, same = step(lied)
    assert torch.equal(judged.made.mouths, same.made.mouths)
    torch.manual_seed(0)
    _, other = step(batch | {name: batch[name].flip(0) for name in ("driver", "driver_points")})
    assert not torch.equal(judged.made.mouths, other.made.mouths)


def test_pairs_of_real_frames_are_mixed_in(mixture, folder, photographs):
    items = [mixture[1, i] for i in range(40)]
    assert 8 < sum(not item["made"] for item in items) < 32
    for item, again in zip(items[:4], [mixture[1, i] for i in range(4)], strict=True):
        assert all(np.array_equal(item[name], again[name]) for name in item)
    pair = next(item for item in items if not item["made"])
    assert torch.equal(pair["driver"], pair["target"]) and not torch.equal(pair["source"], pair["target"])
    assert not pair["valid"].any()
    drawn = [item["source"][..., : SIZE // 2].float().mean().item() for item in items if not item["made"]]
    assert len(set(drawn)) > 1  # of one person in one epoch: either way round
    with pytest.raises(UserError, match=r"frame_shape is \[32, 32\], and triples have \[64, 64\]"):
        Mixture(TripleDataset([str(folder)]), FrameDataset(pairs(photographs, 32)), share=0.5)


@pytest.mark.parametrize("teach", ["encoder", "generator"])
def test_what_nobody_knows_of_a_pair_teaches_nothing(teach, mixture):
    """Its numbers are 0, its scale among them, whose logarithm is not finite: gradients have to be."""
    model = RiggedSID()
    step = teaching(model, teach).train()
    terms, _ = step(default_collate([mixture[i] for i in range(8)]))
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    only = default_collate([item for i in range(12) if not (item := mixture[i])["made"]])
    terms, _ = step(only)
    unknown = ("expression", "pose", "points") if teach == "encoder" else ("flow", "shown")
    assert all(terms[name] == 0 for name in unknown)
    assert terms["driven" if teach == "encoder" else "pixel"] > 0


def teaching(model: RiggedSID, teach: str) -> EncoderStep | GeneratorStep:
    weights = RiggedWeights(passing=1.0)
    if teach == "encoder":
        return EncoderStep(model, weights)
    return GeneratorStep(model, weights, from_encoder=False, critic=Critic())


def test_a_critic_learns_to_tell_painted_mouths_and_eyes_from_real_ones(batch):
    model, critic = RiggedSID(), Critic()
    for last in (model.generator.closeups.mouth.last, model.generator.closeups.eye.last):
        torch.nn.init.normal_(last.weight, std=0.5)
    _, judged = GeneratorStep(model, RiggedWeights(passing=1.0), False, critic).eval()(batch)
    step, optimizer = CriticStep(critic), torch.optim.Adam(critic.parameters(), lr=2e-3)
    seen = []
    for _ in range(20):
        (loss,) = step(judged)[0].values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < 0.7 * seen[0]
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("teach", ["encoder", "generator"])
def test_every_term_teaches(teach, batch):
    model = RiggedSID()
    for last in (model.generator.motion.read, model.generator.closeups.mouth.last, model.generator.closeups.eye.last):
        torch.nn.init.normal_(last.weight, std=0.01)  # zero at first, which hides the layers before
    terms, _ = teaching(model, teach).train()(batch)
    sum(terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())
    learning = [model.encoder, model.rig] if teach == "encoder" else [model.generator]
    taught = [p for module in learning for p in module.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert len(taught) > 10
    others = [model.generator] if teach == "encoder" else [model.encoder, model.rig]
    assert all(p.grad is None for module in others for p in module.parameters())


def config(folder, photographs, teach: str) -> RiggedConfig:
    weights = RiggedWeights(passing=0.5)
    train = RiggedTrainParams(
        teach=teach, num_epochs=1, batch_size=8, minutes=0.05, ema_decay=0.9, loss_weights=weights
    )
    data = TriplesParams(triples=[str(folder)], pairs=pairs(photographs), num_workers=0)
    return RiggedConfig(dataset_params=data, train_params=train, framing_params=FramingParams())


def test_encoder_then_generator_are_trained(folder, photographs, tmp_path):
    first = train_rigged(
        config(folder, photographs, "encoder"), Run("encoder.yaml", log_dir=str(tmp_path / "log"), cpu=True)
    )
    (checkpoint,) = first.glob("*-checkpoint.pth.tar")
    run = Run("generator.yaml", checkpoint=str(checkpoint), log_dir=str(tmp_path / "log"), finetune=True, cpu=True)
    second = train_rigged(config(folder, photographs, "generator"), run)
    (last,) = second.glob("*-checkpoint.pth.tar")
    before, after = (load_checkpoint(path)["network"] for path in (checkpoint, last))
    kept = [name for name in before if name.startswith(("encoder.", "rig."))]
    learnt = [name for name in before if name.startswith("generator.") and name.endswith("weight")]
    ema = load_checkpoint(checkpoint)["ema"]["network"]
    assert kept and all(torch.equal(ema[name], after[name]) for name in kept)
    assert any(not torch.equal(before[name], after[name]) for name in learnt)
    assert "critic" in load_checkpoint(last)


# --------------------------------------------------------------------------------------------------------- animation


def test_strength_0_is_the_source_as_the_model_shows_it():
    model = RiggedSID().eval()
    torch.nn.init.normal_(model.rig.linear.weight, std=0.05)
    source, driver = close_crop(), close_crop()[:, ::-1].copy()
    still, moving = (
        list(RiggedAnimator(model, source, MotionOptions(strength=strength)).animate([driver, source]))
        for strength in (0.0, 1.0)
    )
    assert all(picture.shape == source.shape for picture in still + moving)
    assert all(np.abs(picture.astype(int) - source).max() <= 1 for picture in still)
    assert not np.array_equal(moving[0], moving[1])


def test_a_driver_who_smiles_all_the_time_smiles():
    """What the calmest frame shows is taken for a habit of the face, but not more than a habit may be."""
    model = RiggedSID().eval()
    animator = RiggedAnimator(model, close_crop())
    shown = Semantics(torch.full((1, EXPRESSION), 0.8), torch.zeros(1, POSE))
    model.encoder.forward = lambda frames, points: Semantics(*(z.repeat(len(frames), 1) for z in shown))
    animator.prepare([close_crop()])
    left = animator._read([close_crop()], for_pose=False).semantics.expression
    assert torch.allclose(left[:, :-2], torch.tensor(0.5)) and torch.allclose(left[:, -2:], torch.tensor(0.8))


def test_results_do_not_depend_on_the_batch():
    model = RiggedSID().eval()
    torch.nn.init.normal_(model.rig.linear.weight, std=0.05)
    frames = [close_crop(), np.roll(close_crop(), 9, axis=1), close_crop()[:, ::-1].copy()]
    made = [list(RiggedAnimator(model, close_crop(), batch_size=n).animate(frames)) for n in (1, 3)]
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(*made, strict=True))


def test_a_large_source_gives_large_results():
    model = RiggedSID().eval()
    large = astronaut()[0:220, 114:334].repeat(2, axis=0).repeat(2, axis=1)
    (result,) = RiggedAnimator(model, close_crop(), large=large).animate([close_crop()])
    assert result.shape == large.shape


def test_the_numbers_of_semantics():
    semantics = random_semantics(3)
    assert semantics.expression.shape == (3, EXPRESSION)
    assert semantics.pose.shape == (3, POSE)
    assert semantics.cat().isfinite().all()
