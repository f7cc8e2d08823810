"""SID's training step: one pass of the generator side, one of the discriminator."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config.sid import TrainParams
from ..faces.window import aspect_of, cut_out, whole_face, whole_face_oval
from ..geometry import RandomTransform
from . import losses
from .discriminator import MultiScaleDiscriminator
from .encoder_losses import Embedded, EncoderLosses
from .encoders import Semantics
from .generator import Generated
from .keypoints import Keypoints
from .model import SID
from .perceptual import ImagePyramid, build_perceptual, feature_distance
from .weights import learners

TARGET_DECAY = 0.99  # of the frozen copies of the encoders that judge generated images
FACE_SIDE = 64  # pixels of the faces that are compared


class Rendered(NamedTuple):
    """What the generator side hands on: the pair, the detector's key points, and the picture made of them.

    For a ``head_probability`` of the items the picture was made of the motion head's instead.
    """

    source: Tensor
    driving: Tensor
    kp_source: Keypoints
    kp_driving: Keypoints
    generated: Generated


def _generator_for(device: torch.device) -> torch.Generator:
    """A generator on ``device`` seeded from the global random state, which the loop seeds once per step."""
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))


def _detached(x):
    """Tensors of nested named tuples without their graph: what a step hands on is for looking at."""
    if isinstance(x, tuple):
        return type(x)(*map(_detached, x))
    return x if x is None else x.detach()


class GeneratorStep(nn.Module):
    """Losses of key point detector, generator and encoders on one batch.

    ``forward(batch)`` takes what :class:`.data.frames.FrameDataset` yields and returns the weighted losses by name
    and a :class:`Rendered`.
    """

    def __init__(self, model: SID, discriminator: MultiScaleDiscriminator, params: TrainParams):
        super().__init__()
        self.model = model
        self._discriminator = [discriminator]  # in a list: judged by, not trained with, this step
        self.params, self.weights = params, params.loss_weights
        weights = self.weights
        self.pyramid = ImagePyramid(params.scales)
        self.perceptual = build_perceptual(params.perceptual_network) if sum(weights.perceptual) else None
        self.encoder_losses = None if model.encoders is None else EncoderLosses(model.encoders, params)
        cycles = bool(weights.cycle_identity or weights.cycle_semantics)
        self.cycles = cycles and model.encoders is not None and bool(params.rendered_share)
        self.targets = copy.deepcopy(model.encoders).requires_grad_(False).eval() if self.cycles else None
        self._frozen = [module for name, module in learners(model, params).items() if not params.learning_rate(name)]
        for module in self._frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> GeneratorStep:
        """Training mode, but for networks without learning rate; with ``frozen_norms`` batch norms stay as they are.

        Small batches give noisy statistics, and a picture's colours then depend on its neighbours in the batch:
        freezing them for the last part of a run makes training see what inference does.
        """
        super().train(mode)
        if self.targets is not None:
            self.targets.eval()  # they judge every picture by itself
        for module in self._frozen:
            module.eval()
        if not self.params.rendered_share:
            self.model.kp_detector.eval()  # a teacher then, which does not learn
        if self.params.frozen_norms:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @torch.no_grad()
    def _update_targets(self) -> None:
        """Move the judging copies of the encoders a little towards the encoders that the last step has left."""
        if self.targets is not None:
            for target, online in zip(self.targets.parameters(), self.model.encoders.parameters(), strict=True):
                target.lerp_(online, 1 - TARGET_DECAY)
            for target, online in zip(self.targets.buffers(), self.model.encoders.buffers(), strict=True):
                target.copy_(online)

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Rendered | None]:
        """Encoders learn from all items of the batch, the other networks from the first ``rendered_share`` of them.

        A picture costs a hundred embeddings, and people are told apart by comparing many.  Where nothing is rendered
        the motion head learns of all items what the detector, as it is, finds in them.
        """
        if self.training:
            self._update_targets()
        frames, rendered = batch["frames"], self.params.rendered(len(batch["frames"]))
        if self.model.encoders is None:
            return self._render(frames[:rendered], None)
        generator = _generator_for(frames.device)
        embedded = self.encoder_losses.embed(frames[:, 0], frames[:, 1], generator)
        terms = self.encoder_losses.of_pictures(batch, embedded, generator)
        if not rendered:
            return terms | self._motion_alone(frames, embedded), None
        more, result = self._render(frames[:rendered], embedded.first(rendered))
        return terms | more, result

    def _motion_alone(self, frames: Tensor, embedded: Embedded) -> dict[str, Tensor]:
        """The motion head's losses on items ``[B, F, 3, H, W]``, without a picture."""
        weights = self.weights
        if not (weights.motion_value or weights.motion_jacobian):
            return {}
        with torch.no_grad():
            kp_source, kp_driving = (self.model.kp_detector(frames[:, i]) for i in (0, 1))
        return self.encoder_losses.of_motion(embedded, kp_source, kp_driving)[1]

    def _render(self, frames: Tensor, embedded: Embedded | None) -> tuple[dict[str, Tensor], Rendered]:
        """Losses of all networks on items ``[B, F, 3, H, W]`` whose second frame is rendered from the first."""
        source, driving = frames[:, 0], frames[:, 1]
        transform = self._transform(driving)
        pictures = [source, driving] if transform is None else [source, driving, transform.warp_image(driving)]
        found = self.model.kp_detector(torch.cat(pictures), len(pictures))
        kp_source, kp_driving, *kp_transformed = found.chunk(len(pictures))
        terms: dict[str, Tensor] = {}
        shown, condition = kp_driving, None
        if embedded is not None:
            semantics = embedded.source, embedded.driving
            condition = self.model.condition(embedded.identity, *semantics, embedded.source_place)
            head, terms = self.encoder_losses.of_motion(embedded, kp_source, kp_driving)
            shown = self._mix(kp_driving, head)
        generated = self.model.generator(source, kp_source, shown, condition)
        terms |= self._picture_losses(generated, driving, kp_driving)
        if self.weights.face:
            terms["face"] = self.weights.face * self._face_loss(generated.prediction, driving, embedded.driving_place)
        terms |= self._motion_losses(generated, kp_driving)
        if transform is not None:
            terms |= self._equivariance_losses(kp_driving, *kp_transformed, transform)
        if self.cycles:
            terms |= self._cycle_losses(source, driving, kp_source, embedded)
        return terms, _detached(Rendered(source, driving, kp_source, kp_driving, generated))

    # ------------------------------------------------------------------------------------------ pictures and key points

    def _picture_losses(self, generated: Generated, driving: Tensor, keypoints: Keypoints) -> dict[str, Tensor]:
        weights, terms = self.weights, {}
        fake, real = self.pyramid(generated.prediction), self.pyramid(driving)
        if self.perceptual is not None:
            distances = [
                feature_distance(self.perceptual(real[s]), self.perceptual(fake[s]), weights.perceptual)
                for s in self.params.scales
            ]
            terms["perceptual"] = torch.stack(distances).sum()
        if weights.pixel:
            terms["pixel"] = weights.pixel * (generated.prediction - driving).abs().mean()
        if weights.generator_gan:
            terms |= self._adversarial_losses(fake, real, keypoints.detach())
        return terms

    def _face_loss(self, prediction: Tensor, driving: Tensor, place: Tensor) -> Tensor:
        """The losses of pictures on the driver's face: lids and lips are few pixels of a frame."""
        oval, place = whole_face_oval(FACE_SIDE).to(driving.device), whole_face(place.detach(), aspect_of(driving))
        fake, real = (oval * cut_out(image, place, FACE_SIDE) for image in (prediction, driving))
        value = self.weights.pixel * (fake - real).abs().mean()
        if self.perceptual is not None:
            value = value + feature_distance(self.perceptual(real), self.perceptual(fake), self.weights.perceptual)
        return value

    def _motion_losses(self, generated: Generated, kp_driving: Keypoints) -> dict[str, Tensor]:
        """Key points spread over the face and carry what motion they can; the embeddings' flow adds the rest."""
        weights, terms = self.weights, {}
        if weights.keypoint_prior:
            terms["keypoint_prior"] = weights.keypoint_prior * losses.keypoint_prior(kp_driving)
        if weights.semantic_flow:
            terms["semantic_flow"] = weights.semantic_flow * generated.motion.semantic_flow.abs().mean()
        return terms

    def _adversarial_losses(self, fake, real, keypoints: Keypoints) -> dict[str, Tensor]:
        (discriminator,) = self._discriminator
        discriminator.requires_grad_(False)  # its weights get their gradient from their own step alone
        with torch.no_grad():
            real_maps = discriminator(real, keypoints)
        fake_maps = discriminator(fake, keypoints)
        discriminator.requires_grad_(True)
        terms = {"gen_gan": self.weights.generator_gan * losses.generator_gan([scores for _, scores in fake_maps])}
        if sum(self.weights.feature_matching):
            pairs = zip(real_maps, fake_maps, strict=True)
            matched = [feature_distance(r, f, self.weights.feature_matching) for (r, _), (f, _) in pairs]
            terms["feature_matching"] = torch.stack(matched).sum()
        return terms

    def _transform(self, driving: Tensor) -> RandomTransform | None:
        """What the key points of the driving frame are to follow, if they learn that."""
        weights, shape = self.weights, self.params.transform_params
        teaches = weights.equivariance_value or weights.equivariance_jacobian
        if not (teaches and self.params.lr_kp_detector):
            return None
        return RandomTransform.draw(len(driving), driving, shape.sigma_affine, shape.sigma_tps, shape.points_tps)

    def _equivariance_losses(
        self, kp_driving: Keypoints, transformed: Keypoints, transform: RandomTransform
    ) -> dict[str, Tensor]:
        weights, terms = self.weights, {}
        if weights.equivariance_value:
            value = losses.equivariance_value(kp_driving, transformed, transform)
            terms["equivariance_value"] = weights.equivariance_value * value
        if weights.equivariance_jacobian and kp_driving.jacobian is not None:
            value = losses.equivariance_jacobian(kp_driving, transformed, transform)
            terms["equivariance_jacobian"] = weights.equivariance_jacobian * value
        return terms

    # --------------------------------------------------------------------------------------- driven by the embeddings

    def _mix(self, detected: Keypoints, head: Keypoints) -> Keypoints:
        """Per item, the head's key points with ``head_probability``, the detector's otherwise."""
        if not self.params.head_probability:
            return detected
        chosen = torch.rand(len(detected.value), device=detected.value.device) < self.params.head_probability
        value = torch.where(chosen[:, None, None], head.value, detected.value)
        if detected.jacobian is None:
            return Keypoints(value, None)
        return Keypoints(value, torch.where(chosen[:, None, None, None], head.jacobian, detected.jacobian))

    def _cycle_losses(
        self, source: Tensor, driving: Tensor, kp_source: Keypoints, embedded: Embedded
    ) -> dict[str, Tensor]:
        """Everybody driven by their neighbour in the batch: the result is the source's person and the driver's face."""
        weights, terms = self.weights, {}
        other = Semantics(*(z.roll(1, dims=0) for z in embedded.driving))
        keypoints = self.encoder_losses.head_keypoints(kp_source, embedded.source, other)
        condition = self.model.condition(embedded.identity, embedded.source, other, embedded.source_place)
        crossed = self.model.generator(source, kp_source, keypoints, condition).prediction
        if weights.cycle_identity:
            value = losses.cosine_distance(self.targets.identity(crossed), self.targets.identity(source))
            terms["cycle_identity"] = weights.cycle_identity * value
        if weights.cycle_semantics:
            made, wanted = self.targets.semantic(crossed), self.targets.semantic(driving.roll(1, dims=0))
            if self.targets.semantic.expression is not None:
                # poses the detector teaches; z_pose may know the driver's size and shape as well
                made, wanted = (made.expression,), (wanted.expression,)
            # relative: embeddings that share a large constant part have a cosine near 1, whatever they say
            parts = [losses.relative_distance(*pair) for pair in zip(made, wanted, strict=True)]
            terms["cycle_semantics"] = weights.cycle_semantics * torch.stack(parts).sum()
        return terms


class DiscriminatorStep(nn.Module):
    """The discriminator's loss on what the generator step rendered."""

    def __init__(self, discriminator: MultiScaleDiscriminator, params: TrainParams):
        super().__init__()
        self.discriminator = discriminator
        self.pyramid = ImagePyramid(params.scales)
        self.weight = params.loss_weights.discriminator_gan

    def forward(self, rendered: Rendered) -> tuple[dict[str, Tensor], Rendered]:
        real = self.discriminator(self.pyramid(rendered.driving), rendered.kp_driving)
        fake = self.discriminator(self.pyramid(rendered.generated.prediction), rendered.kp_driving)
        value = losses.discriminator_gan([scores for _, scores in real], [scores for _, scores in fake])
        return {"disc_gan": self.weight * value}, rendered
