"""The recipes for Kubernetes: what they ask for fits together and is what the command takes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from vatt import configs, errors
from vatt.training import cluster

REPOSITORY = Path(__file__).parents[1]
RECIPES = sorted((REPOSITORY / "containers" / "kubernetes").glob("*.yaml"))
VATT = """#!/bin/bash
printf '%s' "$TF_CONFIG"
printf '\\n%s' "$@"
"""


def parts(recipe):
    """Returns the job of a recipe, its container, and the other documents."""
    *others, job = yaml.safe_load_all(recipe.read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return job, container, others


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_jobs_go_on_after_a_stop_and_end_at_a_mistake(recipe):
    job, container, _ = parts(recipe)
    codes = {0, errors.EXIT_PREEMPTED}
    if job["spec"].get("completionMode") == "Indexed":
        codes.add(errors.EXIT_WORKER)
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "Count", "FailJob"]
    assert all(rule["onExitCodes"]["containerName"] == container["name"] for rule in rules[1:])
    assert {0, *rules[1]["onExitCodes"]["values"]} == codes
    assert set(rules[2]["onExitCodes"]["values"]) == codes
    assert rules[2]["onExitCodes"]["operator"] == "NotIn"
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # else there is no policy


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_what_is_mounted_is_there_and_flags_are_those_of_the_command(recipe):
    job, container, _ = parts(recipe)
    volumes = {volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    task, *flags = container["args"]
    given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    file = REPOSITORY / given.pop("config_file")
    cfg = configs.resolve(task=task, config_file=str(file), **given)
    assert cfg.mode == "train_and_eval"
    folders = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert any(given["model_dir"].startswith(f"{folder}/") for folder in folders)
    assert given["data_dir"] in folders


def test_pods_become_workers(tmp_path, monkeypatch):
    job, container, (service,) = parts(REPOSITORY / "containers/kubernetes/several_nodes.yaml")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    name, count = job["metadata"]["name"], spec["completions"]
    (workers,) = (entry["value"] for entry in container["env"] if entry["name"] == "WORKERS")
    assert spec["parallelism"] == count == int(workers)
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    command = tmp_path / "vatt"
    command.write_text(VATT)
    command.chmod(0o755)
    flags = ["pretrain", "--model_dir=my runs/a"]
    for index in range(count):
        result = subprocess.run(
            [*container["command"], *flags],
            env=os.environ
            | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WORKERS": workers}
            | {"JOB_COMPLETION_INDEX": str(index)},
            capture_output=True,
            text=True,
            check=True,
        )
        config, *given = result.stdout.split("\n")
        assert given == flags
        monkeypatch.setenv(cluster.VARIABLE, config)
        found = cluster.of_environment()
        (port,) = (entry["containerPort"] for entry in container["ports"])
        pods = [f"{name}-{i}.{pod['subdomain']}:{port}" for i in range(count)]
        assert (found.index, found.addresses) == (index, pods)
