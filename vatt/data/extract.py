"""`python -m vatt.data.extract` is `vatt extract`: a set of extracted features of a set or media.

Models are loaded for it, so that the command itself is `vatt.tools.extract`, which data knows by
name alone.
"""

from __future__ import annotations

import importlib
import sys

COMMAND = "vatt.tools.extract"

if __name__ == "__main__":
    sys.exit(importlib.import_module(COMMAND).main())
