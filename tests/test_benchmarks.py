"""Benchmarks for machines that the tests do not have run where they are, at small sizes."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vatt import configs
from vatt.data import pipeline

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def gpu_step(*flags):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed: pip install jax, or put it on PYTHONPATH")
    command = [sys.executable, str(BENCHMARKS / "gpu_step.py"), *flags]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_steps_of_the_gpu_benchmark_run_under_jax():
    flags = ["--tiny", "--models", "vit_base", "av_mae_base", "--batch=2", "--rounds=1"]
    result = gpu_step(*flags, "--steps=1")
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^\| (\w+) \| [\d.]+ \(.*\) \| ([\d.]+) \|", result.stdout, re.MULTILINE)
    assert [name for name, _ in rows] == ["vit_tiny", "av_mae_tiny"]
    assert all(float(clips_per_second) > 0 for _, clips_per_second in rows)


def test_sizes_of_the_gpu_benchmark_are_those_of_the_presets():
    source = (BENCHMARKS / "gpu_step.py").read_text()
    written = ast.literal_eval(re.search(r"^SHAPES.*?= (\{.*?^\})", source, re.M | re.S)[1])
    for name in ("tx_fac_bbs", "av_mae_base", "av_mae_tiny"):
        cfg = configs.resolve(
            task="pretrain", mode="train", model_arch=name, model_dir="x", data_dir="x"
        )
        shapes = pipeline.clip_shapes(cfg.train.input)
        assert written[name] == {m: tuple(shapes[m]) for m in written[name]}


def test_they_find_the_package_of_their_checkout():
    """As `python benchmarks/NAME.py`, which looks for modules beside that file alone."""
    for path in BENCHMARKS.glob("*.py"):
        if '__name__ == "__main__"' not in (source := path.read_text()):
            continue
        first = re.search(r"^(import|from) vatt\b", source, re.MULTILINE)
        assert not first or "sys.path.insert" in source[: first.start()], path.name
