"""The base of every configuration class: typed, closed to unknown keys, checked when assigned.

    cfg = experiment.Pretrain()
    cfg.train.max_checkpoints = 3         # checked
    cfg.train.max_checkpoints = "three"   # pydantic.ValidationError
    cfg.as_dict()                         # plain dicts, lists and numbers, published key names

Class names, field names and defaults are those of the published configuration, so that its YAML
overrides work; what differs stands in `DOCUMENTED_DIFFERENCES`, what was added in `EXTRA_FIELDS`. A
test compares both with the published defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# Published fields with another default here: "module.Class.field" -> (published, ours, reason).
DOCUMENTED_DIFFERENCES: dict[str, tuple[Any, Any, str]] = {
    "experiment.RuntimeConfig.distribution_strategy": (
        "tpu",
        "auto",
        "a machine without a TPU is the common case: all GPUs mirrored, else one CPU device",
    ),
}

# Fields that the published configuration lacks, under the class that introduces them.
EXTRA_FIELDS: dict[str, tuple[str, ...]] = {
    "video.ViTBase": ("patch_init_std",),
    "audio.WaTBase": ("patch_init_std",),
    "text.ModelConfig": ("word_embeddings",),
    "unified.UniTBase": ("word_embeddings", "vid_patch_init_std", "aud_patch_init_std"),
    "multimodal.UnifiedBackboneConfig": ("unified_model_kwargs",),
    "dataset.Dataset": (
        "fps",
        "sample_rate",
        "vocabulary",
        "use_bos",
        "use_eos",
        "shuffle_buffer",
        "num_parallel_calls",
        "published_resampling",
        "scaled_decoding",
        "max_bad_fraction",
        "data_service",
    ),
    "dataset.Pretrain": ("mixing_weights", "caption_selection"),
    "loss.BaseLossConfig": ("mask_normalization",),
    "experiment.LearningRate": ("type",),
    "experiment.TrainConfig": (
        "max_bad_steps",
        "log_every_steps",
        "watchdog_s",
        "layer_decay",
        "ema_decay",
    ),
    "experiment.EvalConfig": ("poll_interval_s", "timeout_s", "report", "probes", "zero_shot"),
    "experiment.RuntimeConfig": ("num_devices",),
    "experiment.ExperimentConfig": (
        "model_arch",
        "seed",
        "precision",
        "jit_compile",
        "data_dir",
    ),
}


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
    def variants(cls) -> Mapping[str, type[Config]]:
        """Returns the classes of this family by the value of `variant_key`."""
        return {}

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

Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]  # of dropout: 1 would drop everything
Share = Annotated[float, Field(gt=0, le=1)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]


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


Activation = choice("relu", "gelu", "swish", "geglu")
