"""The guard of a run's folder: what may change when a run goes on, and what may not."""

from __future__ import annotations

import json

import pytest

from vatt import configs
from vatt.errors import UserError
from vatt.training.rundir import RunDir

TOY = {"config_file": "configs/pretrain/toy.yaml"}
LOSS = "model_config.loss_config.bridge.0.temperature"


@pytest.mark.parametrize(
    ("override", "path"),
    [
        (f"{LOSS}=0.5", LOSS),
        ("model_config.backbone_config.video_model_kwargs={d_ff: 96}", "model_config."),
        ("seed=3", "seed: 0 -> 3"),
        ("train.input.batch_size=16", "train.input.batch_size: 32 -> 16"),
        ("train.optimizer.name=AdamW", "train.optimizer.name"),
    ],
)
def test_another_configuration_is_refused_by_its_keys(tmp_path, override, path):
    folder = RunDir(tmp_path)
    folder.claim(configs.resolve(**TOY))
    before = (tmp_path / "config.yaml").read_text()
    changed = configs.resolve(**TOY, params_override=override)
    with pytest.raises(UserError, match="another configuration") as caught:
        folder.claim(changed)
    assert path in str(caught.value)
    assert (tmp_path / "config.yaml").read_text() == before
    folder.claim(changed, allow_change=True)
    assert configs.from_yaml(tmp_path / "config.yaml") == changed


def test_another_architecture_is_refused(tmp_path):
    RunDir(tmp_path).claim(configs.resolve(**TOY))
    with pytest.raises(UserError, match="model_arch: 'tx_fac_tiny' -> 'tx_fac'"):
        RunDir(tmp_path).claim(configs.resolve(model_arch="tx_fac"))


@pytest.mark.parametrize(
    "override",
    [
        "mode=train_and_eval",
        "data_dir=elsewhere",
        "strategy_config.num_devices=2",
        "train.max_checkpoints=2",
        "train.log_every_steps=10",
        "eval.input.batch_size=16,eval.poll_interval_s=5",
    ],
)
def test_what_does_not_make_another_run_may_change(tmp_path, override):
    RunDir(tmp_path).claim(configs.resolve(**TOY))
    changed = configs.resolve(**TOY, params_override=override)
    RunDir(tmp_path).claim(changed)
    assert configs.from_yaml(tmp_path / "config.yaml") == changed


NONSENSE = ["", "[" * 100_000, "9" * 5000, "[1, 2]", '{"launches": 3}', "&a [*a]", "\x00", "{"]


@pytest.mark.parametrize("text", NONSENSE, ids=range(len(NONSENSE)))
def test_damaged_files_of_a_run_are_told_and_not_believed(tmp_path, text, caplog):
    folder = RunDir(tmp_path)
    cfg = configs.resolve(**TOY)
    (tmp_path / "config.yaml").write_text(text)
    if text:  # an empty one says nothing, so that everything differs
        with pytest.raises(UserError, match=r"config\.yaml|another configuration"):
            folder.claim(cfg)
    (tmp_path / "config.yaml").unlink()
    folder.claim(cfg)
    (tmp_path / "run.json").write_text(text)
    with caplog.at_level("WARNING", "absl"):
        folder.record_launch(cfg, ["ü"])
    assert "run.json: cannot be read" in caplog.text
    folder.record_launch(cfg, ["b"])
    launches = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["launches"]
    assert [launch["command"] for launch in launches] == [["ü"], ["b"]]
    good = '{"step": 2, "split": "train", "metrics": {}}'
    late = good.replace("2", "3")
    odd = good.replace("2", '"2"')
    (tmp_path / "metrics.jsonl").write_text(f"{good}\n{text}\n{odd}\n{late}\n")
    folder.forget_after(2)
    assert (tmp_path / "metrics.jsonl").read_text() == f"{good}\n"


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    """Its file lacks what came since; the defaults are what it was trained with."""
    RunDir(tmp_path).claim(configs.resolve(**TOY))
    file = tmp_path / "config.yaml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if "horizontal_flip" not in line))
    RunDir(tmp_path).claim(configs.resolve(**TOY))
    file.write_text("".join(line for line in lines if "horizontal_flip" not in line))
    changed = configs.resolve(**TOY, params_override="train.input.horizontal_flip=false")
    with pytest.raises(UserError, match=r"input\.horizontal_flip: True -> False"):
        RunDir(tmp_path).claim(changed)
