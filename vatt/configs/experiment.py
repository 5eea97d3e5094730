"""A whole run: data, model, optimizer, schedule, loop, evaluation, where it runs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, SerializeAsAny

from vatt.configs import base, dataset, video
from vatt.configs.backbones import Backbone
from vatt.configs.base import (
    Count,
    NonNegative,
    Positive,
    Rate,
    Seconds,
    Share,
    Steps,
    WholeNumber,
)
from vatt.configs.model import PretrainModel

STRATEGIES = ("auto", "tpu", "mirrored", "multi_worker_mirrored", "one_device")
MODES = ("train", "eval", "train_and_eval")

# Schedules -------------------------------------------------------------------------------------


class LearningRate(base.Config):
    """A constant rate; `type` selects a schedule by its class name.

    `times_replicas`: `learning_rate_base` is for one replica and is multiplied by their number;
    where a warm-up begins, and where a decay ends, is not.
    """

    variant_key: ClassVar[str | None] = "type"

    type: base.choice("LearningRate") = "LearningRate"
    learning_rate_base: NonNegative = 1e-4
    total_steps: Steps = 500_000
    times_replicas: bool = False

    def for_replicas(self, count: int) -> LearningRate:
        """Returns the schedule of so many replicas."""
        return self.model_copy(update=self._times(count)) if self.times_replicas else self

    def _times(self, count: int) -> dict[str, Any]:
        """The fields that grow with the number of replicas."""
        return {"learning_rate_base": self.learning_rate_base * count}


class CosineDecayLearningRate(LearningRate):
    """Linear warm-up, then half a cosine down to zero."""

    type: base.choice("CosineDecayLearningRate") = "CosineDecayLearningRate"
    warmup_learning_rate: NonNegative = 0.0
    warmup_steps: WholeNumber = 5_000


class StepwiseCosineDecayLearningRate(LearningRate):
    """Linear warm-up, then half a cosine from each level to the next; `steps` are their starts."""

    type: base.choice("StepwiseCosineDecayLearningRate") = "StepwiseCosineDecayLearningRate"
    warmup_learning_rate: NonNegative = 0.0
    warmup_steps: WholeNumber = 5_000
    learning_rate_levels: base.sequence(NonNegative) = (1e-4, 5e-5)
    learning_rate_steps: base.sequence(WholeNumber) = (5_000, 500_000)

    def _times(self, count: int) -> dict[str, Any]:
        return {"learning_rate_levels": tuple(rate * count for rate in self.learning_rate_levels)}


class MultiStepLearningRate(LearningRate):
    """Warm-up by epochs, then times `gamma` from each of `milestones` on; one rate in an epoch.

    Epochs have `steps_per_epoch` steps and count from 0. During the first `warmup_epochs` of them
    the rate rises from `learning_rate_base` to `multiplier` times that, or from 0 where it would
    not rise otherwise. The number of replicas, with `times_replicas`, goes into the multiplier.
    """

    type: base.choice("MultiStepLearningRate") = "MultiStepLearningRate"
    steps_per_epoch: Steps = 1
    warmup_epochs: WholeNumber = 0
    multiplier: Positive = 1.0
    milestones: base.sequence(Steps) = ()
    gamma: Share = 0.1

    def _times(self, count: int) -> dict[str, Any]:
        return {"multiplier": self.multiplier * count}


class LinearWarmupLearningRate(LearningRate):
    """Linear warm-up, then constant; with a `final_learning_rate` half a cosine down to it.

    The last of `warmup_steps` has `learning_rate_base` already, and so has the step after it.
    """

    type: base.choice("LinearWarmupLearningRate") = "LinearWarmupLearningRate"
    warmup_learning_rate: NonNegative = 0.0
    warmup_steps: WholeNumber = 5_000
    final_learning_rate: NonNegative | None = None


# Optimizers ------------------------------------------------------------------------------------


class OptimizerConfig(base.Config):
    """An optimizer; `name` says which one."""

    variant_key: ClassVar[str | None] = "name"

    name: str = ""
    learning_rate: SerializeAsAny[LearningRate] = Field(default_factory=LearningRate)


class SGDOptimizer(OptimizerConfig):
    """Plain gradient descent (published: what an unknown optimizer name meant)."""

    name: base.choice("SGD") = "SGD"


class MomentumOptimizer(OptimizerConfig):
    name: base.choice("Momentum") = "Momentum"
    momentum: Rate = 0.9
    nesterov: bool = False


class MomentumWOptimizer(OptimizerConfig):
    """With decoupled weight decay, not multiplied by the learning rate."""

    name: base.choice("MomentumW") = "MomentumW"
    weight_decay: NonNegative = 5e-5
    momentum: Rate = 0.9
    nesterov: bool = False


class TorchSGDOptimizer(OptimizerConfig):
    """As PyTorch has it: decay is part of the gradient, the velocity knows no learning rate."""

    name: base.choice("TorchSGD") = "TorchSGD"
    momentum: Rate = 0.9
    weight_decay: NonNegative = 0.0


class AdamOptimizer(OptimizerConfig):
    name: base.choice("Adam") = "Adam"
    beta_1: Rate = 0.9
    beta_2: Rate = 0.999
    epsilon: Positive = 1e-7


class AdamWOptimizer(OptimizerConfig):
    """With decoupled weight decay, not multiplied by the learning rate."""

    name: base.choice("AdamW") = "AdamW"
    weight_decay: NonNegative = 5e-5
    beta_1: Rate = 0.9
    beta_2: Rate = 0.999
    epsilon: Positive = 1e-7


class FlaxAdamOptimizer(OptimizerConfig):
    """As Flax's former optimizer had it: `epsilon` is added to the root of the corrected moment.

    After each step kernels are multiplied by 1 - rate * `weight_decay`; biases, norms and learned
    vectors do not decay.
    """

    name: base.choice("FlaxAdam") = "FlaxAdam"
    weight_decay: NonNegative = 0.05
    beta_1: Rate = 0.9
    beta_2: Rate = 0.95
    epsilon: Positive = 1e-8


class MuonOptimizer(OptimizerConfig):
    """Kernels of dense layers are moved along all directions alike, the rest by Adam.

    `update_rms`: root mean square of a matrix's update at a learning rate of 1; that of Adam's is
    about 0.2, so that 0.2 takes its learning rates. `convolutions`: kernels of convolutions, also
    those of patch projections, are moved like those of dense layers. Not of the published code.
    """

    name: base.choice("Muon") = "Muon"
    momentum: Rate = 0.95
    update_rms: Positive = 0.2
    beta_1: Rate = 0.9
    beta_2: Rate = 0.999
    epsilon: Positive = 1e-7
    convolutions: bool = False


# Runs ------------------------------------------------------------------------------------------


class TrainConfig(base.Config):
    """The loop. Steps are optimizer updates.

    The last `max_checkpoints` are kept; beside them those whose step is a multiple of
    `keep_every_steps`, and the one that is the best so far by the figure `keep_best`, a name of
    metrics.json.

    `early_stop`: the training ends when so many evaluations, one after another, have brought no
    better `keep_best` than the best one; `eval.input.split` must be none to test on.

    `freeze_batch_norm`: batch norm normalises with the statistics that it begins with, those of a
    checkpoint, and keeps them, as in evaluation; everything else is trained.

    `max_bad_steps`: consecutive steps with a loss or gradient that is not finite that are skipped
    before the run is stopped. `log_every_steps`: None logs once per `iterations_per_loop`.
    `watchdog_s`: seconds without progress of the training, evaluations not counted, after which the
    run is ended with all stacks printed; 0 never does. A step must take less.
    `iterations_per_loop`: steps of one call, fewer where they take longer than 10 s; a request to
    stop is answered after a call. `gradient_clip_norm` 0 does not clip; in fine-tuning it is that
    of the backbone, and `gradient_clip_norm_cls` that of the classifier (None as 0).

    In fine-tuning, `backbone_rate`: the learning rate of the backbone as a share of that of the
    classifier, which is what the schedule says; `pooling_rate`: that of the layers that pool its
    last map over time (None as the rest of it); `layer_decay`: that of each transformer layer as a
    share of that of the layer above it; 1 gives all the same. `clip_together`: the gradients of
    backbone and classifier are clipped by their common norm, `gradient_clip_norm`.
    `rarity_weights`: where a clip may have several labels, clips with rare ones weigh more (VATT).

    `ema_decay`: of a moving average of the weights, which is then what is evaluated and what
    checkpoints hold as the model; 0 keeps none.

    `remat`: blocks of transformers are computed again for the backward pass instead of kept.

    In pretraining, `micro_batches`: the towers take a replica's rows in so many parts, one after
    another; losses compare all rows (`training.micro_batches`).
    """

    input: SerializeAsAny[dataset.Dataset] | None = None
    max_checkpoints: Steps = 50
    keep_every_steps: Steps | None = None
    keep_best: str | None = None
    early_stop: Steps | None = None
    freeze_batch_norm: bool = False
    iterations_per_loop: Steps = 50
    save_checkpoint_freq: Steps = 10_000
    optimizer: SerializeAsAny[OptimizerConfig] = Field(default_factory=OptimizerConfig)
    gradient_clip_norm: NonNegative = 0.0
    gradient_clip_norm_cls: NonNegative | None = None
    max_bad_steps: WholeNumber = 0
    log_every_steps: Steps | None = None
    watchdog_s: Seconds = 1800.0
    backbone_rate: Positive = 1.0
    pooling_rate: Positive | None = None
    layer_decay: Share = 1.0
    clip_together: bool = False
    rarity_weights: bool = True
    ema_decay: Rate = 0.0
    remat: bool = False
    micro_batches: Count = 1


class EvalConfig(base.Config):
    """Evaluation; looks every `poll_interval_s` for checkpoints, gives up after `timeout_s`.

    `wait_for_run`: also where no training has begun yet, which otherwise is taken for a mistake.
    `probes`: classifiers that are trained on the frozen features of a pretrained model, for every
    labelled set of `input.name`; None takes those of the method. `zero_shot`: also classify those
    sets by the names of the classes.
    `evaluators`: all that is run on a pretrained model, by name, instead of what the method says
    and those two; None leaves it to them.
    `best_on_test_of_last`: the figures of a fine-tuning are those of its last checkpoint, with more
    than 1 those of the best of so many last ones on the very split that is reported, which some
    published figures are: too good.
    """

    input: SerializeAsAny[dataset.Dataset] | None = None
    poll_interval_s: Annotated[float, Field(gt=0, le=10**9)] = 180.0
    timeout_s: Seconds = 7200.0
    wait_for_run: bool = False
    report: bool = True
    probes: base.sequence(base.choice("linear", "published_probe", "knn")) | None = None
    zero_shot: bool = True
    evaluators: base.names() | None = None
    best_on_test_of_last: Steps = 1


class RuntimeConfig(base.Config):
    """Where the run computes. `num_devices`: GPUs to use or logical CPUs to make, null for all."""

    distribution_strategy: base.choice(*STRATEGIES) = "auto"
    tpu: str | None = None
    num_devices: Annotated[int, Field(ge=1, le=1000)] | None = None


class ExperimentConfig(base.Config):
    """A run; `model` is the published key `model_config`, a name that pydantic keeps."""

    model_dir: str = ""
    mode: base.choice("", *MODES) = ""
    task: str = ""
    model_arch: str = ""
    checkpoint_path: str | None = None
    strategy_config: RuntimeConfig = Field(default_factory=RuntimeConfig)
    model: SerializeAsAny[base.Config] | None = Field(default=None, alias="model_config")
    train: TrainConfig | None = None
    eval: EvalConfig | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: base.choice("float32", "mixed_bfloat16") = "float32"
    jit_compile: bool = False
    data_dir: str | None = None


class Pretrain(ExperimentConfig):
    """A pretraining run; each method has a subclass with its defaults.

    `method` names the method (`vatt.methods`) that a subclass belongs to.
    """

    method: ClassVar[str] = ""

    task: base.choice("Pretrain") = "Pretrain"
    model: SerializeAsAny[PretrainModel] = Field(
        default_factory=PretrainModel, alias="model_config"
    )
    train: TrainConfig = Field(default_factory=lambda: TrainConfig(input=dataset.Pretrain()))
    eval: EvalConfig = Field(default_factory=lambda: EvalConfig(input=dataset.Evaluation()))


class Finetune(ExperimentConfig):
    task: base.choice("Finetune") = "Finetune"
    model: SerializeAsAny[Backbone] = Field(default_factory=video.ViTBase, alias="model_config")
    train: TrainConfig = Field(
        default_factory=lambda: TrainConfig(
            input=dataset.Finetune(),
            max_checkpoints=10,
            save_checkpoint_freq=5_000,
            optimizer=MomentumOptimizer(
                learning_rate=CosineDecayLearningRate(
                    learning_rate_base=5e-3, total_steps=100_000, warmup_steps=2_500
                )
            ),
            gradient_clip_norm=0.75,
            gradient_clip_norm_cls=0.0,
        )
    )
    eval: EvalConfig = Field(default_factory=lambda: EvalConfig(input=dataset.Finetune()))
