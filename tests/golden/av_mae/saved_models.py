"""How published SavedModels are called: `savedmodel_contract*.json`, on models of fewer layers.

Each is made of the configuration of its row in `configs/`, with two narrow layers in place of 24,
which changes no shape, written, and read again: what is compared is what the files say.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.golden.checks import Check, Checks, Golden
from vatt import configs
from vatt.api import building, naming
from vatt.api.encoders import LOGITS, ClassifierEncoder
from vatt.api.model import Model
from vatt.api.windows import Reader
from vatt.data import pipeline
from vatt.experiments import labelled
from vatt.experiments.media_settings import MediaSettings
from vatt.export import called, formats
from vatt.modeling import factory

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
FEW = {"num_layers": 2, "d_ff": 64}
OF = {"audiovisual": ["video", "audio"], "audio": ["audio"], "video": ["video"]}
# Data, what it was pretrained on and, where it was fine-tuned, on what.
_NAME = re.compile(r"([a-z]+)_(?:pretrained_([a-z]+)_)?(pretrained|finetuned)_([a-z]+)")


def contract_file(content: Golden) -> Checks:
    """Names, shapes and types of what goes in and comes out, and which inputs may be left out."""
    for name, expected in content.items():
        found = _NAME.fullmatch(name)
        if found is None or found[4] not in OF:
            yield Check(f"{name}: no such model is known", 1.0, 0.0)
            continue
        model = _pretrained if found[3] == "pretrained" else _fine_tuned
        with tempfile.TemporaryDirectory() as folder:
            form = formats.FORMATS["saved_model"]
            made = called.of_model(model(found[1], found[4], expected), form)
            form.write(made, Path(folder))
            yield from _compared(name, tf.saved_model.load(folder), expected)


def _config(task: str, data: str, modalities: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The file of a row, or that of both modalities where a modality has none; and changes."""
    stem = {"pretrain": "av_mae", "finetune": "mbt"}[task]
    own = CONFIGS / task / f"{stem}_{data}_{modalities}.yaml"
    file = own if own.is_file() else CONFIGS / task / f"{stem}_{data}.yaml"
    field = {"pretrain": "modalities", "finetune": "modality_fusion"}[task]
    changes = {"model_config": {**FEW, **changes, field: OF[modalities]}}
    return {"config_file": str(file), "params_override": [formats.PRECISION, changes]}


def _pretrained(data: str, modalities: str, expected: Mapping[str, Any]) -> Model:
    changes = {"fusion_layers": 1, "decoder_config": {"num_layers": 1, "d_ff": 64}}
    given = _config("pretrain", data, modalities, changes)
    return building.build(naming.find("av_mae_large", **given))


def _fine_tuned(data: str, modalities: str, expected: Mapping[str, Any]) -> Model:
    classes = expected["outputs"][LOGITS]["shape"][-1]
    cfg = configs.resolve(
        task="finetune", mode="eval", **_config("finetune", data, modalities, {"fusion_layer": 1})
    )
    read, takes = cfg.eval.input, cfg.model.modalities
    model = factory.build_classifier(cfg.model, num_classes=classes, multi_label=True)
    shapes = pipeline.clip_shapes(read)
    model.build(labelled.as_inputs({m: (None, *shapes[m]) for m in takes}))
    return Model(
        cfg.model_arch,
        ClassifierEncoder(model),
        Reader(read, MediaSettings(), takes),
        None,
        checkpoint="",
        recipe={},
        labels=[str(number) for number in range(classes)],
    )


def _compared(name: str, loaded: Any, expected: Mapping[str, Any]) -> Checks:
    served = loaded.signatures[formats.DEFAULT]
    inputs = _described(served.structured_input_signature[1])
    yield _same(f"{name}/inputs", inputs, _listed(expected["inputs"]))
    outputs = {key: (shape, "float32") for key, (shape, _) in _listed(expected["outputs"]).items()}
    yield _same(f"{name}/outputs", _described(served.structured_outputs), outputs)
    calls = {}
    for function in loaded.__call__.concrete_functions:
        (given,), _ = function.structured_input_signature
        calls[frozenset(given)] = _described(given), function.structured_outputs
    for names in (expected["inputs"], expected["used"]):
        given, returned = calls[frozenset(names)]
        wanted = {key: inputs[key] for key in names}
        yield _same(f"{name}/called with {' and '.join(names)}", given, wanted)
        alone = "single tensor" in str(expected["outputs"])
        yield _same(f"{name}/one tensor", not isinstance(returned, Mapping), alone)
        found = _described({LOGITS: returned} if alone else returned)
        yield _same(f"{name}/returned for {' and '.join(names)}", found, outputs)


def _described(values: Mapping[str, Any]) -> dict[str, tuple[list[int | None], str]]:
    return {name: (x.shape.as_list(), x.dtype.name) for name, x in values.items()}


def _listed(values: Mapping[str, Any]) -> dict[str, tuple[list[int | None], str]]:
    return {name: (x["shape"], x.get("dtype", "float32")) for name, x in values.items()}


def _same(name: str, ours: object, theirs: object) -> Check:
    equal = ours == theirs
    return Check(name if equal else f"{name}: {ours}, not {theirs}", 0.0 if equal else np.inf, 0.0)


HANDLERS = {"savedmodel_contract*.json": contract_file}
