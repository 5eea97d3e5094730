"""Fixtures of the report tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def synthetic():
    """The module synthetic.py beside this file, whatever pytest's import mode."""
    path = Path(__file__).with_name("synthetic.py")
    spec = importlib.util.spec_from_file_location("reporting_synthetic", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module
