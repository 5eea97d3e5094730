"""YAML in and out: safe tags only, numbers like 1e-4, duplicate keys refused, dotted overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vatt.configs.problems import ConfigError, Problem


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number (not so in YAML 1.1) and refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that keeps lists of plain values on one line and indents the others."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        plain = not any(isinstance(item, (dict, list)) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=plain)


_FLOAT = re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def parse(text: str, source: str) -> Any:
    """Returns the value of one YAML document; errors name `source`, line and column."""
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        accepted = f"not readable as plain YAML ({reason})"
        raise ConfigError([Problem(source, _excerpt(text), accepted)]) from None


def load(path: Path) -> dict[str, Any]:
    """Returns the mapping in a YAML file; an empty file is an empty mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            [Problem("config_file", str(path), f"cannot be read ({error})")]
        ) from None
    content = parse(text, f"config_file {path}")
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        accepted = "expected a mapping at the top of the file"
        raise ConfigError([Problem(f"config_file {path}", _excerpt(text), accepted)])
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


def nested(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    """Returns the mapping with dotted keys opened: {"a.b": 1} becomes {"a": {"b": 1}}."""
    result: dict[Any, Any] = {}
    for key, value in mapping.items():
        value = nested(value) if isinstance(value, Mapping) else value
        head, *rest = key.split(".") if isinstance(key, str) and key.strip(".") else [key]
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


def _excerpt(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
