"""What `vatt.load` takes, and what it says of a name that is none, before TensorFlow starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vatt
from vatt.api import naming
from vatt.errors import UserError


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A run without files of its checkpoint, and a folder that is none."""
    run = tmp_path / "runs" / "tiny"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("task: pretrain\nmodel_arch: tx_fac_tiny\nseed: 7\n")
    (run / "ckpt-3.json").write_text('{"kind": "pretrain", "architecture": "tx_fac_tiny"}')
    (run / "ckpt-3.index").touch()
    (run / "ckpt-3.data-00000-of-00001").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_imports_nothing_else():
    assert of("import sys, vatt; print([m for m in sys.modules if 'vatt' in m])") == "['vatt']"
    code = "import sys, vatt; vatt.load; print('tensorflow' in sys.modules, 'load' in dir(vatt))"
    assert of(code).split() == ["False", "True"]
    with pytest.raises(AttributeError, match="laod"):
        vatt.laod  # noqa: B018


def test_a_run_and_its_checkpoint_have_the_configuration_beside_them(place):
    for name, checkpoint in (("runs/tiny", "runs/tiny"), ("runs/tiny/ckpt-3",) * 2):
        found = naming.find(name)
        assert (found.cfg.seed, str(found.checkpoint)) == (7, checkpoint)
        assert found.folder.name == "tiny" and found.cfg.checkpoint_path is None
    assert naming.find("runs/tiny", params_override="seed=9").cfg.seed == 9


def test_a_checkpoint_without_a_configuration_says_its_architecture(place):
    (place / "runs" / "tiny" / "config.yaml").unlink()
    assert naming.find("runs/tiny").cfg.model_arch == "tx_fac_tiny"
    (place / "runs" / "tiny" / "ckpt-3.json").write_text("{}")
    with pytest.raises(UserError, match="says which model it is of: give model_arch"):
        naming.find("runs/tiny/ckpt-3")
    found = naming.find("runs/tiny/ckpt-3", model_arch="ut_fac_tiny")
    assert found.cfg.model_arch == "ut_fac_tiny"


def test_weights_that_come_with_the_package_give_way_to_a_folder_of_that_name(place):
    found = naming.find("toy")
    assert found.folder == found.checkpoint == Path(vatt.__file__).parent / "trained" / "toy"
    assert (found.cfg.model_arch, found.cfg.mode) == ("tx_fac_tiny", "eval")
    assert sum(file.stat().st_size for file in found.folder.iterdir()) < 5e6
    (place / "runs" / "tiny").rename(place / "toy")
    assert str(naming.find("toy").folder) == "toy"


def test_a_preset_has_no_weights(place):
    found = naming.find("TX_FAC_tiny")
    assert (found.checkpoint, found.folder, found.cfg.model_arch) == (None, None, "tx_fac_tiny")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runs/tinny", r"no run, checkpoint or preset.* Did you mean 'runs/tiny'"),
        ("tx_fac_tinny", r"Did you mean 'tx_fac_tiny'"),
        ("runs", r"no checkpoint .* in that folder; there is runs/tiny"),
        ("runs/tiny/ckpt-7", r"Did you mean 'runs/tiny/ckpt-3'"),
        ("runs/tiny/ckpt-3.index", "without its ending"),
        ("nowhere/x", "no folder nowhere"),
    ],
)
def test_names_that_are_none_are_told_with_the_nearest(place, name, message):
    with pytest.raises(UserError, match=message):
        vatt.load(name)
