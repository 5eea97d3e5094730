"""Classes, fields and defaults are the published ones, apart from the listed differences."""

from __future__ import annotations

import importlib
import json

import pytest

from vatt import configs
from vatt.configs import backbones, base, experiment, registry


@pytest.fixture(scope="module")
def published(shared_dir):
    return json.loads((shared_dir / "conformance" / "config_defaults.json").read_text())


@pytest.fixture(scope="module")
def published_registry(shared_dir):
    return json.loads((shared_dir / "conformance" / "config_registry.json").read_text())


def _class(module, name):
    return getattr(importlib.import_module(f"vatt.configs.{module}"), name)


def _extra(cls):
    names = set()
    for key, fields in base.EXTRA_FIELDS.items():
        if issubclass(cls, _class(*key.split("."))):
            names.update(fields)
    return names


def _differences(ours, theirs, path):
    """Yields what differs between a value of ours and the published one (configs as dicts)."""
    if isinstance(theirs, dict):
        expected_class = theirs.get("__class__")
        fields = {key: value for key, value in theirs.items() if key != "__class__"}
        if isinstance(ours, base.Config):
            assert type(ours).__name__ == expected_class, path
            keys = type(ours).keys()
            module = type(ours).__module__.rpartition(".")[2]
            for key in sorted(set(keys) - set(fields) - _extra(type(ours))):
                yield f"{path}.{key} is ours alone and not listed"
            for key in sorted(set(fields) - set(keys)):
                yield f"{path}.{key} is missing"
            for key in sorted(set(fields) & set(keys)):
                documented = base.DOCUMENTED_DIFFERENCES.get(
                    f"{module}.{type(ours).__name__}.{key}"
                )
                value = getattr(ours, keys[key])
                if documented:
                    assert documented[:2] == (fields[key], value), path
                else:
                    yield from _differences(value, fields[key], f"{path}.{key}")
        elif ours != fields:  # an open set of kwargs
            yield f"{path}: {ours!r}, published {fields!r}"
    elif isinstance(theirs, list):
        if not isinstance(ours, tuple) or len(ours) != len(theirs):
            yield f"{path}: {ours!r}, published {theirs!r}"
        else:
            for i, (own, their) in enumerate(zip(ours, theirs, strict=True)):
                yield from _differences(own, their, f"{path}.{i}")
    elif ours != theirs or isinstance(ours, bool) != isinstance(theirs, bool):
        yield f"{path}: {ours!r}, published {theirs!r}"


def test_every_published_class_has_its_fields_and_defaults(published):
    assert len(published) > 50
    wrong = []
    for name, entry in published.items():
        module, class_name = name.split(".")
        cls = _class(module, class_name)
        theirs = {"__class__": class_name, **entry["fields"]}
        wrong += _differences(cls(), theirs, name)
    assert wrong == []


def test_published_class_hierarchy_is_kept(published):
    for name, entry in published.items():
        module, class_name = name.split(".")
        ancestors = {c.__name__ for c in _class(module, class_name).__mro__}
        assert set(entry["bases"]) <= ancestors, name


def test_every_published_preset_is_registered(published_registry):
    tables = {
        "VID_MODELS": backbones.VID_MODELS,
        "AUD_MODELS": backbones.AUD_MODELS,
        "TXT_MODELS": backbones.TXT_MODELS,
        "UNIFIED_MODELS": backbones.UNIFIED_MODELS,
        "MULTIMODAL_MODELS": registry.MULTIMODAL_MODELS,
        "EXPERIMENT_CONFIGS": registry.EXPERIMENT_CONFIGS,
    }
    assert set(tables) == set(published_registry)
    for table, entries in published_registry.items():
        ours = {key: cls.__name__ for key, cls in tables[table].items()}
        assert entries.items() <= ours.items(), table


def test_extra_fields_are_not_published_ones(published):
    for name, fields in base.EXTRA_FIELDS.items():
        assert not set(fields) & set(published[name]["fields"]), name
        assert set(fields) <= set(_class(*name.split(".")).model_fields), name


def test_documented_differences_are_real_ones(published):
    for name, (theirs, ours, reason) in base.DOCUMENTED_DIFFERENCES.items():
        module, class_name, field = name.split(".")
        assert published[f"{module}.{class_name}"]["fields"][field] == theirs != ours, name
        assert getattr(_class(module, class_name)(), field) == ours, name
        assert reason, name


@pytest.mark.parametrize("name", ["vit_tiny", "WaT_Tiny", "T5_TINY"])
def test_tiny_backbones_are_presets(name):
    config = configs.registry.backbone(name, dropout_rate=0.0)
    assert config.name == name.lower()
    assert (config.d_model, config.d_kv, config.d_ff, config.num_heads) == (96, 24, 384, 4)
    assert config.dropout_rate == 0.0


def _mutable_parts(value):
    if isinstance(value, base.Config):
        yield value
        for name in type(value).model_fields:
            yield from _mutable_parts(getattr(value, name))
    elif isinstance(value, (dict, list)):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _mutable_parts(item)


@pytest.mark.parametrize("arch", [*registry.MULTIMODAL_MODELS])
def test_two_configurations_share_nothing_that_can_change(arch):
    first, second = (configs.resolve(model_arch=arch, params_override=OK[arch]) for _ in range(2))
    ids = {id(part) for part in _mutable_parts(first)}
    assert ids.isdisjoint(id(part) for part in _mutable_parts(second))


OK = {name: "" for name in registry.MULTIMODAL_MODELS}
OK["MMV_FAC"] = "train.input.raw_audio=false,eval.input.raw_audio=false"


def test_class_defaults_do_not_change_with_an_instance():
    changed = experiment.Pretrain()
    changed.train.input.batch_size = 99
    changed.model.head_config.bridge[0].bn_config.momentum = 0.5
    changed.model.backbone_config.video_model_kwargs["d_model"] = 1
    fresh = experiment.Pretrain()
    assert fresh.train.input.batch_size == 8
    assert fresh.model.head_config.bridge[0].bn_config.momentum == 0.9
    assert fresh.model.backbone_config.video_model_kwargs == {}
