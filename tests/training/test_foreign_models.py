"""Models that others saved with code inside are no checkpoints, and no code of them is run."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import keras
import parsed
import pytest
import tensorflow as tf

from vatt import main
from vatt.errors import EXIT_CHECKPOINT, CheckpointError
from vatt.training import sources

PACKAGE = Path(main.__file__).parent
TOY = ["vatt", "--model_arch=tx_fac_tiny", "--mode=train"]


class Marking(tf.Module):
    """A SavedModel that writes a file when it is called."""

    def __init__(self, mark):
        super().__init__()
        self.mark, self.weight = str(mark), tf.Variable(tf.zeros([2]))

    @tf.function(input_signature=[tf.TensorSpec([2])])
    def __call__(self, x):
        tf.io.write_file(self.mark, "ran")
        return x + self.weight


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "ran"


def lambda_archive(path, mark):
    """A `.keras` archive whose Lambda touches `mark` as soon as it is called."""
    code = f"lambda x: (__import__('os').mknod({str(mark)!r}), x)[1]"
    layer = keras.layers.Lambda(eval(code), output_shape=(2,))
    keras.Sequential([keras.layers.Input((2,)), layer]).save(path)
    keras.models.load_model(path, safe_mode=False)(tf.zeros([1, 2]))
    mark.unlink()  # what whoever loads it runs
    return path


@pytest.mark.parametrize("kind", ["archive", "weights", "saved_model", "prefix"])
def test_a_model_with_code_inside_is_refused(tmp_path, mark, kind, capsys):
    """R43."""
    if kind == "saved_model":
        path = tmp_path / "exported"
        tf.saved_model.save(Marking(mark), path)
        assert not mark.exists()
    else:
        path = lambda_archive(tmp_path / "model.keras", mark)
        assert "lambda" in zipfile.ZipFile(path).read("config.json").decode().lower()
    if kind == "weights":
        path = path.rename(tmp_path / "model.weights.h5")
    if kind == "prefix":  # under the names that a checkpoint has
        for ending in ("index", "data-00000-of-00001"):
            (tmp_path / f"ckpt-1.{ending}").write_bytes(path.read_bytes())
        path = tmp_path / "ckpt-1"
    with pytest.raises(CheckpointError):
        sources.open_source(path)
    assert not mark.exists()
    if kind == "prefix":  # the command looks for the data before it opens such files
        return
    command = [*TOY, "--data_dir=nowhere", f"--model_dir={tmp_path / 'run'}"]
    code = main.main([*command, f"--override_checkpoint={path}"])
    told = capsys.readouterr().err
    assert code == EXIT_CHECKPOINT and told.startswith("error: ") and "Traceback" not in told
    assert os.path.basename(path) in told
    assert not mark.exists()


LOADS = ("load_model", "saved_model.load", "TFSMLayer", "model_from_json", "load_weights",
         "saved_model.load_v2", "hub.load", "from_saved_model")  # fmt: skip


def loading(path):
    """Lines of a file that load a model with all that is in it."""
    return [f"{name}:{call.lineno}" for name, call in parsed.calls(path) if name.endswith(LOADS)]


def test_no_code_loads_whole_models():
    """But for the program that runs an export of ours, in a process of its own, right after it."""
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if loading(path)}
    assert found == {"export/runner.py"}
