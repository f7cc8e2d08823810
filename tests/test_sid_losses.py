"""SID's losses, on numbers that can be worked out by hand."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import OWN_EXPRESSION, randomized, tiny, tiny_params

from benchmarks import fomm_loop
from modules.config.files import config_from_dict, config_to_dict
from modules.config.sid import EncoderParams, PerceptualParams
from modules.contrast import identity_contrast
from modules.errors import UserError
from modules.faces.window import FACE_SHARE, cut_out, window
from modules.geometry import coordinate_grid, sample
from modules.media.tensors import to_tensor
from modules.sid import losses, objectives
from modules.sid.dense_motion import sparse_motions
from modules.sid.encoders import IdentityEncoder
from modules.sid.keypoints import Keypoints, shared_motion
from modules.sid.model import SID, build_discriminator
from modules.sid.perceptual import build_perceptual
from modules.sid.step import GeneratorStep
from modules.world import render
from modules.world.parameters import neutral


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


def test_features_in_half_precision_leave_the_network_as_it_is():
    network, image = build_perceptual(PerceptualParams(weights="random")), torch.rand(1, 3, 32, 32)
    before = network(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(image)
    assert all(feature.dtype == torch.bfloat16 for feature in half)
    for one, other in zip(before, half, strict=True):
        # thirteen convolutions round to 1/256 each
        torch.testing.assert_close(other.float(), one, atol=0.05 * float(one.abs().max()), rtol=0)
    assert all(torch.equal(one, other) for one, other in zip(before, network(image), strict=True))


def test_a_step_in_full_precision_is_the_references():
    """The yardstick of benchmarks.training takes the losses that ours takes, in its own way."""
    terms = {"perceptual": [10.0] * 5, "equivariance_value": 10.0, "equivariance_jacobian": 10.0}
    changes = {"model_params.encoder_params": None, "train_params.loss_weights": terms}
    changes["train_params.head_probability"] = 0
    config = config_from_dict(tiny(**changes))
    frames = torch.rand(2, 2, 3, 32, 32)
    reference = fomm_loop.training_step(config, frames)
    ours = objectives.build(config).generator_step.train()
    torch.manual_seed(5)
    expected = reference()
    torch.manual_seed(5)
    losses, _ = ours({"frames": frames})
    # sums of another order
    assert sum(losses.values()).item() == pytest.approx(expected, rel=1e-5)


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
