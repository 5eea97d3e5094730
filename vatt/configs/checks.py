"""What must fit together across fields: patches, clips, intervals, schedules, batch, devices.

Each check yields `Problem`s with a value that would do. Nothing here needs TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator

from vatt.configs import audio, base, dataset, experiment, head, multimodal, text, unified, video
from vatt.configs.problems import ConfigError, Problem
from vatt.errors import nearest

Problems = Iterator[Problem]


def problems(config: experiment.ExperimentConfig) -> list[Problem]:
    """Returns everything that does not fit together in a whole configuration."""
    return [
        *_model(config),
        *_inputs(config),
        *_loop(config.train),
        *_finetuning(config),
        *_optimizer(config.train.optimizer),
        *_devices(config),
    ]


def check_batch(config: experiment.ExperimentConfig, num_replicas: int) -> None:
    """Refuses a global batch that cannot be split evenly over the replicas TensorFlow found.

    Raises:
      ConfigError: with the nearest batch sizes that can.
    """
    found = list(
        _divides("train.input.batch_size", config.train.input.batch_size, num_replicas, "replicas")
    )
    if found:
        raise ConfigError(found)


# Model and clips -------------------------------------------------------------------------------


def _model(config: experiment.ExperimentConfig) -> Problems:
    """Backbones exist, and their patches and kind fit the clips of training and evaluation."""
    inputs = {"train.input": config.train.input, "eval.input": config.eval.input}
    for path, backbone in _backbones(config.model):
        if isinstance(backbone, ConfigError):
            yield from backbone.problems
            continue
        yield from _keeps_tokens(path, backbone)
        yield from _sees_words(path, backbone)
        for input_path, data in inputs.items():
            yield from _video_patches(input_path, data, backbone, path)
            yield from _audio_patches(input_path, data, backbone, path)
    if isinstance(config.model, multimodal.ModelConfig):
        yield from _stacks(config.model)


def _backbones(model: base.Config) -> Iterator[tuple[str, base.Config | ConfigError]]:
    if not isinstance(model, multimodal.ModelConfig):
        yield "model_config", model
        return
    stack = model.backbone_config
    unified_stack = isinstance(stack, multimodal.UnifiedBackboneConfig)
    for modality in ("unified",) if unified_stack else ("video", "audio", "text"):
        path = f"model_config.backbone_config.{modality}_backbone"
        try:
            yield path, stack.resolve(modality)
        except ConfigError as error:
            yield path, error


def _video_patches(path: str, data: dataset.Dataset, backbone: base.Config, owner: str) -> Problems:
    if isinstance(backbone, video.ViTBase):
        frames, pixels = backbone.temporal_patch_size, backbone.spatial_patch_size
    elif isinstance(backbone, unified.UniTBase):
        frames, pixels = backbone.vid_temporal_patch_size, backbone.vid_spatial_patch_size
    else:
        return
    yield from _divides(
        f"{path}.num_frames", data.num_frames, frames, f"the patch of {owner} (frames)"
    )
    yield from _divides(
        f"{path}.frame_size", data.frame_size, pixels, f"the patch of {owner} (pixels)"
    )


def _audio_patches(path: str, data: dataset.Dataset, backbone: base.Config, owner: str) -> Problems:
    if isinstance(backbone, (audio.SpTBase, audio.Resnet2DBase)):
        if data.raw_audio:
            yield Problem(f"{path}.raw_audio", True, f"expected false: {owner} reads spectrograms")
        if isinstance(backbone, audio.SpTBase):
            what = f"the patch of {owner} (bins)"
            yield from _divides(
                f"{path}.mel_bins", data.mel_bins, backbone.spectoral_patch_size, what
            )
        return
    if isinstance(backbone, audio.WaTBase):
        patch, stride = backbone.temporal_patch_size, backbone.temporal_patch_stride
    elif isinstance(backbone, unified.UniTBase):
        patch = stride = backbone.aud_temporal_patch_size
    else:
        return
    if not data.raw_audio:
        yield Problem(f"{path}.raw_audio", False, f"expected true: {owner} reads waveforms")
        return
    samples = data.num_audio_samples
    if samples < patch or (samples - patch) % stride:
        yield Problem(
            f"{path}.num_frames",
            data.num_frames,
            f"a clip has {samples} audio samples (sample_rate {data.sample_rate} * num_frames"
            f" / fps {data.fps:g}), which patches of {patch} every {stride} of {owner} do not cover"
            " evenly",
            _suggest_frames(data, patch, stride),
        )


def _suggest_frames(data: dataset.Dataset, patch: int, stride: int) -> str:
    def fits(frames: int) -> bool:
        samples = int(data.sample_rate * frames / data.fps)
        return samples >= patch and (samples - patch) % stride == 0

    near = sorted(range(1, 4 * data.num_frames + 1), key=lambda n: abs(n - data.num_frames))
    found = next((n for n in near if fits(n)), None)
    return f" Try num_frames {found}." if found else " Change sample_rate, fps or the patch size."


def _keeps_tokens(path: str, backbone: base.Config) -> Problems:
    """DropToken must leave at least one token."""
    if not getattr(backbone, "random_patch_sampling", False):
        return
    if isinstance(backbone, video.ViTBase):
        grids = [
            backbone.max_temporal_buckets
            * backbone.max_vertical_buckets
            * backbone.max_horizontal_buckets
        ]
    elif isinstance(backbone, unified.UniTBase):
        spatial = backbone.max_vid_spatial_buckets
        grids = [backbone.max_vid_temporal_buckets * spatial**2, backbone.max_aud_temporal_buckets]
    else:
        grids = [backbone.max_temporal_buckets]
    if int(backbone.patch_sampling_rate * min(grids)) < 1:
        yield Problem(
            f"{path} patch_sampling_rate",
            backbone.patch_sampling_rate,
            f"keeps none of {min(grids)} tokens; expected at least {1 / min(grids):.3g}",
        )


def _sees_words(path: str, backbone: base.Config) -> Problems:
    """Without layers an aggregation token never meets a word: all sentences would be the same."""
    if isinstance(backbone, text.LinearModel) and backbone.use_agg_token:
        accepted = f"expected false: {backbone.name} has no layer in which the token sees the words"
        yield Problem(f"{path} use_agg_token", True, accepted)


def _stacks(model: multimodal.ModelConfig) -> Problems:
    for name, stack in (("head_config", model.head_config), ("loss_config", model.loss_config)):
        if not stack.bridge:
            choices = ", ".join(type(stack).stack_of.variants())
            yield Problem(f"model_config.{name}.bridge", [], f"expected at least one of {choices}")
    for i, bridge in enumerate(model.head_config.bridge):
        if isinstance(bridge, head.JointBridge):
            sizes = [
                bridge.vid_to_aud_txt_kwargs.d_model,
                bridge.aud_to_vid_txt_kwargs.d_model,
                bridge.txt_to_vid_aud_kwargs.d_model,
            ]
            if len(set(sizes)) > 1:
                path = f"model_config.head_config.bridge.{i}"
                accepted = "the joint head needs one d_model for video, audio and text"
                yield Problem(f"{path} d_model", sizes, accepted, f" Try {max(sizes)} for all.")
    for i, loss in enumerate(model.loss_config.bridge):
        weights = [loss.vid_txt_weight, loss.vid_aud_weight, loss.aud_txt_weight]
        path = f"model_config.loss_config.bridge.{i}"
        if not any(weights):
            yield Problem(f"{path} weights", weights, "expected at least one pair weight above 0")
        if loss.aud_txt_weight:
            accepted = "expected 0: no head gives audio and text a space of their own"
            yield Problem(f"{path}.aud_txt_weight", loss.aud_txt_weight, accepted)


def _inputs(config: experiment.ExperimentConfig) -> Problems:
    for path, data in (("train.input", config.train.input), ("eval.input", config.eval.input)):
        for low, high in (
            ("min_area_ratio", "max_area_ratio"),
            ("min_aspect_ratio", "max_aspect_ratio"),
        ):
            if getattr(data, low) > getattr(data, high):
                accepted = f"expected at most {high}, which is {getattr(data, high):g}"
                yield Problem(f"{path}.{low}", getattr(data, low), accepted)
        if data.min_resize < data.frame_size and data.crop_resize_style == "VGG":
            yield Problem(
                f"{path}.min_resize",
                data.min_resize,
                f"crops of frame_size {data.frame_size} do not fit into the resized frame",
                f" Try min_resize {data.frame_size}.",
            )
        if not data.raw_audio and data.stft_step > data.stft_length:
            accepted = f"expected at most stft_length, which is {data.stft_length:g}"
            yield Problem(f"{path}.stft_step", data.stft_step, accepted)
    data = config.train.input
    if isinstance(data, dataset.Pretrain) and data.mixing_weights is not None:
        sets = data.name.split("+")
        if len(sets) != len(data.mixing_weights):
            accepted = f"expected one weight for each of the {len(sets)} sets {', '.join(sets)}"
            yield Problem("train.input.mixing_weights", list(data.mixing_weights), accepted)


# Loop ------------------------------------------------------------------------------------------


def _loop(train: experiment.TrainConfig) -> Problems:
    loop = train.iterations_per_loop
    yield from _divides(
        "train.save_checkpoint_freq", train.save_checkpoint_freq, loop, "iterations_per_loop"
    )
    log = train.log_every_steps
    if log is not None and log % loop and loop % log:
        yield from _divides("train.log_every_steps", log, loop, "iterations_per_loop")


def _finetuning(config: experiment.ExperimentConfig) -> Problems:
    """What only fine-tuning has, or asks of the model."""
    train, path = config.train, "train.layer_decay"
    if not isinstance(config, experiment.Finetune):
        if train.layer_decay != 1:
            yield Problem(path, train.layer_decay, "expected 1: it belongs to the task finetune")
        if train.gradient_clip_norm_cls:
            accepted = "expected null or 0: only the task finetune has a classifier"
            yield Problem("train.gradient_clip_norm_cls", train.gradient_clip_norm_cls, accepted)
        return
    for name in ("probes", "zero_shot"):
        value = getattr(config.eval, name)
        if value != experiment.EvalConfig.model_fields[name].default:
            accepted = "no effect: the task pretrain is evaluated so"
            yield Problem(f"eval.{name}", value, accepted)
    if train.layer_decay != 1 and not hasattr(config.model, "num_layers"):
        accepted = f"expected 1: {config.model.name} has no transformer layers"
        yield Problem(path, train.layer_decay, accepted)
    if train.layer_decay != 1 and config.model.freeze_backbone:
        accepted = "expected 1: the layers are frozen (model_config.freeze_backbone)"
        yield Problem(path, train.layer_decay, accepted)


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


def _devices(config: experiment.ExperimentConfig) -> Problems:
    devices = config.strategy_config.num_devices
    strategy = config.strategy_config.distribution_strategy
    if devices is not None:
        size = config.train.input.batch_size
        yield from _divides("train.input.batch_size", size, devices, "strategy_config.num_devices")
        if strategy == "one_device" and devices > 1:
            accepted = "expected 1 or null with the strategy one_device"
            yield Problem("strategy_config.num_devices", devices, accepted)
    if config.strategy_config.tpu and strategy not in ("tpu", "auto"):
        accepted = f"a TPU is named, but the strategy is {strategy}"
        yield Problem("strategy_config.tpu", config.strategy_config.tpu, accepted, " Try tpu.")


def _divides(path: str, value: int, divisor: int, what: str) -> Problems:
    if value % divisor:
        below, above = value // divisor * divisor, (value // divisor + 1) * divisor
        near = f"{below} or {above}" if below else f"{above}"
        yield Problem(path, value, f"expected a multiple of {divisor}, {what}", f" Try {near}.")
