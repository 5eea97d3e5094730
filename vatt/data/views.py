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

import tensorflow as tf

from vatt.data import geometry, sampling
from vatt.data.appearance import Blur, ColourJitter, Normalise, Step
from vatt.data.cuts import CutRule, InceptionCut, ScaleJitter, ShortSideCut, VGGCut
from vatt.data.ranges import check_probability

if TYPE_CHECKING:
    from vatt import configs

STYLES = ("VGG", "Inception")


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


def of_config(cfg: configs.dataset.Dataset, style: str) -> View:
    """VATT's view of a training clip, as the configuration says.

    Args:
      cfg: sizes, ranges and what is switched on.
      style: "VGG" (the default of pretraining) or "Inception" (fine-tuning, whatever
        `crop_resize_style` says).
    """
    if not cfg.random_crop:
        vgg = style == "VGG"
        jitter = ScaleJitter() if vgg and cfg.scale_jitter else None
        cut = VGGCut(cfg.min_resize if vgg else cfg.frame_size, jitter, centred=True)
    elif style == "VGG":
        cut = VGGCut(cfg.min_resize, ScaleJitter() if cfg.scale_jitter else None)
    elif style == "Inception":
        area = (cfg.min_area_ratio, cfg.max_area_ratio)
        cut = InceptionCut(area, (cfg.min_aspect_ratio, cfg.max_aspect_ratio))
    else:
        raise ValueError(f"style is {style!r}; accepted: {', '.join(map(repr, STYLES))}")
    return View(
        cfg.frame_size,
        cut,
        flip=0.5 if cfg.horizontal_flip else 0.0,
        zero_centred=cfg.zero_centering_image,
        steps=(ColourJitter(),) if cfg.color_augment else (),
    )
