"""Starting the simulator from a terminal."""

from __future__ import annotations

import argparse
import asyncio
import sys

from kaanha.simulator.options import add_arguments, options_from
from kaanha.simulator.server import CannotStart, serve


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop; answers the exit code: 0, or 2 after one sentence on stderr."""
    try:
        asyncio.run(serve(options_from(arguments)))
    except (CannotStart, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


def main() -> int:
    """`python -m kaanha.simulator`: no settings, no database."""
    parser = argparse.ArgumentParser(
        prog="python -m kaanha.simulator", description="Simulate Meta's WhatsApp Cloud API."
    )
    add_arguments(parser)
    return run(parser.parse_args())
