"""Several seeds by one command: which, in what order, what is told of those that lack something."""

from __future__ import annotations

import csv
import json
import signal
import statistics
import subprocess
import sys

import numpy as np
import pytest
import test_finetune
import test_folds
import test_kill
import test_pretrain

from vatt import configs, main
from vatt.evaluation import measures
from vatt.evaluation.measures import Measure
from vatt.experiments import seeds
from vatt.reporting import seeds as reporting
from vatt.training.rundir import RunDir

data_dir = test_pretrain.data_dir
folded = test_folds.data_dir
RECALL = "search_txt2vid_embd_R10"


def found(recall, **fields):
    """What an evaluation measures: a recall that is shown, one that is not."""
    kind = {"query": "text", "target": "video", "variant": "embd", "samples": 5, "gallery": 5}
    kind |= fields
    return [
        Measure("search", "retrieval", "R10", recall, split="test", chance=0.5, **kind),
        Measure("search", "retrieval", "R1", recall / 2, split="test", chance=0.2, **kind),
    ]


def evaluated(folder, recall, step=6, cfg=None, **changes):
    """Leaves a run with figures in a folder."""
    place = RunDir(folder)
    seed = int(folder.name.removeprefix("seed"))
    folder.mkdir(parents=True, exist_ok=True)
    cfg = cfg or configs.resolve(params_override=[{"seed": seed}, changes], model_dir=str(folder))
    (folder / "config.yaml").write_text(configs.to_yaml(cfg))
    own = found(recall)
    names = measures.published_names(own)
    place.write_metrics("train", step, {"total_loss": 1 / (1 + seed)})
    place.write_metrics("eval", step, names, [measure.as_dict() for measure in own])
    place.write_final(names | {"step": step})
    place.set_evaluated([step])
    return folder


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0,1,2", [0, 1, 2]),
        ("0-3", [0, 1, 2, 3]),
        (" 7, 3-4 ,0", [7, 3, 4, 0]),
        ("2147483647", [2**31 - 1]),
        ("1-100", list(range(1, 101))),
    ],
)
def test_numbers_and_ranges(text, numbers):
    assert seeds.chosen(text) == numbers


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seeds=a"], "--seeds=a: 'a' is no seed and no range of seeds; accepted: numbers from"),
        (["--seeds="], "--seeds=: '' is no seed"),
        (["--seeds=0,,1"], "'' is no seed"),
        (["--seeds=-1"], "'-1' is no seed"),
        (["--seeds=1.0"], "'1.0' is no seed"),
        (["--seeds=3-1"], "'3-1' is no seed"),
        (["--seeds=2147483648"], "'2147483648' is no seed"),
        (["--seeds=" + "9" * 5000], "99999... is no seed"),
        (["--seeds=0,1-3,2,0"], "0, 2 stands there twice"),
        (["--seeds=0-2000000000"], "more than 100 seeds"),
        (["--seeds=0-50,51-100"], "more than 100 seeds"),
        (["--seeds=0,1", "--params_override=seed=3"], "params_override=seed=3: names a seed"),
        (["--seeds=0,1", "--params_override={seed: 0}"], "names a seed"),
        (["--seeds=0,1", "--params_override=train.input.batch_size=x"], "train.input.batch_size"),
        (["--seeds=0,1", "--mode=eval"], "there is no run in"),
        (["--seeds=0,1", "--mode=eval", "--override_checkpoint=x"], "leave out --override"),
        (["--seeds=0,1", "--strategy_type=multi_worker_mirrored"], "one command for each seed"),
    ],
)
def test_what_cannot_be_run_is_told_before_anything_is_started(
    arguments, says, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(seeds, "_run_one", None)
    assert main.main(["vatt", f"--model_dir={tmp_path / 'runs'}", *arguments]) in (2, 5)
    told = capsys.readouterr().err
    if "9999" in says:
        assert "is no seed" in told and len(told) < 500
    else:
        assert says in told
    assert not (tmp_path / "runs").exists()


def test_tensorflow_is_not_started_for_a_refusal_nor_is_a_module(tmp_path):
    program = (
        "import sys\nfrom vatt import main\n"
        f"code = main.main(['vatt', '--seeds=0,0', '--import=no.such', '--model_dir={tmp_path}'])\n"
        "print(code, 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "2 False\n"


def test_the_folder_of_a_run_is_not_made_that_of_seeds(tmp_path, capsys):
    evaluated(tmp_path / "seed0", 0.5)
    assert main.main(["vatt", f"--model_dir={tmp_path / 'seed0'}", "--seeds=0,1"]) == 2
    assert "seed0 is the folder of a run; --seeds needs one of its own" in capsys.readouterr().err
    assert not (tmp_path / "seed0" / "seed0").exists()


@pytest.fixture
def command(data_dir, tmp_path):
    """A command for a small pretraining."""
    file = tmp_path / "small.yaml"
    file.write_text(configs.to_yaml(test_pretrain.config(data_dir, tmp_path / "unused")))
    return ["vatt", f"--config_file={file}", f"--model_dir={tmp_path / 'runs'}"]


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """Stands in for the runs themselves: their commands; answers by seed, figures without one."""
    commands, answers = [], {}

    def run_one(command, asked_to_stop):
        commands.append(command)
        seed = int(command[-1].removeprefix("--params_override=seed="))
        if answer := answers.get(seed):
            return answer
        folder = tmp_path / "runs" / f"seed{seed}"
        assert f"--model_dir={folder}" in command
        cfg = configs.resolve(
            **{
                name: next(a.partition("=")[2] for a in command if a.startswith(f"--{name}="))
                for name in ("config_file", "mode")
            },
            model_dir=str(folder),
            params_override=f"seed={seed}",
        )
        evaluated(folder, 0.5 + seed / 10, cfg=cfg)
        (folder / "ckpt-6.json").write_text("{}")
        return 0

    monkeypatch.setattr(seeds, "_run_one", run_one)
    return commands, answers


def test_each_seed_is_the_command_with_a_folder_and_a_seed(command, runs, tmp_path, capsys):
    commands, _ = runs
    more = ["--mode=train_and_eval", "--seeds", "0-2", "--params_override=train.log_every_steps=6"]
    assert main.main([*command, *more, "--noverbose"]) == 0
    for seed, own in enumerate(commands):
        assert own[:5] == [sys.executable, "-m", "vatt.main", command[1], more[0]]
        assert own[-2:] == [
            f"--model_dir={tmp_path / 'runs' / f'seed{seed}'}",
            f"--params_override=seed={seed}",
        ]
        assert "--params_override=train.log_every_steps=6" in own and "--verbose=False" in own
        assert not [argument for argument in own if argument.startswith("--seeds")]
    assert len(commands) == 3
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 3
    assert table[0] == f"{tmp_path / 'runs'}: seed 0, 1, 2 at step 6"
    assert " ".join(table[1].split()) == "mean std min max seed 0 seed 1 seed 2"
    assert " ".join(table[2].split()) == f"{RECALL} 0.6 0.1 0.5 0.7 0.5 0.6 0.7"


def test_the_same_command_runs_only_what_is_not_done(command, runs, tmp_path, capsys):
    commands, answers = runs
    command = [*command, "--mode=train_and_eval", "--seeds=0-2"]
    answers[1] = 42
    assert main.main(command) == 42 and len(commands) == 2
    assert "stopped at seed 1: the same command continues" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "seeds.json").exists()
    answers[1] = 4  # one that fails does not take the others with it
    assert main.main(command) == 4 and len(commands) == 4
    told = capsys.readouterr()
    assert "seed 0: done before" in told.err and "seed 1 ended with exit code 4" in told.err
    assert "missing, no figures yet: seed 1" in told.out
    tree = json.loads((tmp_path / "runs" / "seeds.json").read_text())
    assert tree["missing"] == [1] and tree["seeds"] == [0, 1, 2]
    assert tree["metrics"][RECALL]["values"] == {"0": 0.5, "2": 0.7}
    del answers[1]
    assert main.main(command) == 0 and len(commands) == 5
    assert main.main(command) == 0 and len(commands) == 5  # nothing is left to do
    assert json.loads((tmp_path / "runs" / "seeds.json").read_text())["missing"] == []
    # What is not what was asked for is left to the run itself, which refuses it or takes it.
    assert main.main([*command, "--params_override=train.log_every_steps=9"]) == 0
    assert len(commands) == 8
    assert main.main([*command, "--fresh_start"]) == 0 and len(commands) == 11


def test_seeds_that_are_there_but_not_asked_for_are_told(command, runs, capsys):
    assert main.main([*command, "--mode=train_and_eval", "--seeds=0-3"]) == 0
    capsys.readouterr()
    assert main.main([*command, "--mode=train_and_eval", "--seeds=1,2"]) == 0
    told = capsys.readouterr()
    assert "also has seed 0, 3, not in this table" in told.err
    assert "seed 1, 2 at step 6" in told.out


def test_evaluation_alone_takes_the_configuration_of_each_seed(command, runs, tmp_path, capsys):
    commands, _ = runs
    assert main.main([*command, "--mode=train_and_eval", "--seeds=0,1"]) == 0
    folder = [f"--model_dir={tmp_path / 'runs'}", "--mode=eval"]
    assert main.main(["vatt", *folder, "--seeds=0,1,2"]) == 5
    assert len(commands) == 2
    told = capsys.readouterr()
    assert "seed 2 is not run: there is no run in" in told.err
    assert "missing, no figures yet: seed 2" in told.out


def test_a_folder_of_seeds_is_not_taken_for_a_run(tmp_path, capsys):
    for seed in (0, 1):
        evaluated(tmp_path / f"seed{seed}", 0.5)
    assert main.main(["vatt", f"--model_dir={tmp_path}", "--mode=eval"]) == 5
    told = "Runs in it: seed0, seed1; those of seeds are evaluated with --seeds."
    assert told in capsys.readouterr().err


def test_training_alone_has_no_table(command, runs, tmp_path, capsys):
    assert main.main([*command, "--mode=train", "--seeds=0,1"]) == 0
    assert capsys.readouterr().out == "" and not (tmp_path / "runs" / "seeds.json").exists()


def run_one(does, file, asked_to_stop):
    """Runs a program that makes a file and then waits to be ended."""
    program = f"import os, pathlib, signal, sys, time\n{does}\npathlib.Path({str(file)!r}).touch()"
    return seeds._run_one(
        [sys.executable, "-c", f"{program}\nwhile True: time.sleep(0.01)"], asked_to_stop
    )


@pytest.mark.parametrize(
    ("does", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", 137)]
)
def test_how_a_run_ends_is_passed_on(does, code, tmp_path):
    assert run_one(does, tmp_path / "begun", lambda: False) == code


@pytest.mark.parametrize(
    ("does", "code"),
    [("signal.signal(signal.SIGUSR1, lambda *_: sys.exit(42))", 42), ("pass", 130)],
    ids=["that_saves", "that_has_just_begun"],
)
def test_a_run_is_asked_to_stop_by_a_signal_that_may_come_twice(does, code, tmp_path):
    begun = tmp_path / "begun"
    assert run_one(does, begun, begun.exists) == code


def test_mean_and_spread_are_of_the_newest_evaluations(tmp_path):
    places = {seed: evaluated(tmp_path / f"seed{seed}", 0.4 + seed / 7) for seed in (0, 3, 5)}
    RunDir(places[3]).write_metrics("eval", 9, *newest(0.9, mean_rank=2.5))
    read = reporting.read(tmp_path, places | {8: tmp_path / "seed8"})
    recalls = [0.4, 0.9, 0.4 + 5 / 7]
    expected = [np.mean(recalls), statistics.stdev(recalls), min(recalls), max(recalls)]
    np.testing.assert_allclose(read.row(RECALL), expected + recalls)
    assert read.missing == [8] and dict(read.steps) == {0: 6, 3: 9, 5: 6}
    assert read.remarks == [
        "the newest figures are of different steps: step 6 of seed 0, 5; step 9 of seed 3"
    ]
    reporting.write(read)
    tree = json.loads((tmp_path / "seeds.json").read_text())
    assert tree["headline"] == [RECALL] and tree["steps"] == {"0": 6, "3": 9, "5": 6}
    own = tree["metrics"][RECALL]
    assert own["values"] == {"0": 0.4, "3": 0.9, "5": 0.4 + 5 / 7}
    assert own["mean"] == pytest.approx(expected[0]) and own["std"] == pytest.approx(expected[1])
    # What one seed alone has is kept, and has no mean.
    alone = tree["metrics"]["extra"]
    assert alone["values"] == {"0": None, "3": 2.5, "5": None} and alone["mean"] is None
    rows = csv.DictReader((tmp_path / "seeds.csv").read_text().splitlines())
    table = {row["metric"]: row for row in rows}
    assert table.keys() == tree["metrics"].keys()
    assert float(table[RECALL]["std"]) == own["std"] and float(table[RECALL]["seed5"]) == recalls[2]
    assert (table["extra"]["mean"], table["extra"]["seed3"]) == ("", "2.5")


def newest(recall, mean_rank):
    own = found(recall)
    return measures.published_names(own) | {"extra": mean_rank}, [m.as_dict() for m in own]


def test_a_single_seed_has_no_spread(tmp_path):
    read = reporting.read(tmp_path, {4: evaluated(tmp_path / "seed4", 0.25)})
    np.testing.assert_array_equal(read.row(RECALL), [0.25, np.nan, 0.25, 0.25, 0.25])
    assert read.table().splitlines()[-1].split() == [RECALL, "0.25", "-", "0.25", "0.25", "0.25"]


def test_other_configurations_are_told(tmp_path):
    places = {
        0: evaluated(tmp_path / "seed0", 0.5),
        1: evaluated(tmp_path / "seed1", 0.5, train={"input": {"batch_size": 24}}),
        2: evaluated(tmp_path / "seed2", 0.5, seed=7),
        3: evaluated(tmp_path / "seed3", 0.5),
    }
    (places[3] / "config.yaml").unlink()
    differs, other_seed, lost = reporting.read(tmp_path, places).remarks
    assert differs.startswith(
        "seed 1 has another configuration than seed 0: train.input.batch_size: "
    )
    assert differs.endswith("-> 24")
    assert other_seed == f"{tmp_path / 'seed2'} is a run of seed 7, not 2"
    assert lost == f"seed 3: {tmp_path / 'seed3'} has no config.yaml that can be read"


def test_the_page_has_the_table_links_and_a_line_for_each_seed(tmp_path):
    places = {seed: evaluated(tmp_path / f"seed{seed}", 0.4 + seed / 10) for seed in (0, 1)}
    (places[1] / "report.html").write_text("")
    reporting.write(reporting.read(tmp_path, places | {2: tmp_path / "seed2"}))
    page = (tmp_path / "report.html").read_text()
    assert '<a href="seed1/report.html">' in page and "seed0/report.html" not in page
    assert "<td>45.0 %</td><td>7.1 %</td><td>40.0 %</td><td>50.0 %</td>" in page
    assert "no figures yet: seed 2" in page
    for title in ("Total loss", RECALL):
        chart = page[page.index(f"<figcaption><b>{title}") :]
        legend = chart[: chart.index("</figure>")].partition('class="legend"')[2]
        assert "seed 0" in legend and "seed 1" in legend


def test_nothing_at_all_is_told_as_well(tmp_path):
    read = reporting.read(tmp_path / "runs", {0: tmp_path / "seed0", 1: tmp_path / "seed1"})
    reporting.write(read)
    assert read.table().splitlines()[-1] == "missing, no figures yet: seed 0, 1"
    assert json.loads((tmp_path / "runs" / "seeds.json").read_text())["metrics"] == {}


@pytest.mark.slow
def test_a_stopped_command_continues_and_each_seed_is_as_if_it_ran_alone(
    data_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(test_kill, "DEADLINE_S", 1200)  # of several runs
    cfg = test_pretrain.config(data_dir, tmp_path / "unused", steps=12)
    cfg.train.save_checkpoint_freq, cfg.mode = 6, "train_and_eval"
    file = tmp_path / "small.yaml"
    file.write_text(configs.to_yaml(cfg))

    def start(name, *flags):
        command = [sys.executable, "-m", "vatt.main", f"--config_file={file}"]
        return subprocess.Popen(
            [*command, f"--model_dir={tmp_path / name}", *flags],
            cwd=test_kill.REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    runs = tmp_path / "runs"
    process = start("runs", "--seeds=1,0")
    test_kill.wait_for(process, lambda: (runs / "seed0" / "ckpt-6.json").exists())
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=test_kill.DEADLINE_S)
    assert process.returncode == 42, errors
    before = (runs / "seed1" / "run.json").read_text()
    assert not (runs / "seed0" / "ckpt-12.json").exists() and "Traceback" not in errors

    process = start("runs", "--seeds=1,0")
    table, errors = process.communicate(timeout=test_kill.DEADLINE_S)
    assert process.returncode == 0, errors
    assert f"{runs}: seed 1, 0 at step 12" in table and RECALL in table
    assert (runs / "seed1" / "run.json").read_text() == before
    assert len(json.loads((runs / "seed0" / "run.json").read_text())["launches"]) == 2

    figures = {seed: json.loads((runs / f"seed{seed}/metrics.json").read_text()) for seed in (1, 0)}
    process = start("alone", "--params_override=seed=1")
    test_kill.finish(process)
    assert json.loads((tmp_path / "alone" / "metrics.json").read_text()) == figures[1]
    ours, alone = (test_pretrain.values(f, 12) for f in (runs / "seed1", tmp_path / "alone"))
    for name, value in alone.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    other = test_pretrain.values(runs / "seed0", 12)
    assert any((other[name] != value).any() for name, value in alone.items())
    for name, own in json.loads((runs / "seeds.json").read_text())["metrics"].items():
        assert own["values"] == {"1": figures[1][name], "0": figures[0][name]}
    assert 'href="seed1/report.html"' in (runs / "report.html").read_text()


@pytest.mark.slow
def test_seeds_and_folds_together(folded, tmp_path, capsys):
    file, runs = tmp_path / "small.yaml", tmp_path / "runs"
    cfg = test_finetune.config(folded, tmp_path / "unused", mode="train_and_eval", steps=2)
    file.write_text(configs.to_yaml(cfg))
    command = ["vatt", f"--config_file={file}", f"--model_dir={runs}", "--folds=all", "--seeds=4,5"]
    assert main.main(command) == 0
    means = [json.loads((runs / f"seed{n}/metrics.json").read_text()) for n in (4, 5)]
    own = json.loads((runs / "seeds.json").read_text())["metrics"]["top_1_accuracy"]
    assert list(own["values"].values()) == [figures["top_1_accuracy"] for figures in means]
    assert own["mean"] == pytest.approx(np.mean(list(own["values"].values())))
    assert (runs / "seed5" / "fold_2" / "metrics.json").exists()
    assert capsys.readouterr().out.count("top_1_accuracy ") == 1
