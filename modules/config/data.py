"""The section ``dataset_params``: which clips, how they are read and augmented."""

from __future__ import annotations

import operator
from typing import Literal

from .schema import option, section


@section
class RootParams:
    path: str  # folder of one data set
    weight: float = option(1.0, above=0)  # its share of the items, relative to the other roots


@section
class FlipParams:
    horizontal_flip: bool = False  # mirror all frames of an item, or none
    time_flip: bool = False  # reverse the order of an item's frames


@section
class JitterParams:
    brightness: float = option(0.0, low=0)  # factor drawn from [1 - value, 1 + value]
    contrast: float = option(0.0, low=0)  # likewise
    saturation: float = option(0.0, low=0)  # likewise
    hue: float = option(0.0, low=0, high=0.5)  # shift drawn from [-value, value]; 0.5 is all hues


@section
class RotationParams:
    degrees: float | tuple[float, float] = option(0.0, order=operator.le)  # one number d means [-d, d]


@section
class ResizeParams:
    ratio: tuple[float, float] = option((3 / 4, 4 / 3), above=0, order=operator.le)  # zoom drawn from this range


@section
class CropParams:
    size: tuple[int, int] = option(low=1, repeat=2)  # height and width of the random crop, pixels


@section
class MovementParams:
    degrees: float = option(10.0, low=0)  # rotation, up to this
    scale: float = option(0.1, low=0, below=1)  # zoom by a factor from [1 - value, 1 + value]
    translation: float = option(0.15, low=0)  # shift along x and y, up to this, in half frame sizes
    probability: float = option(0.5, low=0, high=1)  # share of the items this happens to


@section
class AugmentationParams:
    """Random changes, shared by the frames of an item but for ``movement_param``; null = not applied."""

    flip_param: FlipParams | None = None  # mirroring in space and time
    jitter_param: JitterParams | None = None  # colours
    rotation_param: RotationParams | None = None  # rotation in the image plane
    resize_param: ResizeParams | None = None  # zoom, before the crop
    crop_param: CropParams | None = None  # crop, padded where the frame is smaller
    movement_param: MovementParams | None = None  # each frame moved on its own: more motion than the clips'


@section
class ClipsParams:
    """Clips, as every mode of run.py reads them."""

    root_dir: str | list[RootParams] = option(filled=True)  # folder(s) of videos or stills, or their train/ and test/
    frame_shape: tuple[int, int, Literal[3]] = option((256, 256, 3), low=1)  # height, width, channels
    pairs_list: str | None = None  # csv with columns source,driving for --mode animate
    cache_dir: str | None = None  # keeps decoded frames here as memory maps
    num_workers: int = option(4, low=0)  # loader processes per device; 0 = in the main process
    random_seed: int = option(0, low=0)  # of the train/test split and the pairs

    @property
    def roots(self) -> tuple[RootParams, ...]:
        """The data sets to mix; a plain path is one root of weight 1."""
        return (RootParams(path=self.root_dir),) if isinstance(self.root_dir, str) else tuple(self.root_dir)


@section
class DatasetParams(ClipsParams):
    """And as SID learns from them."""

    id_sampling: bool = False  # an epoch draws one clip per name before `#`
    augmentation_params: AugmentationParams = AugmentationParams()
    frames_per_video: int = option(2, low=2)  # frames an item holds; FOMM uses 2
    elsewhere_frame: bool = False  # an item also holds a frame of the person's other clips
