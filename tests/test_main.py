"""The command line: help at once, bad input refused plainly, good input handed to the executor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import vatt
from vatt import configs, main
from vatt.errors import CheckpointError, DataError

HEAVY = ("tensorflow", "keras", "numpy", "pydantic")


@pytest.fixture
def executor(monkeypatch):
    """Stands in for the executors and TensorFlow; keeps what it was called with."""
    calls = []

    def run(config, **arguments):
        calls.append((config, arguments))
        if calls[0][0].seed == 13:
            raise DataError("no such shard")
        if calls[0][0].seed == 14:
            raise CheckpointError("damaged")
        if calls[0][0].seed == 15:
            raise KeyboardInterrupt
        return 42 if calls[0][0].seed == 42 else 0

    package = types.ModuleType("vatt.experiments")
    package.executor = types.SimpleNamespace(run=run)
    package.beforehand = types.SimpleNamespace(check=lambda config, fresh_start: None)
    monkeypatch.setitem(sys.modules, "vatt.experiments", package)
    monkeypatch.setattr("vatt.quiet.import_tensorflow_quietly", lambda verbose: None)
    return calls


def test_help_imports_nothing_heavy_and_is_quick():
    program = (
        "import sys\nfrom vatt import main\ncode = main.main(['vatt', '--help'])\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), code)"
    )
    best, output = float("inf"), ""
    for _ in range(3):
        started = time.perf_counter()
        output = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        best = min(best, time.perf_counter() - started)
    assert output.splitlines()[-1] == "[] 0"
    for flag in ("task", "mode", "model_dir", "model_arch", "override_checkpoint", "config_file",
                 "params_override", "strategy_type", "tpu", "data_dir", "verbose"):  # fmt: skip
        assert f"--{flag}\n" in output
    assert best < 1.0


def test_help_begins_with_what_the_command_does(capsys):
    assert main.main(["vatt", "--help"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("Trains and evaluates") and "->" not in first


def test_the_version(capsys):
    assert main.main(["vatt", "--version"]) == 0
    assert capsys.readouterr().out == f"vatt {vatt.__version__}\n"


def test_a_refused_configuration_never_starts_tensorflow():
    program = (
        "import sys\nfrom vatt import main\n"
        "code = main.main(['vatt', '--model_dir=m', '--params_override=train.inptu=1'])\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)), code)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "[] 2"
    assert result.stderr.startswith("error: a problem in the configuration:\n  train.inptu = 1")
    assert "Did you mean 'input'?" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--modle_dir=x"], "Did you mean: model_dir"),
        (["--model_dir"], "model_dir"),
        (["x"], "unexpected argument 'x'"),
        ([], "--model_dir="),
        (["--model_dir=m", "--model_arch=tx_fac_tinny"], "Did you mean 'tx_fac_tiny'?"),
        (["--model_dir=m", "--config_file=configs/pretrain/toi.yaml"], "pretrain/toy.yaml'?"),
        (["--model_dir=m", "--task=finetune", "--model_arch=vit_bse"], "Did you mean 'vit_base'?"),
    ],
)
def test_mistakes_end_with_a_message_and_code_2(arguments, says, capsys, executor):
    assert main.main(["vatt", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert says in captured.err
    assert captured.out == ""
    assert executor == []


def test_flags_reach_the_executor(executor):
    command = [
        "vatt",
        "--task=PRETRAIN",
        "--mode=EVAL",
        "--model_arch=TX_FAC_TINY",
        "--model_dir=runs/a",
        "--override_checkpoint=runs/b/ckpt-1",
        "--strategy_type=One_Device",
        "--data_dir=records",
        "--params_override=seed=1",
        "--params_override={seed: 3}",
        "--fresh_start",
    ]
    assert main.main(command) == 0
    [(config, arguments)] = executor
    assert (config.mode, config.model_arch, config.seed) == ("eval", "tx_fac_tiny", 3)
    assert (config.model_dir, config.data_dir) == ("runs/a", "records")
    assert config.checkpoint_path == "runs/b/ckpt-1"
    assert config.strategy_config.distribution_strategy == "one_device"
    assert arguments == {
        "command": command,
        "allow_config_change": False,
        "fresh_start": True,
        "trackers": (),
        "stored": None,
    }


def test_flags_of_an_earlier_call_are_forgotten(executor):
    main.main(["vatt", "--model_dir=a", "--params_override=seed=1"])
    main.main(["vatt", "--model_dir=b"])
    assert [config.seed for config, _ in executor] == [1, 0]


def test_eval_takes_the_configuration_of_the_run(executor, tmp_path):
    written = configs.resolve(
        model_arch="tx_fac_tiny",
        config_file="configs/pretrain/toy.yaml",
        params_override="seed=7,mode=train",
        override_checkpoint="what/training/started/from",
    )
    (tmp_path / "config.yaml").write_text(configs.to_yaml(written))
    run = f"--model_dir={tmp_path}"
    assert main.main(["vatt", "--mode=Eval", run, "--params_override=data_dir=records"]) == 0
    assert main.main(["vatt", "--mode=eval", run, "--override_checkpoint=one"]) == 0
    other = ["--config_file=configs/pretrain/toy_long.yaml"]
    assert main.main(["vatt", "--mode=eval", run, *other]) == 0
    assert main.main(["vatt", "--mode=train", run]) == 0
    evaluated, one, given, trained = [config for config, _ in executor]
    assert (evaluated.mode, evaluated.model_arch, evaluated.seed) == ("eval", "tx_fac_tiny", 7)
    assert (evaluated.checkpoint_path, evaluated.data_dir) == (None, "records")
    assert (one.checkpoint_path, one.seed) == ("one", 7)
    long = configs.resolve(config_file="configs/pretrain/toy_long.yaml")
    assert (given.seed, given.train) == (0, long.train)
    assert long.train != written.train
    assert (trained.seed, trained.model_arch) == (0, "tx_fac")  # only eval looks there


@pytest.mark.parametrize(("seed", "code"), [(0, 0), (13, 3), (14, 5), (15, 130), (42, 42)])
def test_exit_codes(seed, code, executor):
    assert main.main(["vatt", "--model_dir=m", f"--params_override=seed={seed}"]) == code


QUIET = """
import os, sys
from vatt import quiet
try:
    with quiet._error_stream_held():
        os.write(2, b"noise from C++\\n")
        print("noise from Python", file=sys.stderr)
        if {fail}:
            raise ImportError("broken")
except ImportError:
    pass
print("after", file=sys.stderr)
"""


@pytest.mark.parametrize("fail", [False, True])
def test_start_up_noise_is_held_and_replayed_on_failure(fail):
    result = subprocess.run(
        [sys.executable, "-c", QUIET.format(fail=fail)], capture_output=True, text=True, check=True
    )
    held = "noise from C++\nnoise from Python\n" if fail else ""
    assert result.stderr == held + "after\n"


def test_the_module_runs_from_anywhere(tmp_path):
    repository = Path(main.__file__).resolve().parents[1]
    result = subprocess.run(
        [sys.executable, "-m", "vatt.main", "--config_file=configs/pretrain/toy.yaml"],
        cwd=tmp_path, env={"PYTHONPATH": str(repository)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 2
    assert "model_dir is missing" in result.stderr  # so the file was found


TOY = ["--config_file=configs/pretrain/toy.yaml"]


WITHOUT_TENSORFLOW = """
import sys
from vatt import main
code = main.main(["vatt", *sys.argv[1:]])
print(sorted({"tensorflow", "keras"} & set(sys.modules)))
sys.exit(code)
"""


def test_no_data_folder_is_told_before_tensorflow_starts(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "VATT_DATA_DIR"}
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *TOY, f"--model_dir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (result.returncode, result.stdout) == (3, "[]\n")
    assert result.stderr.startswith("error: data set 'toy_howto': no data folder given.")


def test_missing_data_are_told_before_a_run_in_a_store_is_opened(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vatt.stores.Store", None)  # which nobody asks
    flags = ["--model_dir=gs://bucket/run", f"--data_dir={tmp_path}"]
    assert main.main(["vatt", *TOY, *flags]) == 3
    assert "error: data set 'toy_howto' not found" in capsys.readouterr().err


def test_a_set_without_what_the_model_takes_is_told_before_tensorflow_starts(tmp_path):
    (tmp_path / "mute").mkdir()
    (tmp_path / "mute" / "card.yaml").write_text(
        "name: mute\ntasks: [pretrain]\nvideo: {fps: 10}\n"
        "splits: {train: {pattern: 'train-*', num_shards: 1, records: 4}}\n"
    )
    arguments = ["--model_arch=gdt_tiny", "--mode=train", f"--model_dir={tmp_path / 'run'}"]
    arguments += [f"--data_dir={tmp_path}", "--params_override=train.input.name=mute"]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments], capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (3, "[]\n")
    said = "error: Data set 'mute' has no audio, but the model is trained on audio.\n"
    assert result.stderr == said


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_workers_that_cannot_be_are_told_before_tensorflow_starts(tmp_path, mode):
    (tmp_path / "config.yaml").write_text("")
    arguments = [*TOY, f"--mode={mode}", f"--model_dir={tmp_path}", "--data_dir=."]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CONFIG": '{"cluster": {"worker": ["host:port"]}}'},
    )
    assert (result.returncode, result.stdout) == (2, "[]\n")
    assert result.stderr.startswith("error: TF_CONFIG: the workers are ['host:port']; accepted are")
    assert len(result.stderr.splitlines()) == 1


def evaluate(folder, capsys, *more):
    code = main.main(["vatt", *TOY, "--mode=eval", f"--model_dir={folder}", *more])
    return code, capsys.readouterr().err


def test_evaluating_a_run_that_is_not_there(tmp_path, capsys):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "config.yaml").write_text("")
    code, told = evaluate(tmp_path / "toi", capsys)
    assert code == 5
    assert told.startswith(f"error: there is no run in {tmp_path / 'toi'} (no such folder). ")
    assert "Did you mean 'toy'?" in told and "eval.wait_for_run=true" in told
    assert not (tmp_path / "toi").exists()
    (tmp_path / "empty").mkdir()
    assert "there is no run in" in evaluate(tmp_path / "empty", capsys)[1]
    assert "(no such folder)" in evaluate(tmp_path / "no" / "run", capsys)[1]
    (tmp_path / "empty" / "ckpt-7.index").write_text("")
    code, told = evaluate(tmp_path / "empty", capsys)
    assert code == 5 and f"--override_checkpoint={tmp_path}/empty/ckpt-7" in told


@pytest.mark.parametrize("there", ["config.yaml", "ckpt-3.json", "waiting"])
def test_a_run_that_may_yet_have_checkpoints_is_evaluated(tmp_path, capsys, there):
    more = ["--params_override=eval.wait_for_run=true"] if there == "waiting" else []
    if not more:
        (tmp_path / there).write_text("{}")
    code, told = evaluate(tmp_path, capsys, *more, "--data_dir=nowhere")
    assert code == 3 and "nowhere" in told  # what is looked at after that


def test_a_model_dir_that_is_a_file(tmp_path, capsys):
    (tmp_path / "run").write_text("")
    assert main.main(["vatt", *TOY, f"--model_dir={tmp_path / 'run'}"]) == 3
    assert "run is a file; the folder of a run is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError(30, "Read-only", "/a")]
)
def test_a_full_disk_never_ends_with_a_traceback(monkeypatch, error, capsys):
    def run(argv):
        raise error

    monkeypatch.setattr(main, "_run", run)
    main.FLAGS(["vatt", "--model_dir=m"])
    assert main.main(["vatt"]) == 3
    told = capsys.readouterr().err
    assert told.startswith("error: /") and "cannot be written (" in told and "MiB" in told
    monkeypatch.setattr(main, "_run", lambda argv: Path("/nowhere/at/all").read_text())
    with pytest.raises(FileNotFoundError):
        main.main(["vatt"])


def test_a_missing_corpus_ends_with_code_3_and_no_traceback(tmp_path):
    (tmp_path / "records" / "toy_houto").mkdir(parents=True)
    (tmp_path / "records" / "toy_houto" / "card.yaml").write_text("name: toy_houto\n")
    command = [*TOY, f"--model_dir={tmp_path / 'run'}", f"--data_dir={tmp_path / 'records'}"]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *command], capture_output=True, text=True
    )
    assert result.returncode == 3, result.stderr
    assert result.stdout == "[]\n"
    assert result.stderr.startswith("error: ")  # not a word from TensorFlow before it
    assert "toy_howto" in result.stderr and "Did you mean 'toy_houto'?" in result.stderr
    assert str(tmp_path / "records") in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["train", "eval", "train_and_eval"])
def test_a_missing_checkpoint_ends_with_code_5_before_data_is_sought(mode, tmp_path, capsys):
    for file in ("ckpt-500.json", "ckpt-500.index", "ckpt-500.data-00000-of-00001"):
        (tmp_path / file).write_text("{}")
    command = [*TOY, f"--mode={mode}", "--data_dir=nowhere", f"--model_dir={tmp_path / 'run'}"]
    assert main.main(["vatt", *command, f"--override_checkpoint={tmp_path / 'ckpt-50'}"]) == 5
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    assert "no checkpoint there" in error
    assert "Did you mean 'ckpt-500'?" in error
    assert not (tmp_path / "run").exists()
    assert main.main(["vatt", *command, f"--override_checkpoint={tmp_path}/no/ckpt-1"]) == 5
    assert f"no folder {tmp_path}/no" in capsys.readouterr().err
