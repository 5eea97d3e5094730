"""Starts the command that `vatt.data.toy` describes."""

import sys

from vatt.data.toy.command import main

if __name__ == "__main__":
    sys.exit(main())
