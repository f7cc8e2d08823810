"""What SID adds to FOMM, and what must hold whatever the weights are."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import OWN_EXPRESSION, tiny

from modules.config.files import config_from_dict, config_to_dict, section_from_dict
from modules.config.sid import EncoderParams, ModelParams, PerceptualParams
from modules.contrast import identity_contrast
from modules.errors import UserError
from modules.faces.window import FACE_SHARE, cut_out, whole_face, window
from modules.geometry import coordinate_grid, sample
from modules.media.tensors import to_tensor
from modules.sid import losses, objectives, weights
from modules.sid.animator import Animator
from modules.sid.dense_motion import FASTER, FaceFlow, FlowReading, sparse_motions
from modules.sid.encoders import IdentityEncoder, Semantics
from modules.sid.generator import Condition
from modules.sid.keypoints import Keypoints, shared_motion
from modules.sid.model import SID, build_discriminator
from modules.sid.motion import MotionOptions, compose, normalize_keypoints, read_driver, read_source
from modules.sid.perceptual import build_perceptual
from modules.sid.step import GeneratorStep
from modules.world import render
from modules.world.parameters import neutral


def tiny_params(encoders: bool = True, **changes) -> ModelParams:
    values = config_to_dict(config_from_dict(tiny(**changes)).model_params)
    if not encoders:
        del values["encoder_params"]
    return section_from_dict(ModelParams, values)


FILM = (
    "generator.film.",
    "generator.moving.",
    "generator.dense_motion_network.semantic_flow.",
    "generator.dense_motion_network.face_flow.",
)


def randomized(model: SID) -> SID:
    """Weights off their neutral initial values: FiLM, head and jacobians start at zero and would hide mistakes."""
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, OWN_EXPRESSION])
def test_at_initialisation_encoders_change_nothing(changes):
    """Bit for bit, but for rounding where the motion field is brought to the picture's size."""
    plain = SID(tiny_params(encoders=False, **changes)).eval()
    full = SID(tiny_params(**changes)).eval()
    missing = weights.load_state(full, weights.state(plain), "plain", warm_start=True)
    assert missing and all(name.startswith(FILM + ("encoders.",)) for name in missing)
    added = {f"encoders.{name}" for name in full.encoders.state_dict()}
    added |= {f"generator.{name}" for name in full.generator.state_dict() if f"generator.{name}".startswith(FILM)}
    assert set(missing) == added

    source, driving = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    kp_source, kp_driving = plain.kp_detector(source), plain.kp_detector(driving)
    semantics, place = map(full.encoders.semantic, (source, driving)), full.encoders.semantic.finder(source)
    condition = full.condition(full.encoders.identity(source), *semantics, place)
    expected = plain.generator(source, kp_source, kp_driving).prediction
    result = full.generator(source, kp_source, kp_driving, condition).prediction
    torch.testing.assert_close(result, expected, atol=1e-4 if changes else 0, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(5))
def test_same_source_and_driver_deform_by_the_identity(seed):
    torch.manual_seed(seed)
    model = randomized(SID(tiny_params()))
    image = torch.rand(1, 3, 32, 32)
    keypoints = model.kp_detector(image)
    assert torch.linalg.cond(keypoints.jacobian).max() < 1000  # beyond it float32 cannot invert to 1e-4
    no_change = torch.zeros(1, model.condition_size.semantic_dim)
    deformation = model.generator.dense_motion_network(image, keypoints, keypoints, no_change).deformation
    identity = coordinate_grid(*deformation.shape[1:3], like=deformation)
    torch.testing.assert_close(deformation[0], identity, atol=1e-4, rtol=0)


def test_key_points_in_one_place_are_pushed_apart_until_they_have_room():
    crowd = torch.zeros(1, 3, 2) + 0.01 * torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    crowd.requires_grad_(True)
    crowded = losses.keypoint_prior(Keypoints(crowd, None))
    assert 0.99 < crowded < 1
    crowded.backward()
    apart = losses.keypoint_prior(Keypoints((crowd - 100 * crowd.grad).detach(), None))
    assert apart < 0.9 * crowded
    roomy = torch.tensor([[[-0.3, 0.0], [0.3, 0.0], [0.0, 0.3]]])
    assert losses.keypoint_prior(Keypoints(roomy, None)) == 0


@torch.no_grad()
def test_a_change_of_semantics_moves_the_picture_beyond_its_key_points():
    torch.manual_seed(0)
    model = randomized(SID(tiny_params()))
    image = torch.rand(1, 3, 32, 32)
    keypoints = model.kp_detector(image)
    change = torch.randn(1, model.condition_size.semantic_dim)
    still, moved, opposite = (
        model.generator.dense_motion_network(image, keypoints, keypoints, factor * change).deformation
        for factor in (0, 1, -1)
    )
    assert (moved - still).abs().max() > 1e-3
    torch.testing.assert_close(moved - still, still - opposite, atol=1e-5, rtol=0)  # linear in the change


def test_a_number_that_stands_for_a_motion_moves_the_face_where_it_is():
    flow = FaceFlow(2)
    flow.motions[1, 0] = 0.1  # to the right, all of the square
    place = torch.tensor([[0.0, 0.0, 0.2, -0.3], [-0.4, torch.pi / 2, -0.2, 0.1]])
    found = window(whole_face(place, 2.0), 2.0)
    grid = torch.stack([found[..., 2], found[..., 2] + 2.2 * found[..., 0]], dim=1)[:, None]  # its middle, and beyond
    change = torch.tensor([[5.0, 1.0], [5.0, -2.0]])
    inside, outside = flow(change, place, grid, 2.0)[:, 0].unbind(1)
    # what is shown to the right comes from the left; along the square's own axis, in the frame's coordinates
    torch.testing.assert_close(inside, -0.1 * torch.tensor([[1.0], [-2.0]]) * found[..., 0])
    assert not outside.any() and not flow(0 * change, place, grid, 2.0).any()


def test_a_moved_point_is_shown_as_far_away_as_it_moved():
    """A bump of motion of half width .2: the point in its middle moves by .15, and is to be found there."""
    flow = FaceFlow(1)
    x = torch.linspace(-1, 1, flow.motions.shape[-1])
    flow.motions[0, 0] = 0.15 * torch.exp(-((x / 0.4) ** 2))
    place = torch.tensor([[0.0, 0.0, 0.0, -0.2]])
    square = window(whole_face(place), 1.0)[0]
    shown = torch.linspace(-1, 1, 2001)[:, None] * square[:, 0] + square[:, 2]  # along the square's middle
    origin = shown + flow(torch.ones(1, 1), place, shown[None, None], 1.0)[0, 0]
    at = (origin - square[:, 2]).norm(dim=1).argmin()
    assert float((shown[at] - square[:, 2]).norm() / square[:, 0].norm()) == pytest.approx(0.15, abs=0.01)
    # more of it by what is learnt
    expected = flow(torch.full((1, 1), 1.5), place, shown[None, None], 1.0)
    torch.nn.init.constant_(flow.more.weight, 0.5 / FASTER)
    torch.testing.assert_close(flow(torch.ones(1, 1), place, shown[None, None], 1.0), expected)


@torch.no_grad()
def test_a_flow_is_read_in_cells_of_the_map():
    """A shift by (0.5, 0.25) of half frames is one of 1.5 of 6 columns and half a row of 4."""
    read = FlowReading(2)
    assert not read(torch.randn(1, 16, 24, 2), 4, 6).any()
    read.weight[:, :, 3, 3] = torch.eye(2)
    seen = read(torch.tensor([0.5, 0.25]).expand(1, 16, 24, 2), 4, 6)
    torch.testing.assert_close(seen, torch.tensor([1.5, 0.5])[None, :, None, None].expand(1, 2, 4, 6))


@torch.no_grad()
def test_what_moves_in_a_face_reaches_the_painter():
    """The bottleneck sees the face's flow: its weights change the picture of a face that moves, and of no other."""
    torch.manual_seed(0)
    model = SID(tiny_params(**OWN_EXPRESSION)).eval()
    generator, sizes = model.generator, model.condition_size
    generator.dense_motion_network.face_flow.motions[0] = 0.2
    source, place = torch.rand(1, 3, 32, 32), torch.zeros(1, 4)
    keypoints = model.kp_detector(source)

    def shown(amount: float) -> torch.Tensor:
        change = torch.zeros(1, sizes.semantic_dim)
        change[:, 0] = amount
        condition = Condition(torch.zeros(1, sizes.look_dim), change, place)
        return generator(source, keypoints, keypoints, condition).prediction

    before = [shown(amount) for amount in (0.0, 1.0)]
    torch.nn.init.normal_(generator.moving.weight)
    after = [shown(amount) for amount in (0.0, 1.0)]
    torch.testing.assert_close(after[0], before[0])
    assert float((after[1] - before[1]).abs().max()) > 0.01


def test_the_whole_face_is_looked_for_below_what_a_finder_settles_on():
    place = torch.tensor([[0.1, 0.3, 0.2, -0.1]])
    square, whole = window(place, 1.5)[0], window(whole_face(place, 1.5), 1.5)[0]
    torch.testing.assert_close(whole[:, :2], 1.15 * square[:, :2])
    torch.testing.assert_close(whole[:, 2], square[:, :2] @ torch.tensor([0.0, 0.5]) + square[:, 2])


@torch.no_grad()
def test_with_skips_the_source_stays_sharp_where_nothing_is_occluded():
    """Occlusion 1 everywhere, the picture is the warped source itself; 0 everywhere, the source is not seen in it."""
    params = tiny_params()
    params = replace(params, generator_params=replace(params.generator_params, skips=True))
    torch.manual_seed(0)
    model = randomized(SID(params))
    source = read_source(model, torch.rand(1, 3, 32, 32))
    driver = read_driver(model, torch.rand(1, 3, 32, 32))
    condition = model.condition(source.z_id, source.semantics, driver.semantics, source.place)
    occlusion = model.generator.dense_motion_network.occlusion
    torch.nn.init.zeros_(occlusion.weight)
    pictures = []
    for bias in (100.0, -100.0):
        torch.nn.init.constant_(occlusion.bias, bias)
        pictures.append(model.generator(source.image, source.keypoints, driver.keypoints, condition, source.features))
    torch.testing.assert_close(pictures[0].prediction, pictures[0].deformed, atol=1e-6, rtol=0)
    assert (pictures[1].prediction - pictures[1].deformed).abs().mean() > 0.05
    same = model.condition(source.z_id, source.semantics, source.semantics, source.place)
    torch.nn.init.constant_(occlusion.bias, 100.0)
    still = model.generator(source.image, source.keypoints, source.keypoints, same, source.features)
    torch.testing.assert_close(still.prediction, source.image, atol=1e-4, rtol=0)  # at full resolution too


@torch.no_grad()
def test_motion_head_moves_nothing_without_a_change_of_semantics():
    model = randomized(SID(tiny_params()))
    source = read_source(model, torch.rand(1, 3, 32, 32))
    moved = model.encoders.motion_head(source.keypoints, source.semantics, source.semantics)
    assert torch.equal(moved.value, source.keypoints.value)
    assert torch.equal(moved.jacobian, source.keypoints.jacobian)


@torch.no_grad()
def test_a_change_of_pose_moves_all_key_points_by_one_affine_map():
    model = SID(tiny_params()).eval()  # not randomized: without what is particular
    torch.nn.init.normal_(model.encoders.motion_head.affine.weight, std=0.3)
    source = read_source(model, torch.rand(2, 3, 32, 32))
    driver = read_driver(model, torch.rand(2, 3, 32, 32))
    head = model.encoders.motion_head
    moved = head(source.keypoints, source.semantics, driver.semantics)
    linear, shift = head.shared_motion(source.semantics, driver.semantics).split([2, 1], dim=2)
    linear = linear + torch.eye(2)
    torch.testing.assert_close(moved.value, source.keypoints.value @ linear.mT + shift.mT)
    torch.testing.assert_close(moved.jacobian, linear[:, None] @ source.keypoints.jacobian)
    assert (moved.value - source.keypoints.value).abs().min(dim=1).values.max() > 1e-4


@torch.no_grad()
def test_strength_drive_and_relative_compose_semantics():
    source, first, driver, pose = (Semantics(torch.randn(1, 8), torch.randn(1, 4)) for _ in range(4))
    both = compose(source, driver, first, MotionOptions())
    assert torch.allclose(both.cat(), driver.cat(), atol=1e-6)
    assert torch.equal(compose(source, driver, first, MotionOptions(strength=0)).cat(), source.cat())
    expression = compose(source, driver, first, MotionOptions(drive="expression"))
    assert torch.allclose(expression.expression, driver.expression, atol=1e-6)
    assert torch.equal(expression.pose, source.pose)
    other = compose(source, driver, first, MotionOptions(drive="pose"))
    assert torch.equal(other.expression, source.expression)
    relative = compose(source, first, first, MotionOptions(relative=True))
    assert torch.allclose(relative.cat(), source.cat(), atol=1e-6)
    with_pose = compose(source, driver, first, MotionOptions(drive="expression"), pose)
    assert torch.allclose(with_pose.pose, pose.pose, atol=1e-6)
    still = compose(source, driver, first, MotionOptions(relative=True), pose)
    assert torch.allclose(still.pose, pose.pose, atol=1e-6), "a picture's pose is meant as it is"
    moving = compose(source, driver, first, MotionOptions(relative=True), pose, first_pose=driver)
    assert torch.allclose(moving.pose, source.pose + pose.pose - driver.pose, atol=1e-6)
    assert torch.allclose(moving.expression, source.expression + driver.expression - first.expression, atol=1e-6)


@torch.no_grad()
def test_relative_pose_of_a_second_video_starts_from_its_own_first_frame():
    """A second driver that stands still leaves the source's head where it is, however it holds its own."""
    model = randomized(SID(tiny_params()))
    source, still, other = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    options = MotionOptions(relative=True, other_pose=True)
    results = {}
    for name, moves in (("video", True), ("picture", False)):
        animator = Animator(model, source, options, batch_size=2)
        results[name] = np.stack(list(animator.animate([still] * 3, [other] * 3, pose_moves=moves))).astype(int)
    unmoved = np.stack(list(Animator(model, source, MotionOptions(relative=True)).animate([still] * 3))).astype(int)
    # z + (z' - z') is z but for rounding, which may turn a grey level of the result
    assert np.abs(results["video"] - unmoved).max() <= 1
    assert np.abs(results["picture"] - unmoved).max() > 1


@torch.no_grad()
def test_a_source_may_be_any_picture(tmp_path):
    model = randomized(SID(tiny_params()))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as picture:
        for given in (picture, tmp_path / "turned.png", pixels, pixels / 255, torch.tensor(pixels.T / 255).mT):
            assert torch.equal(Animator(model, given).source.image, to_tensor([pixels]))
    with pytest.raises(UserError, match="source: cannot be a list"):
        Animator(model, [pixels])


def test_options_that_cannot_work_are_refused():
    with pytest.raises(UserError, match="needs a model with encoders"):
        MotionOptions("embedding").resolved(has_encoders=False)
    with pytest.raises(UserError, match="--drive pose needs --motion embedding"):
        MotionOptions(drive="pose").resolved(has_encoders=False)


@torch.no_grad()
def test_relative_motion_of_a_still_driver_is_the_source():
    model = randomized(SID(tiny_params()))
    source = read_source(model, torch.rand(1, 3, 32, 32))
    driver = model.kp_detector(torch.rand(1, 3, 32, 32))
    moved = normalize_keypoints(source.keypoints, driver, driver, adapt_scale=True)
    torch.testing.assert_close(moved.value, source.keypoints.value)
    # J J^-1 J_source: float32 rounding of an inverse and two products
    torch.testing.assert_close(moved.jacobian, source.keypoints.jacobian, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("motion", ["embedding", "keypoints"])
@pytest.mark.parametrize("relative", [False, True])
def test_animation_does_not_depend_on_the_batch_size(motion, relative):
    model = randomized(SID(tiny_params())).requires_grad_(False)
    rng = np.random.default_rng(0)
    source, *frames = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    options = MotionOptions(motion, relative=relative)
    one = np.stack(list(Animator(model, source, options, batch_size=1).animate(frames))).astype(int)
    many = np.stack(list(Animator(model, source, options, batch_size=5).animate(frames))).astype(int)
    assert len(one) == len(frames)
    assert np.abs(one - many).max() <= 1  # convolution order differs with the batch: half a grey level


def test_best_frame_is_the_one_posed_like_the_source():
    model = randomized(SID(tiny_params())).requires_grad_(False)
    frames = list(np.random.default_rng(1).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8))
    animator = Animator(model, frames[4], MotionOptions("keypoints", relative=True), batch_size=3)
    assert animator.start_from_best(frames) == 4


def test_every_animation_starts_anew_unless_the_best_frame_was_found_for_it():
    model = randomized(SID(tiny_params())).requires_grad_(False)
    frames = list(np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8))
    options = MotionOptions(relative=True, other_pose=True)

    def animated(animator: Animator, driver: list[np.ndarray], poses: list[np.ndarray]) -> np.ndarray:
        return np.stack(list(animator.animate(driver, poses, pose_moves=True)))

    animator = Animator(model, frames[0], options)
    fresh = animated(Animator(model, frames[0], options), frames[3:], frames[1:4])
    animator.start_from_best(frames)
    from_best = animated(animator, frames[3:], frames[1:4])
    animated(animator, frames[:3], frames[3:])
    assert np.array_equal(animated(animator, frames[3:], frames[1:4]), fresh)
    assert not np.array_equal(from_best, fresh)


# --------------------------------------------------------------------------------------------------------------- losses


def test_identity_contrast_against_a_plain_loop():
    z = torch.nn.functional.normalize(torch.randn(6, 4, dtype=torch.float64), dim=1)
    labels = torch.tensor([0, 1, 2, 0, 1, 0])
    expected = []
    for i in range(6):
        others = sum(math.exp(float(z[i] @ z[k]) / 0.1) for k in range(6) if labels[k] != labels[i])
        positives = [math.exp(float(z[i] @ z[j]) / 0.1) for j in range(6) if j != i and labels[j] == labels[i]]
        terms = [-math.log(p / (p + others)) for p in positives]
        expected.append(sum(terms) / max(1, len(terms)))
    value = identity_contrast(z, labels, 0.1)
    assert value.item() == pytest.approx(sum(expected) / 6, rel=1e-9)


def test_identity_contrast_has_a_gradient_when_everybody_is_one_person():
    z = torch.randn(4, 3, requires_grad=True)
    identity_contrast(z, torch.zeros(4, dtype=torch.long), 0.1).backward()
    assert torch.isfinite(z.grad).all()


def test_semantic_contrast_ignores_frames_of_the_same_moment():
    first, second = torch.randn(1, 3, 5), torch.randn(1, 3, 5)
    near = torch.tensor([[0.0, 0.1, 0.15]])
    assert losses.semantic_contrast(first, second, near, 0.1, 0.2).item() == pytest.approx(0, abs=1e-6)
    far = torch.tensor([[0.0, 1.0, 2.0]])
    assert losses.semantic_contrast(first, second, far, 0.1, 0.2).item() > 0.1


def test_relative_distance_is_scale_free_and_one_for_strangers():
    a, b = torch.randn(4096, 6), torch.randn(4096, 6)
    assert losses.relative_distance(a, b).item() == pytest.approx(1, abs=0.05)  # 24576 draws: deviation about 0.01
    near = b + 0.1 * a
    value = losses.relative_distance(near, b).item()
    assert losses.relative_distance(1e-2 * near, 1e-2 * b).item() == pytest.approx(value, rel=1e-2)
    assert value < 0.01


def test_the_motion_that_all_key_points_share_is_recovered():
    value = torch.rand(2, 10, 2, dtype=torch.float64) * 2 - 1
    theta = torch.tensor([[0.1, -0.2, 0.05], [0.15, -0.1, -0.1]], dtype=torch.float64)
    moved = value + value @ theta[:, :2].T + theta[:, 2]
    found = shared_motion(Keypoints(value, None), Keypoints(moved, None))
    # the ridge of 1e-3 against a Gram matrix of about 3 shrinks by about 3e-4 of the values
    torch.testing.assert_close(found, theta.expand(2, -1, -1), atol=2e-4, rtol=0)


def test_perceptual_networks_of_both_untrained_kinds_and_the_missing_file():
    image = torch.rand(1, 3, 32, 32)
    for kind in ("small", "random"):
        first, again = (build_perceptual(PerceptualParams(weights=kind))(image) for _ in range(2))
        assert len(first) == 5 and all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert all(f.std() > 1e-3 for f in first)
    with pytest.raises(UserError, match=r"nowhere.pth: no such file; train_params.perceptual_network.path"):
        build_perceptual(PerceptualParams(weights="imagenet", path="nowhere.pth"))


@pytest.mark.parametrize("changes", [{}, OWN_EXPRESSION])
def test_every_loss_reaches_the_weights_it_is_for(changes):
    config = config_from_dict(tiny(**changes))
    model = randomized(SID(config.model_params)).train()
    if changes:
        model.encoders.semantic.in_mirror.fill_(1)
        torch.nn.init.normal_(model.generator.dense_motion_network.face_flow.motions, std=0.05)
    step = GeneratorStep(model, build_discriminator(config.model_params), config.train_params)
    batch = {
        "frames": torch.rand(4, 4, 3, 32, 32),
        "times": torch.arange(4.0).expand(4, 4),
        "identity": torch.tensor([0, 1, 2, 0]),
        "elsewhere": torch.rand(4, 3, 32, 32),
    }
    terms, rendered = step(batch)
    weights_set = {k for k, v in config_to_dict(config.train_params.loss_weights).items() if v}
    renamed = {"generator_gan": "gen_gan"}
    assert set(terms) == {renamed.get(k, k) for k in weights_set} - {"discriminator_gan"}
    sum(terms.values()).backward()
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    fixed = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert bool(fixed) == bool(changes) and all(name.startswith("encoders.semantic.expression.") for name in fixed)
    without = [name for name, p in learning.items() if p.grad is None or not p.grad.any()]
    # a convolution's bias before batch norm has no influence and so no gradient but rounding
    assert [name for name in without if not name.endswith("bias")] == []
    assert rendered.generated.prediction.shape == (4, 3, 32, 32)


def test_a_picture_learns_of_a_taught_expression_and_not_the_reverse():
    """z_exp is fixed, but a picture that is to show it is told how."""
    semantic = SID(tiny_params(**OWN_EXPRESSION)).encoders.semantic
    picture = torch.rand(2, 3, 32, 32, requires_grad=True)
    assert not semantic(picture).expression.any()
    semantic.in_mirror.fill_(1)
    semantic(picture).expression.square().sum().backward()
    assert picture.grad.any()
    assert all(p.grad is None for p in semantic.expression.parameters())


@pytest.mark.parametrize("changes", [{}, OWN_EXPRESSION])
def test_a_crossed_picture_is_asked_for_the_drivers_pose_only_without_an_expression_of_its_own(changes):
    config = config_from_dict(tiny(**changes))
    model = randomized(SID(config.model_params)).eval()
    if changes:
        model.encoders.semantic.in_mirror.fill_(1)
    step = GeneratorStep(model, build_discriminator(config.model_params), config.train_params).eval()
    source, driving = torch.rand(2, 2, 3, 32, 32)
    with torch.no_grad():
        embedded = step.encoder_losses.embed(source, driving, torch.Generator())
        losses_with = []
        for factor in (1, 3):  # of what the judging copy says of poses
            for layer in (step.targets.semantic.project, step.targets.semantic.placed):
                last = layer[-1] if isinstance(layer, torch.nn.Sequential) else layer
                if last is not None:
                    last.weight.mul_(factor)
            losses_with.append(step._cycle_losses(source, driving, model.kp_detector(source), embedded))
    before, after = (terms["cycle_semantics"] for terms in losses_with)
    assert before > 0 and bool(before == after) == bool(changes)


def test_faces_are_compared_where_the_driver_has_one():
    config = config_from_dict(tiny())
    step = GeneratorStep(SID(config.model_params), build_discriminator(config.model_params), config.train_params)
    driving, place = torch.rand(2, 3, 64, 64), torch.zeros(2, 4, requires_grad=True)
    outside, inside = driving.clone(), driving.clone()
    outside[:, :, :8], inside[:, :, 28:36, 28:36] = 0, 0
    inside.requires_grad_()
    differences = [step._face_loss(image, driving, place) for image in (driving, outside, inside)]
    assert differences[0] == 0 and differences[1] < 0.05 * differences[2]
    elsewhere = step._face_loss(inside, driving, place + torch.tensor([0, 0, 0, 0.6]))
    assert elsewhere < 0.1 * differences[2]
    differences[2].backward()
    assert inside.grad[:, :, 28:36, 28:36].any() and place.grad is None  # a face is not where the picture is easy


def test_encoders_alone_learn_from_a_batch_of_which_nothing_is_rendered():
    config = config_from_dict(tiny(**{"train_params.rendered_share": 0, "train_params.loss_weights.generator_gan": 0}))
    model = randomized(SID(config.model_params))
    step = GeneratorStep(model, build_discriminator(config.model_params), config.train_params).train()
    batch = {
        "frames": torch.rand(4, 4, 3, 32, 32),
        "times": torch.arange(4.0).expand(4, 4),
        "identity": torch.tensor([0, 1, 2, 0]),
        "elsewhere": torch.rand(4, 3, 32, 32),
    }
    teacher = copy.deepcopy(model.kp_detector.state_dict())
    terms, rendered = step(batch)
    assert all(torch.equal(value, teacher[name]) for name, value in model.kp_detector.state_dict().items())
    learnt = {"identity_contrast", "semantic_contrast", "placement", "congealing", "motion_value"}
    assert rendered is None and learnt <= set(terms)
    sum(terms.values()).backward()
    assert all(p.grad is None for part in (model.generator, model.kp_detector) for p in part.parameters())
    assert model.encoders.identity.project[0].weight.grad.any()

    half = replace(config.train_params, rendered_share=0.5)
    step = GeneratorStep(model, build_discriminator(config.model_params), half).train()
    assert step(batch)[1].source.shape[0] == 2  # half of four items
    assert not torch.equal(
        teacher["predictor.encoder.down_blocks.0.norm.running_mean"],
        model.kp_detector.state_dict()["predictor.encoder.down_blocks.0.norm.running_mean"],
    )


def test_a_network_without_a_learning_rate_teaches_and_stays_as_it_is():
    changes = {f"train_params.lr_{name}": 0 for name in ("kp_detector", "encoders")}
    learning = objectives.build(config_from_dict(tiny(**changes)))
    randomized(learning.model)
    batch = {
        "frames": torch.rand(4, 4, 3, 32, 32),
        "times": torch.arange(4.0).expand(4, 4),
        "identity": torch.tensor([0, 1, 2, 0]),
        "elsewhere": torch.rand(4, 3, 32, 32),
    }
    before = copy.deepcopy(learning.model.state_dict())
    (generator, *_) = learning.objectives
    assert list(generator.optimizers) == ["optimizer_generator"]
    terms, _ = generator.module.train()(batch)
    sum(terms.values()).backward()
    generator.optimizers["optimizer_generator"].step()
    changed = {n.split(".")[0] for n, t in learning.model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"generator"}


def test_the_motion_head_can_learn_of_encoders_that_are_frozen():
    changes = {"train_params.lr_encoders": 0, "train_params.lr_motion_head": 1e-3}
    learning = objectives.build(config_from_dict(tiny(**changes)))
    randomized(learning.model)
    (generator, *_) = learning.objectives
    assert sorted(generator.optimizers) == ["optimizer_generator", "optimizer_kp_detector", "optimizer_motion_head"]
    batch = {
        "frames": torch.rand(4, 4, 3, 32, 32),
        "times": torch.arange(4.0).expand(4, 4),
        "identity": torch.tensor([0, 1, 2, 0]),
        "elsewhere": torch.rand(4, 3, 32, 32),
    }
    before = copy.deepcopy(learning.model.encoders.state_dict())
    terms, _ = generator.module.train()(batch)
    sum(terms.values()).backward()
    for optimizer in generator.optimizers.values():
        optimizer.step()
    after = learning.model.encoders.state_dict()
    changed = {name.split(".")[0] for name, t in after.items() if not torch.equal(t, before[name])}
    assert changed == {"motion_head"}


def test_the_window_on_the_face_follows_a_known_transform():
    place = torch.tensor([[0.1, 0.3, 0.2, -0.1]])
    theta = window(place, aspect=1.0)
    cos, sin = (FACE_SHARE * math.exp(0.1) * f(0.3) for f in (math.cos, math.sin))
    torch.testing.assert_close(theta[0], torch.tensor([[cos, -sin, 0.2], [sin, cos, -0.1]]))
    # a view turned by 0.2 about the middle and enlarged by 1.1 shows the face turned back and smaller
    turn, scale = 0.2, 1.1
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    known = torch.tensor([[[cos, -sin, 0], [sin, cos, 0]]])
    middle = torch.linalg.solve(known[0, :, :2], place[0, 2:])
    seen = torch.cat([torch.tensor([0.1 - math.log(scale), 0.3 - turn]), middle])[None]
    anchor = place.square().sum()  # the mean place, which one face alone is
    torch.testing.assert_close(losses.placement(place, seen, known, 1.0), anchor)
    assert losses.placement(place, place, known, 1.0) > anchor + 0.02


def test_a_mirrored_identity_is_the_mirror_images_own():
    params = {"identity_dim": 8, "block_expansion": 8, "max_features": 16, "face_pixels": 32}
    torch.manual_seed(0)
    plain = IdentityEncoder(EncoderParams(**params))
    both = IdentityEncoder(EncoderParams(**params, mirrored_identity=True))
    both.load_state_dict(plain.state_dict())
    assert plain.finder.read.weight.abs().max() == 0  # it looks at the middle, in a mirror too
    face = render(neutral(), 64).image.repeat(4, 1, 1, 1) * torch.rand(4, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(both.train()(face), plain.train()(face))  # what is learnt is each picture's own
        both.load_state_dict(plain.state_dict())
        one, other = plain.eval()(face), plain(face.flip(-1))
        assert not torch.allclose(one, other, atol=1e-3)
        expected = torch.nn.functional.normalize(one + other, dim=1)
        torch.testing.assert_close(both.eval()(face), expected)
        torch.testing.assert_close(both(face.flip(-1)), expected)


def test_faces_that_lie_alike_are_more_alike_than_faces_that_do_not():
    torch.manual_seed(0)
    face = render(neutral(), 64).image.repeat(8, 1, 1, 1)
    place = torch.zeros(8, 4)
    moved = place + torch.tensor([0.1, 0.3, 0.15, 0.15]) * torch.randn(8, 4)
    aligned, astray = (losses.congealing(cut_out(face, each, 32)) for each in (place, moved))
    assert aligned < 0.7 * astray
    # whoever looks the other way does not count
    mirrored = torch.where(torch.arange(8)[:, None, None, None] % 2 == 0, face, face.flip(-1))
    torch.testing.assert_close(losses.congealing(cut_out(mirrored, place, 32)), aligned, atol=1e-4, rtol=0)
    # and neither does other light
    gain = torch.rand(8, 1, 1, 1) + 0.5
    torch.testing.assert_close(losses.congealing(cut_out(face * gain, place, 32)), aligned, atol=0.02, rtol=0)
    moved.requires_grad_()
    losses.congealing(cut_out(face, moved, 32)).backward()
    assert moved.grad.any(dim=0).all()  # size, angle and place all learn


def test_a_face_is_cut_out_exactly_under_autocast_and_square_from_frames_that_are_not():
    image, place = torch.rand(1, 3, 64, 96), torch.tensor([[0.1, 0.4, 0.1, -0.05]])
    plain = cut_out(image, place, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cut_out(image, place, 32), plain)
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    theta = window(place, 95 / 63)[0]
    (left, right, below) = (corners @ theta[:, :2].T + theta[:, 2]) * torch.tensor([95 / 2, 63 / 2])  # pixels
    across, down = right - left, below - left
    torch.testing.assert_close(across.norm(), down.norm())
    assert abs(across @ down) < 1e-3 * across.norm() ** 2


def test_the_judging_copies_of_the_encoders_look_at_each_picture_by_itself():
    config = config_from_dict(tiny())
    model = randomized(SID(config.model_params)).train()
    step = GeneratorStep(model, build_discriminator(config.model_params), config.train_params).train()
    model.encoders.identity.project[0].running_mean.fill_(0.5)
    step._update_targets()
    assert not step.targets.training and model.encoders.training
    assert torch.equal(step.targets.identity.project[0].running_mean, torch.full((512,), 0.5))
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(step.targets.identity(images)[:1], step.targets.identity(images[:1]))


def test_a_shared_background_moves_as_all_key_points_together():
    value = torch.rand(1, 8, 2) * 2 - 1
    linear, shift = torch.tensor([[1.1, 0.1], [-0.1, 0.9]]), torch.tensor([0.2, -0.1])
    source, driving = Keypoints(value @ linear.T + shift, None), Keypoints(value, None)
    grid = coordinate_grid(4, 4, like=value)
    still = sparse_motions(source, driving, 4, 4)[0, 0]
    shared = sparse_motions(source, driving, 4, 4, "shared")[0, 0]
    assert torch.equal(still, grid)
    # the ridge of 1e-3 against a Gram matrix of about 3
    torch.testing.assert_close(shared, grid @ linear.T + shift, atol=2e-3, rtol=0)


def test_to_tensor_keeps_all_256_levels():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert torch.equal((to_tensor([image]) * 255).round().to(torch.uint8)[0, 0], torch.from_numpy(image[..., 0]))


def test_half_precision_features_are_sampled_with_a_full_precision_grid():
    width = 256
    ramp = torch.arange(float(width)).expand(1, 1, 4, width)
    grid = coordinate_grid(4, width, like=ramp)[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sampled = sample(ramp.bfloat16(), grid)
    # at its own pixel centres an image is itself; bfloat16 coordinates would be off by up to half a pixel here
    assert torch.equal(sampled, ramp.bfloat16())
