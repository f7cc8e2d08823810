"""What SID adds to FOMM, and what must hold whatever the weights are."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import OWN_EXPRESSION, randomized, tiny_params

from modules.errors import UserError
from modules.faces.window import whole_face, window
from modules.geometry import coordinate_grid, solve
from modules.media.tensors import to_tensor
from modules.sid import losses, weights
from modules.sid.animator import Animator
from modules.sid.dense_motion import FASTER, FaceFlow, FlowReading
from modules.sid.encoders import Semantics
from modules.sid.generator import Condition
from modules.sid.keypoints import Keypoints
from modules.sid.model import SID
from modules.sid.motion import compose, normalize_keypoints, read_driver, read_source
from modules.sid.motion_options import MotionOptions

FILM = (
    "generator.film.",
    "generator.moving.",
    "generator.dense_motion_network.semantic_flow.",
    "generator.dense_motion_network.face_flow.",
)


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


def test_batches_that_go_through_the_detector_together_are_normalised_apart():
    torch.manual_seed(0)
    together = randomized(SID(tiny_params())).kp_detector.train()
    alone = copy.deepcopy(together)
    pictures = [torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32) / 4]
    found = together(torch.cat(pictures), 2).chunk(2)
    for one, picture in zip(found, pictures, strict=True):
        other = alone(picture)
        torch.testing.assert_close(one.value, other.value)
        torch.testing.assert_close(one.jacobian, other.jacobian)
    # running statistics of norms as well, moved twice
    torch.testing.assert_close(together.state_dict(), alone.state_dict())


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
            assert torch.equal(Animator(model, given).person.source.image, to_tensor([pixels]))
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


@pytest.mark.parametrize("threads", [1, 2])
def test_large_systems_are_solved_whatever_the_threads(threads):
    """MKL's own threads get some of them wrong, or wait for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        matrix, wanted = torch.randn(8, 200, 200, dtype=torch.float64), torch.randn(8, 200, 2, dtype=torch.float64)
        assert torch.allclose(matrix @ solve(matrix, wanted), wanted, atol=1e-8)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
