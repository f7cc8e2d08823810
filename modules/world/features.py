"""What is painted on the skin: brows, lips, lashes, nostrils, freckles, beard, make-up, the roots of the hair."""

from __future__ import annotations

import torch
from torch import Tensor

from . import colours
from .curves import bump, mix, polyline, step
from .eyes import Lids, across, lid_height
from .hair import hair_ends
from .head import JAWLINE, MOUTH, MOUTH_HALF
from .noise import noise
from .parameters import BEARDS, HAIR_STYLES, MAKEUPS, Faces, category, identity_column
from .wrinkles import wrinkles


def brow_height(side: Tensor) -> Tensor:
    """Y of the middle of a brow at |X|."""
    return 0.315 + 0.1 * (1 - ((side - 0.62) / 0.44) ** 2) - 0.1 * step(side, 0.66, 0.95)


def upper_lip(side: Tensor) -> Tensor:
    """Y of the upper edge of the red of the lips at |X| up to the corner."""
    along = (side / MOUTH_HALF).clamp(0, 1)
    return MOUTH + 0.135 * (1 - along**1.7) - 0.024 * torch.exp(-((side / 0.055) ** 2))


def lower_lip(side: Tensor) -> Tensor:
    """Y of its lower edge."""
    along = (side / MOUTH_HALF).clamp(0, 1)
    return MOUTH - 0.175 * (1 - along**2) ** 0.8


class Paint:
    """Albedo, occlusion and gloss of the skin of B faces at M points each.

    Attributes:
        albedo: [3, B, M].
        occlusion: [B, M] share of the surroundings that is seen.
        gloss: [B, M] strength of the highlight.
        top, bottom: [B, M] heights of the lids' edges.
        open: [B, M] 1 between the lids.
        face: [B, M] 1 on the face, for the mask.
    """

    def __init__(self, faces: Faces, lids: Lids, x: Tensor, y: Tensor, front: Tensor, columns: Tensor):
        self._faces, self.x, self.y = faces, x, y
        self._side, self._front = x.abs(), front
        self._left = step(x, -0.05, 0.05)
        self._hair = colours.hair(faces)
        self.albedo = colours.skin(faces).expand(3, *x.shape)
        self.occlusion = torch.ones_like(x)
        oily = 0.06 * bump(self.x, y, (0, -0.4), (0.16, 0.5)) + 0.05 * bump(self.x, y, (0, 0.8), (0.5, 0.3))
        self.gloss = 0.065 + oily + 0.04 * bump(self._side, y, (0.62, -0.45), (0.22, 0.16))
        right, left = step(lids.upper, 0.06, -0.04)[..., None]
        self._shut = torch.where(x > 0, left, right)
        self._complexion()
        self._folds()
        self._make_up()
        self._lips()
        self._nostrils()
        self._lids(lids)
        self._brows()
        self._hairs(columns)
        self.face = self._front * step(y, JAWLINE - 0.03, JAWLINE + 0.02) * step(y, 1.3, 1.15)
        self.face = self.face * step(self._side, 1.13, 1.05) * (1 - self._scalp)

    def _blend(self, colour: Tensor, share: Tensor) -> None:
        self.albedo = mix(self.albedo, colour, share)

    def _colour(self, *rgb: float) -> Tensor:
        return torch.tensor(rgb, device=self.x.device)[:, None, None]

    def _complexion(self) -> None:
        """Blood in cheeks, nose and chin, mottling, freckles and marks."""
        side, y = self._side, self.y
        blood = 0.8 * bump(side, y, (0.68, -0.5), (0.28, 0.26)) + 0.6 * bump(self.x, y, (0, -0.72), (0.24, 0.16))
        blood = blood + 0.3 * bump(self.x, y, (0, -1.75), (0.3, 0.15)) + 0.35 * bump(side, y, (0.5, 0.0), (0.3, 0.14))
        age = (0.5 + 0.5 * identity_column(self._faces, "age"))[:, None]
        mottle = (0.5 + 1.5 * age) * (noise(self.x * 7 + 40, y * 7 + 40) - 0.5)  # old skin is uneven
        rosy = 0.5 + 0.5 * identity_column(self._faces, "skin_hue")[:, None]
        red = blood * (0.07 + 0.14 * rosy) + 0.06 * mottle
        self.albedo = self.albedo * (1 + red * self._colour(0.12, -0.75, -0.7)) * (1 + 0.05 * mottle)
        amount = identity_column(self._faces, "freckles")[:, None]
        where = bump(side, y, (0.42, -0.38), (0.4, 0.24)) + 0.25 * bump(self.x, y, (0, 0.5), (0.8, 0.4))
        own = 31.7 * (amount + identity_column(self._faces, "nose_width")[:, None])  # their places are a person's own
        spots = step(noise(self.x * 30 + own, y * 30 + own), 0.66, 0.86)
        dark = spots * where * (0.15 + 0.75 * amount).clamp(min=0)
        self.albedo = self.albedo * (1 - dark * self._colour(0.3, 0.45, 0.52))

    def _folds(self) -> None:
        dark = wrinkles(self._faces, self.x, self.y, self._left) * self._front
        self.albedo = self.albedo * (1 - dark.clamp(-0.6, 1.2) * self._colour(0.27, 0.34, 0.36))
        side, y = self._side, self.y
        shadow = 0.45 * bump(side, y, (0.27, 0.05), (0.11, 0.13)) + 0.2 * bump(side, y, (0.5, 0.06), (0.26, 0.12))
        shadow = shadow * (1 - 0.7 * self._shut) + 0.3 * bump(self.x, y, (0, -0.93), (0.22, 0.055))
        shadow = shadow + 0.26 * bump(self.x, y, (0, -1.43), (0.2, 0.06))
        shadow = shadow + 0.22 * bump(side, y, (0.5, 0.15), (0.2, 0.06))
        shadow = shadow + 0.28 * bump(side, y, (0.29, -0.77), (0.045, 0.09))  # crease of the nose's wing
        shadow = shadow + 0.5 * step(y, JAWLINE + 0.05, JAWLINE - 0.25)
        self.occlusion = (1 - shadow * self._front).clamp(min=0.2)

    def _make_up(self) -> None:
        kind = category(self._faces, "makeup")[:, None]
        side, y = self._side, self.y
        area = bump(side, y, (0.53, 0.13), (0.22, 0.075))
        self._blend(self._colour(0.06, 0.13, 0.4), 0.75 * area * (kind == MAKEUPS.index("blue eye shadow")))
        self._blend(self._colour(0.02, 0.016, 0.018), 0.85 * area * (kind == MAKEUPS.index("smoky eye make-up")))
        cheeks = bump(side, y, (0.72, -0.45), (0.2, 0.15)) * (kind > 0)
        self.albedo = self.albedo * (1 - 0.3 * cheeks * self._colour(0.0, 0.6, 0.45))

    def _lips(self) -> None:
        side, y = self._side, self.y
        inside = torch.minimum(upper_lip(side) - y, y - lower_lip(side))
        red = step(inside, -0.015, 0.022) * step(side, MOUTH_HALF + 0.02, MOUTH_HALF - 0.05)
        tint = 0.5 + 0.5 * identity_column(self._faces, "lip_colour")[:, None]
        less = (0.4 + 0.5 * tint) * self._colour(-0.05, 0.62, 0.5)  # of green and blue than the skin has
        colour = colours.skin(self._faces) * (0.92 - 0.17 * tint) * (1 - less)
        streaks = 0.9 + 0.2 * noise(self.x * 38, y * 5)
        self._blend(colour * streaks, 0.85 * red)
        kind = category(self._faces, "makeup")[:, None]
        for name, rgb in (("red lipstick", (0.5, 0.018, 0.03)), ("dark lipstick", (0.16, 0.012, 0.04))):
            self._blend(self._colour(*rgb), 0.9 * red * (kind == MAKEUPS.index(name)))
        line = bump(side, y, (0, MOUTH), (1e3, 0.016)) * step(side, MOUTH_HALF + 0.05, MOUTH_HALF - 0.05)
        self.albedo = self.albedo * (1 - 0.72 * line)
        self.occlusion = self.occlusion * (1 - 0.25 * bump(side, y, (MOUTH_HALF + 0.02, MOUTH), (0.05, 0.045)))
        self.gloss = self.gloss * (1 - 0.7 * bump(side, y, (0.45, 0.04), (0.25, 0.13)))
        self.gloss = self.gloss + red * (0.1 + 0.15 * (kind > 0) * (kind < 3))

    def _nostrils(self) -> None:
        hole = bump(self._side - 0.25 * (self.y + 0.84), self.y, (0.115, -0.842), (0.042, 0.024))
        self.albedo = self.albedo * (1 - 0.93 * (1.6 * hole).clamp(max=1))
        self.occlusion = self.occlusion * (1 - 0.8 * hole)

    def _lids(self, lids: Lids) -> None:
        """Lashes, the fold of the upper lid, and where the eye is open."""
        place, left = across(self.x), self.x > 0
        upper, lower = (torch.where(left, values[1][:, None], values[0][:, None]) for values in lids)
        self.top, self.bottom = lid_height(place, upper, True), lid_height(place, lower, False)
        within = step(place.abs(), 1.03, 0.97) * self._front
        gap = torch.minimum(self.top - self.y, self.y - self.bottom)
        self.open = step(gap, -0.004, 0.012) * within
        kind = category(self._faces, "makeup")[:, None]
        lined = ((kind == MAKEUPS.index("smoky eye make-up")) | (kind == MAKEUPS.index("blue eye shadow"))).float()
        reach = step(place, 1.12, 1.0) * step(place, -1.06, -0.8)
        lash = bump(0, self.y - self.top, (0, 0.007), (1, 0.02)) * reach * (0.92 + 0.08 * lined)
        lash = lash * (0.75 + 0.25 * step(place, -0.8, 0.3))
        below = bump(0, self.y - self.bottom, (0, -0.006), (1, 0.01)) * reach * (0.42 + 0.4 * lined)
        rim = bump(0, self.y - self.bottom, (0, 0.004), (1, 0.01)) * within * self.open
        heavy = identity_column(self._faces, "lid_fold")[:, None]
        fold_at = self.top + 0.03 + 0.055 * (upper / 0.1).clamp(0.1, 1.2) * (0.65 + 0.35 * heavy)
        arc = (1 - place * place).clamp(min=0)
        fold = bump(0, self.y - fold_at - 0.015 * arc, (0, 0), (1, 0.016)) * step(place.abs(), 1.12, 0.8)
        depth = (1 - 0.5 * self._shut) * (0.3 + 0.28 * heavy)
        self.albedo = self.albedo * (1 - fold * depth.clamp(min=0.05))
        self._blend(self._colour(0.012, 0.009, 0.008), (torch.maximum(lash, below) * self._front).clamp(max=0.92))
        self._blend(self._colour(0.5, 0.25, 0.2), 0.5 * rim)

    def _brows(self) -> None:
        side, y = self._side, self.y
        thick = 0.066 * (1 + 0.45 * identity_column(self._faces, "brow_thickness")[:, None])
        taper = 1 - 0.55 * step(side, 0.5, 0.95)
        distance = (y - brow_height(side)) / (thick * taper)
        hairs = noise(self.x * 30 + 14 * y * torch.sign(self.x), y * 12)
        density = step(distance.abs() + 0.5 * (hairs - 0.5), 1.15, 0.35)
        density = density * step(side, 0.17, 0.27) * step(side, 0.99, 0.86)
        dark = 0.5 * (self._hair + self._colour(0.02, 0.013, 0.01))
        dark = torch.minimum(dark, 0.34 * colours.skin(self._faces))  # even blond brows
        bushy = 0.85 + 0.15 * identity_column(self._faces, "brow_thickness")[:, None]
        self._blend(dark * (0.75 + 0.5 * hairs), density * bushy * self._front)

    def _hairs(self, columns: Tensor) -> None:
        """Beard and scalp: hair thin enough to be painted."""
        kind, side, y = category(self._faces, "beard")[:, None], self._side, self.y
        strands = noise(self.x * 34, y * 11 + 3 * noise(self.x * 6, y * 6))
        lip = step(y, -1.12, -1.03) * step(y, -0.86, -0.94) * step(side, 0.46, 0.34)
        beside = step(side, 0.52, 0.44) * step(side, 0.36, 0.44) * step(y, -1.42, -1.3) * step(y, -0.98, -1.1)
        lip = lip * step(upper_lip(side) - y, 0.01, -0.04) + beside
        red = step(torch.minimum(upper_lip(side) - y, y - lower_lip(side)), -0.03, 0.0) * step(side, 0.45, 0.4)
        chin = step(y, -1.4, -1.5) * step(side, 0.5, 0.34)
        line = -0.92 + 0.62 * step(side, 0.6, 1.0)
        cheek = step(y, line + 0.08, line - 0.14) * step(side, 0.4, 0.6)
        full = torch.maximum(torch.maximum(cheek, step(y, -1.3, -1.45)), lip)
        goatee = torch.maximum(chin, lip)
        areas = torch.stack([0 * lip, 0.5 * full, lip, goatee, full, full])
        area = areas.gather(0, kind.expand_as(y)[None])[0]
        soft = step(area + 0.55 * (strands - 0.5), 0.18, 0.75) * self._front
        stubble = 0.84 * area * (0.6 + 0.5 * strands)
        share = torch.where(kind == BEARDS.index("stubble"), stubble, 0.93 * soft)
        self.beard = share * (1 - red) * (side < 1.12)
        ends = polyline(self.x, columns, hair_ends(self._faces))
        bald = (category(self._faces, "hair_style") == HAIR_STYLES.index("bald"))[:, None]
        cut = y - ends.clamp(min=-0.35) + 0.12 * (noise(self.x * 22, y * 4) - 0.5)
        self._scalp = torch.where(bald, torch.zeros_like(y), step(cut, -0.02, 0.09))
        hair = self._hair * (0.6 + 0.7 * strands)
        self._blend(0.6 * hair, self.beard)
        self._blend(hair * 0.8, 0.95 * self._scalp)
        under = step(cut, -0.16, 0.0) * (1 - self._scalp) * ~bald
        self.occlusion = self.occlusion * (1 - 0.35 * under)
        self.gloss = self.gloss * (1 - 0.9 * torch.maximum(self.beard, self._scalp))
