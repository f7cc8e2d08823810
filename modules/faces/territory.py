"""Several faces in one picture: what is near two of them is shown as the nearer one's crop has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .blend import Blend, Blends
from .close_crop import Crop
from .filters import ramp
from .matte import SIZE

FADING = 0.1  # difference of distances, in sides of the crops, over which one territory fades into the next


class Territory:
    """Shows results of one face's crop in that face's territory alone.

    Crops of neighbours overlap, and each shows the other as it was: pasted whole, the second would undo the first.

    Args:
        blender: says what of a result is shown where there is no other face.
        places: the crops of all the faces.
        number: of the crop that results are of.
    """

    def __init__(self, blender: Blends, places: Sequence[Crop], number: int):
        self._blender, self._own = blender, territory(places, number)

    def blend(self, result: np.ndarray) -> Blend:
        """Of a result, uint8 ``[P, P, 3]``."""
        blend = self._blender.blend(result)
        return blend._replace(share=blend.share * self._own.to(blend.share.device))


def territory(places: Sequence[Crop], number: int) -> Tensor:
    """How much of each pixel of a crop is that face's, ``[1, 1, S, S]``: shares of all faces sum to 1.

    A pixel is of the face whose middle is nearest, in sides of its crop (a multiplicatively weighted Voronoi diagram),
    so that large faces, which are nearer to the camera, have more.
    """
    line = (torch.arange(SIZE, dtype=torch.float64) + 0.5) / SIZE
    matrix = torch.from_numpy(places[number].matrix)
    x, y = (row[0] * line + row[1] * line[:, None] + row[2] for row in matrix)
    away = torch.stack([torch.hypot(x - place.x, y - place.y) / place.side for place in places])
    nearer = ramp(0.5 + (away[None] - away[:, None]) / FADING)  # [i, j]: how much rather i's than j's
    nearer[range(len(places)), range(len(places))] = 1
    shares = nearer.prod(dim=1)
    return (shares[number] / shares.sum(dim=0)).float()[None, None]
