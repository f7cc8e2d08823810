"""What a picture shows, in words.  Only the scene is named, and the expression if asked for; never the person."""

from __future__ import annotations

from .draws import EXPRESSIONS
from .parameters import ACTION_UNITS, CATEGORIES, Faces

_NAMES = (
    "background",
    "hair_style",
    "hair_color",
    "beard",
    "makeup",
    "clothing",
    "clothing_color",
    "glasses",
    "hat",
)


def attributes(faces: Faces) -> list[dict[str, str]]:
    """Per face: background, light, hair_style, hair_color, beard, clothing, clothing_color, glasses, hat, makeup."""
    columns = {name: faces.scene[:, i].round().long().tolist() for i, name in enumerate(CATEGORIES)}
    result = []
    for row in range(faces.size):
        words = {name: CATEGORIES[name][columns[name][row]] for name in CATEGORIES}
        if words["hat"] != "none":
            words["hat"] = _with_color(words["hat"], words["hat_color"])
        chosen = {name: words[name] for name in _NAMES}
        chosen["light"] = f"{words['light_color']} light from {words['light_side']}"
        result.append(chosen)
    return result


def captions(faces: Faces, expression: bool = False) -> list[str]:
    """One sentence per face; with ``expression``, also the basic expression nearest to its action units."""
    moods = [_mood(units) for units in faces.action_units.tolist()] if expression else [""] * faces.size
    return [_sentence(words, mood) for words, mood in zip(attributes(faces), moods, strict=True)]


def _sentence(words: dict[str, str], mood: str) -> str:
    has = [_hair(words)]
    has += [words[name] for name in ("beard", "makeup") if words[name] != "none"]
    wears = [words[name] for name in ("glasses", "hat") if words[name] != "none"]
    text = "a portrait photo of a person" + (f" showing {mood}" if mood else "")
    text += f" with {_listed([word for word in has if word] + [w for w in wears if 'glasses' in w])}"
    worn = [_with_color(_article(words["clothing"]), words["clothing_color"])]
    worn += [word for word in wears if "glasses" not in word]
    return f"{text}, wearing {_listed(worn)}, in front of {words['background']}, in {words['light']}"


def _hair(words: dict[str, str]) -> str:
    style, color = words["hair_style"], words["hair_color"]
    if style == "bald":
        return "a bald head"
    if style == "bun":
        return f"{color} hair in a bun"
    if style == "afro":
        return f"{_article(color)} afro"
    return f"{style} {color} hair"


def _with_color(thing: str, color: str) -> str:
    """ "a cap", "red" -> "a red cap"."""
    noun = thing.split(" ", 1)[1]
    return f"{_article(color)} {noun}"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _mood(units: list[float]) -> str:
    """The expression whose action units are nearest, strength left free; "" where none is near."""
    shown = dict(zip(ACTION_UNITS, units, strict=True))
    shown.pop("AU43")
    size = sum(value**2 for value in shown.values()) ** 0.5
    if size < 0.3:
        return "a neutral expression"

    def likeness(name: str) -> float:
        recipe = EXPRESSIONS[name]
        length = sum(value**2 for value in recipe.values()) ** 0.5
        return sum(shown[unit] * value for unit, value in recipe.items()) / (length * size)

    best = max((name for name in EXPRESSIONS if EXPRESSIONS[name]), key=likeness)
    return best if likeness(best) > 0.7 else ""
