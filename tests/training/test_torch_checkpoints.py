"""Files of PyTorch as checkpoints: where the weights stand, and what is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.torch_writer import WRITERS, Asked, write_stream
from vatt.errors import EXIT_CHECKPOINT, CheckpointError
from vatt.training.checkpoint_files import is_torch, of_prefix
from vatt.training.torch_checkpoints import TorchCheckpoint

REPOSITORY = Path(__file__).resolve().parents[2]
WEIGHTS = {
    "fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fc.bias": np.ones(2, np.float32),
}
PARALLEL = {f"module.{name}": value for name, value in WEIGHTS.items()}


def refused(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        TorchCheckpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize(
    ("content", "entry", "beginning"),
    [
        ({"model": WEIGHTS, "epoch": 3}, "model", ""),
        ({"epoch": 3, "state_dict": PARALLEL}, "state_dict", "module."),
        ({"model": {"other": np.zeros(1)}, "state_dict": WEIGHTS}, "state_dict", ""),
        (WEIGHTS, "", ""),
        (PARALLEL, "", "module."),
    ],
)
def test_where_the_weights_stand(tmp_path, write, content, entry, beginning):
    checkpoint = TorchCheckpoint(write(tmp_path / "a.pth", content))
    assert (checkpoint.entry, checkpoint.beginning) == (entry, beginning)
    assert checkpoint.shapes == {name: value.shape for name, value in WEIGHTS.items()}
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(checkpoint.get_tensor(name), value)
    assert set(checkpoint.beside) == (set(content) - {entry} if entry else set())


def test_only_a_beginning_that_all_names_have_is_left_out(tmp_path):
    content = {"model": WEIGHTS | {"module.fc.weight": np.zeros(1, np.float32)}}
    assert len(TorchCheckpoint(write_stream(tmp_path / "a.pth", content)).shapes) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"epoch": 3, "weights": WEIGHTS},
            "under state_dict or model; it holds 'epoch', 'weights'",
        ),
        ({"model": {}}, "no weights in model"),
        ({"model": {"fc.weight": 3}}, "'fc.weight' in model is no tensor but a int"),
        ({"model": WEIGHTS | {4: np.zeros(1)}}, "4 in model is no name of weights"),
        ({"model": {"a\nb": np.zeros(1)}}, r"'a\nb' in model is no name of weights"),
        ({}, "holds a dict"),
        ([], "holds a list"),
        (np.zeros(3), "holds one tensor"),
        ({"model": Asked("os.system", "true")}, "asks for 'os.system'"),
        (Asked("my.models.GDT"), "asks for 'my.models.GDT'"),
    ],
)
def test_what_has_no_weights_is_told(tmp_path, content, message):
    assert message in refused(write_stream(tmp_path / "a.pth", content))


def test_files_that_cannot_be_read(tmp_path):
    assert refused(tmp_path / "a.pth").endswith("no such file.")
    assert "cannot be read (Is a directory" in refused(tmp_path)
    path = write_stream(tmp_path / "a.pth", {"model": WEIGHTS})
    checkpoint = TorchCheckpoint(path)
    path.write_bytes(path.read_bytes()[:-4])
    assert "cut off" in refused(path)
    with pytest.raises(CheckpointError, match=r"a\.pth: cannot read fc\.bias \(cut off"):
        for name in reversed(checkpoint.shapes):
            checkpoint.get_tensor(name)


def test_a_name_that_is_nearly_right(tmp_path):
    write_stream(tmp_path / "gdt_K400.pth", {"model": WEIGHTS})
    near = "Did you mean 'gdt_K400.pth'?"
    assert near in refused(tmp_path / "gdt_k40.pth")
    with pytest.raises(CheckpointError, match=re.escape(near)):
        of_prefix(tmp_path / "gdt_K400")


def test_by_name():
    assert is_torch("a/gdt_K400.pth") and is_torch("checkpoint.pth.tar") and is_torch("A.PTH")
    assert not is_torch("ckpt-500000") and not is_torch("a.tar")


def test_a_hostile_checkpoint_is_refused_before_tensorflow_starts(tmp_path):
    """By the command: one line, its exit code, nothing run."""
    mark = tmp_path / "ran"
    path = write_stream(tmp_path / "a.pth", {"model": Asked("os.system", f"touch {mark}")})
    program = (
        "import sys, vatt.main\n"
        "code = vatt.main.main(sys.argv)\n"
        "print('tensorflow' in sys.modules)\n"
        "sys.exit(code)\n"
    )
    command = [sys.executable, "-c", program, "--task=finetune", "--mode=train"]
    command += ["--model_arch=vit_tiny", f"--model_dir={tmp_path / 'run'}"]
    command += [f"--override_checkpoint={path}"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == EXIT_CHECKPOINT, result.stderr
    assert f"{path}: asks for 'os.system'" in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == "False\n"
    assert not mark.exists()
