"""The training data set: an item is one portrait with its conditions and all its noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..config.mef import MEFTrainParams
from ..data.portraits import Portrait
from ..errors import UserError
from .cache.shards import Cache
from .readable import Unreadable
from .tables import Tables


class PortraitDataset(Dataset):
    """Portraits, and everything random about a step of theirs: it follows from (seed, epoch, index) alone.

    So a batch's losses do not depend on how it is shared out over processes or parts, nor on whether what the frozen
    networks give is read from a cache or computed in the step.  An item is a dict:

    - ``latents``, ``text``, ``identity_face``, ``expression_face``: rows in the tables
    - ``timestep``  int64
    - ``noise``, ``posterior_noise``  float32 ``[C, h, w]``
    - ``keep``  bool [3]: whether text, identity, expression are given
    - for inpainting ``pose_face``, the row of the portrait itself, which the pose is always read off, whatever picture
      the expression is read off, and ``background``, bool: whether it is given
    - with a cache, its rows: ``mean``, ``deviation``, ``face``, ``text_states`` (``pooled``), ``identity``,
      ``expression`` (``exemplar``); for inpainting ``mask``, ``masked``

    Args:
        latent_shape: (C, h, w).
        timesteps: number of noise levels of the base.
        cache: complete, or None.
        unreadable: what must be left out; of a cache it is known.
        join: for inpainting, z_exp of one embedding and z_pose of another (:meth:`.Embedder.joined`).
    """

    def __init__(
        self,
        tables: Tables,
        latent_shape: tuple[int, int, int],
        timesteps: int,
        params: MEFTrainParams,
        cache: Cache | None = None,
        unreadable: Unreadable | None = None,
        join: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        self.join = join
        self.tables, self.latent_shape, self.timesteps, self.params = tables, latent_shape, timesteps, params
        self.cache = cache
        self.left_out: dict[str, str] = {}
        if cache is not None:
            unreadable = Unreadable(cache.unreadable("latents"), cache.unreadable("faces"))
        bad_latents, bad_faces = unreadable or Unreadable({}, {})
        self._of_person: dict[str, list[int]] = {}  # pictures of each person that can be read
        self._portraits: list[int] = []
        for row, portrait in enumerate(tables.portraits):
            own = tables.picture_row[portrait.image]
            needed = {tables.picture_row[path] for path in (portrait.identity_image, portrait.reference_image) if path}
            if portrait.reference_image is None or portrait.identity_image is None or join is not None:
                needed.add(own)
            reason = bad_latents.get(row) or next((bad_faces[i] for i in sorted(needed) if i in bad_faces), None)
            if reason is not None:
                self.left_out[str(portrait.image)] = reason.removeprefix(f"{portrait.image}: ")
                continue
            self._portraits.append(row)
            if own not in bad_faces:
                self._of_person.setdefault(portrait.identity, []).append(own)
        if not self._portraits:
            first, reason = next(iter(self.left_out.items()))
            raise UserError(f"none of the portraits can be used, such as {first}: {reason}")

    @property
    def portraits(self) -> list[Portrait]:
        """Those that can be used."""
        return [self.tables.portraits[row] for row in self._portraits]

    def __len__(self) -> int:
        return len(self._portraits) * self.params.num_repeats

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """The item ``(epoch, index)``; a plain index is of epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng([self.params.seed, epoch, index])
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        row = self._portraits[index % len(self._portraits)]
        portrait = self.tables.portraits[row]
        noise = torch.randn(self.latent_shape, generator=generator)
        if self.params.noise_offset:
            noise += self.params.noise_offset * torch.randn((self.latent_shape[0], 1, 1), generator=generator)
        item = {
            "latents": row,
            "text": self.tables.caption_row[portrait.text],
            "identity_face": self._identity_face(portrait, rng),
            "expression_face": self.tables.picture_row[portrait.reference_image or portrait.image],
            "timestep": int(rng.integers(self.timesteps)),
            "noise": noise,
            "posterior_noise": torch.randn(self.latent_shape, generator=generator),
            "keep": self._keep(rng),
        }
        if self.join is not None:
            item["pose_face"] = self.tables.picture_row[portrait.image]
            item["background"] = bool(rng.random() >= self.params.dropout_params.background)
        return item if self.cache is None else item | self._rows(item)

    def _identity_face(self, portrait: Portrait, rng: np.random.Generator) -> int:
        """Another picture of the person, so that identity alone can be read off it; else the portrait itself."""
        own = self.tables.picture_row[portrait.image]
        if portrait.identity_image is not None:
            return self.tables.picture_row[portrait.identity_image]
        others = [face for face in self._of_person.get(portrait.identity, []) if face != own]
        if others and (rng.random() < self.params.other_photo):
            return int(rng.choice(others))
        return own

    def _keep(self, rng: np.random.Generator) -> Tensor:
        drop = self.params.dropout_params
        text, identity, expression, everything = rng.random(4)
        kept = [text >= drop.text, identity >= drop.identity, expression >= drop.expression]
        return torch.tensor([k and everything >= drop.all for k in kept])

    def _rows(self, item: dict[str, Any]) -> dict[str, Tensor]:
        cache = self.cache
        latents, text = cache.row("latents", item["latents"]), cache.row("text", item["text"])
        person, face = (cache.row("faces", item[name]) for name in ("identity_face", "expression_face"))
        exemplar, expression = cache.exemplar(item["expression_face"]), face["expression"].float()
        if self.join is not None:
            expression = self.join(expression, cache.row("faces", item["pose_face"])["expression"].float())
        return {
            **{name: values.float() for name, values in latents.items()},
            "text_states": text["text"],
            **({"pooled": text["pooled"]} if "pooled" in text else {}),
            "identity": person["identity"].float(),
            "expression": expression,
            **({} if exemplar is None else {"exemplar": exemplar.float()}),
        }
