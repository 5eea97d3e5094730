"""Counted operations and activations against those of the graphs TensorFlow makes of the models."""

from __future__ import annotations

import dataclasses
import math

import keras
import pytest
import tensorflow as tf

from vatt import configs
from vatt.methods.vatt import config as vatt
from vatt.methods.vatt import model as multimodal
from vatt.modeling import factory, flops
from vatt.modeling.backbones.resnet2d import ResNet2D
from vatt.modeling.random import Randomness

SMALL = {"d_model": 16, "num_layers": 1, "num_heads": 3, "d_kv": 8, "d_ff": 40}
VIDEO = {"spatial_patch_size": 8, "temporal_patch_size": 2, "max_temporal_buckets": 2}
VIDEO |= {"max_vertical_buckets": 3, "max_horizontal_buckets": 2, **SMALL}
AUDIO = {"temporal_patch_size": 32, "temporal_patch_stride": 24, "max_temporal_buckets": 20}
AUDIO |= SMALL
TEXT = {"vocab_size": 30, "d_embedding": 12, "d_pre_proj": 16, **SMALL}
PROJECTED = {"pre_projection": True, "post_projection": True, "d_post_proj": 24}
UNIFIED = {"vid_temporal_patch_size": 2, "vid_spatial_patch_size": 8, "aud_temporal_patch_size": 32}
UNIFIED |= {"max_vid_temporal_buckets": 2, "max_vid_spatial_buckets": 3, "txt_vocab_size": 30}
UNIFIED |= {"max_aud_temporal_buckets": 20, "txt_embedding_dim": 12, "d_post_proj": 24, **SMALL}
CLIP, SOUND, MEL, WORDS = (4, 24, 16, 3), (512, 1), (48, 20, 1), (7,)
# Backbone, changes of its preset, shape of a clip.
TRANSFORMERS = {
    "vit": ("vit_base", {**VIDEO, "num_layers": 2}, CLIP),
    "vit without dropout": ("vit_base", {**VIDEO, "dropout_rate": 0.0}, CLIP),
    "vit, projections": ("vit_base", {**VIDEO, **PROJECTED}, CLIP),
    "vit, masking": ("vit_base", {**VIDEO, "use_masking": True}, CLIP),
    "vit, geglu": ("vit_base", {**VIDEO, "activation": "geglu"}, CLIP),
    "vit, relu, post-norm": ("vit_base", {**VIDEO, "activation": "relu", "pre_norm": False}, CLIP),
    "vit, swish": ("vit_base", {**VIDEO, "activation": "swish", "use_bias": False}, CLIP),
    "vit, tables larger than the grid": ("vit_base", {**VIDEO, "max_temporal_buckets": 9}, CLIP),
    "vit, tables smaller": ("vit_base", {**VIDEO, "max_temporal_buckets": 1}, CLIP),
    "wat": ("wat_base", AUDIO, SOUND),
    "spt": ("spt_base", SMALL, MEL),
    "t5": ("t5_base", TEXT, WORDS),
    "bert": ("bert_base", {**TEXT, "d_post_proj": 20}, WORDS),
    "bert small": ("bert_small", TEXT, WORDS),
    "linear": ("linear", {"vocab_size": 30, "d_embedding": 12, "d_model": 20}, WORDS),
}
NORM = {"momentum": 0.9, "epsilon": 1e-5, "scale": True, "synchronized": False}


def cases(names, fast):
    """Parameters of a test, slow but for those in `fast`."""
    return [pytest.param(n, marks=[] if n in fast else [pytest.mark.slow]) for n in names]


def backbone(name, changes=None, dtype="float32"):
    config = configs.registry.backbone(name, **(changes or {}))
    return factory.build_backbone(config, dtype=dtype)


def resnet(**options):
    return ResNet2D((1, 2, 1, 1), NORM, width=0.25, name="audio", **options)


@dataclasses.dataclass
class Trace:
    """The graph of one call: `forward` operations, `result` tensors computed from them after."""

    forward: list[tf.Operation]
    result: list[tf.Tensor]


def trace(layer, shape, batch, training) -> Trace:
    """Traces the forward pass and, in training, the gradients of all weights."""
    forward = []

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            outputs = layer(x, training=training, rng=Randomness(tf.zeros(2, tf.int32)))
            loss = tf.reduce_sum(tf.cast(outputs["features_pooled"], tf.float32))
        forward.extend(tf.compat.v1.get_default_graph().get_operations())
        return tape.gradient(loss, layer.trainable_variables) if training else loss

    dtype = tf.int32 if shape == WORDS else tf.float32
    graph = step.get_concrete_function(tf.TensorSpec((batch, *shape), dtype)).graph
    return Trace(forward, graph.outputs)


def operations(trace: Trace) -> int:
    """Returns those of products and convolutions in the forward pass."""
    total = 0
    for operation in trace.forward:
        if operation.type in ("MatMul", "BatchMatMulV2"):
            flag = "transpose_a" if operation.type == "MatMul" else "adj_x"
            inner = operation.inputs[0].shape[-2 if operation.get_attr(flag) else -1]
        elif operation.type in ("Conv2D", "Conv3D"):
            inner = math.prod(operation.inputs[1].shape[:-1])
        else:
            assert "MatMul" not in operation.type and operation.type != "Einsum"
            continue
        total += 2 * math.prod(operation.outputs[0].shape) * inner
    return total


VIEWS = ("Identity", "Reshape", "StopGradient", "ExpandDims", "Squeeze")
SHAPES_ONLY = ("Shape", "ShapeN", "ZerosLike", "Size", "BroadcastGradientArgs")


def activation_bytes(trace: Trace) -> int:
    """Returns the size of all tensors of the forward pass from which gradients are computed."""
    inside, kept, seen = {id(op) for op in trace.forward}, {}, set()
    ahead = list(trace.result)
    while ahead:
        tensor = ahead.pop()
        if id(tensor.op) in inside:
            while tensor.op.type in VIEWS:
                tensor = tensor.op.inputs[0]
            kept[tensor.ref()] = tensor
        elif id(tensor.op) not in seen:
            seen.add(id(tensor.op))
            ahead += () if tensor.op.type in SHAPES_ONLY else tensor.op.inputs
    return sum(math.prod(tensor.shape) * tensor.dtype.size for tensor in kept.values())


def check(layer, shape, training, dtype="float32", tolerance=None):
    """Compares with what one more row adds: what a graph does once per batch is not counted."""
    layer.build((None, *shape))
    two, three = (trace(layer, shape, batch, training) for batch in (2, 3))
    cost = flops.count(layer, shape, training=training).cost
    assert cost.forward == operations(three) - operations(two) > 0
    assert cost.step == 3 * cost.forward
    if tolerance is not None:
        measured = activation_bytes(three) - activation_bytes(two)
        assert cost.activation_bytes(dtype) == pytest.approx(measured, rel=tolerance)


@pytest.mark.parametrize("case", cases(TRANSFORMERS, ("vit", "vit, projections", "t5", "linear")))
def test_training_of_transformers(case):
    """Also DropToken; relu keeps one more tensor than counted, the linear model a maximum."""
    name, changes, shape = TRANSFORMERS[case]
    tolerance = 0.1 if "relu" in case or case == "linear" else 0.01
    check(backbone(name, changes), shape, training=True, tolerance=tolerance)


@pytest.mark.parametrize(
    "case",
    cases(["vit", "vit without dropout", "vit, geglu", "bert small"], ("vit without dropout",)),
)
def test_training_in_half_precision(case):
    name, changes, shape = TRANSFORMERS[case]
    layer = backbone(name, changes, "mixed_bfloat16")
    check(layer, shape, training=True, dtype="mixed_bfloat16", tolerance=0.01)


@pytest.mark.parametrize("case", ["vit", "vit, tables smaller", "vit, masking", "wat"])
def test_inference_drops_no_tokens(case):
    name, changes, shape = TRANSFORMERS[case]
    check(backbone(name, changes), shape, training=False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"cifar_stem": True, "dtype": "mixed_bfloat16"}, marks=pytest.mark.slow),
    ],
)
def test_resnet(options):
    dtype = options.get("dtype", "float32")
    check(resnet(**options), MEL, training=True, dtype=dtype, tolerance=0.06)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("name", "shape"), [("r2plus1d_tiny", (5, 40, 36, 3)), ("resnet_tiny", (99, 40, 1))]
)
def test_networks_of_basic_blocks(name, shape, dtype):
    layer = backbone(name, {"blocks": (2, 1, 1, 1)}, dtype)
    check(layer, shape, training=True, dtype=dtype, tolerance=0.06)


def test_known_operations_of_r2plus1d_18():
    """40.5e9 multiply-adds for 16 frames of 112 x 112, as torchvision counts them."""
    tower = flops.count(backbone("r2plus1d_18"), (16, 112, 112, 3))
    assert tower.cost.forward / 2 == pytest.approx(40.52e9, rel=0.002)
    assert (tower.grid, tower.tokens) == ((2, 7, 7), None)


@pytest.mark.slow
def test_i3d_operations():
    """A convolution does nothing once per batch: one graph is enough."""
    layer, shape = backbone("i3d"), (5, 40, 36, 3)
    layer.build((None, *shape))
    assert flops.count(layer, shape).cost.forward == operations(trace(layer, shape, 1, False))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_i3d_training(dtype):
    check(backbone("i3d", dtype=dtype), (5, 40, 36, 3), True, dtype, tolerance=0.05)


def test_known_operations_of_resnet_50():
    """4.1e9 multiply-adds for an image, as published with the stride in the 3x3 convolution."""
    cost = flops.count(backbone("resnet2d_50"), (224, 224, 3)).cost
    assert cost.forward / 2 == pytest.approx(4.09e9, rel=0.002)


def test_tokens():
    layer = backbone("vit_base")
    assert flops.count(layer, (32, 224, 224, 3)).tokens == 8 * 14 * 14 + 1
    assert flops.count(layer, (32, 224, 224, 3), training=True).tokens == 784 + 1
    assert flops.count(layer, (32, 320, 320, 3), training=True).tokens == 784 + 1
    assert flops.count(backbone("bert_small"), (16,)).tokens == 16 + 2
    tower = flops.count(backbone("i3d"), (32, 224, 224, 3))
    assert (tower.grid, tower.tokens) == ((4, 7, 7), None)
    with pytest.raises(ValueError, match="do not hold one patch"):
        flops.count(layer, (3, 224, 224, 3))


def test_frozen_layers_have_no_backward_pass():
    """Nor DropToken; the stem and the groups before the point of a ResNet are frozen."""
    layer = backbone("vit_base", {**VIDEO, "freeze_backbone": True})
    inference, training = (flops.count(layer, CLIP, training=mode) for mode in (False, True))
    assert training == inference
    assert training.cost.step == training.cost.forward > 0
    assert training.cost.activation_bytes("float32") == 0
    whole, *parts = (flops.count(resnet(stop_gradient_point=p), MEL).cost for p in (-1, 0, 2, 4))
    assert all(part.forward == whole.forward for part in parts)
    steps = [part.step for part in parts]
    assert whole.step > steps[0] > steps[1] > steps[2] == whole.forward
    # Back-propagated are groups 2 and 3 alone, on a 3 x 2 and a 2 x 1 grid.
    later = 0
    for positions, before, filters, inputs in ((6, 18, 64, 128), (2, 6, 128, 256)):
        wide = 4 * filters
        later += 2 * (before * inputs * filters + positions * filters * filters * 9)
        later += 2 * (positions * filters * wide + positions * inputs * wide)
    assert steps[1] == whole.forward + 2 * later


def model_config(unified: bool):
    config = configs.registry.model("ut_fac" if unified else "tx_fac_tiny")
    if unified:
        config.backbone_config.unified_model_kwargs = UNIFIED
    else:
        config.backbone_config.video_model_kwargs = VIDEO
        config.backbone_config.audio_model_kwargs = AUDIO
        config.backbone_config.text_model_kwargs = TEXT
    return config


@pytest.mark.parametrize("kind", cases(["separate", "joint head", "unified"], ("separate",)))
def test_whole_models(kind):
    """Towers and heads, with two candidates of text per clip."""
    config = model_config(kind == "unified")
    if kind == "joint head":
        config.head_config = vatt.HeadStack(bridge=(vatt.JointBridge(),))
    model = multimodal.build(config)
    shapes = {"video": CLIP, "audio": SOUND, "text": (2, *WORDS)}
    model.build_from({"video": (None, *CLIP), "audio": (None, *SOUND), "text": (None, *WORDS)})

    @tf.function(autograph=False)
    def forward(video, audio, text):
        rng = Randomness(tf.zeros(2, tf.int32))
        return model({"video": video, "audio": audio, "text": text}, training=True, rng=rng)

    def counted(clips: int) -> int:
        spec = [tf.TensorSpec((clips, *CLIP)), tf.TensorSpec((clips, *SOUND))]
        graph = forward.get_concrete_function(*spec, tf.TensorSpec((2 * clips, *WORDS), tf.int32))
        return operations(Trace(graph.graph.get_operations(), []))

    head = model.head_cost(shapes).forward
    towers = counted(3) - counted(2) - head
    assert head > 0
    assert flops.pretraining_step(model, shapes) == 3 * towers


def test_a_step_of_the_convolutional_model():
    model = multimodal.build(configs.registry.model("mmv_fac"))
    shapes = {"video": (8, 32, 32, 3), "audio": MEL, "text": (5, 16)}
    video, audio = (flops.count(backbone(n), s).cost.forward for n, s in
                    (("i3d", shapes["video"]), ("resnet2d_50", MEL)))  # fmt: skip
    text = 5 * 16 * 2 * 300 * 2048
    assert flops.pretraining_step(model, shapes) == 3 * (video + audio + text)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_step_of_fine_tuning(frozen):
    """A frozen backbone has no backward pass and drops no token; the classifier always learns."""
    config = configs.registry.backbone("vit_base", **VIDEO, freeze_backbone=frozen)
    model = factory.build_classifier(config, num_classes=5)
    model.build((None, *CLIP))
    cost = flops.count(model.backbone, CLIP, training=not frozen).cost
    classifier = 3 * 2 * SMALL["d_model"] * 5
    assert flops.classifier(SMALL["d_model"], 5).step == classifier
    expected = (cost.forward if frozen else 3 * cost.forward) + classifier
    assert flops.classification_step(model, {"video": CLIP, "label": (5,)}) == expected


def test_what_is_no_backbone():
    with pytest.raises(TypeError, match=r"Dense is no backbone .* count\.register"):
        flops.count(keras.layers.Dense(3), CLIP)
