"""Which parts of the models become files, and what goes in and out of each, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..encoders import Semantics
from ..generator import Condition, Generator
from ..keypoints import Keypoints
from ..model import SID
from ..motion import read_source
from ..rigged.closeups import CloseUp
from ..rigged.encoder import Looks
from ..rigged.model import RiggedSID

Tensors = dict[str, Tensor]


class Part(NamedTuple):
    """What becomes one file.

    Attributes:
        about: what it computes.
        module: whose weights it has.
        compute: what the module makes of inputs by name: outputs by name.
        inputs: two examples, ``[2, ...]`` each.
    """

    about: str
    module: nn.Module
    compute: Callable[[nn.Module, Tensors], Tensors]
    inputs: Tensors


def there(**tensors: Tensor | None) -> Tensors:
    """Those that are not None."""
    return {name: t for name, t in tensors.items() if t is not None}


def generator_inputs(
    image: Tensor, source: Keypoints, driving: Keypoints, condition: Condition | None, features: list[Tensor]
) -> Tensors:
    """What :meth:`.generator.Generator.forward` takes, by name."""
    told = {} if condition is None else condition._asdict()
    levels = {f"features_{i}": level for i, level in enumerate(features)}
    return there(image=image, **_prefixed("source", source), **driving._asdict(), **told, **levels)


def head_inputs(source: Keypoints, before: Semantics, after: Semantics) -> Tensors:
    """What :meth:`.encoders.MotionHead.forward` takes, by name."""
    return there(**_prefixed("source", source), **change_inputs(before, after))


def change_inputs(before: Semantics, after: Semantics) -> Tensors:
    """A change of semantics, by name."""
    return _prefixed("before", before) | _prefixed("after", after)


def _prefixed(prefix: str, tensors: NamedTuple) -> dict[str, Any]:
    return {f"{prefix}_{name}": t for name, t in tensors._asdict().items()}


def _source(given: Tensors) -> Keypoints:
    return Keypoints(given["source_value"], given.get("source_jacobian"))


def _generate(generator: Generator, given: Tensors) -> Tensors:
    driving = Keypoints(given["value"], given.get("jacobian"))
    condition = Condition(given["look"], given["change"], given.get("place")) if "look" in given else None
    features = [t for name, t in given.items() if name.startswith("features_")]
    made = generator(given["image"], _source(given), driving, condition, features)
    motion = made.motion
    moved = {} if motion is None else {"deformation": motion.deformation, "occlusion": motion.occlusion}
    return there(prediction=made.prediction, **moved)


def _change(given: Tensors) -> tuple[Semantics, Semantics]:
    before, after = (Semantics(given[f"{when}_expression"], given[f"{when}_pose"]) for when in ("before", "after"))
    return before, after


def _move(head: nn.Module, given: Tensors) -> Tensors:
    return there(**head(_source(given), *_change(given))._asdict())


def _read(encoder: nn.Module, given: Tensors) -> Tensors:
    semantics, place = encoder.located(given["image"])
    return there(**semantics._asdict(), place=place)


@torch.no_grad()
def sid_parts(model: SID, images: Tensor) -> dict[str, Part]:
    """Parts of SID by the names of their files; ``images [4, 3, H, W]`` are the examples, and fix the size."""
    images, driving_images = images.chunk(2)
    source, driving = read_source(model, images), model.kp_detector(driving_images)
    condition, image = None, {"image": images}
    parts = {
        "keypoints": Part(
            "Key points of frames, in [-1, 1], and their jacobians.",
            model.kp_detector,
            lambda detector, given: there(**detector(given["image"])._asdict()),
            image,
        ),
        "source": Part(
            "Features of a source, which the generator needs: once for each source.",
            model.generator,
            lambda generator, given: {f"features_{i}": t for i, t in enumerate(generator.encode(given["image"]))},
            image,
        ),
    }
    if model.encoders is not None:
        shown = model.encoders.semantic(driving_images)
        condition = model.condition(source.z_id, source.semantics, shown, source.place)
        parts |= {
            "identity": Part(
                "z_id: who a source is.",
                model.encoders.identity,
                lambda encoder, given: {"z_id": encoder(given["image"])},
                image,
            ),
            "semantics": Part(
                "z_exp and z_pose: what faces in frames do, and where they are.",
                model.encoders.semantic,
                _read,
                image,
            ),
            "motion_head": Part(
                "A source's key points, moved as semantics change.",
                model.encoders.motion_head,
                _move,
                head_inputs(source.keypoints, source.semantics, shown),
            ),
        }
    parts["generator"] = Part(
        "A source under driving key points. look is z_id, z_exp and z_pose to show, one after the other; change is"
        " z_exp and z_pose to show minus the source's. deformation is where in the source each pixel comes from.",
        model.generator,
        _generate,
        generator_inputs(images, source.keypoints, driving, condition, source.features),
    )
    return parts


@torch.no_grad()
def rigged_parts(model: RiggedSID, images: Tensor) -> dict[str, Part]:
    """The same of the rigged model: its networks; all that depends on a picture's size stays in PyTorch."""
    images, driving_images = images.chunk(2)
    points, driven = model.points(images), model.points(driving_images)
    looks = model.encoder.look(images, points)
    before, after = model.encoder.embed(looks), model.encoder(driving_images, driven)
    seen, flows, maps = model.generator.motion.look(images, points, driven)
    closeups = model.generator.closeups
    painted = {name: _given(network) for name, network in (("mouth", closeups.mouth), ("eye", closeups.eye))}
    model.generator(images, points, driven, before, after)
    return {
        "mesh": Part(
            "MediaPipe's face mesh: of faces cut out in 192 pixels, the logit that there is one, and 468 points (x, y,"
            " depth) in those pixels.",
            model.points.mesh.network,
            _outline,
            {"image": torch.nn.functional.interpolate(images, (192, 192), mode="bilinear", antialias=True)},
        ),
        "encoder": Part(
            "z_exp and z_pose, of a face and eyes cut out, the points along its axes, and its place.",
            model.encoder,
            lambda encoder, given: encoder.embed(Looks(**given))._asdict(),
            looks._asdict(),
        ),
        "motion_head": Part(
            "A source's points, moved as semantics change.",
            model.rig,
            lambda rig, given: {"driven": rig(given["points"], *_change(given))},
            {"points": points, **change_inputs(before, after)},
        ),
        "motion": Part(
            "The dense motion, of 64 x 64 cells: of the source as it is and as two flows move it, these flows (affine,"
            " thin-plate), and maps of the points.",
            model.generator.motion,
            lambda motion, given: motion.weigh(**given)._asdict(),
            {"seen": seen, "flows": flows, "maps": maps},
        ),
        **{
            name: Part(
                f"What is painted over the {name}: of its square in the moved and the unmoved source, maps of the"
                " points in both, and what to show.",
                getattr(closeups, name),
                _paint,
                given,
            )
            for name, given in painted.items()
        },
    }


def _outline(mesh: nn.Module, given: Tensors) -> Tensors:
    presence, points = sorted(mesh(given["image"]), key=lambda output: output[0].numel())
    return {"presence": presence, "points": points}


def _paint(network: CloseUp, given: Tensors) -> Tensors:
    colour, cover = network(**given)
    return {"colour": colour, "cover": cover}


def _given(network: nn.Module) -> Tensors:
    """Filled with what the network is given when it is next called."""
    given: Tensors = {}

    def note(module: nn.Module, tensors: tuple[Tensor, ...]) -> None:
        given.update(zip(("warped", "own", "maps", "says"), tensors, strict=True))
        hook.remove()

    hook = network.register_forward_pre_hook(note)
    return given
