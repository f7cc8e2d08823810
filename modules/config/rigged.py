"""The sections of a configuration of rigged SID: what moves the points of a face, taught by made pictures."""

from __future__ import annotations

from typing import Literal

from .data import ClipsParams, DatasetParams, RootParams
from .schema import option, section
from .sid import AnimateParams, FramingParams, ReconstructionParams
from .training import LoopParams


@section
class PairsParams(DatasetParams):
    """Frames of real clips, and photographs of a person (name#1.png, name#2.png), framed as the triples are."""

    share: float = option(0.25, above=0, below=1)  # of the items that are pairs, in the mean


@section
class TriplesParams(ClipsParams):
    triples: list[str] = option(filled=True)  # folders of python -m modules.data.triples, to learn from
    pairs: PairsParams | None = None  # two frames of one real person, to learn from between triples
    root_dir: str | list[RootParams] = "data/clips"  # folder(s) of clips that run.py rebuilds and animates


@section
class RiggedWeights:
    """Of the losses; a term of weight 0 teaches nothing."""

    expression: float = option(1.0, low=0)  # z_exp against the action units and gaze shown, each in its spread
    pose: float = option(1.0, low=0)  # z_pose likewise
    points: float = option(20.0, low=0)  # where the motion head moves points, against where they are
    driven: float = option(40.0, low=0)  # the same, moved by what the encoder reads off source and driver
    pixel: float = option(5.0, low=0)  # mean absolute difference of pixels
    closeup: float = option(10.0, low=0)  # the same of mouth and eyes, cut out closely
    edges: float = option(10.0, low=0)  # and of the differences of neighbouring pixels there
    flow: float = option(20.0, low=0)  # dense motion against the truth, where it is known
    passing: float = option(0.0, low=0)  # mouths and eyes pass for real before a critic (LSGAN); 0: there is none
    features: float = option(5.0, low=0)  # and look the same to it (feature matching)
    shown: float = option(0.1, low=0)  # what the truth says the source shows is not painted


@section
class RiggedTrainParams(LoopParams):
    teach: Literal["encoder", "generator"] = "encoder"  # encoder and motion head, or what is seen
    codes: Literal["exact", "encoder"] = "exact"  # what moves the source while the generator is taught
    lr: float = option(1e-3, above=0)  # of AdamW
    loss_weights: RiggedWeights = RiggedWeights()


@section
class RiggedConfig:
    dataset_params: TriplesParams
    train_params: RiggedTrainParams
    framing_params: FramingParams  # as the pictures of triples are framed
    reconstruction_params: ReconstructionParams = ReconstructionParams()
    animate_params: AnimateParams = AnimateParams()
