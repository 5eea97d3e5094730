"""Classes, fields and defaults are the published ones, apart from the listed differences."""

from __future__ import annotations

import json

import pytest

from tests.golden.vatt import differences
from vatt import configs
from vatt.configs import base
from vatt.methods.vatt import PRESETS
from vatt.methods.vatt.config import Pretrain


@pytest.fixture(scope="module")
def published(shared_dir):
    return json.loads((shared_dir / "conformance" / "config_defaults.json").read_text())


@pytest.fixture(scope="module")
def published_registry(shared_dir):
    return json.loads((shared_dir / "conformance" / "config_registry.json").read_text())


def _extra(cls):
    names = set()
    for owner, fields in differences.EXTRA_FIELDS.items():
        if issubclass(cls, owner):
            names.update(fields)
    return names


def _differences(ours, theirs, path):
    """Yields what differs between a value of ours and the published one (configs as dicts)."""
    if isinstance(theirs, dict):
        fields = {key: value for key, value in theirs.items() if key != "__class__"}
        if isinstance(ours, base.Config):
            assert differences.published_name(type(ours)) == theirs.get("__class__"), path
            yield from _field_differences(ours, fields, path)
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


def _field_differences(ours, fields, path):
    keys = type(ours).keys()
    for key in sorted(set(keys) - set(fields) - _extra(type(ours))):
        yield f"{path}.{key} is ours alone and not listed"
    for key in sorted(set(fields) - set(keys)):
        yield f"{path}.{key} is missing"
    for key in sorted(set(fields) & set(keys)):
        documented = differences.DOCUMENTED_DIFFERENCES.get((type(ours), key))
        value = getattr(ours, keys[key])
        if documented:
            assert documented[:2] == (fields[key], value), path
        else:
            yield from _differences(value, fields[key], f"{path}.{key}")


def test_every_published_class_has_its_fields_and_defaults(published):
    assert len(published) > 50
    wrong = []
    for name, entry in published.items():
        theirs = {"__class__": name.partition(".")[2], **entry["fields"]}
        wrong += _differences(differences.class_of(name)(), theirs, name)
    assert wrong == []


def test_published_class_hierarchy_is_kept(published):
    for name, entry in published.items():
        ancestors = {c.__name__ for c in differences.class_of(name).__mro__}
        assert set(entry["bases"]) <= ancestors, name


def test_every_published_preset_is_registered(published_registry):
    tables = differences.registry_tables()
    assert set(tables) == set(published_registry)
    for table, entries in published_registry.items():
        assert entries.items() <= tables[table].items(), table


def test_extra_fields_are_not_published_ones(published):
    by_class = {differences.class_of(name): entry["fields"] for name, entry in published.items()}
    for owner, fields in differences.EXTRA_FIELDS.items():
        assert set(fields) <= set(owner.model_fields), owner
        heirs = [theirs for cls, theirs in by_class.items() if issubclass(cls, owner)]
        assert heirs, owner
        for theirs in heirs:
            assert not set(fields) & set(theirs), owner


def test_documented_differences_are_real_ones(published):
    by_class = {differences.class_of(name): entry["fields"] for name, entry in published.items()}
    for (cls, field), (theirs, ours, reason) in differences.DOCUMENTED_DIFFERENCES.items():
        assert by_class[cls][field] == theirs != ours, field
        assert getattr(cls(), field) == ours, field
        assert reason, field


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


@pytest.mark.parametrize("arch", PRESETS)
def test_two_configurations_share_nothing_that_can_change(arch):
    first, second = (configs.resolve(model_arch=arch) for _ in range(2))
    ids = {id(part) for part in _mutable_parts(first)}
    assert ids.isdisjoint(id(part) for part in _mutable_parts(second))


def test_class_defaults_do_not_change_with_an_instance():
    changed = Pretrain()
    changed.train.input.batch_size = 99
    changed.model.head_config.bridge[0].bn_config.momentum = 0.5
    changed.model.backbone_config.video_model_kwargs["d_model"] = 1
    fresh = Pretrain()
    assert fresh.train.input.batch_size == 8
    assert fresh.model.head_config.bridge[0].bn_config.momentum == 0.9
    assert fresh.model.backbone_config.video_model_kwargs == {}
