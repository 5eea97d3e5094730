"""A model whose run is in an object store is the one of the same run on this machine."""

import numpy as np
import pytest

import vatt
from tests import store_server
from vatt import assets

store = store_server.store


@pytest.mark.slow
def test_a_run_is_loaded_by_its_address(store):
    here = assets.trained("toy")
    store_server.put_folder(store, here, "gs://bucket/runs/toy")
    texts = ["a red star jumps", "the emerald moon rotates"]
    expected = vatt.load("toy").embed_text(texts)[0].spaces
    for name in ("gs://bucket/runs/toy", f"gs://bucket/runs/toy/{next(here.glob('*.index')).stem}"):
        found = vatt.load(name).embed_text(texts)[0].spaces
        assert found.keys() == expected.keys() and expected
        for space, values in expected.items():
            np.testing.assert_array_equal(found[space], values)
