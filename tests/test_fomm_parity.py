"""SID without encoders is the First Order Motion Model: outputs, losses, gradients and names.

``tests/data/fomm_small`` was computed by the reference networks in float64.  Arrays stored as float32 there carry up
to 6e-8 of rounding, so 1e-6 absolute leaves room for nothing but rounding.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from modules.config.files import load_config, section_from_dict
from modules.config.sid import ModelParams
from modules.geometry import RandomTransform, coordinate_grid
from modules.sid import losses
from modules.sid.keypoints import Keypoints
from modules.sid.model import SID, build_discriminator
from modules.sid.motion import normalize_keypoints
from modules.sid.perceptual import ImagePyramid, feature_distance

DATA = Path(__file__).parent / "data"
REFERENCE = Path(os.environ.get("FOMM_REFERENCE", DATA / "fomm_small"))  # another folder of vectors, e.g. larger ones
CONFIGS = sorted(json.loads((DATA / "fomm_configs.json").read_text()))


def reference_networks(dtype: torch.dtype):
    params = section_from_dict(ModelParams, yaml.safe_load((REFERENCE / "config.yaml").read_text())["model_params"])
    model, discriminator = SID(params), build_discriminator(params)
    checkpoint = torch.load(REFERENCE / "checkpoint.pth.tar", weights_only=True)
    model.generator.load_state_dict(checkpoint["generator"])
    model.kp_detector.load_state_dict(checkpoint["kp_detector"])
    discriminator.load_state_dict(checkpoint["discriminator"])
    return model.to(dtype).eval(), discriminator.to(dtype).eval()


@pytest.fixture(scope="module")
def vectors():
    return np.load(REFERENCE / "vectors.npz")


def images(vectors, dtype):
    source = torch.from_numpy(vectors["source"]).to(dtype).permute(2, 0, 1)[None]
    return source, torch.from_numpy(vectors["driving"]).to(dtype).permute(0, 3, 1, 2)


def assert_equal(actual: torch.Tensor, vectors, name: str, atol: float = 1e-6) -> None:
    error = np.abs(actual.detach().double().numpy() - vectors[name]).max()
    assert error <= atol, f"{name}: {error:.2e}"


def five_predictions(model, source, keypoints: list[Keypoints], kp_source):
    return torch.cat([model.generator(source, kp_source, kp).prediction for kp in keypoints])


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@torch.no_grad()
def test_eval_outputs(vectors, dtype, atol):
    model, discriminator = reference_networks(dtype)
    source, driving = images(vectors, dtype)
    kp_source, kp_driving = model.kp_detector(source), model.kp_detector(driving)
    for name, kp in (("source", kp_source), ("driving", kp_driving)):
        assert_equal(kp.value, vectors, f"kp_{name}_value", atol)
        assert_equal(kp.jacobian, vectors, f"kp_{name}_jacobian", atol)

    frames = [kp_driving.map(lambda t, i=i: t[i : i + 1]) for i in range(len(driving))]
    motion = model.generator(source, kp_source, frames[1]).motion
    assert_equal(motion.mask, vectors, "dense_mask", atol)
    assert_equal(motion.deformation, vectors, "dense_deformation", atol)
    assert_equal(motion.occlusion, vectors, "dense_occlusion_map", atol)

    absolute = [model.generator(source, kp_source, kp) for kp in frames]
    assert_equal(torch.cat([g.prediction for g in absolute]), vectors, "prediction_absolute", atol)
    assert_equal(torch.cat([g.deformed for g in absolute]), vectors, "deformed_absolute", atol)
    for name, adapt in (("prediction_relative", False), ("prediction_relative_adapt", True)):
        moved = [normalize_keypoints(kp_source, kp, frames[0], adapt_scale=adapt) for kp in frames]
        assert_equal(five_predictions(model, source, moved, kp_source), vectors, name, atol)

    pyramid = ImagePyramid([1, 0.5, 0.25, 0.125]).to(dtype)(driving[:2])
    for scale, image in pyramid.items():
        assert_equal(image, vectors, f"pyramid_{scale:g}", atol)
    ((features, scores),) = discriminator(pyramid, kp_driving.map(lambda t: t[:2]))
    assert_equal(scores, vectors, "disc_map", 10 * atol if dtype == torch.float32 else atol)
    for i, feature in enumerate(features):
        # instance norm over a few pixels amplifies float32 rounding about tenfold
        assert_equal(feature, vectors, f"disc_feature_{i}", 10 * atol if dtype == torch.float32 else atol)


def test_training_step(vectors):
    model, discriminator = reference_networks(torch.float64)
    model.train(), discriminator.train()
    source, driving = images(vectors, torch.float64)
    source, driving = source.repeat(4, 1, 1, 1), driving[1:]
    transform = RandomTransform(
        torch.from_numpy(vectors["transform_theta"]),
        coordinate_grid(5, 5, like=source).reshape(-1, 2),
        torch.from_numpy(vectors["transform_control_params"]),
    )
    kp_source, kp_driving = model.kp_detector(source), model.kp_detector(driving)
    generated = model.generator(source, kp_source, kp_driving)
    assert_equal(generated.prediction, vectors, "train_prediction")

    pyramid = ImagePyramid([1]).double()
    real = discriminator(pyramid(driving), kp_driving.detach())
    fake = discriminator(pyramid(generated.prediction), kp_driving.detach())
    warped = transform.warp_image(driving)
    assert_equal(warped, vectors, "transformed_frame")
    transformed = model.kp_detector(warped)
    terms = {
        "loss_gen_gan": losses.generator_gan([scores for _, scores in fake]),
        "loss_feature_matching": feature_distance(real[0][0], fake[0][0], [10.0] * len(real[0][0])),
        "loss_equivariance_value": 10 * losses.equivariance_value(kp_driving, transformed, transform),
        "loss_equivariance_jacobian": 10 * losses.equivariance_jacobian(kp_driving, transformed, transform),
    }
    for name, value in terms.items():
        assert value.item() == pytest.approx(float(vectors[name][0]), rel=1e-6), name
    sum(terms.values()).backward()
    for name, module in (("generator", model.generator), ("kp_detector", model.kp_detector)):
        norm = torch.stack([p.grad.square().sum() for p in module.parameters() if p.grad is not None]).sum().sqrt()
        assert norm.item() == pytest.approx(float(vectors[f"gradnorm_{name}"][0]), rel=1e-6), name

    fake = discriminator(pyramid(generated.prediction.detach()), kp_driving.detach())
    value = losses.discriminator_gan([scores for _, scores in real], [scores for _, scores in fake])
    assert value.item() == pytest.approx(float(vectors["loss_disc_gan"][0]), rel=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_names_and_shapes_of_the_published_configurations(name):
    expected = json.loads((DATA / "fomm_state_dict_shapes.json").read_text())[name]
    params = load_config(Path(__file__).parent.parent / "config" / f"{name}.yaml").model_params
    with torch.device("meta"):
        model, discriminator = SID(params), build_discriminator(params)
    built = {"generator": model.generator, "kp_detector": model.kp_detector, "discriminator": discriminator}
    for part, module in built.items():
        assert {k: list(v.shape) for k, v in module.state_dict().items()} == expected[part], part


def test_analytic_jacobian_is_the_derivative_of_the_transform():
    transform = RandomTransform.draw(2, torch.zeros(1, dtype=torch.float64), 0.05, 0.005, 5)
    points = torch.rand(2, 7, 2, dtype=torch.float64) * 2 - 1
    full = torch.autograd.functional.jacobian(transform.warp_points, points)
    for b in range(2):
        for n in range(7):
            expected = full[b, n, :, b, n]
            # both are exact in float64 but for rounding of terms of order 1
            torch.testing.assert_close(transform.jacobian(points)[b, n], expected, atol=1e-10, rtol=0)
