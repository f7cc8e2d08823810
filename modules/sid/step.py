"""SID's training step: one pass of the generator side, one of the discriminator."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules.config import TrainParams
from modules.data.augmentation import colour_view, semantic_view, similarity_view
from modules.data.frames import MIN_GAP
from modules.geometry import RandomTransform
from modules.sid import losses
from modules.sid.discriminator import MultiScaleDiscriminator
from modules.sid.encoders import Semantics, cut_out
from modules.sid.generator import Generated
from modules.sid.keypoints import Keypoints
from modules.sid.model import SID
from modules.sid.perceptual import ImagePyramid, build_perceptual, feature_distance

CONGEALED = 32  # pixels of a side of the faces that are to look alike
TARGET_DECAY = 0.99  # of the frozen copies of the encoders that judge generated images


class Rendered(NamedTuple):
    """What the generator side hands on: the pair, the detector's key points, and the picture made of them.

    For a ``head_probability`` of the items the picture was made of the motion head's instead.
    """

    source: Tensor
    driving: Tensor
    kp_source: Keypoints
    kp_driving: Keypoints
    generated: Generated


class Embedded(NamedTuple):
    """Embeddings of the pair: identities and semantics of source and driving frame."""

    id_source: Tensor
    id_driving: Tensor
    sem_source: Semantics
    sem_driving: Semantics


def _generator_for(device: torch.device) -> torch.Generator:
    """A generator on ``device`` seeded from the global random state, which the loop seeds once per step."""
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))


def _detached(x):
    """Tensors of nested named tuples without their graph: what a step hands on is for looking at."""
    if isinstance(x, tuple):
        return type(x)(*map(_detached, x))
    return x if x is None else x.detach()


def _halves(both: Semantics) -> tuple[Semantics, Semantics]:
    """Of two batches that were embedded as one."""
    expressions, poses = (z.chunk(2) for z in both)
    return Semantics(expressions[0], poses[0]), Semantics(expressions[1], poses[1])


class GeneratorStep(nn.Module):
    """Losses of key point detector, generator and encoders on one batch.

    ``forward(batch)`` takes what :class:`modules.data.FrameDataset` yields and returns the weighted losses by name
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
        self.cycles = model.encoders is not None and bool(weights.cycle_identity or weights.cycle_semantics)
        self.targets = copy.deepcopy(model.encoders).requires_grad_(False).eval() if self.cycles else None

    def train(self, mode: bool = True) -> GeneratorStep:
        """Training mode; with ``frozen_norms`` batch norms stay as they are.

        Small batches give noisy statistics, and a picture's colours then depend on its neighbours in the batch:
        freezing them for the last part of a run makes training see what inference does.
        """
        super().train(mode)
        if self.targets is not None:
            self.targets.eval()  # they judge every picture by itself
        if not self.params.rendered_share:
            self.model.kp_detector.eval()  # a teacher then, which does not learn
        if self.params.frozen_norms:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @torch.no_grad()
    def update_targets(self) -> None:
        """Move the judging copies of the encoders a little towards the encoders."""
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
        terms = {} if self.model.encoders is None else self._embedding_losses(batch)
        rendered = self.params.rendered(len(batch["frames"]))
        if not rendered:
            return terms | self._motion_alone(batch["frames"]), None
        more, result = self._render(batch["frames"][:rendered])
        return terms | more, result

    def _motion_alone(self, frames: Tensor) -> dict[str, Tensor]:
        """The motion head's losses on items ``[B, F, 3, H, W]``, without a picture."""
        weights = self.weights
        if not (weights.motion_value or weights.motion_jacobian or weights.pose_equivariance):
            return {}
        source, driving = frames[:, 0], frames[:, 1]
        with torch.no_grad():
            kp_source, kp_driving = self.model.kp_detector(source), self.model.kp_detector(driving)
        semantics = self._semantics(source, driving)
        head = self._head_keypoints(kp_source, *semantics)
        return self._head_losses(head, kp_driving) | self._shared_motion_loss(*semantics, kp_source, kp_driving)

    def _render(self, frames: Tensor) -> tuple[dict[str, Tensor], Rendered]:
        """Losses of all networks on items ``[B, F, 3, H, W]`` whose second frame is rendered from the first."""
        source, driving = frames[:, 0], frames[:, 1]
        kp_source, kp_driving = self.model.kp_detector(source), self.model.kp_detector(driving)
        terms: dict[str, Tensor] = {}
        shown, condition = kp_driving, None
        if self.model.encoders is not None:
            embedded = self._embed(source, driving)
            condition = self.model.condition(embedded.id_source, embedded.sem_source, embedded.sem_driving)
            head = self._head_keypoints(kp_source, embedded.sem_source, embedded.sem_driving)
            shown = self._mix(kp_driving, head)
            terms |= self._shared_motion_loss(embedded.sem_source, embedded.sem_driving, kp_source, kp_driving)
            terms |= self._head_losses(head, kp_driving)
        generated = self.model.generator(source, kp_source, shown, condition)
        terms |= self._picture_losses(generated, driving, kp_driving)
        terms |= self._motion_losses(generated, kp_driving)
        terms |= self._equivariance_losses(driving, kp_driving)
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

    def _equivariance_losses(self, driving: Tensor, kp_driving: Keypoints) -> dict[str, Tensor]:
        weights, shape = self.weights, self.params.transform_params
        if not (weights.equivariance_value or weights.equivariance_jacobian):
            return {}
        transform = RandomTransform.draw(
            len(driving), driving, shape.sigma_affine, shape.sigma_tps, shape.points_tps
        )
        transformed = self.model.kp_detector(transform.warp_image(driving))
        terms = {}
        if weights.equivariance_value:
            value = losses.equivariance_value(kp_driving, transformed, transform)
            terms["equivariance_value"] = weights.equivariance_value * value
        if weights.equivariance_jacobian and kp_driving.jacobian is not None:
            value = losses.equivariance_jacobian(kp_driving, transformed, transform)
            terms["equivariance_jacobian"] = weights.equivariance_jacobian * value
        return terms

    # --------------------------------------------------------------------------------------------------- embeddings

    def _embed(self, source: Tensor, driving: Tensor) -> Embedded:
        identities = self.model.encoders.identity(torch.cat([source, driving])).chunk(2)
        return Embedded(*identities, *self._semantics(source, driving))

    def _semantics(self, source: Tensor, driving: Tensor) -> tuple[Semantics, Semantics]:
        """Seen in other colours: source and driver are one person here, and z_sem could hand over how they look."""
        semantic = self.model.encoders.semantic
        seen, place = semantic.look(torch.cat([source, driving]))
        return _halves(semantic.embed(colour_view(seen, _generator_for(seen.device)), place))

    def _head_keypoints(self, kp_source: Keypoints, before: Semantics, after: Semantics) -> Keypoints:
        # detached: the detector is taught by its own losses, not by what would be easy for the head
        return self.model.encoders.motion_head(kp_source.detach(), before, after)

    def _mix(self, detected: Keypoints, head: Keypoints) -> Keypoints:
        """Per item, the head's key points with ``head_probability``, the detector's otherwise."""
        if not self.params.head_probability:
            return detected
        chosen = torch.rand(len(detected.value), device=detected.value.device) < self.params.head_probability
        value = torch.where(chosen[:, None, None], head.value, detected.value)
        if detected.jacobian is None:
            return Keypoints(value, None)
        return Keypoints(value, torch.where(chosen[:, None, None, None], head.jacobian, detected.jacobian))

    def _head_losses(self, head: Keypoints, detected: Keypoints) -> dict[str, Tensor]:
        weights, terms = self.weights, {}
        if weights.motion_value:
            terms["motion_value"] = weights.motion_value * (head.value - detected.value.detach()).abs().mean()
        if weights.motion_jacobian and head.jacobian is not None:
            distance = losses.jacobian_distance(head.jacobian, detected.jacobian)
            terms["motion_jacobian"] = weights.motion_jacobian * distance
        return terms

    def _embedding_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the encoders learn from pictures alone: who, what changes in a clip, and how the head turns in it."""
        weights, frames, encoders, terms = self.weights, batch["frames"], self.model.encoders, {}
        generator = _generator_for(frames.device)
        z_id = encoders.identity(frames[:, 0])
        if weights.identity_contrast:
            # the frames of one clip share a scene: only other clips show what the person is
            other = batch.get("elsewhere", frames[:, 1])
            pictures = torch.cat([z_id, encoders.identity(other)])
            value = losses.identity_contrast(pictures, batch["identity"].repeat(2), self.params.temperature)
            terms["identity_contrast"] = weights.identity_contrast * value
        if weights.semantic_contrast:
            seen, place = encoders.semantic.look(frames.flatten(0, 1))
            views = [encoders.semantic.embed(semantic_view(seen, generator), place).expression for _ in range(2)]
            pair = [view.unflatten(0, frames.shape[:2]) for view in views]
            value = losses.semantic_contrast(*pair, batch["times"], self.params.temperature, MIN_GAP)
            terms["semantic_contrast"] = weights.semantic_contrast * value
        if weights.independence:
            semantics = encoders.semantic(frames[:, 0])
            apart = losses.cross_covariance(z_id, semantics.cat()) + losses.cross_covariance(*semantics)
            terms["independence"] = weights.independence * apart
        return terms | self._similarity_losses(frames[:, 1], generator)

    def _similarity_losses(self, frames: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Finders and z_pose follow a known similarity transform, z_exp ignores it."""
        weights, encoders = self.weights, self.model.encoders
        if not (weights.placement or weights.congealing or weights.pose_equivariance or weights.expression_invariance):
            return {}
        view, theta = similarity_view(frames, generator)
        both = torch.cat([frames, view])
        seen, place = encoders.semantic.look(both)
        terms = self._finding_losses(both, [place, encoders.identity.look(both)[1]], theta)
        still, moved = _halves(encoders.semantic.embed(colour_view(seen, generator), place))
        if weights.pose_equivariance:
            known = theta - torch.eye(2, 3, dtype=theta.dtype, device=theta.device)  # from the view to the frame
            error = (encoders.motion_head.shared_motion(moved, still) - known).abs().mean()
            terms["pose_equivariance"] = weights.pose_equivariance * error
        if weights.expression_invariance:
            value = losses.relative_distance(moved.expression, still.expression)
            terms["expression_invariance"] = weights.expression_invariance * value
        return terms

    def _finding_losses(self, both: Tensor, places: list[Tensor | None], theta: Tensor) -> dict[str, Tensor]:
        """Faces are found where ``theta`` moves them, and look alike; ``both`` are frames, then views of them."""
        weights, terms = self.weights, {}
        if weights.placement:
            aspect = (both.shape[3] - 1) / (both.shape[2] - 1)
            found = [losses.placement(*place.chunk(2), theta, aspect) for place in places]
            terms["placement"] = weights.placement * torch.stack(found).sum()
        if weights.congealing:
            found = [losses.congealing(cut_out(both, place, CONGEALED)) for place in places]
            terms["congealing"] = weights.congealing * torch.stack(found).sum()
        return terms

    def _shared_motion_loss(
        self, before: Semantics, after: Semantics, kp_source: Keypoints, kp_driving: Keypoints
    ) -> dict[str, Tensor]:
        """z_pose follows the part of the motion that all key points share."""
        if not self.weights.pose_equivariance:
            return {}
        shared = self.model.encoders.motion_head.shared_motion(before, after)
        error = (shared - losses.global_affine(kp_source, kp_driving)).abs().mean()
        return {"shared_motion": self.weights.pose_equivariance * error}

    def _cycle_losses(
        self, source: Tensor, driving: Tensor, kp_source: Keypoints, embedded: Embedded
    ) -> dict[str, Tensor]:
        """Everybody driven by their neighbour in the batch: the result is the source's person and the driver's face."""
        weights, terms = self.weights, {}
        other = Semantics(*(z.roll(1, dims=0) for z in embedded.sem_driving))
        keypoints = self._head_keypoints(kp_source, embedded.sem_source, other)
        condition = self.model.condition(embedded.id_source, embedded.sem_source, other)
        crossed = self.model.generator(source, kp_source, keypoints, condition).prediction
        if weights.cycle_identity:
            value = losses.cosine_distance(self.targets.identity(crossed), self.targets.identity(source))
            terms["cycle_identity"] = weights.cycle_identity * value
        if weights.cycle_semantics:
            made, wanted = self.targets.semantic(crossed), self.targets.semantic(driving.roll(1, dims=0))
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
