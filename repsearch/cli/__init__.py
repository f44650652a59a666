"""The command line, `python -m repsearch`: commands for people, and those that the rules call.

Each parses its arguments, takes the lock of its output and calls the stage.
"""

import logging
import sys

from repsearch.cli import people, rules  # noqa: F401  (they register their commands)
from repsearch.cli.common import app
from repsearch.errors import UserError

log = logging.getLogger(__name__)


def main() -> None:
    try:
        app(standalone_mode=True)
    except UserError as error:
        log.error("error: %s", error)
        sys.exit(1)
    except Exception:  # no mistake of the user's: the log file gets its traceback too
        log.exception("error: this should not happen; please report the lines below")
        sys.exit(1)
