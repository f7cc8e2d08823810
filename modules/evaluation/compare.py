"""Compare two evaluations, ``A/metrics.json`` and ``B/metrics.json``: is B better than A, or was it luck?

Both were measured on the same people and pairs, so every difference is taken within a person or a pair.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..arguments import Parser
from ..errors import UserError, run_script
from .bootstrap import difference
from .output import table


def read(path: str) -> dict[str, Any]:
    """The figures of --mode evaluate.  Raises UserError, one line, for a file that is missing or something else."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a metrics.json of --mode evaluate or compare-real") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read as JSON; give a metrics.json of --mode evaluate or compare-real"
        ) from error
    if not isinstance(found, dict) or not {"measured", "each"} <= found.keys():
        raise UserError(
            f"{path}: holds no figures per person and pair; write it with run.py --mode evaluate or compare-real"
        )
    return found


def lines(first: dict[str, Any], second: dict[str, Any]) -> Iterator[list[str]]:
    """Rows of title, row, figure, both means, the second's less the first's, and its interval with a mark if not 0."""
    for title, rows in first["each"].items():
        for row, figures in rows.items():
            others = second["each"].get(title, {}).get(row, {})
            for name in (name for name in figures if name in others):
                a, b = figures[name], others[name]
                if not all(isinstance(values, list) and values for values in (a, b)) or len(a) != len(b):
                    raise UserError(f"{title}: {row}: {name}: not the same people or pairs; evaluate both models again")
                change, (low, high) = difference(b, a)
                mark = " *" if low > 0 or high < 0 else "  "
                means = (f"{sum(values) / len(values):.4f}" for values in (a, b))
                yield [f"{title}: {row}: {name}", *means, f"{change:+.4f}", f"[{low:+.4f}, {high:+.4f}]{mark}"]


def compare(path_a: str, path_b: str) -> str:
    """The table of :func:`lines`.  Raises UserError if the files were not measured alike."""
    first, second = read(path_a), read(path_b)
    for name in sorted(first["measured"].keys() | second["measured"].keys()):
        a, b = (figures["measured"].get(name) for figures in (first, second))
        if a != b:
            raise UserError(f"{path_b}: measured with {name} {b}, {path_a} with {a}; evaluate both with the same")
    rows = list(lines(first, second))
    if not rows:
        raise UserError(f"{path_b}: has no table in common with {path_a}; give evaluations of like models")
    return table(["", "A", "B", "B - A", "95 % of it  "], rows)


def main() -> None:
    parser = Parser("Differences of two evaluations, and how sure they are")
    parser.add_argument("first", metavar="A/metrics.json", help="figures to compare with")
    parser.add_argument("second", metavar="B/metrics.json", help="figures to compare; differences are B minus A")
    args = parser.parse_args()
    print(compare(args.first, args.second))
    print("\n*: the interval excludes no difference.  Higher is better but for ID, SIM, AU, LMS, pose, identity,")
    print("landmarks, rank, leak, BACKGROUND, MKR and expression L1; ranges and jitter are best at 1.")
    print("z_id should know little of units and pose, z_sem little of people and identity parameters.")


if __name__ == "__main__":
    run_script(main)
