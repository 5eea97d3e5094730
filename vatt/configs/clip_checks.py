"""What must fit together in the fields that say what clips are like, in training or evaluation."""

from __future__ import annotations

import math

from vatt.configs import dataset, tokens
from vatt.configs.problems import Problem, Problems

_LEAST_BLURRED = 6  # pixels: half of the kernel of `vatt.data.appearance.Blur` must be less


def problems(path: str, data: dataset.Dataset) -> Problems:
    """Yields what does not fit together in `data`, which stands at `path`."""
    yield from _crops_fit(path, data)
    yield from _style(path, data)
    yield from _random_masks(path, data)
    yield from _bands(path, data)
    yield from _mixing(path, data)
    yield from tokens.problems(path, data)


def _mixing(path: str, data: dataset.Dataset) -> Problems:
    """How clips are mixed is said where they are."""
    if not isinstance(data, dataset.Finetune) or data.mixup:
        return
    for name, usual in (("mixup_style", "rows"), ("mixup_apart", False)):
        if (value := getattr(data, name)) != usual:
            yield Problem(f"{path}.{name}", value, f"expected {usual}, or mixup true")


def _crops_fit(path: str, data: dataset.Dataset) -> Problems:
    """Squares are no larger than the resized frames that they are cut from."""
    style, size = data.crop_resize_style, data.frame_size
    least = 1.0
    training = path.startswith("train")
    if style == "Stretched" and training and data.scale_jitter and data.random_crop:
        least = min(1.0, data.min_stretch)
    if int(data.min_resize * least) < size and style in ("VGG", "ShortSide", "Stretched"):
        needed = math.ceil(size / least)
        yield Problem(
            f"{path}.min_resize",
            data.min_resize,
            f"crops of frame_size {size} do not fit into the resized frame",
            f" Try min_resize {needed}.",
        )
    if data.test_resize is not None and data.test_resize < size:
        accepted = f"expected null, or at least frame_size, which is {size}"
        yield Problem(f"{path}.test_resize", data.test_resize, accepted)


def _style(path: str, data: dataset.Dataset) -> Problems:
    """What belongs to some of the styles in which frames are cut stands beside one of them."""
    style = data.crop_resize_style
    if data.max_resize is not None and style != "ShortSide":
        accepted = f"expected null: it belongs to crop_resize_style ShortSide, not {style}"
        yield Problem(f"{path}.max_resize", data.max_resize, accepted)
    elif data.max_resize is not None and data.max_resize < data.min_resize:
        accepted = f"expected at least min_resize, which is {data.min_resize}"
        yield Problem(f"{path}.max_resize", data.max_resize, accepted)
    if data.published_augmentation and style not in ("ShortSide", "ResizedCrop"):
        accepted = "expected false: it belongs to crop_resize_style ShortSide and ResizedCrop"
        yield Problem(f"{path}.published_augmentation", True, accepted)
    elif data.published_augmentation and data.color_augment and data.color_style != "blend":
        accepted = "expected blend, as published_augmentation has it, or color_augment false"
        yield Problem(f"{path}.color_style", data.color_style, accepted)
    if data.blur_probability and data.frame_size < _LEAST_BLURRED:
        accepted = f"expected 0: pictures of less than {_LEAST_BLURRED} pixels are not blurred"
        yield Problem(f"{path}.blur_probability", data.blur_probability, accepted)


def _random_masks(path: str, data: dataset.Dataset) -> Problems:
    """Masks of spectrograms are named or counted, and none covers all there is."""
    if not isinstance(data, dataset.Training) or data.raw_audio:
        return
    if data.audio_masking != "none" and (data.band_masks or data.time_masks):
        accepted = "expected none beside band_masks and time_masks, which say how many there are"
        yield Problem(f"{path}.audio_masking", data.audio_masking, accepted)
    if data.band_masks and data.band_mask_width > data.mel_bins:
        accepted = f"expected at most mel_bins, which is {data.mel_bins}"
        yield Problem(f"{path}.band_mask_width", data.band_mask_width, accepted)


def _bands(path: str, data: dataset.Dataset) -> Problems:
    """Edges of bands rise, and there are some where they are chosen."""
    chosen, path = data.spectrum, f"{path}.spectrum"
    if chosen.lowest_hz >= chosen.highest_hz:
        accepted = f"expected less than highest_hz, which is {chosen.highest_hz:g}"
        yield Problem(f"{path}.lowest_hz", chosen.lowest_hz, accepted)
    if data.audio_features == "unscaled_log_mel" and not data.raw_audio:
        return
    heard = "raw_audio true" if data.raw_audio else f"audio_features {data.audio_features}"
    for name, value in chosen.as_dict().items():
        if value != type(chosen).model_fields[name].default:
            accepted = f"no effect: {heard} does not read it"
            yield Problem(f"{path}.{name}", value, accepted)
