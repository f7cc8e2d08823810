"""The folder that a model is exported to: a file for each part, its configuration, and what goes in and out."""

from __future__ import annotations

import os
from pathlib import Path

from ...arguments import command_line
from ...atomic import appearing, write_text
from ...config.files import save_config
from ...config.rigged import RiggedConfig
from ...config.sid import Config
from ...data.astronaut import moving_face
from ...digest import digest
from ...errors import UserError
from ...media import fit
from ...media.tensors import to_tensor
from ..model import SID
from ..rigged.model import RiggedSID, load_rigged
from ..tuned import tuned
from ..weights import load_model
from .graph import OPSET, write_part
from .layout import CONFIG, file_of, names
from .models import GraphSID, graph_rigged
from .parts import Part, rigged_parts, sid_parts
from .session import Graph, Provider

README = "README.md"
FORMAT = 1  # counts changes of what goes in and out
EXAMPLES, SIDE = 4, 256  # frames to begin with, and their side for a model that takes any
WHOLE = (
    "Frames are `[B, 3, {height}, {width}]` in [0, 1]. `modules/sid/animator.py` runs keypoints, identity, semantics"
    " and source on a source; keypoints and semantics on each driving frame; then motion_head, and generator. A model"
    " without encoders is keypoints, source and generator."
)
NETWORKS = (
    "These are the networks. What is between them is PyTorch's, in `modules/sid/rigged/animator.py`: cutting out face,"
    " eyes and mouth, the thin-plate spline, moving and pasting. It depends on a picture's size, or solves systems of"
    " equations, which ONNX cannot."
)


def write_folder(config: Config | RiggedConfig, checkpoint: str | os.PathLike, folder: Path) -> None:
    """Write the model of a checkpoint into a new folder, which appears whole or not at all."""
    check_new(folder)
    rigged = isinstance(config, RiggedConfig)
    height, width = (SIDE, SIDE) if rigged else config.dataset_params.frame_shape[:2]
    images = to_tensor([fit(frame, height, width) for frame in moving_face(0, EXAMPLES, SIDE)])
    if rigged:
        parts = rigged_parts(tuned(load_rigged(checkpoint)), images)
    else:
        parts = sid_parts(tuned(load_model(config.model_params, checkpoint)), images)
    with appearing(folder) as made:
        for name, part in parts.items():
            write_part(part, Path(made, file_of(name)), _mark(name, digest(checkpoint)))
        save_config(config, Path(made, CONFIG))
        about = NETWORKS if rigged else WHOLE.format(height=height, width=width)
        write_text(Path(made, README), _described(parts, Path(made), about))


def check_new(folder: Path) -> None:
    """UserError where ``folder`` is a file, or holds anything."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty; give a new folder")


def load_folder(config: Config | RiggedConfig, folder: Path, provider: Provider) -> SID | RiggedSID:
    """The exported model, run by onnxruntime.

    Raises:
        UserError: a file is of another export, or cannot be run.
    """
    graphs = {name: Graph(folder / file_of(name), provider) for name in names(config)}
    marks = {name: graph.mark or "" for name, graph in graphs.items()}
    digest = next(iter(marks.values())).rpartition(" ")[2]
    for name, mark in marks.items():
        if mark != _mark(name, digest):
            raise UserError(f"{folder / file_of(name)}: is not of the same export as the others; export them again")
    if isinstance(config, RiggedConfig):
        return graph_rigged(graphs)
    return GraphSID(config.model_params, graphs)


def _mark(name: str, digest: str) -> str:
    return f"{FORMAT} {name} {digest}"


def _described(parts: dict[str, Part], folder: Path, about: str) -> str:
    """What a reader who has the folder alone needs to know."""
    wrote = f"Written by `{command_line('sid.export')} --onnx`, and run by `Inference.py --onnx`."
    paragraphs = ["# SID as ONNX", f"{wrote} All is float32, in batches of any number B; opset {OPSET}.", about]
    for name, part in parts.items():
        session = Graph(folder / file_of(name)).session
        ends = [("in", each) for each in session.get_inputs()] + [("out", each) for each in session.get_outputs()]
        listed = "\n".join(f"- {way}: `{each.name} {_shape(each.shape)}`" for way, each in ends)
        paragraphs += [f"## {file_of(name)}", part.about, listed]
    return "\n\n".join(paragraphs) + "\n"


def _shape(shape: list) -> str:
    return f"[{', '.join(['B', *map(str, shape[1:])])}]"
