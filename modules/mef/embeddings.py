"""The frozen networks that look at faces: SID's two encoders and, if named, CLIP and a face-recognition network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import faces, media
from ..config.files import config_to_dict, load_config, section_from_dict
from ..config.mef import CompoundParams, SIDParams
from ..config.sid import EncoderParams, FramingParams
from ..errors import UserError
from ..faces.close_crop import cut_crop
from ..faces.framer import Framer
from ..media.tensors import to_tensor
from ..sid.encoders import IdentityEncoder, SemanticEncoder
from ..sid.weights import load_model
from ..training.checkpoint import load_checkpoint, restore, save_checkpoint
from .arcface import load_recognition
from .clip import load_clip
from .conditions import Widths
from .exemplar import load_exemplar


class SIDEncoders(nn.Module):
    """SID's identity and semantic encoder alone: all that MEF needs of it.

    Args:
        size: height and width of the frames they were trained on.
        framing: which part of a picture those frames are, by landmarks; None: SID does not say so.
    """

    def __init__(self, params: EncoderParams, size: tuple[int, int], framing: FramingParams | None = None):
        super().__init__()
        self.params, self.size, self.framing = params, size, framing
        self.identity, self.semantic = IdentityEncoder(params), SemanticEncoder(params)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, 3, H, W]`` in [0, 1] at ``size`` -> z_id ``[B, identity_dim]``, z_sem = [z_exp | z_pose]."""
        return self.identity(images), self.semantic(images).cat()

    def of_pictures(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The same of pictures ``[B, 3, H, W]`` of another size."""
        return self(F.interpolate(pictures, size=self.size, mode="bilinear", antialias=True))

    @classmethod
    def from_sid(cls, params: SIDParams) -> SIDEncoders:
        """Those of a trained SID.  Raises UserError for one without encoders, or files that do not fit."""
        config = load_config(params.config)
        if config.model_params.encoder_params is None:
            raise UserError(f"{params.config}: has no model_params.encoder_params; MEF needs a SID with encoders")
        size = config.dataset_params.frame_shape[:2]
        encoders = cls(config.model_params.encoder_params, size, config.framing_params)
        trained = load_model(config.model_params, params.checkpoint).encoders
        encoders.identity.load_state_dict(trained.identity.state_dict())
        encoders.semantic.load_state_dict(trained.semantic.state_dict())
        return encoders

    @classmethod
    def from_file(cls, path: str | Path, description: dict[str, Any]) -> SIDEncoders:
        """Those that :meth:`save` wrote, or of a whole SID; ``description`` is what :meth:`described` returned."""
        params = section_from_dict(EncoderParams, description["encoder_params"], str(path), EncoderParams)
        framing = description.get("framing_params")
        if framing is not None:
            framing = section_from_dict(FramingParams, framing, str(path), FramingParams)
        encoders, entries = cls(params, tuple(description["size"]), framing), load_checkpoint(path)
        whole = entries.get("encoders")
        for part in ("identity", "semantic"):
            own = entries.get(part)
            if whole is not None:
                own = {name.removeprefix(f"{part}."): t for name, t in whole.items() if name.startswith(f"{part}.")}
            restore(getattr(encoders, part), own, f"{path}: {part}")
        return encoders

    def described(self) -> dict[str, Any]:
        """What is needed beside the weights to build them again, as plain values."""
        framing = None if self.framing is None else config_to_dict(self.framing)
        return {
            "encoder_params": config_to_dict(self.params),
            "size": list(self.size),
            "framing_params": framing,
        }

    def same_as(self, other: SIDEncoders) -> bool:
        """Whether both give the same embedding of a frame: same networks, and weights equal in half precision."""
        own, theirs = self.state_dict(), other.state_dict()
        return (self.params, self.size) == (other.params, other.size) and all(
            torch.equal(t.cpu().half(), theirs[name].cpu().half()) for name, t in own.items()
        )

    def save(self, path: str | Path) -> None:
        """Write the weights."""
        save_checkpoint({"identity": self.identity.state_dict(), "semantic": self.semantic.state_dict()}, path)


class Embedder:
    """Pictures -> the embeddings that the adapters take.

    The identity is a compound ``[z_id | clip | face recognition]`` of what the parameters name; each part is of unit
    length before its weight.  Face recognition is shown the main face aligned by five points, whatever the others see.

    Args:
        crop: find the face in every picture and cut it out, as SID wants it: close by its landmarks
            (:attr:`SIDEncoders.framing`), leaning as it does, or in FOMM's square; False: SID sees the picture's
            centre; None: as True where SID has a framing and the picture is not close already
            (:meth:`.close_crop.Crop.is_whole`), else as False.
        detector: of FOMM's squares (:func:`.faces.load_detector`).
        cpu: keep the face networks off the GPU.
        exemplar: what expressions are read with place by place, as ``exemplar_params.encoder`` names it; None: they
            are SID's vector.
    """

    def __init__(
        self,
        sid: SIDEncoders,
        compound: CompoundParams | None = None,
        crop: bool | None = False,
        detector: str = "auto",
        cpu: bool = False,
        exemplar: str | None = None,
    ):
        self.sid = sid.eval().requires_grad_(False)
        self.compound = compound or CompoundParams()
        self.crop, self.detector = crop, detector
        self._framer, self._detector = None, None
        if sid.framing is not None and crop is not False:
            self._framer = Framer(sid.framing.size, sid.framing.above, cpu=cpu)
        elif crop:
            self._detector = faces.load_detector(detector, cpu)
        self.device = torch.device("cpu")
        self._clip = load_clip(self.compound.clip, "compound_params.clip") if self.compound.clip else None
        arcface = self.compound.face_recognition
        self._recognise = load_recognition(arcface, cpu) if arcface else None
        self.exemplar = exemplar and load_exemplar(exemplar, sid.semantic, sid.size)

    def to(self, device: torch.device | str) -> Embedder:
        self.device = torch.device(device)
        self.sid.to(device)
        if self._clip is not None:
            self._clip[1].to(device)
        if self.exemplar is not None:
            self.exemplar.to(device)
        return self

    @property
    def widths(self) -> Widths:
        """Numbers in each embedding."""
        params = self.sid.params
        extra = self._clip[1].config.projection_dim if self._clip is not None else 0
        extra += self._recognise.width if self._recognise is not None else 0
        expression = params.expression_dim + params.pose_dim if self.exemplar is None else self.exemplar.width
        return Widths(params.identity_dim + extra, expression)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[np.ndarray], names: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """uint8 ``[H, W, 3]`` pictures of any sizes -> identity ``[B, widths[0]]``, expression ``[B, widths[1]]``.

        Of an exemplar the expression is ``[B, cells, widths[1]]``.

        Raises:
            UserError: a face is looked for and not found; ``names`` says in which picture.
        """
        rows = self.rows(pictures, names)
        return rows["identity"], given_expression(rows)

    @torch.no_grad()
    def rows(self, pictures: Sequence[np.ndarray], names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """All that is read of pictures: ``identity``, ``expression`` (SID's vector) and, if asked for, ``exemplar``.

        Shapes and errors as of :meth:`__call__`.
        """
        names = names or [f"picture {i}" for i in range(len(pictures))]
        return self.of_crops(
            [self.cut_out(picture, name) for picture, name in zip(pictures, names, strict=True)], names
        )

    @torch.no_grad()
    def of_crops(self, pictures: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, Tensor]:
        """:meth:`rows` of pictures that :meth:`cut_out` gave, or like these."""
        fitted = [media.fit(picture, *self.sid.size) for picture in pictures]
        identity, expression = self.sid(to_tensor(fitted, self.device))
        rows = {"identity": torch.cat([identity, *self._extra_parts(pictures, names)], dim=1), "expression": expression}
        return rows if self.exemplar is None else rows | {"exemplar": self.exemplar(pictures)}

    def cut_out(self, picture: np.ndarray, name: str) -> np.ndarray:
        """The part of a picture that is looked at, at its own resolution: its face, or all of it.

        Raises:
            UserError: a face is looked for and not found; ``name`` says in which picture.
        """
        if self._framer is not None:
            crop = self._framer.picture(picture, name, upright=False)  # how the head leans is of its pose
            if self.crop is None and crop.is_whole(picture):
                return picture
            return cut_crop(picture, crop, max(self.sid.size[0], round(crop.side)))
        return picture if self._detector is None else faces.crop_image(picture, self._detector, name, self.sid.size)

    def joined(self, expression: Tensor, pose: Tensor) -> Tensor:
        """SID's vectors ``[..., d]``: z_exp of ``expression``, z_pose of ``pose``."""
        count = self.sid.params.expression_dim
        return torch.cat([expression[..., :count], pose[..., count:]], dim=-1)

    @torch.no_grad()
    def expression(self, frames: Sequence[np.ndarray]) -> Tensor:
        """The expression of frames that are framed as SID wants them already, as :meth:`__call__` gives it."""
        if self.exemplar is not None:
            return self.exemplar(frames)
        return self.sid(to_tensor(list(frames), self.device))[1]

    @torch.no_grad()
    def _extra_parts(self, pictures: Sequence[np.ndarray], names: Sequence[str]) -> list[Tensor]:
        parts = []
        if self._clip is not None:
            processor, model = self._clip
            pixels = processor(images=list(pictures), return_tensors="pt").pixel_values.to(self.device, model.dtype)
            z = model(pixels).image_embeds.float()
            parts.append(self.compound.clip_weight * F.normalize(z, dim=1))
        if self._recognise is not None:
            z = self._recognise(pictures, names).to(self.device)
            parts.append(self.compound.face_recognition_weight * F.normalize(z, dim=1))
        return parts


def given_expression(rows: dict[str, Tensor]) -> Tensor:
    """Of what :meth:`Embedder.rows` gave, what the expression adapter reads."""
    return rows.get("exemplar", rows["expression"])
