"""Portraits from a prompt, a person and an expression: a Stable Diffusion pipeline with adapters or a branch."""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path
from typing import Any

import torch
from diffusers.image_processor import IPAdapterMaskProcessor
from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from PIL import Image
from torch import Tensor

from .. import media
from ..config.files import mef_config_from_dict
from ..config.mef import BaseParams
from ..errors import UserError
from ..training.checkpoint import averaged, load_checkpoint
from .base import finite_pictures, load_base
from .checks import CONFIG, check_adapters, read_description
from .conditions import NAMES, Conditions, Scale
from .embeddings import Embedder, SIDEncoders
from .folder import (
    CROP_KEY,
    FILES,
    read_base,
    read_embedder,
    save_adapters,
)
from .forms import attach_checkpoint, attach_folder
from .guidance import GuidanceWeights, separate_guidance
from .inpainting import in_form
from .options import check_prompt
from .prompts import for_prompts, handed_on

_CARD = """---
{{ card_data }}
---
Identity and expression adapters of DeepExpr (MEF) for Stable Diffusion, in the IP-Adapter FaceID layout; or, if there
is a folder `branch/`, a ControlNet whose cross-attention reads identity and expression.  Adapters work with diffusers
alone: `pipe.load_ip_adapter(folder, subfolder="", weight_name=["identity_adapter.safetensors",
"expression_adapter.safetensors"], image_encoder_folder=None)`, then pass `ip_adapter_image_embeds`, each
`[2, 1, width]` with zeros first.  `config.json` says for which base they were trained, and whether the faces were cut
out first (`crop_faces`).
"""


class DeepExprPipeline(ModelHubMixin, library_name="diffusers", tags=["ip-adapter", "face"], model_card_template=_CARD):
    """Text sets the scene, one picture the person, another the expression and head pose.

    Example::

        pipeline = DeepExprPipeline.from_pretrained("log/.../adapters").to("cuda")
        images = pipeline("a man in a red shirt", identity_image=anna, expression_image=smile).images

    ``pipeline.base`` is a diffusers pipeline like any other: load LoRAs into it, change its scheduler.

    Args:
        base: a Stable Diffusion 1.x, 2.x or XL text-to-image pipeline (or one made from it: img2img, inpaint, ...).
        adapters: those in its UNet, or a branch beside it.
        embedder: None where only embeddings, not pictures, will be given.
        base_params: where the base came from, for the file.
        crop_faces: whether the adapters learnt from faces that a detector had cut out, for the file.
        expression_embedder: what reads expressions, where that is not ``embedder`` (:mod:`.mixed`).
    """

    def __init__(
        self,
        base: Any,
        adapters: Conditions,
        embedder: Embedder | None,
        base_params: BaseParams,
        crop_faces: bool = False,
        expression_embedder: Embedder | None = None,
    ):
        self.base, self.adapters, self.embedder = base, adapters, embedder
        self.expression_embedder = expression_embedder or embedder
        self.base_params, self.crop_faces = base_params, crop_faces

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> DeepExprPipeline:
        self.base.to(device, dtype)
        self.adapters.to(device=device, dtype=dtype)
        for embedder in (self.embedder, self.expression_embedder):
            if embedder is not None:
                embedder.to(device)
        return self

    # ------------------------------------------------------------------------------------------------------- generate

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        identity_image: Any = None,
        expression_image: Any = None,
        *,
        identity_embedding: Tensor | None = None,
        expression_embedding: Tensor | None = None,
        identity_scale: Scale = 1.0,
        expression_scale: Scale = 1.0,
        guidance_scale: float = 5.0,
        identity_guidance: float | None = None,
        expression_guidance: float | None = None,
        identity_mask: Any = None,
        expression_mask: Any = None,
        **options: Any,
    ) -> Any:
        """Generate images; returns what ``base`` returns.

        The unconditional branch of guidance drops text, identity and expression together.

        Args:
            identity_image, expression_image: the faces, as :func:`.media.as_image` takes them; without one its adapter
                is given "none" (zeros).
            identity_embedding, expression_embedding: ``[width]`` or ``[1, width]``, instead of the pictures; or
                ``[B, width]``, one for each of B prompts in a list.  Of an exemplar ``[cells, width]`` and so on.
            identity_scale, expression_scale: 0 (off) up; of adapters also a dict of scales per block, such as
                ``{"mid": 1.0, "up": {"block_1": [1.0, 0.5, 0.5]}}``, as diffusers' ``set_ip_adapter_scale`` takes.
            guidance_scale: of all conditions together, none at 1.
            identity_guidance, expression_guidance: weights of their own; four UNet passes a step instead of two.
            identity_mask, expression_mask: pictures too, white where the adapter may act; not for a branch.
            options: for ``base``: ``num_inference_steps``, ``num_images_per_prompt``, ``negative_prompt``,
                ``generator``, ``height``, ``width``, ...

        Raises:
            UserError: an empty prompt, what is no picture, an embedding of the wrong width, guidance that cannot be
                split.
        """
        if "prompt_embeds" not in options:
            check_prompt(prompt)
        embeddings = self.embed(identity_image, expression_image, identity_embedding, expression_embedding)
        embeddings = for_prompts(embeddings, prompt, options.get("num_images_per_prompt", 1))
        # as the base decides it: networks distilled with guidance are told its scale instead
        guided = guidance_scale > 1 and self.base.unet.config.time_cond_proj_dim is None
        weights = None
        if identity_guidance is not None or expression_guidance is not None:
            if not guided:
                raise UserError("separate guidance weights need a guidance_scale above 1")
            given = (guidance_scale, identity_guidance, expression_guidance)
            weights = GuidanceWeights(*(guidance_scale if weight is None else weight for weight in given))
        self.set_scales(identity_scale, expression_scale)
        if identity_mask is not None or expression_mask is not None:
            if not self.adapters.takes_masks:
                raise UserError(
                    "identity_mask, expression_mask: adapters take them; a branch acts on all of the picture"
                )
            attention = dict(options.pop("cross_attention_kwargs", None) or {})
            attention["ip_adapter_masks"] = [
                _mask(mask, f"{name}_mask") for name, mask in zip(NAMES, (identity_mask, expression_mask), strict=True)
            ]
            options["cross_attention_kwargs"] = attention
        given = [self.for_diffusers(z, guided) for z in embeddings]
        with (
            separate_guidance(self.base.unet, weights),
            self.adapters.acting(self.base.unet),  # inside: what it adds is of all of guidance's branches
            handed_on(self.base, given, len(embeddings[0])),
            finite_pictures(self.base, self.base_params.path),
        ):
            return self.base(prompt, guidance_scale=guidance_scale, ip_adapter_image_embeds=given, **options)

    def embed(
        self,
        identity_image: Any = None,
        expression_image: Any = None,
        identity_embedding: Tensor | None = None,
        expression_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Both embeddings from pictures, or as given; zeros for what is not given.

        Returns:
            ``[1, width]`` each; of an exemplar ``[1, cells, width]``.
        """
        images, given = (identity_image, expression_image), (identity_embedding, expression_embedding)
        embedders = self.embedder, self.expression_embedder
        embeddings = []
        for i, (name, width) in enumerate(zip(NAMES, self.adapters.widths, strict=True)):
            if given[i] is not None:
                z = given[i].reshape(-1, *given[i].shape[-2 if self._is_sequence(i) else -1 :])
            elif images[i] is None:
                z = torch.zeros(1, *self._shape(i))
            elif embedders[i] is None:
                raise UserError(f"this pipeline has no encoders: give {name}_embedding instead of a picture")
            else:
                z = embedders[i]([media.as_image(images[i], f"{name}_image")], [f"the {name} picture"])[i]
            if z.shape[-1] != width:
                raise UserError(f"the {name} embedding has {z.shape[-1]} numbers; this adapter takes {width}")
            if not z.isfinite().all():
                raise UserError(f"the {name} embedding is not finite: it would draw a black picture")
            embeddings.append(z)
        return tuple(embeddings)

    def _is_sequence(self, condition: int) -> bool:
        return condition == 1 and self.adapters.reads_exemplar

    def _shape(self, condition: int) -> tuple[int, ...]:
        """Of one embedding."""
        width = self.adapters.widths[condition]
        if not self._is_sequence(condition):
            return (width,)
        if self.expression_embedder is None:
            raise UserError("this pipeline has no encoders: give expression_embedding; without one, zeros of its shape")
        return (self.expression_embedder.exemplar.cells, width)

    def for_diffusers(self, embedding: Tensor, guided: bool = True) -> Tensor:
        """``[B, ...]`` as ``ip_adapter_image_embeds`` wants it: ``[2B, 1, ...]``, the unconditional zeros first."""
        z = embedding[:, None].to(self.base.unet.device, self.base.unet.dtype)
        return torch.cat([torch.zeros_like(z), z]) if guided else z

    def set_scales(self, identity: Scale = 1.0, expression: Scale = 1.0) -> None:
        """Strength of each condition; see :meth:`__call__`."""
        self.adapters.set_scales(self.base, identity, expression)

    # ----------------------------------------------------------------------------------------------------------- files

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> DeepExprPipeline:
        """The pipeline of a folder that ``save_pretrained`` wrote, or of a hub id.

        Args:
            base: hub id, folder or ``.safetensors`` file of the base, or a diffusers pipeline; None: as saved.
            base_config: with a ``.safetensors`` base: hub id or folder of its layout.
            dtype, or torch_dtype: of the base's weights.
            detector: of FOMM's squares, for a SID that has no framing of its own.
            crop: find faces and cut them out, as :class:`.embeddings.Embedder` takes it; adapters that learnt from
                cut-out faces are shown nothing else.
            cpu: keep off the GPU what ``.to`` does not move: the face networks.
            options: also the hub's: ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ...

        Raises:
            UserError: nothing of that name, an unknown option, or adapters and base do not fit.
        """
        name = pretrained_model_name_or_path
        known = ["torch_dtype", *inspect.getfullargspec(cls._from_pretrained).kwonlydefaults]
        for option in options.keys() - set(known):
            near = difflib.get_close_matches(option, known, n=1) or known
            raise UserError(f"from_pretrained has no option {option}; did you mean {', '.join(near)}?")
        if "torch_dtype" in options:
            options.setdefault("dtype", options.pop("torch_dtype"))
        if not isinstance(options.get("dtype", torch.float32), torch.dtype):
            raise UserError(f"dtype: expected one such as torch.float16, found {options['dtype']!r}")
        check_adapters(str(name))
        try:
            return super().from_pretrained(name, **options)
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise UserError(f"{name}: neither a folder of adapters nor a name on the hub") from error

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.expression_embedder is not self.embedder:
            raise UserError("adapters of two origins are not saved as one; keep the folders that they came from")
        adapters, embedder, params = self.adapters, self.embedder, self.base_params
        save_adapters(Path(save_directory), adapters, embedder, params, self.crop_faces, base=self.base)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        base: str | Any | None = None,
        base_config: str | None = None,
        dtype: torch.dtype = torch.float32,
        detector: str = "auto",
        crop: bool | None = None,
        cpu: bool = False,
        **_: Any,
    ) -> DeepExprPipeline:
        folder = Path(model_id)
        of_hub = not folder.is_dir()
        if of_hub:
            hub = {"revision": revision, "cache_dir": cache_dir, "force_download": force_download, "token": token}
            names = list(FILES)
            folder = Path(snapshot_download(model_id, allow_patterns=names, local_files_only=local_files_only, **hub))
        description = read_description(folder / CONFIG)
        if isinstance(base, str):
            base_params = BaseParams(path=base, config=base_config)
        else:
            base_params = read_base(folder, description, of_hub and base is None)
        pipeline = base if base is not None and not isinstance(base, str) else load_base(base_params, dtype)
        adapters = attach_folder(pipeline, folder)
        crop_faces = description.get(CROP_KEY) is True
        embedder = read_embedder(folder, description, detector, crop, cpu, of_hub)
        return cls(pipeline, adapters, embedder, base_params, crop_faces)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        base: str | None = None,
        base_config: str | None = None,
        dtype: torch.dtype = torch.float32,
        detector: str = "auto",
        crop: bool | None = None,
        cpu: bool = False,
    ) -> DeepExprPipeline:
        """The (averaged) adapters or branch of a training checkpoint, on the base and SID they were trained with.

        Raises:
            UserError: not a checkpoint of MEF, or the base is another.
        """
        checkpoint = load_checkpoint(path)
        if "mef" not in checkpoint:
            raise UserError(f"{path}: not a checkpoint of MEF; with --prompt give one of train_mef.py")
        config = mef_config_from_dict(checkpoint["mef"], str(path))
        model, crop_faces = config.model_params, config.dataset_params.crop_faces
        base_params = BaseParams(path=base, config=base_config) if base else model.base_params
        pipeline = in_form(load_base(base_params, dtype), model.inpaint_params, base_params.path)
        adapters = attach_checkpoint(pipeline, averaged(checkpoint), path, model.fusion)
        sid = SIDEncoders.from_sid(model.sid_params)
        exemplar = model.exemplar_params and model.exemplar_params.encoder
        embedder = Embedder(sid, model.compound_params, crop_faces or crop, detector, cpu, exemplar)
        return cls(pipeline, adapters, embedder, base_params, crop_faces)


def _mask(mask: Any, name: str) -> Tensor | None:
    """``[1, 1, h, w]``, as the processors want it."""
    if mask is None:
        return None
    return IPAdapterMaskProcessor().preprocess([Image.fromarray(media.as_image(mask, name))])
