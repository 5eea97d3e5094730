"""Golden numbers of the convolutional backbones."""

from __future__ import annotations

import json

import numpy as np

from tests.golden.vatt.recipe import recipe_weights
from vatt import configs
from vatt.methods.vatt import published, published_conv

TOLERANCE = 5e-5  # of the largest absolute reference value


def check_backbone(path, make):
    """Builds what the file says, gives it the recipe's weights and compares every number."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    config = json.loads(str(arrays["config"]))
    layer = make(configs.registry.backbone(config["arch"], **config["model"]), name=config["kind"])
    layer.build((None, *config["input_shape"]))

    shapes = [json.loads(shape) for shape in arrays["weight_shapes"]]
    weights = recipe_weights(arrays["weight_keys"], shapes, config["salt"])
    sums = [weight.sum(dtype=np.float64) for weight in weights.values()]
    np.testing.assert_allclose(sums, arrays["weight_checksum"], rtol=1e-12, atol=1e-12)
    keys = published.backbone_keys(layer)
    assert set(keys.values()) == set(weights)
    for variable in layer.variables:
        variable.assign(weights[keys[variable.path]])

    inputs = arrays[f"in:{config['kind']}"].astype(np.float32)
    outputs = layer(inputs, intermediates=True)
    for name in ("features", "features_pooled"):
        assert_close(outputs[name], arrays[f"out:{name}"], name)
    endpoints = {name: np.asarray(value) for name, value in outputs["endpoints"].items()}
    stored = [name.rpartition("/")[2] for name in arrays if name.startswith("out:endpoint_shape/")]
    assert list(endpoints) == stored
    for name, value in endpoints.items():
        assert value.shape == tuple(arrays[f"out:endpoint_shape/{name}"])
        assert_close(value.ravel()[:16], arrays[f"out:endpoint_head/{name}"], name)
        stats = [value.mean(dtype=np.float64), value.std(dtype=np.float64)]
        stats += [value.min(), value.max()]
        assert_close(stats, arrays[f"out:endpoint_stats/{name}"], name)


def assert_close(ours, reference, name):
    limit = TOLERANCE * np.max(np.abs(reference))
    np.testing.assert_allclose(np.asarray(ours), reference, rtol=0, atol=limit, err_msg=name)


def check_manifest(path, layer, root):
    """Compares names and shapes of all variables below `root`."""
    variables = json.loads(path.read_text())["variables"]
    expected = {key: tuple(shape) for key, shape in variables.items() if key.startswith(f"{root}/")}
    keys = published.backbone_keys(layer, root)
    assert {keys[v.path]: tuple(v.shape) for v in layer.variables} == expected
    # the table names nothing that is not there
    assert len(published_conv.table(layer)) == len(layer.variables)
