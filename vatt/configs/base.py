"""The base of every configuration class: typed, closed to unknown keys, checked when assigned.

    cfg = experiment.Pretrain()
    cfg.train.max_checkpoints = 3         # checked
    cfg.train.max_checkpoints = "three"   # pydantic.ValidationError
    cfg.as_dict()                         # plain dicts, lists and numbers, published key names

Where a published configuration has a class, names, fields and defaults are those of it, so that its
YAML overrides work; tests/golden lists what differs and what was added, and compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Config(BaseModel):
    """A set of named values; values that are configurations themselves make the tree."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        validate_assignment=True,
        validate_by_name=True,
        validate_by_alias=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    # The field that says which class of a family this is: `name` of an optimizer, for instance.
    variant_key: ClassVar[str | None] = None
    # For a class with one tuple of configurations: the family its members belong to.
    stack_of: ClassVar[type[Config] | None] = None

    @classmethod
    def variants(cls) -> dict[str, type[Config]]:
        """Returns the classes of this family by the value of `variant_key`, alphabetically.

        Members are all subclasses whose field `variant_key` is a `choice` of one value, wherever
        they are defined: defining one registers it.
        """
        families = (c for c in reversed(cls.__mro__) if getattr(c, "variant_key", None))
        family, found = next(families, None), {}
        waiting = [] if family is None else [family]
        while waiting:
            member = waiting.pop()
            waiting += member.__subclasses__()
            field = member.model_fields.get(family.variant_key)
            if field is not None and get_origin(field.annotation) is Literal:
                found[field.default] = member
        return dict(sorted(found.items()))

    @classmethod
    def keys(cls) -> dict[str, str]:
        """Returns {key in YAML: attribute}; they differ only where pydantic reserves a name."""
        return {field.alias or name: name for name, field in cls.model_fields.items()}

    def as_dict(self) -> dict[str, Any]:
        """Returns the tree as plain dicts, lists and values, under the published key names."""
        return {key: _plain(getattr(self, name)) for key, name in type(self).keys().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.as_dict()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


# Kinds of values -------------------------------------------------------------------------------

# What is beyond these bounds ends in another way than by a message: in numbers that float32 or the
# system does not have, or in memory or time that nobody has.
LEAST, GREATEST = 1e-30, 1e30

Count = Annotated[int, Field(ge=1, le=10**6)]  # of what is held at once: clips, pixels, units
Layers = Annotated[int, Field(ge=1, le=1000)]
Steps = Annotated[int, Field(ge=1, le=10**9)]
WholeNumber = Annotated[int, Field(ge=0, le=10**9)]
Positive = Annotated[float, Field(ge=LEAST, le=GREATEST)]
NonNegative = Annotated[float, Field(ge=0, le=GREATEST)]
Number = Annotated[float, Field(ge=-GREATEST, le=GREATEST)]
Seconds = Annotated[float, Field(ge=0, le=10**9)]
Rate = Annotated[float, Field(ge=0, lt=1)]  # of dropout: 1 would drop everything
Share = Annotated[float, Field(ge=LEAST, le=1)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]
Multiplier = Annotated[float, Field(ge=0.01, le=100)]  # of widths


def choice(*values: str) -> Any:
    """Returns the type "one of `values`"; any case is accepted, this spelling is kept."""
    by_lower = {value.lower(): value for value in values}

    def canonical(value: Any) -> Any:
        return by_lower.get(value.lower(), value) if isinstance(value, str) else value

    return Annotated[Literal[values], BeforeValidator(canonical)]


def sequence(item: Any) -> Any:
    """Returns the type "tuple of `item`"; lists are accepted, as YAML has no tuples."""

    def as_tuple(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    return Annotated[tuple[item, ...], BeforeValidator(as_tuple)]


def names() -> Any:
    """Returns the type "tuple of names"; a single name is accepted as a tuple of one."""

    def as_tuple(value: Any) -> Any:
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value

    name = Annotated[str, Field(min_length=1)]
    return Annotated[tuple[name, ...], BeforeValidator(as_tuple), Field(min_length=1)]


Activation = choice("relu", "gelu", "gelu_tanh", "swish", "geglu")
