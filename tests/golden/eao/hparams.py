"""Published configurations beside our recipes: `published_hparams.json`.

A leaf is compared with what our resolved configuration says, or has a reason why it has no
counterpart; one that is neither fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from tests.golden.checks import Check, Checks, Golden, Note
from vatt import configs
from vatt.configs import experiment
from vatt.configs.tokens import Tokens
from vatt.methods.eao.config import FUSION

RECIPES = {
    "pretraining/everything_at_once_tva": "pretrain/eao_howto100m",
    "pretraining/everything_at_once_tv": "pretrain/eao_howto100m_tv",
    "finetuning/finetune_msrvtt": "finetune/eao_msrvtt",
    "finetuning/finetune_youcook": "finetune/eao_youcook2",
    "finetuning/clip/clip_finetune_msrvtt": "finetune/eao_clip_msrvtt",
    "finetuning/clip/clip_finetune_youcook": "finetune/eao_clip_youcook2",
}
# Where the last part of the published name is not that of ours.
NAMES = {
    "2blocks_16heads_1024hiden": "4blocks_16heads_1024",
    "2blocks_32heads_2048hiden": "2blocks_32heads_2048",
    "2blocks_64heads_4096hidsize_112_10bs": "2blocks_64heads_4096_112_10bs",
    "2blocks_64heads_4096hidsize_224_5bs": "2blocks_64heads_4096_224_5bs",
    "singe_mod_tr_per_mod": "transformer_per_modality",
}
SETS = {"HowTo100M": "howto100m", "MSRVTT": "msrvtt", "YouCook2": "youcook2"}
INGESTED = "files are ingested into records, whose card names the set"
SELDOM = "checkpoints and logs: train.save_checkpoint_freq saves each epoch, where published does"
# Leaves without a counterpart, and why, by pattern.
REASONS = {
    r"n_gpu": "--strategy_config.num_devices, all by default",
    r".*\.num_workers": "workers of the reader: tf.data's own threads",
    r".*\.type": "there is one kind of it",
    r".*\.(shuffle|drop_last|training)": "whether it is train.input or eval.input says so",
    r".*\.(csv|caption_path|data_path\w*|features_path\w*)": INGESTED,
    r".*\.feature_per_sec_[23]D": "the card says how many there are in a second",
    r"trainer\.(save_dir|save_period|save_latest|verbosity|init_val)": SELDOM,
    r"trainer\.neptune": "--tracker, off by default",
    r"trainer\.resume_only_model": "--override_checkpoint takes weights alone",
    r"trainer\.use_clip_text_model_use_(proj|just_cls)": "nothing reads it, published",
}


@cache
def recipe(name: str) -> experiment.Pretrain:
    """Returns the resolved configuration of our recipe of a published one."""
    own = RECIPES.get(name)
    last = name.rpartition("/")[2]
    if own is None and name.startswith("evaluation/"):
        own = f"evaluate/eao_{last.replace('youcook', 'youcook2')}"
    if own is None:
        own = f"pretrain/eao_howto100m_{NAMES.get(last, last)}"
    return configs.resolve(config_file=f"configs/{own}.yaml")


def hparams_file(content: Golden) -> Checks:
    """Every leaf of every configuration."""
    notes: set[str] = set()
    for name in content["configs"]:
        leaves, cfg = flat(content["configs"], name), recipe(name)
        for leaf, value in leaves.items():
            yield from _leaf(name, leaf, value, cfg, notes)
        if name.startswith(("pretraining/", "finetuning/")):
            for loss, weight in cfg.model.loss_config.weights.items():
                there = leaves.get(f"loss.args.{loss}_weight", 0)
                yield Check(f"{name}: weight of {loss} {weight}", float(weight != there), 0.0)


def flat(entries: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Returns all values of a configuration, of those that it is based on, too."""
    entry = entries[name]
    if "values" in entry:
        return dict(entry["values"])
    found = flat(entries, entry["base"]) | entry["set"]
    return {leaf: value for leaf, value in found.items() if leaf not in entry.get("unset", ())}


def _leaf(name: str, leaf: str, value: Any, cfg: experiment.Pretrain, notes: set[str]) -> Checks:
    found = ours(name, leaf, cfg)
    if isinstance(found, Note):
        if found.text not in notes:
            notes.add(found.text)
            yield found
        return
    value = sorted(value) if isinstance(value, list) else value
    same = found == value and isinstance(found, bool) == isinstance(value, bool)
    yield Check(f"{name}: {leaf} {found!r} instead of {value!r}", 0.0 if same else np.inf, 0.0)


def ours(name: str, leaf: str, cfg: experiment.Pretrain) -> Any:
    """Returns the value of a leaf in our configuration, or a note why there is none.

    Raises:
        KeyError: nothing says what it is.
    """
    key = leaf.rpartition(".")[2]
    if leaf == "arch.type":
        return cfg.model.type
    if leaf.startswith("arch.args.fusion_params."):
        return getattr(cfg.model.fusion_params, key)
    if leaf.startswith("arch.args."):
        return getattr(cfg.model, key.lower())
    if leaf.startswith("loss.args."):
        return getattr(cfg.model.loss_config, key)
    if leaf in TRAINING:
        return TRAINING[leaf](cfg)
    if match := re.fullmatch(r"(val_data_loaders\.\d|data_loader)\.args\.(.*)", leaf):
        evaluated = match[1] != "data_loader" or name.startswith("evaluation/")
        found = _input(cfg, match[2], evaluated, match[1].endswith("1"))
        if found is not None:
            return found
    reason = next((why for pattern, why in REASONS.items() if re.fullmatch(pattern, leaf)), None)
    if reason is None:
        raise KeyError(f"{leaf}: nothing says what it is here")
    return Note(f"{re.sub(r'loaders.[01]', 'loaders.N', leaf)}: {reason}")


def _tasks(cfg: experiment.Pretrain) -> list[str]:
    from vatt.methods.eao.model import EverythingAtOnce

    both = []
    model = EverythingAtOnce(cfg.model.model_copy(update={"type": FUSION}))
    for pair in model.pairs:
        one, two = (_letters(side) for side in (pair.query, pair.target))
        both += [f"{one}2{two}_metrics", f"{two}2{one}_metrics"]
    return both


def _letters(side: str) -> str:
    words = re.split("[&+]", side)
    return ("+" if "+" in side else "").join(word[0] for word in words)


def _epochs(cfg: experiment.Pretrain) -> float:
    rate = cfg.train.optimizer.learning_rate
    return rate.total_steps / rate.steps_per_epoch


def _decays(cfg: experiment.Pretrain) -> str:
    rate = cfg.train.optimizer.learning_rate
    return "ExponentialLR" if list(rate.milestones) == list(range(1, int(_epochs(cfg)))) else "?"


TRAINING: dict[str, Callable[[experiment.Pretrain], Any]] = {
    "optimizer.type": lambda cfg: cfg.train.optimizer.name.removeprefix("Flax"),
    "optimizer.args.lr": lambda cfg: cfg.train.optimizer.learning_rate.learning_rate_base,
    "lr_scheduler.type": _decays,
    "lr_scheduler.args.gamma": lambda cfg: cfg.train.optimizer.learning_rate.gamma,
    "loss.type": lambda cfg: "CombinatorialLoss",
    "metrics": lambda cfg: sorted(_tasks(cfg)),
    "trainer.epochs": _epochs,
    "trainer.mixed_precision": lambda cfg: cfg.precision == "mixed_bfloat16",
    "trainer.monitor": lambda cfg: "off" if cfg.train.keep_best is None else "on",
    "trainer.use_clip_text_model": lambda cfg: cfg.model.use_clip_text_model,
    "trainer.use_eval_mode_always": lambda cfg: cfg.train.freeze_batch_norm,
}


def _input(cfg: experiment.Pretrain, key: str, evaluated: bool, second: bool) -> Any:
    """Returns a value of an input, of evaluation's first or second set; None: there is none."""
    data = cfg.eval.input if evaluated else cfg.train.input
    if evaluated:
        name = data.name[int(second)]
        given: Tokens = data.of_set(name)
    else:
        name, given = data.name, data.tokens
    if key == "dataset_name":
        return next(published for published, own in SETS.items() if own == name)
    if key == "batch_size":
        if second:
            return Note(f"{key} of the second set: there is one for all, which changes no figure")
        return data.batch_size if evaluated else data.batch_size // given.rows
    key = key.removeprefix("dataset_kwargs.")
    if given.text == "clip" and key in ("word2vec_path", "we_dim"):
        return Note(f"{key}: text is read by CLIP, and word vectors by nothing")
    found = {
        "word2vec_path": f"./data/{given.word_vectors}",
        "we_dim": given.text_embed_dim,
        "use_2D": given.features_2d is not None,
        "use_3D": given.features_3d is not None,
        "key_2d": given.features_2d,
        "key_3d": given.features_3d,
    }
    return found[key] if key in found else getattr(given, key.lower(), None)


HANDLERS = {"published_hparams.json": hparams_file}
