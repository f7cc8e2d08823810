"""The one exception a user is meant to see: what is wrong, where, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input, named in one line.  Scripts print it and exit with status 2; libraries may catch it."""


def run_script(main: Callable[[], None]) -> None:
    """Run a script's ``main``; turn a :class:`UserError` into one line on stderr and exit status 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
