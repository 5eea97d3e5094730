"""Which embeddings of a model lie together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vatt.methods.vatt.model import PAIRS
from vatt.modeling.pretraining import Pair, PretrainingModel


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ((), ()),
        (PAIRS[:2], ({"text": "text_tovid", "video": "video_totxt"},
                     {"audio": "audio_tovid", "video": "video_toaud"})),
        ((Pair("audio", "video", "audio", "video"), Pair("text", "video", "text", "video")),
         ({"audio": "audio", "video": "video", "text": "text"},)),
    ],
)  # fmt: skip
def test_pairs_that_share_a_key_lie_in_one_space(pairs, expected):
    assert PretrainingModel.spaces.fget(SimpleNamespace(pairs=pairs)) == expected
