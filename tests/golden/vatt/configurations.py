"""Golden files of the configuration: defaults of every class, names of every preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.golden.checks import Check, Checks, Note
from tests.golden.vatt import differences


def config_defaults_file(published_defaults: Mapping[str, Any]) -> Checks:
    """`config_defaults.json`: every published field exists with its published default."""
    for name, entry in published_defaults.items():
        cls = differences.class_of(name)
        if cls is None:
            yield Check(f"{name} missing", np.inf, 0.0)
        else:
            yield from _field_checks(name, cls().as_dict(), entry["fields"])


def _field_checks(path: str, ours: Any, theirs: Any) -> Checks:
    """Compares a published value with ours, down to the leaves; added ones are ignored."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            if key == "__class__":
                continue
            if key not in ours:
                yield Check(f"{path}.{key} missing", np.inf, 0.0)
            else:
                yield from _field_checks(f"{path}.{key}", ours[key], value)
    elif isinstance(theirs, list) and isinstance(ours, list | tuple) and len(theirs) == len(ours):
        for index, (mine, value) in enumerate(zip(ours, theirs, strict=True)):
            yield from _field_checks(f"{path}[{index}]", mine, value)
    elif _same(ours, theirs):
        yield Check(path, 0.0, 0.0)
    else:
        yield from _difference(path, ours, theirs)


def _same(ours: Any, theirs: Any) -> bool:
    return ours == theirs and isinstance(ours, bool) == isinstance(theirs, bool)


def _difference(path: str, ours: Any, theirs: Any) -> Checks:
    field = path.rpartition(".")[2]
    for (_, documented), (old, new, reason) in differences.DOCUMENTED_DIFFERENCES.items():
        if field == documented and (old, new) == (theirs, ours):
            yield Note(f"{path}: {theirs!r} published, {ours!r} here: {reason}")
            return
    yield Check(f"{path}: {ours!r} instead of {theirs!r}", np.inf, 0.0)


def config_registry_file(published_tables: Mapping[str, Mapping[str, str]]) -> Checks:
    """`config_registry.json`: every published name selects the class it selected."""
    tables = differences.registry_tables()
    for table, entries in published_tables.items():
        ours = tables.get(table, {})
        for name, class_name in entries.items():
            found = ours.get(name)
            yield Check(f"{table}.{name} {found}", 0.0 if found == class_name else np.inf, 0.0)
