"""Command line options that scripts share.  Nothing heavy is imported here: ``--help`` answers at once."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .errors import UserError

PACKAGE = __name__.rpartition(".")[0]  # the package has one name in a checkout, another where it is installed


def started_module() -> str | None:
    """The name of the module that was started with ``python -m``, if one was: its file's name does not start it."""
    spec = sys.modules["__main__"].__spec__
    return None if spec is None else spec.name.removesuffix(".__main__")


def command_line(module: str) -> str:
    """How to run ``module`` of this package."""
    return f"python -m {PACKAGE}.{module}"


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of every option that has one and a help text."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        without = action.default is None or action.default is False  # not "in": 0 == False
        return action.help if without else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Shows defaults, and reports a wrong command line in one line, as any other mistake."""

    def __init__(self, description: str | None = None, prog: str | None = None):
        name = started_module()
        prog = prog or (name and f"python -m {name}")
        super().__init__(prog, description=description, formatter_class=HelpFormatter)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; --help lists the options\n")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As argparse's, but an option that is not known is told with the nearest that is."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            wrong = next((word for word in unknown if word.startswith("-")), "")
            near = difflib.get_close_matches(wrong.partition("=")[0], self._option_string_actions, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed


class TableParser(Parser):
    """Of options that stand in a file: what is wrong with them is a UserError."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def training_parser(description: str | None, example: str) -> Parser:
    """The options of a training run; ``example`` is a configuration for the help text."""
    parser = Parser(description)
    parser.add_argument("--config", required=True, help=f"YAML file, such as {example}")
    what = "checkpoint to continue, start from or use; for MEF also a folder of adapters or a base"
    parser.add_argument("--checkpoint", help=what)
    parser.add_argument("--resume", help="training: 'auto' continues this configuration's newest run, or begins one")
    parser.add_argument(
        "--finetune", action="store_true", help="training: begin a new run from the checkpoint's weights"
    )
    parser.add_argument("--log_dir", default="log", help="folder of the training runs")
    parser.add_argument("--device_ids", help="numbers of the devices, such as 0,1; training uses one process for each")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    return parser


def training_options(args: argparse.Namespace) -> dict[str, Any]:
    """What :func:`training_parser` parsed, by the names of :class:`.training.run.Run`."""
    names = ("checkpoint", "log_dir", "device_ids", "resume", "finetune", "cpu")
    return {"config_path": args.config} | {name: getattr(args, name) for name in names}


class Repeated(argparse.Action):
    """One value as it is; of an option that is given again, a tuple of all."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        before = listed(getattr(namespace, self.dest))
        setattr(namespace, self.dest, (*before, values) if before else values)


def listed(value: Any) -> tuple:
    """What a :class:`Repeated` option holds: nothing, one value, or a tuple of several."""
    return value if isinstance(value, tuple) else () if value is None else (value,)


def number(kind: type, low: float, high: float) -> Callable[[str], Any]:
    """A parser of numbers of ``kind`` from ``low`` to ``high``."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except (ValueError, ZeroDivisionError):  # a Fraction may have no denominator
            raise argparse.ArgumentTypeError(f"{text!r} is not a {_NAMES.get(kind, 'number')}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not from {low} to {high}")
        return value

    return parse


_NAMES = {int: "whole number"}
