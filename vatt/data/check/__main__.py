"""Starts the command that `vatt.data.check` describes."""

import sys

from vatt.data.check.command import main

if __name__ == "__main__":
    sys.exit(main())
