"""Methods of pretraining: the contract, and the look-up. A method is one folder here, or elsewhere.

    method = methods.of(cfg)                    # of a resolved configuration of the task pretrain
    examples = method.examples(cfg)
    model = method.model(cfg.model, examples.shapes, cfg.precision)
    objective = method.objective(cfg.model)

What a method brings is a module with a constant `METHOD`; docs/adding-a-method.md walks through
one. The rest of the package knows methods by this module alone. Importing a method's module must be
cheap, because configurations are resolved with it: its functions import TensorFlow and Keras when
they are called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from vatt.configs import experiment
    from vatt.configs.model import PretrainModel
    from vatt.data.examples import Examples
    from vatt.modeling.pretraining import PretrainingModel
    from vatt.modeling.random import Randomness
    from vatt.objectives.replica import Replica
    from vatt.training.layouts import Recognise
    from vatt.typing import Tensor

# Modules of the methods that come with the package, in the order in which they are looked through.
MODULES: dict[str, str] = {
    "vatt": "vatt.methods.vatt",
    "gdt": "vatt.methods.gdt",
    "stica": "vatt.methods.stica",
    "av_mae": "vatt.methods.av_mae",
    "eao": "vatt.methods.eao",
}


class Objective(Protocol):
    """What is minimised.

    `names` are those of the scalars a call returns; `total_loss`, which is differentiated, is one
    of them. Names of losses end in `_loss`: curves and the report draw them together by what
    stands before the last "/".
    """

    names: tuple[str, ...]

    def __call__(
        self,
        outputs: Mapping[str, Any],
        batch: Mapping[str, Tensor],
        replica: Replica,
        rng: Randomness,
    ) -> Mapping[str, Tensor]:
        """Returns scalars by name, this replica's share: the mean over replicas counts.

        Args:
          outputs: what the model's `train_outputs` returned for this replica's rows.
          batch: this replica's rows of the batch.
          replica: the way to rows of other replicas.
          rng: what is random in this step, the same whatever the number of replicas.
        """


@dataclass(frozen=True)
class Method:
    """All that the rest of the package sees of a method.

    Attributes:
      name: in checkpoints and reports.
      presets: whole experiment by `model_arch`, in lower case.
      examples: what a training example is, for a configuration.
      model: builds the (built) model from its configuration, shapes of an example by name, and
        precision.
      objective: what is minimised, for a configuration of the model.
      evaluators: names of `vatt.evaluators` that run unless the configuration says otherwise.
      initialise: gives a model that starts from nothing what is not drawn at random, such as word
        vectors.
      layouts: functions that recognise checkpoints which others, or earlier versions, wrote.
    """

    name: str
    presets: Mapping[str, Callable[[], experiment.Pretrain]]
    examples: Callable[[experiment.Pretrain], Examples]
    model: Callable[[PretrainModel, Mapping[str, tuple[int | None, ...]], str], PretrainingModel]
    objective: Callable[[PretrainModel], Objective]
    evaluators: tuple[str, ...] = ("retrieval", "linear", "knn", "zero_shot")
    initialise: Callable[[PretrainingModel, PretrainModel], None] = lambda model, config: None
    layouts: Callable[[], tuple[Recognise, ...]] = tuple


def of(cfg: experiment.Pretrain) -> Method:
    """Returns the method that a configuration belongs to, by its class."""
    return named(type(cfg).method)


def named(name: str) -> Method:
    """Returns a method by name.

    Raises:
      KeyError: no method of that name is registered.
    """
    return importlib.import_module(MODULES[name]).METHOD


def known() -> Iterator[Method]:
    """Yields every method, imported one after another."""
    return map(named, list(MODULES))


def with_architecture(model_arch: str) -> Method | None:
    """Returns the method with that preset, None where there is none."""
    wanted = model_arch.lower()
    return next((method for method in known() if wanted in method.presets), None)


def add(module: str) -> None:
    """Imports a module; its constant `METHOD`, where it has one, becomes a method.

    Raises:
      ValueError: another method has that name, or one of its presets.
    """
    method = getattr(importlib.import_module(module), "METHOD", None)
    if method is None:
        return
    if MODULES.get(method.name, module) != module:
        raise ValueError(
            f"method {method.name!r} of {module}: that name is taken by {MODULES[method.name]}"
        )
    for preset in method.presets:
        other = with_architecture(preset)
        if other is not None and other.name != method.name:
            raise ValueError(f"model_arch {preset!r} of {module}: taken by method {other.name!r}")
    MODULES[method.name] = module
