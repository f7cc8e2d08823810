"""Sliders: named changes of a face, in action units, gaze and turns of the head.  Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BOTH = ("left", "right")  # the person's


@dataclass(frozen=True)
class Slider:
    """What an amount of 1 changes.

    Attributes:
        says: what it does, and below zero.
        units: action units.
        sides: of the person's face.
        gaze: degrees to the right of the picture, and up.
        turn: degrees of yaw, pitch and roll.
    """

    says: str
    units: Mapping[str, float] = field(default_factory=dict)
    sides: tuple[str, ...] = BOTH
    gaze: tuple[float, float] = (0.0, 0.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def goes_below(self) -> bool:
        """Whether amounts below zero do something to a face at rest, which shows no unit that could be taken away."""
        return any(self.gaze) or any(self.turn) or min(self.units.values()) < 0


# Below zero a unit can be taken away only as far as the face shows it.  Where that is nothing, an opposite unit gives
# the slider its other half.
SLIDERS = {
    "smile": Slider("corners of the mouth up and cheeks raised; below 0: less of it", {"AU12": 1, "AU6": 0.5}),
    "smile_left": Slider("the same of the person's left side alone", {"AU12": 1, "AU6": 0.5}, ("left",)),
    "smile_right": Slider("the same of the right side", {"AU12": 1, "AU6": 0.5}, ("right",)),
    "sad": Slider("corners of the mouth down, chin raised", {"AU15": 1, "AU17": 0.5}),
    "open": Slider("jaw dropped, lips parted", {"AU26": 1, "AU25": 1}),
    "lips": Slider("lips parted, with the jaw at rest", {"AU25": 1}),
    "sneer": Slider("upper lip raised, nose wrinkled", {"AU10": 1, "AU9": 0.5}),
    "stretch": Slider("mouth drawn wide", {"AU20": 1}),
    "press": Slider("lips pressed together; the bundled model hardly shows it", {"AU23": 1}),
    "dimple": Slider("corners of the mouth tucked in", {"AU14": 1}),
    "chin": Slider("chin raised", {"AU17": 1}),
    "cheeks": Slider("cheeks raised", {"AU6": 1}),
    "nose": Slider("nose wrinkled", {"AU9": 1}),
    "brows": Slider("brows raised; below 0: lowered and drawn together", {"AU1": 1, "AU2": 1, "AU4": -1}),
    "inner_brows": Slider("inner ends of the brows raised", {"AU1": 1}),
    "outer_brows": Slider("outer ends of the brows raised, by a little", {"AU2": 1}),
    "frown": Slider("brows lowered and drawn together", {"AU4": 1}),
    "wide_eyes": Slider("upper lids raised", {"AU5": 1}),
    "squint": Slider("lids tightened and brought together", {"AU7": 1, "AU43": 0.4}),
    "close_eyes": Slider("lids closed", {"AU43": 1}),
    "wink_left": Slider("the person's left eye closed", {"AU43": 1}, ("left",)),
    "wink_right": Slider("the right eye closed", {"AU43": 1}, ("right",)),
    "look_right": Slider("eyes to the right of the picture; below 0: to the left", gaze=(20, 0)),
    "look_up": Slider("eyes up; below 0: down", gaze=(0, 15)),
    "turn": Slider("head to the right of the picture; below 0: to the left", turn=(20, 0, 0)),
    "nod": Slider("head up; below 0: down", turn=(0, 20, 0)),
    "tilt": Slider("head tilted clockwise; below 0: the other way", turn=(0, 0, 20)),
}

# Of the bundled model's table, in which way amounts go: as photographs show it at 3 and -3.
PRINCIPAL = {
    "principal_1": "surprise: brows and upper lids up, mouth open; below 0: eyes narrower, a faint smile",
    "principal_2": "smile with the lips parted; below 0: brows lowered, mouth narrow, its corners down",
    "principal_3": "nose wrinkled, upper lip raised; below 0: corners of the mouth down, inner brows up, both faintly",
    "principal_4": "as in pain: nose wrinkled, upper lip up, eyes narrower; below 0: eyes wider, lips closed",
}
