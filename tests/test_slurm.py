"""The templates for Slurm, with stand-ins for its commands and for Python."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from vatt.training import cluster

TEMPLATES = sorted((Path(__file__).parents[1] / "configs" / "slurm").glob("*.sbatch"))
NAMES = [path.stem for path in TEMPLATES]
SEVERAL = next(path for path in TEMPLATES if path.stem == "several_nodes")

# One process after another, as node 0, 1, ...; the highest code, as srun gives it.
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
highest=0
for ((node = 0; node < $SLURM_JOB_NUM_NODES; node++)); do
  SLURM_NODEID=$node SLURM_PROCID=$node "$@"
  code=$?
  (( code > highest )) && highest=$code
done
exit $highest
"""
SCONTROL = """#!/bin/bash
if [ "$1 $2" = "show hostnames" ]; then
  [ "$3" = "gpu[07-08]" ] && printf 'gpu07\\ngpu08\\n'
else
  echo "$@" >> "$CALLS/scontrol"
fi
"""
PYTHON = """#!/bin/bash
printf '%s\\n' "$@" > "$CALLS/python-$SLURM_NODEID"
printf '%s' "$TF_CONFIG" > "$CALLS/tf_config-$SLURM_NODEID"
printf '%s' "$SRUN_CPUS_PER_TASK" > "$CALLS/cpus-$SLURM_NODEID"
exit "$(cut -d ' ' -f $((SLURM_NODEID + 1)) <<< "$CODES")"
"""


def submit(template, folder, *flags, codes="0 0", nodes=1, **slurm):
    """Runs a template as Slurm would; returns the result and what was called."""
    commands, calls = folder / "bin", folder / "calls"
    commands.mkdir()
    calls.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("python", PYTHON)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    job = {
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_JOB_NODELIST": "gpu[07-08]",
        "SLURM_CPUS_PER_TASK": "80",
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    inherited.pop(cluster.VARIABLE, None)
    path = f"{commands}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", str(template), *flags],
        env=inherited | job | slurm | {"PATH": path, "CALLS": str(calls), "CODES": codes},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr == ""
    return result.returncode, {path.name: path.read_text() for path in calls.iterdir()}


@pytest.mark.parametrize("template", TEMPLATES, ids=NAMES)
def test_flags_arrive_as_they_were_given(template, tmp_path):
    flags = ["--model_dir=my runs/a", "--params_override={seed: 1, train: {max_bad_steps: 2}}"]
    code, calls = submit(template, tmp_path, *flags)
    assert code == 0 and "scontrol" not in calls
    assert calls["cpus-0"] == "80"
    given = calls["python-0"].splitlines()
    assert given[:2] == ["-m", "vatt.main"] and given[-2:] == flags
    assert "--mode=train_and_eval" in given


@pytest.mark.parametrize("code", [0, 2, 4, 42, 137])
@pytest.mark.parametrize("template", TEMPLATES, ids=NAMES)
def test_only_a_run_that_has_saved_is_queued_again(template, tmp_path, code):
    ended, calls = submit(template, tmp_path, codes=f"{code}")
    assert ended == code
    assert calls.get("scontrol") == ("requeue 123456\n" if code == 42 else None)


@pytest.mark.parametrize("template", TEMPLATES, ids=NAMES)
def test_slurm_is_asked_to_tell_before_the_limit(template):
    text = template.read_text()
    for line in ("--signal=USR1@120", "--requeue", "--open-mode=append", "--ntasks-per-node=1"):
        assert f"\n#SBATCH {line}\n" in text
    assert text.index("#SBATCH --output") < text.index("\nsrun ")


def test_nodes_become_workers(tmp_path, monkeypatch):
    code, calls = submit(SEVERAL, tmp_path, nodes=2, codes="0 42")
    assert code == 42 and calls["scontrol"] == "requeue 123456\n"  # one of them is enough
    for index in range(2):
        assert "--strategy_type=multi_worker_mirrored" in calls[f"python-{index}"]
        monkeypatch.setenv(cluster.VARIABLE, calls[f"tf_config-{index}"])
        found = cluster.of_environment()
        assert (found.index, found.addresses) == (index, ["gpu07:15456", "gpu08:15456"])
    assert json.loads(calls["tf_config-0"])["task"] == {"type": "worker", "index": 0}


def test_a_job_of_an_array_takes_one_fold_and_one_alone_all(tmp_path):
    template = next(path for path in TEMPLATES if path.stem == "folds")
    for number, (slurm, folds) in enumerate([({"SLURM_ARRAY_TASK_ID": "2"}, "2"), ({}, "all")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        _, calls = submit(template, folder, **slurm)
        assert f"--folds={folds}" in calls["python-0"].splitlines()
