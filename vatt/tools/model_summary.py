r"""Prints what a model consists of and costs: parameters, tokens, operations, activations.

    python -m vatt.tools.model_summary --model_arch=tx_fac_bbs
    python -m vatt.tools.model_summary --task=finetune --model_arch=vit_base \
        --params_override=train.input.frame_size=320,train.input.min_resize=320
    python -m vatt.tools.model_summary --all --markdown

The model is what the flags resolve to, as in vatt.main; a clip is that of train.input. How
operations and activations are counted stands in vatt/modeling/flops.py. Layers are built without
values, so that a large model takes no more memory than a small one.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from vatt import configs, methods, quiet
from vatt.configs import backbones, registry
from vatt.ended import ended
from vatt.errors import UserError

CLASSES = {"video": 400, "audio": 527}  # Kinetics-400 and AudioSet, where the config names none
PRECISIONS = ("float32", "mixed_bfloat16")
# What the published operations belong to: four windows and three crops of such a clip.
PUBLISHED_VIEWS, PUBLISHED_CLIP = 12, (32, 320, 320, 3)
# Modality-agnostic models are fine-tuned with the projections of their towers.
AGNOSTIC = "model_config.pre_projection=true,model_config.post_projection=true"
# Published parameters, total and trainable, and 1e12 operations per video, by preset.
PUBLISHED: dict[str, tuple[int, int, float | None]] = {
    "tx_fac": (280_569_132, 260_905_772, None),
    "tx_fac_bbs": (213_540_652, 193_877_292, None),
    "tx_fac_mbs": (280_569_132, 260_905_772, None),
    "tx_fac_lbs": (431_723_820, 412_060_460, None),
    "ut_fac": (182_653_696, 162_990_336, None),
    "ut_fac_medium": (182_653_696, 162_990_336, None),
    "mmv_fac": (58_630_208, 38_899_168, None),
    "av_mae_large": (595_849_984, 595_849_984, None),
    "vit_base": (87_753_616, 87_753_616, 9.09),
    "vit_medium": (154_753_424, 154_753_424, 15.02),
    "vit_medium agnostic": (156_852_624, 156_852_624, 15.02),
    "vit_large": (305_908_112, 305_908_112, 29.80),
    "wat_base": (86_484_239, 86_484_239, None),
    "wat_medium": (153_060_879, 153_060_879, None),
    "wat_medium agnostic": (155_160_079, 155_160_079, None),
    "spt_base": (85_462_031, 85_462_031, None),
    "spt_medium": (151_697_935, 151_697_935, None),
    "i3d": (12_711_824, 12_697_264, None),
    "resnet2d_50": (24_634_703, 24_581_583, None),
    "mbt_large": (607_002_127, 607_002_127, None),
}

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a model, or all of it; costs (`flops.Cost`) are those of one clip."""

    name: str
    parameters: int
    trainable: int
    inference: Any = None
    training: Any = None
    grid: tuple[int, ...] = ()
    tokens: tuple[int | None, int | None] = (None, None)  # in inference, in training


@dataclasses.dataclass(frozen=True)
class Summary:
    """A model: its inputs by modality, its parts, and the backbone if it is fine-tuned."""

    inputs: Shapes
    parts: list[Part]
    backbone: Any = None
    classes: int | None = None

    @property
    def total(self) -> Part:
        """All parts together."""
        from vatt.modeling.flops import Cost

        costs = [(part.inference, part.training) for part in self.parts if part.inference]
        inference, training = (sum(column, Cost()) for column in zip(*costs, strict=True))
        parameters = sum(part.parameters for part in self.parts)
        trainable = sum(part.trainable for part in self.parts)
        return Part("total", parameters, trainable, inference, training)


# Counting --------------------------------------------------------------------------------------


def summarise(config: configs.ExperimentConfig) -> Summary:
    """Returns the model of a run, for the clips of train.input.

    Raises:
      UserError: a model that its task cannot build.
    """
    from vatt.data import pipeline
    from vatt.modeling import factory, flops

    shapes = pipeline.clip_shapes(config.train.input)
    if not isinstance(config, configs.experiment.Pretrain):
        modalities = config.model.modalities
        classes = config.model.num_classes or CLASSES[modalities[-1]]
        model = factory.build_classifier(config.model, num_classes=classes)
        own = {modality: shapes[modality] for modality in modalities}
        _build(model, _only(_batch(own)))
        cost = flops.classifier(model.backbone.features_dim, classes) * len(modalities)
        tower = _tower(f"{'+'.join(modalities)} {config.model.name}", model.backbone, _only(own))
        below = {id(variable) for variable in model.backbone.variables}
        classifier = Part("classifier", *_parameters(model, below), cost, cost)
        return Summary(own, [tower, classifier], model.backbone, classes)
    import keras

    method = methods.of(config)
    with keras.StatelessScope(initialize_variables=False):  # variables without values
        model = method.model(config.model, shapes, "float32")
    shapes = {modality: shapes[modality] for modality in model.modalities}
    towers = {modality: model.backbone(modality) for modality in shapes}
    names = {m: b.name for b in config.model.backbones().values() for m in b.modalities}
    shared = getattr(model, "unified", None)
    parts = _towers(towers, names, shapes, shared, model.rows_of)
    below = {id(v) for layer in (*towers.values(), shared) if layer for v in layer.variables}
    cost = model.joint_cost(shapes) + model.head_cost(shapes)
    return Summary(shapes, [*parts, Part("head", *_parameters(model, below), cost, cost)])


def summarise_backbone(name: str) -> Summary:
    """Returns a text or unified backbone by itself, for the clips of the pretraining preset."""
    from vatt.data import pipeline
    from vatt.modeling import factory

    layer = factory.build_backbone(registry.backbone(name))
    shapes = pipeline.clip_shapes(registry.experiment_config("pretrain").train.input)
    if registry.backbone(name).modalities == ("text",):
        sentence = shapes["text"][1:]
        _build(layer, (None, *sentence))
        return Summary({"text": sentence}, [_tower(f"text {name}", layer, sentence)])
    _build(layer, _batch(shapes))
    towers = {m: getattr(layer, m) for m in shapes}
    return Summary(shapes, _towers(towers, dict.fromkeys(shapes, name), shapes, layer))


def _batch(shapes: Shapes) -> dict[str, tuple[int | None, ...]]:
    """Returns the shapes of a batch; candidates of text are rows."""
    return {m: (None, *(shape[1:] if m == "text" else shape)) for m, shape in shapes.items()}


def _only(by_modality: Mapping[str, Any]) -> Any:
    """Returns the only value, or the mapping where there are several."""
    return next(iter(by_modality.values())) if len(by_modality) == 1 else by_modality


def _build(layer: Any, shapes: Any) -> None:
    """Creates the variables of a layer, but not their values."""
    import keras

    with keras.StatelessScope(initialize_variables=False):
        layer.build(shapes)


def _candidates(modality: str, shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Returns how many rows the tower sees of an example of `shape`, and the shape of one."""
    return (shape[0], shape[1:]) if modality == "text" else (1, shape)


def _towers(
    towers: Mapping[str, Any],
    names: Mapping[str, str],
    shapes: Shapes,
    unified: Any,
    rows_of: Callable[..., tuple[int, tuple[int, ...]]] = _candidates,
) -> list[Part]:
    """Returns a part per modality and, of a unified backbone, one for the encoder they share."""
    shared = None if unified is None else unified.encoder
    parts = []
    for modality, layer in towers.items():
        name = f"{modality} {names.get(modality, '')}".strip()
        rows, shape = rows_of(modality, shapes[modality])
        name += f" x {rows}" if rows > 1 and modality == "text" else ""
        parts.append(_tower(name, layer, shape, rows, shared))
    if shared is not None:
        parts.append(Part("encoder of all", *_parameters(shared)))
    return parts


def _tower(name: str, layer: Any, shape: Any, rows: int = 1, shared: Any = None) -> Part:
    inference, training = (_count(layer, shape, training) for training in (False, True))
    costs = (inference.cost * rows, training.cost * rows)
    tokens = (inference.tokens, training.tokens)
    without = set() if shared is None else {id(variable) for variable in shared.variables}
    return Part(name, *_parameters(layer, without), *costs, inference.grid, tokens)


def _count(layer: Any, shape: Any, training: bool = False) -> Any:
    from vatt.modeling import flops

    try:
        return flops.count(layer, shape, training)
    except ValueError as error:
        raise UserError(f"a clip is too short: {error}") from error


def _parameters(layer: Any, left_out: Collection[int] = ()) -> tuple[int, int]:
    """Returns how many numbers are in a layer's variables and in those that are trained."""

    def size(variables: Iterable[Any]) -> int:
        return sum(math.prod(v.shape) for v in variables if id(v) not in left_out)

    return size(layer.variables), size(layer.trainable_variables)


# Tables ----------------------------------------------------------------------------------------

PARTS = ("part", "parameters", "trainable", "grid", "tokens", "in training", "GFLOPs forward")
PARTS += ("training step", "MiB float32", "MiB bfloat16")
MODELS = ("model", "clip", "parameters", "trainable", "published parameters")
MODELS += ("GFLOPs forward", "training step", "MiB float32", "MiB bfloat16")
MODELS += ("TFLOPs per video", "published TFLOPs")


def describe(config: configs.ExperimentConfig, markdown: bool) -> str:
    """Returns the table of a model's parts, and what is published about it."""
    summary = summarise(config)
    lines = [f"{config.model_arch} ({config.task.lower()}), clip of {_clip(summary.inputs)}"]
    if summary.classes is not None:
        lines[0] += f", {summary.classes} classes"
    lines += ["", table(PARTS, map(_part_cells, [*summary.parts, summary.total]), markdown), ""]
    lines += _evaluation(summary, config.eval.input)
    if config.model_arch in PUBLISHED:
        total, trainable, operations = PUBLISHED[config.model_arch]
        lines.append(f"Published for the preset: {total:,} parameters, {trainable:,} trainable.")
        if operations is not None:
            lines.append(f"Published per video: {operations:.2f} TFLOPs (docs/models.md).")
    return "\n".join(lines)


def _evaluation(summary: Summary, data: configs.dataset.Dataset) -> list[str]:
    """Returns a line about the views of a sample that is evaluated, if there are several."""
    if summary.backbone is None:
        return []
    from vatt.data import pipeline

    shapes = pipeline.clip_shapes(data)
    own = {modality: shapes[modality] for modality in summary.inputs}
    views = data.num_windows_test * (3 if data.multi_crop and "video" in own else 1)
    cost = _count(summary.backbone, _only(own)).cost.forward * views
    clip = _clip(own)
    return [f"Evaluation: {views} views of {clip} per sample, {cost / 1e12:.2f} TFLOPs."]


def describe_all(markdown: bool) -> str:
    """Returns the table of every preset of the registry."""
    return table(MODELS, (_model_cells(name, summary) for name, summary in presets()), markdown)


def presets() -> Iterator[tuple[str, Summary]]:
    """Yields every preset: models for pretraining, for fine-tuning, text and unified backbones."""
    for name in (name for method in methods.known() for name in method.presets):
        yield name, summarise(configs.resolve(task="pretrain", model_arch=name))
    for name in backbones.fine_tuned():
        for more in ("", " agnostic"):
            label = name + more
            if not more or label in PUBLISHED:
                changes = [AGNOSTIC] if more else []
                config = configs.resolve(task="finetune", model_arch=name, params_override=changes)
                yield label, summarise(config)
    for name, cls in backbones.BACKBONES.items():
        if not cls.fine_tuned:
            yield name, summarise_backbone(name)


def _part_cells(part: Part) -> list[str]:
    grid = "x".join(map(str, part.grid))
    tokens = ["" if count is None else f"{count:,}" for count in part.tokens]
    sizes = [f"{part.parameters:,}", f"{part.trainable:,}"]
    return [part.name, *sizes, grid, *tokens, *_costs(part)]


def _model_cells(name: str, summary: Summary) -> list[str]:
    total = summary.total
    parameters, _, operations = PUBLISHED.get(name, (None, None, None))
    cells = [name, _clip(summary.inputs), f"{total.parameters:,}", f"{total.trainable:,}"]
    cells += ["" if parameters is None else f"{parameters:,}", *_costs(total)]
    if operations is None:
        return [*cells, "", ""]
    cost = _count(summary.backbone, PUBLISHED_CLIP).cost * PUBLISHED_VIEWS
    halved = cost.forward - cost.attention / 2
    return [*cells, f"{cost.forward / 1e12:.2f} ({halved / 1e12:.2f})", f"{operations:.2f}"]


def _costs(part: Part) -> list[str]:
    if part.inference is None:
        return [""] * 4
    operations = [part.inference.forward, part.training.step]
    memory = [part.training.activation_bytes(precision) for precision in PRECISIONS]
    return [_number(n / 1e9) for n in operations] + [_number(n / 2**20) for n in memory]


def _number(value: float) -> str:
    """Returns a number with at least three digits that say something."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _clip(shapes: Shapes) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes.values())


def table(header: Sequence[str], rows: Iterable[Sequence[str]], markdown: bool) -> str:
    """Returns a table, numbers to the right."""
    rows = [list(header), *map(list, rows)]
    if markdown:
        rows.insert(1, ["---"] + ["---:"] * (len(header) - 1))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([c.rjust(w) for c, w in zip(row, widths, strict=True)] for row in rows)
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *line[1:]]).rstrip()
        for row, line in zip(rows, lines, strict=True)
    )


# Command line ----------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vatt.tools.model_summary",
        description=__doc__.split("\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument("--task", help="pretrain (default) or finetune")
    parser.add_argument("--model_arch", metavar="NAME", help="preset, by default that of the task")
    parser.add_argument("--config_file", metavar="FILE", help="YAML file of the experiment")
    parser.add_argument(
        "--params_override",
        metavar="CHANGES",
        action="append",
        default=[],
        help="changes to the configuration; may be given several times",
    )
    parser.add_argument("--all", action="store_true", help="every preset, and nothing else")
    parser.add_argument("--markdown", action="store_true", help="tables as in docs/models.md")
    options = vars(parser.parse_args(arguments))
    every, markdown = options.pop("all"), options.pop("markdown")
    given = [name for name, value in options.items() if value]
    if every and given:
        parser.error(f"--all prints the presets as they are: leave --{given[0]} out")

    def run() -> int:
        config = None if every else configs.resolve(**options)
        quiet.import_tensorflow_quietly()  # heavy from here on
        print(describe_all(markdown) if config is None else describe(config, markdown))
        return 0

    return ended(run, "stopped")


if __name__ == "__main__":
    sys.exit(main())
