"""The backbones by registry name; what every configuration of one has and can check.

    @register("vit_base")
    class ViTBase(VideoBackbone): ...

    backbones.build("vit_base", {"dropout_rate": 0.0}, "video_backbone", "video_model_kwargs")

Registering is this one decorator. The class says the rest: which modalities the backbone takes,
which function builds its layer, what must fit its clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from vatt.configs import base
from vatt.configs.merge import merge
from vatt.configs.problems import ConfigError, Problem, Problems
from vatt.errors import nearest

if TYPE_CHECKING:
    from vatt.configs import dataset


class Backbone(base.Config):
    """A backbone. `name` is a label: the class decides what is built.

    Class attributes:
      modalities: what it takes; one taking several is called with a mapping by modality.
      layer: "module:function" from (config, name, dtype) to its layer. A string, because nothing
        here imports Keras.
      fine_tuned: whether a classifier can be put on it (`--task=finetune --model_arch=...`).
      clip_defaults: what a preset with it says of `train.input` and `eval.input`, where it does not
        say something else.
    """

    modalities: ClassVar[tuple[str, ...]] = ()
    layer: ClassVar[str] = ""
    fine_tuned: ClassVar[bool] = False
    clip_defaults: ClassVar[Mapping[str, Any]] = {}

    name: str = ""

    def problems(self, path: str) -> Problems:
        """Yields what does not fit together within the backbone that stands at `path`."""
        default = type(self)().name
        if self.name != default:
            accepted = f"expected '{default}': the architecture chooses the backbone, not its label"
            yield Problem(f"{path} name", self.name, accepted)

    def clip_problems(self, path: str, data: dataset.Dataset, owner: str) -> Problems:
        """Yields what of the clips of `data`, which stands at `path`, does not fit.

        `owner` is how messages call the backbone.
        """
        yield from ()


class FineTuned(Backbone):
    """A backbone that a classifier can be put on; `cls_...` are options of that.

    On its way to the dense layer the pooled feature is brought to length 1 (`cls_l2_norm`), dropped
    by `cls_dropout_rate`, normalised over the batch (`cls_batch_norm`), and brought to a tanh layer
    of `cls_representation` units, in that order.
    `cls_initializer`: of the dense layer's kernel; "glorot" as VATT published it. `cls_prior_bias`:
    with any number of labels per clip, first probabilities are those of one label, not one half.
    `cls_average_probabilities`: of the windows of a clip in evaluation; else their logits are.
    """

    fine_tuned: ClassVar[bool] = True

    freeze_backbone: bool = False
    final_endpoint: str | None = None
    num_classes: base.Count | None = None
    num_test_samples: base.Count | None = None
    cls_dropout_rate: base.Rate = 0.0
    cls_l2_norm: bool = False
    cls_batch_norm: bool = False
    cls_representation: base.Count | None = None
    cls_initializer: base.choice("glorot", "orthogonal", "zeros") = "glorot"
    cls_prior_bias: bool = True
    cls_average_probabilities: bool = False


BackboneType = TypeVar("BackboneType", bound=type[Backbone])

BACKBONES: dict[str, type[Backbone]] = {}  # by name in lower case, in the order of registration


def register(name: str) -> Callable[[BackboneType], BackboneType]:
    """Returns a decorator that makes a class the backbone `name`.

    Raises:
      ValueError: another class has that name.
    """

    def add(cls: BackboneType) -> BackboneType:
        key = name.lower()
        known = BACKBONES.get(key, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"backbone {key!r} is registered already: {known}")
        BACKBONES[key] = cls  # the same class again where its module was loaded again
        return cls

    return add


def of_modality(*modalities: str) -> dict[str, type[Backbone]]:
    """Returns {name: class} of the backbones that take exactly `modalities`."""
    return {name: cls for name, cls in BACKBONES.items() if cls.modalities == modalities}


def fine_tuned() -> dict[str, type[Backbone]]:
    """Returns {name: class} of the backbones that a classifier can be put on."""
    return {name: cls for name, cls in BACKBONES.items() if cls.fine_tuned}


def lookup(
    table: Mapping[str, Callable[[], Any]], name: str, path: str, extra: str = ""
) -> Callable[[], Any]:
    """Returns the entry called `name`; a ConfigError at `path` names choices and the nearest."""
    found = table.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        choices = list(table)
        accepted = f"expected one of {', '.join(choices)}{extra}"
        raise ConfigError([Problem(path, name, accepted, nearest(name, choices))])
    return found


def build(
    name: str,
    kwargs: Mapping[str, Any],
    name_path: str = "backbone",
    kwargs_path: str = "",
    modalities: tuple[str, ...] | None = None,
) -> Backbone:
    """Returns the configuration of the backbone `name` with `kwargs` applied.

    Args:
      name: in any case.
      kwargs: fields to change.
      name_path: where the name stands, for messages.
      kwargs_path: where the fields stand.
      modalities: accept only backbones that take exactly these; None accepts all.

    Raises:
      ConfigError: listing an unknown name or every refused field, at the given paths.
    """
    table = BACKBONES if modalities is None else of_modality(*modalities)
    problems: list[Problem] = []
    config = merge(lookup(table, name, name_path)(), kwargs, problems, kwargs_path)
    if problems:
        raise ConfigError(problems)
    return config
