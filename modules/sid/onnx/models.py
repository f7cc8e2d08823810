"""SID, rigged or not, with graphs in place of its networks: animators take them for the models themselves."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ...config.sid import ModelParams
from ..dense_motion import DenseMotion
from ..encoders import Semantics
from ..generator import Condition, Generated
from ..keypoints import Keypoints
from ..model import SID
from ..rigged.encoder import Looks, PointEncoder
from ..rigged.model import RiggedSID
from ..rigged.motion import MotionNetwork, PointMotion
from .parts import change_inputs, generator_inputs, head_inputs
from .session import Graph

Graphs = Mapping[str, Graph]


class _Part(nn.Module):
    """What takes the place of a part, with its methods."""

    def __init__(self, graph: Graph):
        super().__init__()
        self.graph = graph


class _Detector(_Part):
    def forward(self, image: Tensor) -> Keypoints:
        return _keypoints(self.graph(image=image))


class _Identity(_Part):
    def forward(self, image: Tensor) -> Tensor:
        return self.graph(image=image)["z_id"]


class _Semantic(_Part):
    def forward(self, image: Tensor) -> Semantics:
        return self.located(image)[0]

    def located(self, image: Tensor) -> tuple[Semantics, Tensor | None]:
        made = self.graph(image=image)
        return Semantics(made["expression"], made["pose"]), made.get("place")


class _MotionHead(_Part):
    def forward(self, source: Keypoints, before: Semantics, after: Semantics) -> Keypoints:
        return _keypoints(self.graph(**head_inputs(source, before, after)))


class _Encoders(nn.Module):
    def __init__(self, graphs: Graphs):
        super().__init__()
        self.identity, self.semantic = _Identity(graphs["identity"]), _Semantic(graphs["semantics"])
        self.motion_head = _MotionHead(graphs["motion_head"])


class _Generator(nn.Module):
    def __init__(self, graphs: Graphs):
        super().__init__()
        self.source, self.graph = graphs["source"], graphs["generator"]

    def encode(self, image: Tensor) -> list[Tensor]:
        return list(self.source(image=image).values())

    def forward(
        self,
        image: Tensor,
        source: Keypoints,
        driving: Keypoints,
        condition: Condition | None,
        features: list[Tensor],
    ) -> Generated:
        made = self.graph(**generator_inputs(image, source, driving, condition, features))
        motion = None
        if "deformation" in made:  # of a motion nobody asks for more
            motion = DenseMotion(made["deformation"], made.get("occlusion"), None, None, None)
        return Generated(made["prediction"], None, motion)


class GraphSID(SID):
    """SID whose networks are graphs by the names of :func:`.parts.sid_parts`."""

    def __init__(self, params: ModelParams, graphs: Graphs):
        nn.Module.__init__(self)
        self.kp_detector, self.generator = _Detector(graphs["keypoints"]), _Generator(graphs)
        self.encoders = None if params.encoder_params is None else _Encoders(graphs)


class _Mesh(_Part):
    def forward(self, image: Tensor) -> list[Tensor]:
        return list(self.graph(image=image).values())


class _PointEncoder(PointEncoder):
    def __init__(self, graph: Graph):
        nn.Module.__init__(self)
        self.graph = graph

    def embed(self, looks: Looks) -> Semantics:
        return Semantics(**self.graph(**looks._asdict()))


class _Rig(_Part):
    def forward(self, points: Tensor, before: Semantics, after: Semantics) -> Tensor:
        return self.graph(points=points, **change_inputs(before, after))["driven"]


class _Motion(MotionNetwork):
    def __init__(self, graph: Graph):
        super().__init__()
        del self.hourglass, self.read
        self.graph = graph

    def weigh(self, seen: Tensor, flows: Tensor, maps: Tensor) -> PointMotion:
        return PointMotion(**self.graph(seen=seen, flows=flows, maps=maps))


class _CloseUp(_Part):
    def forward(self, warped: Tensor, own: Tensor, maps: Tensor, says: Tensor) -> tuple[Tensor, Tensor]:
        made = self.graph(warped=warped, own=own, maps=maps, says=says)
        return made["colour"], made["cover"]


def graph_rigged(graphs: Graphs) -> RiggedSID:
    """Rigged SID whose networks are graphs by the names of :func:`.parts.rigged_parts`."""
    model = RiggedSID()
    model.points.mesh.network = _Mesh(graphs["mesh"])
    model.encoder, model.rig = _PointEncoder(graphs["encoder"]), _Rig(graphs["motion_head"])
    model.generator.motion = _Motion(graphs["motion"])
    model.generator.closeups.mouth, model.generator.closeups.eye = (_CloseUp(graphs[n]) for n in ("mouth", "eye"))
    return model.eval()


def _keypoints(made: dict[str, Tensor]) -> Keypoints:
    return Keypoints(made["value"], made.get("jacobian"))
