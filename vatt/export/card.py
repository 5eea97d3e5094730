"""MODEL_CARD.md: what an exported model is, takes, gives, was trained on and reaches.

Everything comes from the configuration, the cards of the sets and what was measured; what none of
them says is said to be unknown.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vatt import __version__, configs, methods, zoo
from vatt.api.model import Model
from vatt.api.naming import Named
from vatt.configs import experiment
from vatt.data import cards
from vatt.data.features import AUDIO, TEXT, VIDEO
from vatt.errors import DataError, UserError
from vatt.evaluation import summary
from vatt.experiments import media_settings
from vatt.export import snippets
from vatt.export.formats import CALL, Format
from vatt.export.signatures import Signature
from vatt.reporting import about, history

FILE = "MODEL_CARD.md"
UNKNOWN = "not known"
_TASKS = {
    "pretrain": "pretrained without labels: it gives embeddings",
    "finetune": "fine-tuned: it gives classes",
}


def text(
    model: Model,
    named: Named,
    form: Format,
    functions: Sequence[Signature],
    facts: Mapping[str, Any],
) -> str:
    """Returns the card.

    Args:
      model: that was exported.
      named: what it was loaded from.
      form: how it was written.
      functions: of the export.
      facts: of `export.json`.
    """
    run = about.read(named.folder) if named.folder else None
    parts = [
        f"# {_title(named)}",
        "\n".join(_rows(("", ""), _about(model, named, run))),
        "## Use",
        snippets.of(form, functions, model, facts["import_first"]),
        "## Inputs and outputs",
        *_functions(functions),
        "What is outside of these files, and how training had it:",
        "\n".join(f"- {line}" for line in _outside(model, form)),
        "## Training data",
        "\n".join(_training(named)),
        "## Figures",
        "\n".join(_figures(model, named)),
        "## Agreement with the model it was made from",
        "\n".join(_agreement(form, facts)),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(model, named)),
    ]
    return "\n\n".join(parts) + "\n"


def _title(named: Named) -> str:
    cfg = named.cfg
    return f"{cfg.model_arch}, {_task(cfg).partition(':')[0]}"


def _task(cfg: configs.ExperimentConfig) -> str:
    return _TASKS["pretrain" if isinstance(cfg, experiment.Pretrain) else "finetune"]


def _rows(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells)]


def _published(named: Named) -> zoo.Checkpoint | None:
    """The row of a published checkpoint that was asked for by name."""
    try:
        return zoo.find(named.name)
    except UserError:
        return None


def _about(model: Model, named: Named, run: about.Run | None) -> list[tuple[str, object]]:
    cfg, recipe = named.cfg, model.recipe
    launch = run.launch if run else {}
    versions = launch.get("versions")
    trained = [f"vatt {launch['vatt']}"] if "vatt" in launch else []
    if isinstance(versions, dict):
        trained += [f"{name} {version}" for name, version in versions.items()]
    pretrained = isinstance(cfg, experiment.Pretrain)
    own = [f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras")]
    rows = [
        ("Architecture", cfg.model_arch),
        ("What it is", _task(cfg)),
        ("Method of pretraining", methods.of(cfg).name.upper() if pretrained else None),
        ("Takes", ", ".join(model.modalities)),
        ("Classes", f"{len(model.labels)}, in labels.txt" if model.labels else None),
        ("Weights", recipe["weights"]),
        ("Step", f"{recipe['step']:,}" if named.checkpoint else None),
        ("SHA-256 of the checkpoint's index", model.checkpoint if named.checkpoint else None),
        ("Fine-tuned from", None if pretrained or not run else _first_weights(run)),
        ("Trained by", (", ".join(trained) or UNKNOWN) if named.checkpoint else None),
        ("Exported by", ", ".join([f"vatt {__version__}", *own])),
        ("Computes in", "float32" + _other_precision(run)),
    ]
    return [(name, value) for name, value in rows if value is not None]


def _first_weights(run: about.Run) -> str:
    return str(run.config.get("checkpoint_path") or "nothing: trained from scratch")


def _other_precision(run: about.Run | None) -> str:
    trained = run.config.get("precision") if run else None
    return f"; it was trained in {trained}" if trained not in (None, "float32") else ""


def _functions(functions: Sequence[Signature]) -> Iterator[str]:
    for one in functions:
        title = "`model({...})`, as published" if one.name == CALL else f"`{one.name}`"
        yield f"### {title}"
        rows = [
            (way, f"`{name}`", f"`{value}`", value.meaning)
            for way, values in (("in", one.inputs), ("out", one.outputs))
            for name, value in values.items()
        ]
        yield "\n".join(_rows(("", "name", "type and shape", "what it is"), rows))


def _outside(model: Model, form: Format) -> Iterator[str]:
    """What a user has to do before the functions, and after."""
    _, reader, _ = model.parts
    cfg, spec, records = reader.input, reader.spec, reader.settings
    if VIDEO in model.modalities:
        yield (
            f"Videos: records had {records.fps:g} pictures per second, the shorter side at most "
            f"{records.min_side} pixels, JPEG of quality {records.jpeg_quality} (as "
            f"{records.told_by} says). Other pictures are taken as they are."
        )
        if spec.frames > 1:
            missing = (
                "its last picture is repeated" if spec.windows else "it is played again in a loop"
            )
            yield f"A video shorter than a clip: {missing}."
    if AUDIO in model.modalities:
        yield (
            f"Sound: the mean of the channels, resampled to {cfg.sample_rate} Hz; one shorter than "
            "a clip is repeated."
        )
    if VIDEO in model.modalities or AUDIO in model.modalities:
        yield (
            f"Long files: clip after clip. Evaluation takes {cfg.num_windows_test} of a file, "
            "spread evenly, and the mean of what they give "
            + ("(logits)." if model.labels else "(embeddings), at length 1.")
        )
    if TEXT in model.modalities and not form.strings:
        yield "Sentences become numbers of words: vocabulary.txt is the vocabulary, in its order."


# -- data and figures ------------------------------------------------------------------------------


def _training(named: Named) -> Iterator[str]:
    published = _published(named)
    if named.checkpoint is None:
        yield "None: this is a preset, whose weights are random."
        return
    if published is not None:
        yield f"As published: {published.data} ({published.page}). Licences: {UNKNOWN} here."
        return
    if not (named.folder / "config.yaml").is_file():
        yield f"The run's configuration is not beside the checkpoint: {UNKNOWN}."
        return
    names = str(named.cfg.train.input.name).split("+")
    yield from _rows(
        ("set", "what it is", "licence", "from"), [_set(named, name.strip()) for name in names]
    )
    if not isinstance(named.cfg, experiment.Pretrain):
        yield "\nThat is the set of the fine-tuning; what the first weights were trained on, their"
        yield "own run says."


def _set(named: Named, name: str) -> tuple[str, str, str, str]:
    """A row of the table of training data: by the card beside the records, else by ours."""
    found = [card for card in media_settings.sets(named.cfg, named.folder) if card.name == name]
    try:
        card = found[0] if found else cards.describe(name)
    except DataError:
        return name, UNKNOWN, UNKNOWN, UNKNOWN
    source = card.homepage or card.source
    return name, card.description or UNKNOWN, card.licence or UNKNOWN, source or UNKNOWN


def _figures(model: Model, named: Named) -> Iterator[str]:
    published = _published(named)
    if published is not None and published.figures:
        yield f"Published, not measured here: {published.published}."
        return
    found = []
    try:
        read = history.read(named.folder / "metrics.jsonl") if named.folder else None
        at = [] if read is None else read.measures.at_step(model.recipe["step"])
        found = [m for _, m in at if m.checkpoint in ("", model.checkpoint)]
    except UserError:
        pass
    lines = summary.lines(found)
    if not lines:
        yield f"{UNKNOWN.capitalize()}: the run has no evaluation of this checkpoint beside it."
        return
    yield f"Measured at step {model.recipe['step']:,} on these sets, by the run's own evaluation:\n"
    yield from (f"- {line}" for line in lines)
    yield from (f"- {line}" for line in summary.too_small(found))


def _agreement(form: Format, facts: Mapping[str, Any]) -> Iterator[str]:
    compared = facts["compared"]
    yield f"Compared with the live model on clips of {compared['clips']}, in a process without vatt"
    yield f"({_runtime(form)}). Largest error; of values above 1 the share of the largest:\n"
    rows = [(f"`{key}`", f"{error:.1e}") for key, error in compared["largest_errors"].items()]
    yield from _rows(("output", "error"), rows)


def _runtime(form: Format) -> str:
    name = {"onnx": "onnxruntime", "litert": "ai-edge-litert", "keras": "keras"}.get(
        form.name, "tensorflow"
    )
    return f"{name} {importlib.metadata.version(name)}"


def _limits(model: Model, named: Named) -> Iterator[str]:
    if named.checkpoint is None:
        yield "The weights are random: what it gives means nothing."
    if not model.labels:
        pairs = model.parts[0].pairs
        compared = [f"{pair.query} with {pair.target}" for pair in pairs]
        yield f"Compared are {', '.join(compared) or 'no modalities'}, in the spaces named above."
    else:
        yield "It knows the classes in labels.txt and no others; it cannot say that none fits."
    if TEXT in model.modalities:
        yield "Words that are not in vocabulary.txt are unknown to it, all alike."
    yield (
        "How it does on data beside the sets above is not known; bias, fairness and safety were "
        "not measured."
    )
    yield f"Licence of the weights: {UNKNOWN}; that of the data is above, as far as cards say it."
