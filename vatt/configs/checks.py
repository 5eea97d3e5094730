"""What must fit together across fields: patches, clips, intervals, schedules, batch, devices.

Each check yields `Problem`s with a value that would do. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import operator

from vatt.configs import clip_checks, dataset, evaluators, experiment, transformers
from vatt.configs.backbones import Backbone
from vatt.configs.model import PretrainModel
from vatt.configs.problems import ConfigError, Problem, Problems, divides
from vatt.errors import nearest
from vatt.files import NOT_IN_STORES, in_a_store, store_parts

_OF_SPECTROGRAMS = ("audio_features", "audio_mean", "audio_std", "audio_masking", "audio_roll")
_OF_SPECTROGRAMS += ("band_masks", "time_masks")
_HEARD = ("audio_features", "audio_mean", "audio_std", "mel_bins", "stft_length", "stft_step")
_HEARD += tuple(f"spectrum.{name}" for name in dataset.Spectrum.model_fields)
_LONGEST_NAME = 255  # of the usual file systems
_MOST_VALUES = 2**36  # of a batch or a model: many times what is published


def problems(config: experiment.ExperimentConfig) -> list[Problem]:
    """Returns everything that does not fit together in a whole configuration."""
    return [
        *_paths(config),
        *_model(config),
        *_inputs(config),
        *_recomputed(config),
        *_loop(config.train),
        *_evaluators(config),
        *_finetuning(config),
        *_optimizer(config.train.optimizer),
        *_devices(config),
    ]


def check_batch(config: experiment.ExperimentConfig, num_replicas: int) -> None:
    """Refuses a global batch that cannot be split evenly over the replicas TensorFlow found.

    And of each replica over its micro-batches.

    Raises:
      ConfigError: with the nearest batch sizes that can.
    """
    parts = config.train.micro_batches
    what = "replicas" if parts == 1 else f"{num_replicas} replicas x {parts} train.micro_batches"
    size = config.train.input.batch_size
    found = list(divides("train.input.batch_size", size, num_replicas * parts, what))
    if found:
        raise ConfigError(found)


def _paths(config: experiment.ExperimentConfig) -> Problems:
    for name in ("model_dir", "data_dir", "checkpoint_path"):
        path = getattr(config, name) or ""
        try:
            fits = "\0" not in path and max(map(len, path.encode().split(b"/"))) <= _LONGEST_NAME
        except UnicodeEncodeError:  # on disk the name is in another encoding
            fits = False
        if not fits:
            accepted = f"expected a path in UTF-8, its names at most {_LONGEST_NAME} bytes long"
            yield Problem(name, path, accepted)
        elif in_a_store(path) and store_parts(path) is None:
            yield Problem(name, path, NOT_IN_STORES)


# Model and clips -------------------------------------------------------------------------------


def _model(config: experiment.ExperimentConfig) -> Problems:
    """The model fits together, and its backbones fit the clips of training and evaluation."""
    inputs = {"train.input": config.train.input, "eval.input": config.eval.input}
    pretrained = isinstance(config.model, PretrainModel)
    backbones = config.model.backbones() if pretrained else {"model_config": config.model}
    for path, backbone in backbones.items():
        if isinstance(backbone, ConfigError):
            yield from backbone.problems
            continue
        yield from backbone.problems(path)
        yield from _weights(path, backbone)
        for input_path, data in inputs.items():
            yield from backbone.clip_problems(input_path, data, path)
    if pretrained:
        yield from config.model.problems()
        yield from _weights("model_config", config.model)
        for input_path, data in inputs.items():
            yield from config.model.clip_problems(input_path, data)


def _weights(path: str, backbone: Backbone) -> Problems:
    if isinstance(backbone, transformers.Encoder):
        inner = 4 * backbone.num_heads * backbone.d_kv + 2 * backbone.d_ff
        weights = backbone.num_layers * backbone.d_model * inner
        if weights > _MOST_VALUES:
            accepted = (
                f"with {backbone.num_layers} layers, {backbone.num_heads} heads of d_kv "
                f"{backbone.d_kv} and d_ff {backbone.d_ff} that is {weights:.2g} weights; expected "
                f"at most {_MOST_VALUES:.2g}"
            )
            yield Problem(f"{path} d_model", backbone.d_model, accepted)


def _inputs(config: experiment.ExperimentConfig) -> Problems:
    for path, data in (("train.input", config.train.input), ("eval.input", config.eval.input)):
        for low, high in (
            ("min_area_ratio", "max_area_ratio"),
            ("min_aspect_ratio", "max_aspect_ratio"),
            ("min_stretch", "max_stretch"),
        ):
            if getattr(data, low) > getattr(data, high):
                accepted = f"expected at most {high}, which is {getattr(data, high):g}"
                yield Problem(f"{path}.{low}", getattr(data, low), accepted)
        yield from clip_checks.problems(path, data)
        if not data.raw_audio and data.stft_step > data.stft_length:
            accepted = f"expected at most stft_length, which is {data.stft_length:g}"
            yield Problem(f"{path}.stft_step", data.stft_step, accepted)
        if not data.raw_audio and data.stft_step * data.sample_rate < 1:
            accepted = f"shorter than a sample, at a sample_rate of {data.sample_rate}"
            yield Problem(f"{path}.stft_step", data.stft_step, accepted)
        yield from _can_be_held(path, data)
        for name in _OF_SPECTROGRAMS if data.raw_audio else ():
            field = type(data).model_fields.get(name)
            if field is not None and (value := getattr(data, name)) != field.default:
                accepted = f"expected {field.default}: waveforms (raw_audio: true) have no bands"
                yield Problem(f"{path}.{name}", value, accepted)
        yield from _everything_is_read(path, data)
    yield from _seen_alike(config.train.input, config.eval.input)
    yield from _heard_alike(config.train.input, config.eval.input)
    data, level = config.train.input, config.eval.input.audio_level
    if data.audio_level != level:
        accepted = f"expected that of train.input, {data.audio_level}: sounds are to be as loud"
        yield Problem("eval.input.audio_level", level, accepted)
    if isinstance(data, dataset.Pretrain) and data.mixing_weights is not None:
        sets = data.name.split("+")
        if len(sets) != len(data.mixing_weights):
            accepted = f"expected one weight for each of the {len(sets)} sets {', '.join(sets)}"
            yield Problem("train.input.mixing_weights", list(data.mixing_weights), accepted)


def _can_be_held(path: str, data: dataset.Dataset) -> Problems:
    """There is sound in a clip, and a batch of clips is no more than can be held somewhere."""
    samples, frames = data.num_audio_samples, data.num_frames
    if not samples:
        accepted = f"{frames} frames at this rate are shorter than a sample of sound"
        field = "fps" if data.audio_seconds is None else "audio_seconds"
        if field == "audio_seconds":
            accepted = f"shorter than a sample, at a sample_rate of {data.sample_rate}"
        yield Problem(f"{path}.{field}", getattr(data, field), accepted)
    values = {
        f"{frames} frames of {data.frame_size} x {data.frame_size} pixels": (
            3 * frames * data.frame_size**2
        ),
        f"{samples} samples of sound": samples,
        "the words of context": getattr(data, "max_num_words", 0)
        * getattr(data, "max_context_sentences", 0),
    }
    windows = getattr(data, "num_windows_test", 1) if path.startswith("eval") else 1
    clip = max(values, key=values.get)
    held = data.batch_size * windows * values[clip]
    if held > _MOST_VALUES:
        several = f" in each of {windows} windows" if windows > 1 else ""
        accepted = (
            f"{clip}{several} make a batch of {held:.2g} values; expected at most "
            f"{_MOST_VALUES:.2g}"
        )
        yield Problem(f"{path}.batch_size", data.batch_size, accepted)
    for field in ("min_resize", "max_resize"):
        resized = 3 * frames * (getattr(data, field) or 0) ** 2
        if resized > _MOST_VALUES:
            accepted = f"{frames} frames of that size have {resized:.2g} values; expected at most"
            yield Problem(f"{path}.{field}", getattr(data, field), f"{accepted} {_MOST_VALUES:.2g}")


def _seen_alike(train: dataset.Dataset, evaluation: dataset.Dataset) -> Problems:
    """Pixels are in evaluation in the range that they were trained in."""
    for name in ("pixel_mean", "pixel_std"):
        expected, found = getattr(train, name), getattr(evaluation, name)
        if expected != found:
            accepted = f"expected train.input.{name}, {expected}: the model learns to see so"
            yield Problem(f"eval.input.{name}", found, accepted)


def _heard_alike(train: dataset.Dataset, evaluation: dataset.Dataset) -> Problems:
    """A spectrogram is in evaluation what it was in training."""
    if train.raw_audio or evaluation.raw_audio:
        return
    for name in _HEARD:
        expected, found = map(operator.attrgetter(name), (train, evaluation))
        if expected != found:
            accepted = f"expected train.input.{name}, {expected}: the model learns to hear so"
            yield Problem(f"eval.input.{name}", found, accepted)


def _everything_is_read(path: str, data: dataset.Dataset) -> Problems:
    """`num_examples` is a published field that nothing reads: other values would be ignored."""
    field = type(data).model_fields.get("num_examples")
    if field is not None and data.num_examples != field.default:
        accepted = f"expected {field.default}, as published: every record of the split is used"
        yield Problem(f"{path}.num_examples", data.num_examples, accepted)


# Loop ------------------------------------------------------------------------------------------


def _recomputed(config: experiment.ExperimentConfig) -> Problems:
    """What is computed again is there."""
    found = [config.model]
    if not isinstance(config, experiment.Finetune):
        found += config.model.backbones().values()
    if config.train.remat and not any(hasattr(backbone, "num_layers") for backbone in found):
        accepted = "expected false: no backbone of the model is a transformer"
        yield Problem("train.remat", True, accepted)


def _loop(train: experiment.TrainConfig) -> Problems:
    loop = train.iterations_per_loop
    yield from divides(
        "train.save_checkpoint_freq", train.save_checkpoint_freq, loop, "iterations_per_loop"
    )
    log = train.log_every_steps
    if log is not None and log % loop and loop % log:
        yield from divides("train.log_every_steps", log, loop, "iterations_per_loop")
    if train.early_stop is not None and train.keep_best is None:
        accepted = "expected null, or the figure that decides as train.keep_best"
        yield Problem("train.early_stop", train.early_stop, accepted)


# Defaults of earlier versions, which stand in the config.yaml of their runs.
_EARLIER = {"probes": ("linear", "knn")}


def _evaluators(config: experiment.ExperimentConfig) -> Problems:
    """Evaluators of a pretrained model are known, and all that is asked for is run."""
    if config.eval.evaluators is None or isinstance(config, experiment.Finetune):
        return
    known = evaluators.of_task(config.task)
    for name in config.eval.evaluators:
        if name not in known:
            accepted = f"expected names of evaluators, {', '.join(known)}"
            yield Problem("eval.evaluators", name, accepted, nearest(name, known))
    for name in ("probes", "zero_shot"):
        value = getattr(config.eval, name)
        if value not in (experiment.EvalConfig.model_fields[name].default, _EARLIER.get(name)):
            accepted = "no effect beside eval.evaluators, which says all that is run"
            yield Problem(f"eval.{name}", value, accepted)


def _finetuning(config: experiment.ExperimentConfig) -> Problems:
    """What only fine-tuning has, or asks of the model."""
    train = config.train
    names = ("layer_decay", "backbone_rate", "pooling_rate")
    rates = {f"train.{name}": getattr(train, name) for name in names}
    changed = {path: share for path, share in rates.items() if share not in (1, None)}
    if not isinstance(config, experiment.Finetune):
        for path, share in changed.items():
            yield Problem(path, share, "expected 1: it belongs to the task finetune")
        if config.eval.best_on_test_of_last != 1:
            accepted = "expected 1: the task finetune can choose among its checkpoints"
            yield Problem("eval.best_on_test_of_last", config.eval.best_on_test_of_last, accepted)
        for name, usual in (("clip_together", False), ("rarity_weights", True)):
            if (value := getattr(train, name)) != usual:
                accepted = f"expected {str(usual).lower()}: it belongs to the task finetune"
                yield Problem(f"train.{name}", value, accepted)
        if train.gradient_clip_norm_cls:
            accepted = "expected null or 0: only the task finetune has a classifier"
            yield Problem("train.gradient_clip_norm_cls", train.gradient_clip_norm_cls, accepted)
        return
    if train.clip_together and train.gradient_clip_norm_cls:
        accepted = "expected null or 0: with clip_together gradient_clip_norm is that of all"
        yield Problem("train.gradient_clip_norm_cls", train.gradient_clip_norm_cls, accepted)
    if train.micro_batches != 1:
        accepted = "expected 1: the rows of a batch are compared in the task pretrain alone"
        yield Problem("train.micro_batches", train.micro_batches, accepted)
    for name in ("probes", "zero_shot", "evaluators"):
        value = getattr(config.eval, name)
        if value not in (experiment.EvalConfig.model_fields[name].default, _EARLIER.get(name)):
            accepted = "no effect: the task pretrain is evaluated so"
            yield Problem(f"eval.{name}", value, accepted)
    if train.layer_decay != 1 and not hasattr(config.model, "num_layers"):
        accepted = f"expected 1: {config.model.name} has no transformer layers"
        yield Problem("train.layer_decay", train.layer_decay, accepted)
    if train.pooling_rate is not None and not getattr(config.model, "pooling_layers", 0):
        accepted = f"expected null: {config.model.name} has no layers that pool over time"
        yield Problem("train.pooling_rate", train.pooling_rate, accepted)
    for path, share in changed.items() if config.model.freeze_backbone else ():
        yield Problem(
            path, share, "expected 1: the layers are frozen (model_config.freeze_backbone)"
        )


def _optimizer(optimizer: experiment.OptimizerConfig) -> Problems:
    path = "train.optimizer"
    if type(optimizer) is experiment.OptimizerConfig:
        choices = list(optimizer.variants())
        accepted = f"expected one of {', '.join(choices)}"
        yield Problem(f"{path}.name", optimizer.name, accepted, nearest(optimizer.name, choices))
    rate = optimizer.learning_rate
    path = f"{path}.learning_rate"
    warmup = getattr(rate, "warmup_steps", 0)
    if warmup >= rate.total_steps:
        suggestion = rate.total_steps // 20
        accepted = f"expected fewer than total_steps, which is {rate.total_steps}"
        yield Problem(f"{path}.warmup_steps", warmup, accepted, f" Try {suggestion}.")
    if isinstance(rate, experiment.MultiStepLearningRate):
        yield from _epochs(rate, path)
    if not isinstance(rate, experiment.StepwiseCosineDecayLearningRate):
        return
    levels, steps = list(rate.learning_rate_levels), list(rate.learning_rate_steps)
    try_steps = f" Try {[warmup, *steps[1:-1], rate.total_steps][: max(len(levels), 1)]}."
    if not levels or len(levels) != len(steps):
        accepted = (
            f"expected as many as learning_rate_levels, which has {len(levels)}, and at least one"
        )
        yield Problem(f"{path}.learning_rate_steps", steps, accepted, try_steps)
    elif steps[0] != warmup:
        accepted = f"the first must be warmup_steps, which is {warmup}"
        yield Problem(f"{path}.learning_rate_steps", steps, accepted, try_steps)
    elif sorted(set(steps)) != steps or steps[-1] > rate.total_steps:
        accepted = f"expected rising steps up to total_steps, which is {rate.total_steps}"
        yield Problem(f"{path}.learning_rate_steps", steps, accepted, try_steps)


def _epochs(rate: experiment.MultiStepLearningRate, path: str) -> Problems:
    epochs = rate.total_steps / rate.steps_per_epoch
    if rate.warmup_epochs >= epochs:
        accepted = f"expected fewer than total_steps / steps_per_epoch, which is {epochs:g}"
        yield Problem(f"{path}.warmup_epochs", rate.warmup_epochs, accepted)
    if sorted(set(rate.milestones)) != list(rate.milestones):
        accepted = "expected rising epochs"
        yield Problem(f"{path}.milestones", list(rate.milestones), accepted)


def _devices(config: experiment.ExperimentConfig) -> Problems:
    devices = config.strategy_config.num_devices
    strategy = config.strategy_config.distribution_strategy
    size, parts = config.train.input.batch_size, config.train.micro_batches
    yield from divides("train.input.batch_size", size, parts, "train.micro_batches")
    if devices is not None:
        yield from divides("train.input.batch_size", size, devices, "strategy_config.num_devices")
        if strategy == "one_device" and devices > 1:
            accepted = "expected 1 or null with the strategy one_device"
            yield Problem("strategy_config.num_devices", devices, accepted)
    if config.strategy_config.tpu and strategy not in ("tpu", "auto"):
        accepted = f"a TPU is named, but the strategy is {strategy}"
        yield Problem("strategy_config.tpu", config.strategy_config.tpu, accepted, " Try tpu.")
