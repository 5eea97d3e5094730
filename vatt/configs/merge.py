"""Changes a configuration by nested mappings, collecting every problem on the way.

    problems = []
    cfg = merge(experiment.Pretrain(), {"train": {"optimizer": {"name": "adamw"}}}, problems)

A discriminator (`name` of an optimizer, head or loss, `type` of a schedule) selects another class;
fields that both classes have keep their values. A stack (`bridge`) is given as a list, which
replaces it, or as a mapping {index: changes}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from vatt.configs.base import Config
from vatt.configs.problems import Problem
from vatt.errors import nearest


def merge(config: Config, changes: Any, problems: list[Problem], path: str = "") -> Config:
    """Returns a copy of `config` with `changes`; what is refused is left out, in `problems`."""
    if not isinstance(changes, Mapping):
        accepted = f"expected a mapping with some of the keys {', '.join(type(config).keys())}"
        problems.append(Problem(path or "(top level)", changes, accepted))
        return config
    switched = _switch(config, changes, problems, path)
    if switched is None:  # with an unknown class every further message would be a guess
        return config
    result, keys = switched.model_copy(), type(switched).keys()
    for key, value in changes.items():
        if key == switched.variant_key:
            continue
        here = join(path, key)
        name = keys.get(key) or (key if key in keys.values() else None)
        if name is None:
            problems.append(_unknown(here, key, value, switched))
            continue
        _assign(
            result,
            name,
            _merged(getattr(result, name), value, problems, here, switched),
            here,
            problems,
        )
    return result


_REFUSED = object()


def _merged(current: Any, value: Any, problems: list[Problem], path: str, owner: Config) -> Any:
    """Returns the new value of a field that holds `current`."""
    if isinstance(current, Config):
        return merge(current, value, problems, path)
    if owner.stack_of is not None and isinstance(current, tuple):
        return _merge_stack(current, value, problems, path, owner.stack_of)
    if isinstance(current, dict) and isinstance(value, Mapping):
        return {**current, **value}
    return value


def _merge_stack(
    current: tuple[Config, ...],
    value: Any,
    problems: list[Problem],
    path: str,
    family: type[Config],
) -> Any:
    if isinstance(value, Mapping):
        members = list(current)
        for index, changes in value.items():
            if str(index) not in map(str, range(len(members))):
                accepted = f"expected an index below {len(members)}, or a list to replace the stack"
                problems.append(Problem(join(path, index), changes, accepted))
            else:
                members[int(index)] = merge(
                    members[int(index)], changes, problems, join(path, index)
                )
        return tuple(members)
    if not isinstance(value, (list, tuple)):
        names = ", ".join(family.variants())
        problems.append(
            Problem(path, value, f"expected a list of mappings with a name out of {names}")
        )
        return _REFUSED
    members = []
    for i, changes in enumerate(value):
        if i < len(current):
            members.append(merge(current[i], changes, problems, join(path, i)))
        elif isinstance(changes, Mapping) and family.variant_key in changes:
            member = merge(family(), changes, problems, join(path, i))
            members += [member] if type(member) is not family else []
        else:
            accepted = f"expected a mapping with a name out of {', '.join(family.variants())}"
            problems.append(Problem(join(path, i), changes, accepted))
    return tuple(members)


def _switch(config: Config, changes: Mapping, problems: list[Problem], path: str) -> Config | None:
    """Returns `config` as the class that the discriminator in `changes` asks for, or None."""
    key = config.variant_key
    if key is None or key not in changes:
        return config
    wanted, variants = changes[key], config.variants()
    by_lower = {name.lower(): variant for name, variant in variants.items()}
    variant = by_lower.get(wanted.lower()) if isinstance(wanted, str) else None
    if variant is None:
        accepted = f"expected one of {', '.join(variants)}"
        problems.append(Problem(join(path, key), wanted, accepted, nearest(wanted, variants)))
        return None
    if type(config) is variant:
        return config
    shared = (set(variant.model_fields) & set(type(config).model_fields)) - {key}
    return variant(**{name: getattr(config, name) for name in shared})


def _assign(config: Config, name: str, value: Any, path: str, problems: list[Problem]) -> None:
    if value is _REFUSED:
        return
    try:
        setattr(config, name, value)
    except ValidationError as error:
        accepted = describe(type(config), name)
        first = error.errors()[0]
        # Branches of a union say less than the whole field; only the index in a list is kept.
        index = [step for step in first["loc"][1:] if isinstance(step, int)]
        inside = f" (item {index[0]} is {first['input']!r})" if index else ""
        hint = nearest(value, _choices(type(config), name)) if isinstance(value, str) else ""
        problems.append(Problem(path, value, f"expected {accepted}{inside}", hint))


def _unknown(path: str, key: Any, value: Any, config: Config) -> Problem:
    keys = list(type(config).keys())
    hint = nearest(key, keys) or f" Keys here: {', '.join(keys)}."
    return Problem(path, value, "no such key", hint)


def join(path: str, key: Any) -> str:
    """Returns the dotted path of `key` under `path`."""
    return f"{path}.{key}" if path else str(key)


def leaves(config: Config, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) of everything in the tree that is not itself a configuration."""
    for key, name in type(config).keys().items():
        value, here = getattr(config, name), join(path, key)
        if isinstance(value, Config):
            yield from leaves(value, here)
        elif isinstance(value, tuple) and value and isinstance(value[0], Config):
            for i, member in enumerate(value):
                yield from leaves(member, join(here, i))
        else:
            yield here, value


# What a field accepts, in words -----------------------------------------------------------------


def describe(cls: type[Config], name: str) -> str:
    """Returns what a field accepts, in words, from its type and limits."""
    return _words(_schema(cls, name))


def _schema(cls: type[Config], name: str) -> dict[str, Any]:
    field = cls.model_fields[name]
    annotation = field.annotation
    for constraint in field.metadata:
        annotation = Annotated[annotation, constraint]
    schema = TypeAdapter(annotation).json_schema()
    if field.description:
        schema["description"] = field.description
    return schema


def _choices(cls: type[Config], name: str) -> list[str]:
    schema = _schema(cls, name)
    options = [schema, *schema.get("anyOf", [])]
    return [
        str(value)
        for option in options
        for value in option.get("enum", [option.get("const")])
        if value
    ]


def _words(schema: Mapping[str, Any]) -> str:
    if "description" in schema and "$defs" not in schema:
        return schema["description"]
    if "anyOf" in schema:
        return " or ".join(_words(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return "one of " + ", ".join(repr(value) for value in values)
    kind = schema.get("type")
    limits = [
        f"{sign} {schema[key]}"
        for key, sign in (
            ("minimum", ">="),
            ("exclusiveMinimum", ">"),
            ("maximum", "<="),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    # Pydantic says minLength of a list, too, that a validator of ours looks at first.
    filled = " that is not empty" if 1 in (schema.get("minItems"), schema.get("minLength")) else ""
    if kind == "array":
        items = schema.get("items", {})
        return f"a list{filled}, each item {_words(items)}" if items else f"a list{filled}"
    text = {
        "integer": "a whole number",
        "number": "a number",
        "string": f"a text{filled}",
        "boolean": "true or false",
        "null": "null",
        "object": "a mapping",
    }.get(kind, "another value")
    return f"{text} {' and '.join(limits)}".strip()
