"""Which folder the figures of an evaluation go to: never over those of something else."""

from __future__ import annotations

import json

import pytest
import yaml

from vatt import configs
from vatt.training import evaluations
from vatt.training.rundir import RunDir

TOY = {"config_file": "configs/pretrain/toy.yaml"}


def config(folder, override="", mode="eval", source=None):
    return configs.resolve(
        **TOY,
        mode=mode,
        model_dir=str(folder),
        params_override=override,
        override_checkpoint=source and str(source),
    )


@pytest.fixture
def run(tmp_path):
    """A run that was trained and evaluated, and began with a checkpoint of another one."""
    folder = tmp_path / "run"
    RunDir(folder).claim(config(folder, mode="train", source=tmp_path / "older"))
    (folder / "metrics.json").write_text("{}")
    return folder


def place(folder, *args, **kwargs):
    cfg = config(folder, *args, **kwargs)
    found = evaluations.place(RunDir(folder), cfg)
    assert found.checkpoints == folder
    evaluations.claim(found, cfg, ["vatt"])
    (found.path / "metrics.json").write_text("{}")
    return found.path.relative_to(folder).as_posix()


@pytest.mark.parametrize(
    ("override", "there"),
    [
        ("", "."),
        ("eval.poll_interval_s=1,eval.input.batch_size=8,eval.report=false", "."),
        ("data_dir=elsewhere,strategy_config.num_devices=2", "."),
        ("eval.input.name=mine", "evaluations/mine"),
        ("eval.input.name=[a,b]", "evaluations/a+b"),
        ("eval.input.name=mine,eval.input.split=valid", "evaluations/mine-valid"),
        ("eval.input.num_windows_test=2", "evaluations/toy_retrieval+toy_actions+toy_sounds"),
        ("eval.probes=[knn]", "evaluations/toy_retrieval+toy_actions+toy_sounds"),
        ("precision=mixed_bfloat16", "evaluations/toy_retrieval+toy_actions+toy_sounds"),
    ],
)
def test_what_changes_a_figure_has_a_folder_of_its_own(run, override, there):
    before = (run / "config.yaml").read_text()
    assert place(run, override) == there
    assert place(run, override) == there  # and the same one again
    assert (run / "config.yaml").read_text() == before
    recorded = yaml.safe_load((run / there / "config.yaml").read_text())
    assert there == "." or recorded["eval"] == config(run, override).as_dict()["eval"]


def test_two_evaluations_of_a_set_have_two_folders(run):
    assert place(run, "eval.input.name=mine") == "evaluations/mine"
    assert place(run, "eval.input.name=mine,eval.zero_shot=false") == "evaluations/mine-2"
    assert place(run, "eval.input.name=mine") == "evaluations/mine"
    launches = json.loads((run / "evaluations" / "mine" / "run.json").read_text())["launches"]
    assert [launch["command"] for launch in launches] == [["vatt"]]


def test_checkpoints_of_another_run_are_not_those_of_the_run(run, tmp_path):
    assert place(run, source=run / "ckpt-10") == "."
    other = place(run, source=tmp_path / "older")
    assert other == "evaluations/toy_retrieval+toy_actions+toy_sounds"
    recorded = yaml.safe_load((run / other / "config.yaml").read_text())
    assert recorded["checkpoint_path"] == str(tmp_path / "older")


def test_a_folder_for_figures_alone_belongs_to_what_was_evaluated_first(tmp_path):
    (tmp_path / "a").mkdir()
    assert place(tmp_path / "out", source=tmp_path / "a") == "."
    assert place(tmp_path / "out", source=tmp_path / "a" / "ckpt-7") == "."
    assert place(tmp_path / "out", "eval.input.name=x", source=tmp_path / "a") == "evaluations/x"


def test_a_run_without_figures_may_be_given_another_evaluation_when_it_goes_on(run):
    changed = config(run, "eval.input.name=mine", mode="train_and_eval")
    assert evaluations.place(RunDir(run), changed).path == run / "evaluations" / "mine"
    kept = evaluations.own(RunDir(run), changed)
    assert kept.eval.input.name == ("toy_retrieval", "toy_actions", "toy_sounds")
    assert kept.mode == "train_and_eval"
    (run / "metrics.json").unlink()
    assert evaluations.place(RunDir(run), changed).path == run


def test_a_field_of_a_later_version_does_not_make_another_evaluation(run):
    tree = yaml.safe_load((run / "config.yaml").read_text())
    del tree["eval"]["zero_shot"], tree["eval"]["input"]["multi_crop"]
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    assert place(run) == "."


def earlier(run, **written):
    """As a version wrote config.yaml that had the probes as default and no `eval.evaluators`."""
    tree = yaml.safe_load((run / "config.yaml").read_text())
    del tree["eval"]["evaluators"], tree["eval"]["wait_for_run"]
    tree["eval"] |= {"probes": ["linear", "knn"]} | written
    (run / "config.yaml").write_text(yaml.safe_dump(tree))


@pytest.mark.parametrize(
    "override",
    ["", "eval.probes=[knn,linear]", "eval.evaluators=[retrieval,linear,knn,zero_shot]"],
)
def test_the_same_evaluators_are_the_same_evaluation_whichever_field_says_so(run, override):
    earlier(run)
    if "evaluators" in override:
        override += ",eval.probes=null"
    assert place(run, override) == "."


def told(caplog, *args, **kwargs):
    with caplog.at_level("INFO"):
        folder = place(*args, **kwargs)
    (line,) = [r.getMessage() for r in caplog.records if "says another evaluation" in r.message]
    assert line.endswith(str(args[0] / folder))
    return line


def test_a_field_that_an_earlier_version_did_not_have_may_make_another_one(run, caplog):
    earlier(run)
    line = told(caplog, run, "eval.evaluators=[knn],eval.probes=null")
    assert "eval.evaluators: None -> ['knn']" in line
    assert "eval.probes: ['linear', 'knn'] -> None" in line


def test_which_setting_differs_is_told(run, tmp_path, caplog):
    line = told(caplog, run, "eval.probes=[knn],eval.report=false,eval.input.num_windows_test=2")
    assert "eval.input.num_windows_test: 4 -> 2; eval.probes: None -> ['knn'])" in line
    assert "report:" not in line
    caplog.clear()
    line = told(caplog, run, source=tmp_path / "other" / "ckpt-10")
    assert f"checkpoint_path: None -> '{tmp_path / 'other'}'" in line
    caplog.clear()
    many = ",".join(f"eval.input.{name}=3" for name in ("video_stride", "audio_stride", "mel_bins"))
    line = told(caplog, run, f"{many},eval.input.mixup_alpha=3,eval.input.mixup_beta=3")
    assert "; and 1 more)" in line and "mixup_beta" not in line


def test_settings_that_are_no_longer_accepted_are_compared_too(run, caplog):
    earlier(run, no_longer_there=7, probes=None)
    assert place(run) == "."
    assert "eval.zero_shot: True -> False" in told(caplog, run, "eval.zero_shot=false")


def test_an_evaluation_without_figures_leaves_its_folder_to_the_next_one(tmp_path):
    (tmp_path / "a").mkdir()
    for override in ("eval.input.name=wrong", "eval.input.name=right"):
        cfg = config(tmp_path / "out", override, source=tmp_path / "a")
        found = evaluations.place(RunDir(tmp_path / "out"), cfg)
        evaluations.claim(found, cfg, ["vatt"])
        assert found.path == tmp_path / "out"
    recorded = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert recorded["eval"]["input"]["name"] == ["right"]


@pytest.mark.parametrize("rate", ["null", "10.0"])
def test_the_rate_that_was_the_published_rule_does_not_make_another_evaluation(run, rate):
    tree = yaml.safe_load((run / "config.yaml").read_text())
    assert tree["eval"]["input"]["fps"] == 10.0
    for part in ("train", "eval"):
        del tree[part]["input"]["horizontal_flip"]  # as versions wrote it that had no null
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    assert place(run, f"eval.input.fps={rate}") == "."
