"""What a recipe says: a YAML file with steps, each a command of this package."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bundled import bundled
from ..config.files import section_from_dict
from ..config.schema import merged, option, read_yaml, section, with_base
from ..errors import UserError

CONFIG = "config"  # of a step: the configuration that its command is given


@section
class Step:
    """One command, ``python -m <package>.<run>``.

    ``{out}`` in ``run`` is the place of what it makes, ``{name}`` what the step of that name made, and
    ``{name.config}`` that step's configuration.  With a ``config`` it is also given ``--config``: what it differs in
    from the recipe's own ``config``, or from the file that its ``base`` names.  With a ``share`` it is a training,
    which is continued where it was interrupted and has that share of the minutes; at 0 it ends by its configuration.
    """

    name: str
    run: str
    makes: str | None = None  # file or folder, seen from the step's folder; of a training null = its newest checkpoint
    share: float | None = option(None, low=0)
    start: str | None = None  # a step whose weights the training starts from
    resume: str | None = None  # a step whose run it continues


@section
class _Recipe:
    minutes: float = option(above=0)
    steps: list[Step] = option(filled=True)


@dataclass(frozen=True)
class Recipe:
    """Steps in their order.

    Attributes:
        where: what an error names as the place.
        minutes: of all trainings together, unless the user says otherwise.
        configs: configurations of the steps that have one, plain values.
    """

    where: str
    minutes: float
    steps: list[Step]
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def minutes_of(self, step: Step, minutes: float) -> float | None:
        """A step's part of all ``minutes``; None for one that the clock does not end."""
        return None if not step.share else minutes * step.share / sum(s.share or 0 for s in self.steps)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe's file, or one of that name that comes with the project.

    Raises:
        UserError: it is missing, or is no recipe.
    """
    path = Path(path) if Path(path).is_file() else bundled(str(path))
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a recipe: a mapping with the keys minutes, steps")
    return recipe_from(values, path)


def recipe_from(values: dict[str, Any], file: Path) -> Recipe:
    """A recipe from plain values; ``file`` is where they stand, or could.  Raises UserError."""
    where = str(file)
    common = with_base(values.get(CONFIG, {}), file)
    configs, steps, given = {}, [], values.get("steps")
    for step in given if isinstance(given, list) else []:
        if isinstance(step, dict) and CONFIG in step:
            own = step[CONFIG]
            config = merged(common, own) if isinstance(own, dict) and "base" not in own else with_base(own, file)
            if not isinstance(config, dict):
                raise UserError(f"{where}: step {step.get('name')}: config: expected a mapping, found {own!r}")
            configs[str(step.get("name"))] = config
            step = {key: value for key, value in step.items() if key != CONFIG}
        steps.append(step)
    values = {key: value for key, value in values.items() if key != CONFIG}
    values |= {"steps": steps} if isinstance(given, list) else {}
    known = section_from_dict(_Recipe, values, where, _Recipe)
    recipe = Recipe(where, known.minutes, known.steps, configs)
    _check(recipe)
    return recipe


def _check(recipe: Recipe) -> None:
    known: set[str] = set()
    for step in recipe.steps:
        where = f"{recipe.where}: step {step.name}"
        if not re.fullmatch(r"[A-Za-z][\w -]*", step.name) or step.name == "out":
            raise UserError(f"{where}: a name is a letter, then letters, digits, spaces, - and _; and not 'out'")
        if step.name in known:
            raise UserError(f"{where}: there are two steps of this name; rename one")
        for other in needed(recipe, step):
            if other not in known:
                raise UserError(f"{where}: needs {other}, which is no step before it")
        if step.start and step.resume:
            raise UserError(f"{where}: start and resume contradict each other; give one of them")
        if (step.start or step.resume) and step.share is None:
            raise UserError(f"{where}: start and resume are of trainings, which have a share")
        if step.share is not None and step.name not in recipe.configs:
            raise UserError(f"{where}: a training needs a config")
        _check_braces(recipe, step, known)
        known.add(step.name)


def _check_braces(recipe: Recipe, step: Step, known: set[str]) -> None:
    """Fill a step in as it will be when it runs."""
    made = {name: Made(Path(name), Path(name)) if name in recipe.configs else name for name in known}
    try:
        words(step, made if step.makes is None else made | {"out": "out"})
        filled(recipe.configs.get(step.name), made)
    except (ValueError, LookupError, AttributeError) as error:
        known_ones = "{out} in run where the step makes something, {name} and, of steps with a config, {name.config}"
        raise UserError(
            f"{recipe.where}: step {step.name}: cannot be filled in ({error}); there is {known_ones}"
        ) from None


def needed(recipe: Recipe, step: Step) -> set[str]:
    """The steps whose results a step reads."""
    texts = [step.run, *_strings(recipe.configs.get(step.name))]
    try:
        names = {name.partition(".")[0] for text in texts for _, name, _, _ in string.Formatter().parse(text) if name}
    except ValueError as error:
        raise UserError(f"{recipe.where}: step {step.name}: a brace that names no step ({error})") from None
    return (names | {name for name in (step.start, step.resume) if name}) - {"out"}


def _strings(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _strings(value)


class Made(str):
    """The path of what a step made; ``config``: of its configuration."""

    config: str

    def __new__(cls, path: Path, config: Path) -> Made:
        made = super().__new__(cls, path)
        made.config = str(config)
        return made


def filled(values: Any, made: Mapping[str, str]) -> Any:
    """Plain values whose texts name what steps made instead of the steps."""
    if isinstance(values, str):
        return values.format_map(made)
    if isinstance(values, dict):
        return {key: filled(value, made) for key, value in values.items()}
    return [filled(value, made) for value in values] if isinstance(values, list) else values


def words(step: Step, made: Mapping[str, str]) -> list[str]:
    """The words of a step's command line, from its module on."""
    return [filled(word, made) for word in shlex.split(step.run)]


def digest(recipe: Recipe, step: Step, minutes: float | None, before: dict[str, str]) -> str:
    """What a step's result depends on: the step, its minutes, and what it reads, whose digests are ``before``."""
    told = [step.run, step.makes, step.start, step.resume, minutes, recipe.configs.get(step.name)]
    read = {name: before[name] for name in sorted(needed(recipe, step))}
    return hashlib.sha256(json.dumps([told, read], sort_keys=True, default=str).encode()).hexdigest()[:16]
