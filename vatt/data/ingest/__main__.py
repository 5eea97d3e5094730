"""Starts the command that `vatt.data.ingest` describes."""

import sys

from vatt.data.ingest.command import main

if __name__ == "__main__":
    sys.exit(main())
