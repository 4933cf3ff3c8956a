"""The command line: thin shells over the library, one file a help group."""

import sys

from s2cd.cli.app import app


def main() -> None:
    """Run the command line; the console script ``s2cd``."""
    try:
        app(prog_name="s2cd")
    except KeyboardInterrupt:
        sys.exit(130)
