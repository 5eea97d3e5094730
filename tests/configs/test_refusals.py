"""Every mistake in a configuration is refused: path, value, what is accepted, nearest name."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vatt import configs
from vatt.configs import base, merge

TINY = {"model_arch": "tx_fac_tiny", "config_file": "configs/pretrain/toy.yaml"}


def refused(**arguments) -> dict[str, configs.Problem]:
    """Returns {path: its first problem} of all that `resolve` refuses; the message has them all."""
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(**arguments)
    assert caught.value.exit_code == 2
    for problem in caught.value.problems:
        assert str(problem) in str(caught.value)
        assert str(problem).startswith(f"{problem.path} = ")
    return {problem.path: problem for problem in reversed(caught.value.problems)}


@pytest.mark.parametrize(
    ("path", "value", "accepted", "hint"),
    [
        # unknown keys
        ("train.input.batchsize", 8, "no such key", "Did you mean"),
        ("trian.input.batch_size", 8, "", ""),  # the branch itself is unknown, see below
        ("modle_dir", "x", "no such key", "Did you mean 'model_dir'?"),
        ("train.optimizer.beta1", 0.9, "no such key", "Did you mean 'beta_1'?"),
        ("eval.input.num_window_test", 4, "no such key", "num_windows_test"),
        ("strategy_config.number", 1, "no such key", "distribution_strategy"),
        # wrong types
        ("seed", "x", "a whole number >= 0", ""),
        ("seed", 1.5, "a whole number", ""),
        ("seed", True, "a whole number", ""),
        ("train.input.scale_jitter", 1, "true or false", ""),
        ("train.input.split", 3, "a text", ""),
        ("eval.input.name", [1], "a list", ""),
        ("train.optimizer", 3, "a mapping", ""),
        ("train", [1], "a mapping", ""),
        ("data_dir", {"a": 1}, "a text or null", ""),
        # out of range
        ("train.input.batch_size", 0, "a whole number >= 1", ""),
        ("train.gradient_clip_norm", -1.0, "a number >= 0", ""),
        ("train.gradient_clip_norm", float("nan"), "a number", ""),
        ("train.optimizer.learning_rate.learning_rate_base", float("inf"), "a number", ""),
        ("train.optimizer.beta_1", 1.0, "< 1", ""),
        ("train.input.min_area_ratio", 1.5, "<= 1", ""),
        ("model_config.loss_config.bridge.0.temperature", 0.0, ">= 1e-30", ""),
        ("train.input.batch_size", 10**30, "<= 1000000", ""),
        ("train.input.num_frames", 10**9, "a whole number >= 1 and <= 1000000", ""),
        (
            "train.optimizer.learning_rate.learning_rate_base",
            1e300,
            "a number >= 0 and <= 1e+30",
            "",
        ),
        ("train.optimizer.learning_rate.total_steps", 10**10, "<= 1000000000", ""),
        ("eval.timeout_s", 1e10, "<= 1000000000", ""),
        ("seed", 10**30, "< 2147483648", ""),
        # one of a few
        ("mode", "trian", "'train'", "Did you mean 'train'?"),
        ("precision", "bfloat16", "'mixed_bfloat16'", "Did you mean 'mixed_bfloat16'?"),
        ("train.optimizer.name", "AdamX", "AdamW", "Did you mean 'Adam"),
        ("train.optimizer.learning_rate.type", "Cosine", "CosineDecayLearningRate", ""),
        ("strategy_config.distribution_strategy", "mirored", "", "Did you mean 'mirrored'?"),
    ],
)
def test_a_mistake_is_refused_at_its_path(path, value, accepted, hint):
    found = refused(**TINY, params_override={path: value})
    if path.startswith("trian"):
        path, value = "trian", {"input": {"batch_size": 8}}
        accepted, hint = "no such key", "Did you mean 'train'?"
    problem = found[path]
    assert problem.value == value or value != value  # NaN
    assert accepted in problem.accepted
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("names", "accepted"),
    [([], "a list that is not empty"), ([""], "each item a text that is not empty")],
)
def test_what_must_not_be_empty_is_told_so(names, accepted):
    found = refused(**TINY, params_override={"eval.evaluators": names})
    assert accepted in found["eval.evaluators"].accepted


@pytest.mark.parametrize(
    ("override", "path", "accepted"),
    [
        ("train.input.num_frames=400000", "train.input.batch_size", "400000 frames of 64 x 64 pix"),
        ("train.input.num_frames=160,train.input.fps=1e-6", "train.input.batch_size", "of sound"),
        ("train.input.max_context_sentences=1000000000", "train.input.batch_size", "of context"),
        ("eval.input.num_windows_test=1000000", "eval.input.batch_size", "of 1000000 windows"),
        ("eval.input.min_resize=100000", "eval.input.min_resize", "16 frames of that size"),
        ("train.input.fps=1e9", "train.input.fps", "shorter than a sample of sound"),
        (
            "train.input.raw_audio=false,train.input.stft_step=1e-5",
            "train.input.stft_step",
            "shorter than a sample",
        ),
        (
            "model_config.backbone_config.video_model_kwargs.num_heads=1000000,"
            "model_config.backbone_config.video_model_kwargs.d_kv=1000000",
            "model_config.backbone_config.video_backbone d_model",
            "4 layers, 1000000 heads",
        ),
    ],
)
def test_what_nobody_can_hold_is_refused(override, path, accepted):
    assert accepted in refused(**TINY, params_override=override)[path].accepted


def test_looking_for_other_lengths_of_clips_ends():
    found = refused(**TINY, params_override="train.input.num_frames=999999,train.input.fps=1.1")
    assert "do not cover evenly" in found["train.input.num_frames"].accepted or (
        "a multiple of 4" in found["train.input.num_frames"].accepted
    )


def _numbers(schema):
    """The parts of a field's schema that are numbers."""
    for part in (schema, *schema.get("anyOf", ())):
        if part.get("type") in ("integer", "number"):
            yield part
        yield from _numbers(part["items"]) if isinstance(part.get("items"), dict) else ()


def test_every_number_has_bounds():
    waiting, seen = [base.Config], set()
    while waiting:
        waiting += (cls := waiting.pop()).__subclasses__()
        if not cls.__module__.startswith("vatt."):
            continue
        for name in cls.model_fields:
            for part in _numbers(merge._schema(cls, name)):
                assert {"minimum", "exclusiveMinimum"} & part.keys(), (cls, name)
                assert {"maximum", "exclusiveMaximum"} & part.keys() or part.get("description"), (
                    cls,
                    name,
                )
                seen.add(name)
    assert {"learning_rate_steps", "mixing_weights", "d_model", "fps", "seed"} <= seen


@pytest.mark.parametrize("field", ["task", "model_arch"])
def test_names_that_are_numbers_are_refused(field):
    assert "expected" in refused(params_override={field: 10**30})[field].accepted


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does():
    override = "train.input.batch_size=9,strategy_config.num_devices=2"
    problem = refused(**TINY, params_override=override)["train.input.batch_size"]
    assert (problem.value, problem.hint) == (9, " Try 8 or 10.")
    assert "a multiple of 2" in problem.accepted


def test_a_clip_that_the_patch_does_not_divide_is_refused_with_one_that_it_does():
    found = refused(**TINY, params_override="train.input.num_frames=18,eval.input.frame_size=60")
    frames, pixels = found["train.input.num_frames"], found["eval.input.frame_size"]
    assert (frames.value, frames.hint) == (18, " Try 16 or 20.")
    assert (pixels.value, pixels.hint) == (60, " Try 56 or 64.")
    assert "a multiple of 4" in frames.accepted and "a multiple of 8" in pixels.accepted


def test_all_problems_are_listed_at_once(tmp_path):
    problems = refused(
        task="pretrian",
        model_arch="tx_fak",
        config_file=str(tmp_path / "missing.yaml"),
        mode="trian",
        strategy_type="mirored",
        params_override=["train.input.batchsize=8", "seed=x", "batch_size=1", "=2"],
    )
    texts = {path: str(problem) for path, problem in problems.items()}
    assert "Did you mean 'pretrain'?" in texts["task"]
    assert "Did you mean 'tx_fac'?" in texts["model_arch"]
    assert "no such file" in texts["config_file"]
    assert "'train'" in texts["mode"]
    assert "Did you mean 'mirrored'?" in texts["strategy_config.distribution_strategy"]
    assert "Did you mean 'batch_size'?" in texts["train.input.batchsize"]
    assert "a whole number >= 0" in texts["seed"]
    assert "train.input.batch_size or eval.input.batch_size" in texts["batch_size"]
    assert "params_override" in texts


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "seed: !!python/object/new:int [1]",
        "seed: !!python/module:os",
        "{seed: !!python/tuple [1]}",
    ],
)
def test_python_tags_are_refused(text, tmp_path):
    file = tmp_path / "evil.yaml"
    file.write_text(text)
    for arguments in ({"config_file": str(file)}, {"params_override": text}):
        [problem] = refused(**arguments).values()
        assert "not readable as plain YAML" in problem.accepted


@pytest.mark.parametrize("text", ["seed: 1\nseed: 2\n", "a: [1\n", "- 1\n", "just words", "\x00"])
def test_files_that_are_no_mapping_are_refused_with_their_name(text, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert any("bad.yaml" in path for path in refused(config_file=str(file)))


@pytest.mark.parametrize("text", ["seed=1,seed=2", "seed=1,2", "nonsense", "seed=[1"])
def test_malformed_overrides_are_refused(text):
    assert any(path.startswith("params_override") for path in refused(params_override=text))


# 500 random mistakes, in a process of its own: this one has TensorFlow from tests/conftest.py.
PROGRAM = r"""
import json, random, sys, time
from vatt import configs
from vatt.configs import base, merge
from vatt.configs.merge import leaves

random.seed(7)
base = configs.resolve(config_file="configs/pretrain/toy.yaml")
paths = [(path, value) for path, value in leaves(base) if path not in ("model_arch", "task")]
branches = sorted({path.rpartition(".")[0] for path, _ in paths if "." in path})


def wrong_type(value):
    if isinstance(value, bool):
        return random.choice([1, "yes", [True], None])
    if isinstance(value, (int, float)):
        return random.choice(["3", True, [1], {"a": 1}, float("nan"), float("inf"), -12345])
    if isinstance(value, str):
        return random.choice([5, 1.5, True, [1], {"a": 1}])
    if isinstance(value, dict):
        return random.choice([5, "text", [1]])
    return random.choice([object(), {1: 2}, [object()], b"bytes"])


def misspelt(path):
    i = random.randrange(path.rfind(".") + 1, len(path))
    return path[:i] + random.choice("qxz") + path[i:]


def nest(path, value):
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


missed, slowest, kinds = [], 0.0, {}
for i in range(500):
    path, value = random.choice(paths)
    kind = random.choice(["type", "type", "key", "branch"])
    if kind == "type":
        change = wrong_type(value)
    elif kind == "key":
        path, change = misspelt(path), value
    else:
        path, change = random.choice(branches), random.choice([3, "text", None, True])
    kinds[kind] = kinds.get(kind, 0) + 1
    started = time.perf_counter()
    try:
        configs.resolve(config_file="configs/pretrain/toy.yaml", params_override=nest(path, change))
        missed.append((path, repr(value), repr(change), "accepted"))
    except configs.ConfigError as error:
        if path not in str(error):
            missed.append((path, repr(value), repr(change), str(error)))
    slowest = max(slowest, time.perf_counter() - started)
heavy = sorted({"tensorflow", "keras", "numpy"} & set(sys.modules))
print(json.dumps({"missed": missed, "slowest": slowest, "kinds": kinds, "heavy": heavy}))
"""


def test_every_mutation_is_refused_with_its_path():
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    found = json.loads(result.stdout)
    assert found["missed"] == []
    assert sum(found["kinds"].values()) == 500
    assert min(found["kinds"].values()) > 50
    assert found["slowest"] < 1.0
    assert found["heavy"] == []
