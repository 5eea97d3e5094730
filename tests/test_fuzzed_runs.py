"""The folder of a run, changed at random: its page is written, its weights are read or refused."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests import fuzzing
from tests.fuzzing import FEW, MANY, Kind
from tests.test_fuzzed_arrays import HEADERS, parts
from tests.test_fuzzed_texts import CONFIGS, ROWS, RUN
from vatt.data import framing
from vatt.evaluation import artefacts, reconstructions
from vatt.reporting import about, attention, classification, grids, history, projections, report
from vatt.reporting import reconstructions as restored
from vatt.training import sources
from vatt.training.checkpoints import CheckpointStore
from vatt.training.curves import Curves

TRAINED = ROWS.replace(b"eval", b"train") + ROWS


def synthetic() -> object:
    """The module that makes up runs for the tests of reports."""
    path = Path(__file__).parent / "reporting" / "synthetic.py"
    spec = importlib.util.spec_from_file_location("reporting_synthetic", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(path: Path) -> None:
    """Writes the page of the run that a file is in."""
    report.write(path.parent)


def header(path: Path) -> None:
    """Makes what the page says of the run itself."""
    log = path.parent / "metrics.jsonl"
    if not log.exists():
        log.write_bytes(TRAINED)
    run = about.read(path.parent)
    about.header(run, history.read(log))
    about.provenance(run)


def event(content: bytes) -> bytes:
    """An event of TensorBoard as its file has it."""
    length = len(content).to_bytes(8, "little")
    return b"".join(
        part + framing.masked_checksum(part).to_bytes(4, "little") for part in (length, content)
    )


def curves(path: Path) -> None:
    Curves(path.parent).keep(lambda step: step < 3)


def bundle(path: Path) -> None:
    """Reads the weights of a checkpoint of which one file was changed."""
    for name, content in BUNDLE.items():
        if name != path.name and not (path.parent / name).exists():
            (path.parent / name).write_bytes(content)
    found = sources.open_source(path.parent / "ckpt-1")
    for key in found.shapes:
        found.tensor(key)


BUNDLE: dict[str, bytes] = {}


def sections(folder: Path) -> dict[str, Kind]:
    """Arrays that sections of a page are drawn from."""
    made = synthetic()
    searched = made.retrieval(3, 1.0, pairs=(("text", "video"),))
    clip = {"given": np.ones((1, 2, 8, 8, 3)), "predicted": np.zeros((1, 2, 8, 8, 3))}
    clip |= {"seen": np.ones((1, 2, 8, 8, 1)), "masked": np.zeros((1, 2, 8, 8, 1))}
    texts = {"source": ["a"], "caption": ["b"], "label_text": ["c|d"]}
    rebuilt = reconstructions.save(folder, "a", 3, {"video": clip}, texts, ["x"], np.uint8)

    def drawn(path: Path, *draw: Callable[[Path], object]) -> Kind:
        def read(path: Path) -> None:
            for section in draw:
                section(path)

        seeds = parts(artefacts.load(path))
        return Kind(path.name, read=read, tokens=HEADERS, choosy=False, **seeds)

    return {
        "examples": drawn(searched.save(folder, 1), grids.section),
        "classified": drawn(
            made.classifier(["a", "b"], 4, 0.5).save(folder, 2),
            classification.classes,
            classification.mistakes,
        ),
        "rebuilt": drawn(rebuilt, lambda path: restored.section([path])),
        "plane": drawn(
            made.save_projection(folder, "a", "video", 4, ["x", "y"], 5), projections.section
        ),
        "attended": drawn(made.save_attention(folder, "a", 5, clips=1), attention.section),
    }


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    towers = {"video": {"a": "model/m/a"}}
    weights = {"model/m/a": np.zeros(3, np.float32), "model/m/b": np.ones((2, 2), np.float32)}
    CheckpointStore(folder).save(1, weights, kind="pretrain", towers=towers)
    for path in folder.glob("ckpt-1.*"):
        BUNDLE[path.name] = path.read_bytes()
    index, data = "ckpt-1.index", "ckpt-1.data-00000-of-00001"
    of_scalar = tf.compat.v1.Summary(value=[{"tag": "loss", "simple_value": 2.0}])
    events = [
        tf.compat.v1.Event(step=n, summary=of_scalar).SerializeToString(deterministic=True)
        for n in (1, 5)
    ]
    return {
        "page": Kind("metrics.jsonl", (TRAINED,), page, choosy=False),
        "launched": Kind("run.json", (RUN,), header, choosy=False),
        "resolved": Kind("config.yaml", CONFIGS, header, choosy=False),
        "curves": Kind(
            "events.out.tfevents.1", (b"".join(map(event, events)),), curves, choosy=False
        ),
        "event": Kind("events.out.tfevents.2", tuple(events), curves, packed=event, choosy=False),
        "weights": Kind(index, (BUNDLE[index],), bundle),
        "tensors": Kind(data, (BUNDLE[data],), bundle),
        **sections(folder),
    }


NAMES = ("page", "launched", "resolved", "curves", "event", "weights", "tensors", "examples",
         "classified", "rebuilt", "plane", "attended")  # fmt: skip


@pytest.mark.parametrize("cases", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_changed_run_is_shown_or_refused(kinds, name, cases):
    fuzzing.check(name, kinds[name], cases)
