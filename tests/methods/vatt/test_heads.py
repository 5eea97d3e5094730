"""Projection heads: widths that must fit, and the spaces where embeddings meet."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from vatt.configs import ConfigError
from vatt.methods.vatt import config as vatt
from vatt.methods.vatt import heads
from vatt.methods.vatt import model as multimodal


@pytest.fixture
def model(model_config, shapes):
    keras.utils.set_random_seed(0)
    return multimodal.build(model_config).build_from(shapes)


def test_joint_widths_must_be_equal():
    config = vatt.HeadStack(bridge=(vatt.JointBridge(),))
    config.bridge[0].txt_to_vid_aud_kwargs.d_model = 17
    message = r"head_config.bridge.0 d_model = \[512, 512, 17\]: the joint head needs one d_model"
    with pytest.raises(ConfigError, match=f"{message}.* Try 512 for all"):
        heads.build(config)


def test_joint_head_gives_video_one_embedding():
    head = heads.build(vatt.HeadStack(bridge=(vatt.JointBridge(),)))
    head.build({"video": 5, "audio": 6, "text": 7})
    video = head({"video": np.ones((3, 5), "float32")})["video"]
    np.testing.assert_array_equal(video["toaud"], video["totxt"])


def test_sounds_reach_the_space_of_text_the_way_videos_do(model, inputs):
    head = model(inputs)["head"]
    moments = model.head.bridges[0].va_to_vat.variables
    before = [v.numpy() for v in moments]
    found = model.head.text_space(head)
    np.testing.assert_array_equal(found["video"], head["video"]["totxt"])
    np.testing.assert_array_equal(found["text"], head["text"]["tovid"])
    as_if_video = model.head.bridges[0].va_to_vat(head["audio"]["tovid"], training=False)
    np.testing.assert_array_equal(found["audio"], as_if_video)
    for variable, value in zip(moments, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert set(model.head.text_space({"text": head["text"]})) == {"text"}
