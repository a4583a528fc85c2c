#!/usr/bin/env python
"""Kaanha's commands. `python manage.py help` lists them."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kaanha.settings")
    from kaanha.lib.commands import from_shell

    from_shell(sys.argv)


if __name__ == "__main__":
    main()
