"""YAML in and out: safe tags only, numbers like 1e-4, duplicate keys refused, dotted overrides.

A short text can stand for endless work, by aliases, nesting or digits: there are bounds on all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vatt.configs.problems import ConfigError, Problem
from vatt.errors import short
from vatt.files import read_text

MAX_BYTES = 2**22  # of a file
MAX_DEPTH = 50  # mappings and lists in one another, also those of dotted keys
MAX_VALUES = 500_000  # in a document, those behind an alias each time
MAX_DIGITS = 100  # of a number


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number (not so in YAML 1.1) and refuses repeated keys."""

    _depth = 0

    def fetch_flow_collection_start(self, token_class: type[yaml.Token]) -> None:
        # Before a bracket is composed, PyYAML reads on for what may follow it as a key, in a time
        # that grows with the square of the brackets.
        if self.flow_level >= MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        super().fetch_flow_collection_start(token_class)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return super().construct_yaml_int(_short(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return super().construct_yaml_float(_short(node))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # what it brings gives way to other keys
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _short(node: yaml.ScalarNode) -> yaml.ScalarNode:
    if len(node.value) > MAX_DIGITS:
        raise ValueError(f"a number of {len(node.value)} characters")
    return node


class _Dumper(yaml.SafeDumper):
    """SafeDumper that keeps lists of plain values on one line and indents the others."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        plain = not any(isinstance(item, (dict, list)) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=plain)


_FLOAT = re.compile(r"^[-+]?(\d[\d_]*(\.\d*)?|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_TOO_DEEP = f"more than {MAX_DEPTH} values in one another"


def document(text: str) -> Any:
    """Returns the value of one YAML document.

    Raises:
      ValueError: the reason why there is none, in one line.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    except Exception as error:  # PyYAML raises all kinds for tags such as `!!int x`
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not readable as plain YAML ({reason})") from None


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Returns how many values a node stands for, and how many of them are in one another."""
    if id(node) not in known:
        known[id(node)] = None  # until its parts are
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        pairs = isinstance(node, yaml.MappingNode)
        found = [_measure(n, known) for part in parts for n in (part if pairs else [part])]
        count, depth = 1 + sum(n for n, _ in found), 1 + max((d for _, d in found), default=0)
        if count > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values, counting those behind aliases")
        if depth > MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        known[id(node)] = count, depth
    measured = known[id(node)]
    if measured is None:
        raise ValueError("a value that holds itself")
    return measured


def parse(text: str, source: str) -> Any:
    """Returns the value of one YAML document; errors name `source`, line and column."""
    try:
        return document(text)
    except ValueError as error:
        raise ConfigError([Problem(source, short(text, 60), str(error))]) from None


def load(path: Path) -> dict[str, Any]:
    """Returns the mapping in a YAML file; an empty file is an empty mapping."""
    try:
        text = read_text(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(
            [Problem("config_file", str(path), f"cannot be read ({error})")]
        ) from None
    content = parse(text, f"config_file {path}")
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        accepted = "expected a mapping at the top of the file"
        raise ConfigError([Problem(f"config_file {path}", short(text, 60), accepted)])
    return nested(content)


def dump(tree: Mapping[str, Any]) -> str:
    """Returns a mapping as YAML, keys in their order, short lists on one line."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=100)


_ASSIGNMENT = re.compile(r"\s*[A-Za-z_][\w.]*\s*=")


def parse_override(text: str) -> dict[str, Any]:
    """Returns the nested mapping of `a.b=c,d.e=[1,2]` or of YAML such as `{a: {b: c}}`."""
    if not text.strip():
        return {}
    if _ASSIGNMENT.match(text):
        return nested(dict(_assignments(text)))
    content = parse(text, "params_override")
    if not isinstance(content, Mapping):
        accepted = "expected 'a.b=c,d.e=[1,2]' or a YAML mapping '{a: {b: c}}'"
        raise ConfigError([Problem("params_override", text, accepted)])
    return nested(content)


def _assignments(text: str) -> list[tuple[str, Any]]:
    pairs, given = [], set()
    for piece in _split(text):
        key, sign, value = piece.partition("=")
        if not sign or not _ASSIGNMENT.match(piece):
            accepted = "expected key=value pairs separated by commas"
            raise ConfigError([Problem("params_override", piece.strip(), accepted)])
        key = key.strip()
        if key in given:
            raise ConfigError([Problem(f"params_override {key}", value, "this key is given twice")])
        given.add(key)
        pairs.append((key, parse(value, f"params_override {key}")))
    return pairs


def _split(text: str) -> list[str]:
    """Splits at commas that stand outside brackets and quotes."""
    pieces, depth, quote, start = [], 0, "", 0
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "[{(":
            depth += 1
        elif char in "]})":
            depth -= 1
        elif char == "," and depth == 0:
            pieces.append(text[start:i])
            start = i + 1
    return [*pieces, text[start:]]


def nested(mapping: Mapping[Any, Any], depth: int = 1) -> dict[Any, Any]:
    """Returns the mapping with dotted keys opened: {"a.b": 1} becomes {"a": {"b": 1}}.

    Args:
      mapping: what was read.
      depth: of it, in what it was read from.
    """
    result: dict[Any, Any] = {}
    for key, value in mapping.items():
        head, *rest = key.split(".") if isinstance(key, str) and key.strip(".") else [key]
        below = depth + len(rest)
        if below >= MAX_DEPTH:
            raise ConfigError([Problem(short(key), value, _TOO_DEEP)])
        value = nested(value, below + 1) if isinstance(value, Mapping) else value
        for part in reversed(rest):
            value = {part: value}
        result[head] = overlay(result[head], value) if head in result else value
    return result


def overlay(below: Any, above: Any) -> Any:
    """Returns `above` over `below`: mappings are joined key by key, the rest is replaced."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    result = dict(below)
    for key, value in above.items():
        result[key] = overlay(result[key], value) if key in result else value
    return result
