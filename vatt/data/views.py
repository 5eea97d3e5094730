"""What a training clip looks like, as data: where it is cut, how often it is mirrored, what happens
to its values.

    View(224, VGGCut(224, ScaleJitter()), zero_centred=True, steps=(ColourJitter(),))
    View(112, ShortSideCut(128, 160), steps=(BlendJitter(), Normalise(0.45, 0.225)))
    View(112, ResizedCrop((0.14, 1.0)), steps=(BlendJitter(0.8), Grey(0.2), Blur(0.5)))

`vision.training_frames` makes the frames that a view describes, `clips.training_views` several
views of several clips of a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from vatt.data import geometry, sampling
from vatt.data.appearance import (
    LUMA,
    LUMA_4_DIGITS,
    LUMA_OF_BGR,
    BlendJitter,
    Blur,
    ColourJitter,
    Grey,
    Normalise,
    Step,
)
from vatt.data.cuts import (
    CutRule,
    InceptionCut,
    ResizedCrop,
    ScaleJitter,
    ShortSideCut,
    SquareCut,
    VGGCut,
)
from vatt.data.ranges import check_probability

if TYPE_CHECKING:
    from vatt import configs

VATTS = ("VGG", "Inception")
WHOLE = (*VATTS, "Stretched")  # styles in which resizing cuts levels to whole numbers
STYLES = (*WHOLE, "ShortSide", "ResizedCrop", "Square")


@dataclass(frozen=True)
class View:
    """One way of making a training clip: cut, mirrored, brought to its range, then the steps.

    `size`: side of the result in pixels.
    `cut`: one of `vatt.data.cuts`.
    `flip`: probability that the clip is mirrored left to right.
    `zero_centred`: levels 0..255 become [-1, 1]; [0, 1] without.
    `steps`: of `vatt.data.appearance`, in this order, each at most once.

    A method adds what is not there in its own folder, as a frozen dataclass: a cut has the method
    `draw` of `cuts.CutRule`, a step the method `apply` of `appearance.Step`. A step whose random
    choices must not depend on those of another takes a new row of seeds in `sampling`.
    """

    size: int
    cut: CutRule
    flip: float = 0.5
    zero_centred: bool = False
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        check_probability("View.flip", self.flip)
        if self.size < 1:
            raise ValueError(f"View.size is {self.size}; accepted: 1 or more pixels")
        if isinstance(self.cut, VGGCut | ShortSideCut) and self.cut.least_side() < self.size:
            raise ValueError(
                f"View.size is {self.size}, but {self.cut} makes sides down to "
                f"{self.cut.least_side()} pixels: a crop cannot be larger than what it is cut from"
            )
        self._check_steps()

    def _check_steps(self) -> None:
        kinds = [type(step) for step in self.steps]
        for place, (kind, step) in enumerate(zip(kinds, self.steps, strict=True)):
            if kind in kinds[:place]:
                raise ValueError(
                    f"View.steps has two {kind.__name__}: they would make the same random choices"
                )
            if kind is Normalise and self.zero_centred:
                raise ValueError("Normalise expects values in [0, 1]: set View.zero_centred=False")
            if kind is ColourJitter and Normalise in kinds[:place]:
                raise ValueError(
                    "ColourJitter expects values in the range of the view: it must stand before "
                    "Normalise in View.steps"
                )
            if kind is Blur and step.kernel // 2 >= self.size:
                raise ValueError(
                    f"Blur.kernel is {step.kernel}; accepted: less than twice the size of the "
                    f"view, {self.size}"
                )

    def draw(self, frame: tf.Tensor, seeds: tf.Tensor) -> geometry.Cut:
        """Where the clip of int64 [sampling.ROWS, 2] `seeds` is cut, and whether it is mirrored.

        `frame` is int32 [2], height and width.
        """
        cut = self.cut.draw(frame, self.size, seeds)
        return cut._replace(mirror=geometry.flipped(seeds[sampling.FLIP], self.flip))


@dataclass(frozen=True)
class EvaluationView:
    """What clips look like where nothing is left to chance.

    The shorter side is resized to `resize` pixels, then the middle square of side `size` is cut, or
    three along the longer side (`multi_crop`). `decimals`: levels keep their decimals, and the
    middle is half a pixel late, not early. `centred`: three squares are in the middle of the other
    side, not at its start (VATT). The values are in the range of `View`, then normalised.
    """

    resize: int
    size: int
    multi_crop: bool = False
    zero_centred: bool = False
    decimals: bool = False
    centred: bool = False
    normalise: Normalise | None = None

    @property
    def crops(self) -> int:
        """Squares that are cut from a frame."""
        return 3 if self.multi_crop else 1

    def values(self, frames: tf.Tensor) -> tf.Tensor:
        """Normalises frames in the range of the view."""
        return self.normalise.apply(frames, None, self.zero_centred) if self.normalise else frames

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Uint8 levels of frames in the range of the view, of any shape."""
        if self.normalise:
            values = values * np.array(self.normalise.std) + np.array(self.normalise.mean)
        unit = (values + 1.0) / 2.0 if self.zero_centred else values
        return np.clip(np.round(unit * 255.0), 0, 255).astype(np.uint8)


def for_evaluation(cfg: configs.dataset.Evaluation | configs.dataset.Finetune) -> EvaluationView:
    """The view of clips in evaluation, as the configuration says."""
    return EvaluationView(
        cfg.test_resize or cfg.frame_size,
        cfg.frame_size,
        cfg.multi_crop,
        zero_centred=_zero_centred(cfg),
        decimals=cfg.crop_resize_style not in WHOLE,
        centred=cfg.crop_resize_style == "Stretched",
        normalise=_normalise(cfg),
    )


def for_classifier(cfg: configs.dataset.Dataset) -> View:
    """The view of a labelled training clip: of VATT's styles always "Inception" (published)."""
    style = cfg.crop_resize_style
    return of_config(cfg, "Inception" if style in VATTS else style)


def of_config(cfg: configs.dataset.Dataset, style: str) -> View:
    """The view of a training clip in one of `STYLES`, as the configuration says.

    Args:
      cfg: sizes, ranges and what is switched on.
      style: "VGG" (the default of pretraining), "Inception" (VATT's fine-tuning), "ShortSide",
        "ResizedCrop", "Square" or "Stretched".
    """
    if style not in STYLES:
        raise ValueError(f"style is {style!r}; accepted: {', '.join(map(repr, STYLES))}")
    return View(
        cfg.frame_size,
        _cut(cfg, style),
        flip=0.5 if cfg.horizontal_flip else 0.0,
        zero_centred=_zero_centred(cfg),
        steps=_steps(cfg, style),
    )


def _cut(cfg: configs.dataset.Dataset, style: str) -> CutRule:
    if style == "Square":
        return SquareCut(centred=not cfg.random_crop)
    if style == "ShortSide":
        longest = max(cfg.max_resize or 0, cfg.min_resize)
        if not cfg.random_crop:
            return ShortSideCut(cfg.min_resize, cfg.min_resize, centred=True)
        return ShortSideCut(cfg.min_resize, longest, never_last=cfg.published_augmentation)
    if style == "Stretched":
        factors = (cfg.min_stretch, cfg.max_stretch)
        jitter = ScaleJitter(1.0, factors, after_resize=True) if cfg.scale_jitter else None
        centred = not cfg.random_crop
        return VGGCut(cfg.min_resize, None if centred else jitter, centred=centred)
    vgg, random = style == "VGG", cfg.random_crop
    if not random and style == "ResizedCrop":
        return ShortSideCut(cfg.frame_size, cfg.frame_size, centred=True)
    if vgg or not random:
        jitter = ScaleJitter() if vgg and cfg.scale_jitter else None
        return VGGCut(cfg.min_resize if vgg else cfg.frame_size, jitter, centred=not random)
    box = InceptionCut if style == "Inception" else ResizedCrop
    area = (cfg.min_area_ratio, cfg.max_area_ratio)
    return box(area, (cfg.min_aspect_ratio, cfg.max_aspect_ratio))


def _steps(cfg: configs.dataset.Dataset, style: str) -> tuple[Step, ...]:
    """What happens to the values; last they are normalised.

    Where `published_augmentation` asks for it, they are what GDT ("ShortSide") and STiCA
    ("ResizedCrop") publish: the weights of red and blue in grey are exchanged; in "ShortSide",
    jitter takes channels for frames; in "ResizedCrop", values are normalised before their colours
    change, and blur is the same for all clips, and horizontal for the most part.
    """
    published = cfg.published_augmentation
    weights = LUMA_OF_BGR if published else LUMA_4_DIGITS if style == "Stretched" else LUMA
    steps: list[Step] = []
    if cfg.color_augment and cfg.color_style == "hue":
        steps.append(ColourJitter(cfg.color_probability))
    elif cfg.color_augment:
        channels_first = published and style == "ShortSide"
        jitter = BlendJitter(cfg.color_probability, weights=weights, channels_first=channels_first)
        steps.append(jitter)
    if cfg.grey_probability:
        steps.append(Grey(cfg.grey_probability, weights))
    if cfg.blur_probability:
        fixed = dict(sigma=(0.1, 0.1), horizontal_sigma=(2.0, 2.0)) if published else {}
        steps.append(Blur(cfg.blur_probability, **fixed))
    normalise = [step for step in (_normalise(cfg),) if step]
    first = published and style == "ResizedCrop"
    return tuple([*normalise, *steps] if first else [*steps, *normalise])


def _zero_centred(cfg: configs.dataset.Dataset) -> bool:
    return cfg.zero_centering_image and cfg.pixel_std is None


def _normalise(cfg: configs.dataset.Dataset) -> Normalise | None:
    return None if cfg.pixel_std is None else Normalise(cfg.pixel_mean, cfg.pixel_std)
