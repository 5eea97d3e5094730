"""Names and shapes in the published checkpoints of GDT and STiCA, of narrow networks.

    shapes = gdt_names.sound()                # {name: shape} of GDT on video and sound
    tensors = gdt_names.values(shapes)

Written from the specification of the names alone; the map of names that is tested is not used.
"""

from __future__ import annotations

import numpy as np

Shapes = dict[str, tuple[int, ...]]

WIDTHS, STEM, BLOCKS = (4, 6, 8, 10), 5, (2, 1, 1, 1)
BACKBONE = {"widths": WIDTHS, "blocks": BLOCKS}
VIDEO = {**BACKBONE, "stem_channels": STEM}
HIDDEN, EMBEDDING, WORDS = 7, 6, (11, 5)
LINEAR, CLASSES, FEED_FORWARD = 12, 3, 2048


def sound() -> Shapes:
    """Returns what GDT on video and sound has."""
    shapes = video("video_network.base") | audio("audio_network.base")
    return shapes | head("mlp_v", WIDTHS[-1]) | head("mlp_a", WIDTHS[-1])


def captions() -> Shapes:
    """Returns what GDT on video and captions has."""
    text = dense("text_network.fc1", WORDS[1], LINEAR) | {"text_network.word_embd.weight": WORDS}
    return video("video_network.base") | text | head("mlp_v", WIDTHS[-1]) | head("mlp_t", LINEAR)


def stica(layers: int = 2) -> Shapes:
    """Returns what STiCA has."""
    return sound() | pooling("video_pooling.2", layers)


def finetuned(norm: bool = True, again: bool = True) -> Shapes:
    """Returns what a fine-tuned video network has; `again` lists the classifier twice."""
    last = "classifier.1" if norm else "classifier"
    head = dense(last, WIDTHS[-1], CLASSES)
    head |= batch_norm("classifier.0", WIDTHS[-1]) if norm else {}
    names = {"classifier.0": "final_bn", last: "linear_layer"} if norm and again else {}
    twice = {
        key.replace(here, there): shape
        for here, there in names.items()
        for key, shape in head.items()
        if key.startswith(f"{here}.")
    }
    return video("base") | twice | head


def video(root: str) -> Shapes:
    """Returns what R(2+1)D has."""
    shapes = {f"{root}.stem.0.weight": (STEM, 3, 1, 7, 7)} | batch_norm(f"{root}.stem.1", STEM)
    shapes |= {f"{root}.stem.3.weight": (WIDTHS[0], STEM, 3, 1, 1)}
    shapes |= batch_norm(f"{root}.stem.4", WIDTHS[0])
    for block, inputs, outputs, turns in units(root):
        middle = 27 * inputs * outputs // (9 * inputs + 3 * outputs)
        for conv, channels in (("conv1", inputs), ("conv2", outputs)):
            shapes[f"{block}.{conv}.0.0.weight"] = (middle, channels, 1, 3, 3)
            shapes |= batch_norm(f"{block}.{conv}.0.1", middle)
            shapes[f"{block}.{conv}.0.3.weight"] = (outputs, middle, 3, 1, 1)
            shapes |= batch_norm(f"{block}.{conv}.1", outputs)
        if turns:
            shapes[f"{block}.downsample.0.weight"] = (outputs, inputs, 1, 1, 1)
            shapes |= batch_norm(f"{block}.downsample.1", outputs)
    return shapes


def audio(root: str) -> Shapes:
    """Returns what ResNet has, its classifier too."""
    shapes = {f"{root}.conv1.weight": (WIDTHS[0], 1, 7, 7)} | batch_norm(f"{root}.bn1", WIDTHS[0])
    for block, inputs, outputs, turns in units(root):
        for n, channels in ((1, inputs), (2, outputs)):
            shapes[f"{block}.conv{n}.weight"] = (outputs, channels, 3, 3)
            shapes |= batch_norm(f"{block}.bn{n}", outputs)
        if turns:
            shapes[f"{block}.downsample.0.weight"] = (outputs, inputs, 1, 1)
            shapes |= batch_norm(f"{block}.downsample.1", outputs)
    return shapes | dense(f"{root}.fc", WIDTHS[-1], 1000)


def units(root: str) -> list[tuple[str, int, int, bool]]:
    """Returns name, channels before and after, and whether the shape changes, of each block."""
    found, inputs = [], WIDTHS[0]
    for stage, (outputs, count) in enumerate(zip(WIDTHS, BLOCKS, strict=True), 1):
        for n in range(count):
            found.append((f"{root}.layer{stage}.{n}", inputs, outputs, stage > 1 and n == 0))
            inputs = outputs
    return found


def head(root: str, inputs: int) -> Shapes:
    """Returns what a projection head has."""
    shapes = {f"{root}.block_forward.2.weight": (HIDDEN, inputs)}
    shapes |= batch_norm(f"{root}.block_forward.4", HIDDEN)
    return shapes | dense(f"{root}.block_forward.8", HIDDEN, EMBEDDING)


def pooling(root: str, layers: int) -> Shapes:
    """Returns what pooling over time has, with positions and projected values."""
    width = WIDTHS[-1]
    shapes: Shapes = {f"{root}.pos_ids": (64,), f"{root}.pos_embs.0.weight": (64, width)}
    for n in range(layers):
        layer = f"{root}.transformer.{n}"
        for name in ("q", "k", "v", "out"):
            shapes |= dense(f"{layer}.mha.{name}_lin", width, width)
        shapes |= dense(f"{layer}.ffn.lin1", width, FEED_FORWARD)
        shapes |= dense(f"{layer}.ffn.lin2", FEED_FORWARD, width)
        for norm in ("norm1", "norm2"):
            shapes |= {f"{layer}.{norm}.{leaf}": (width,) for leaf in ("weight", "bias")}
    return shapes


def dense(root: str, inputs: int, outputs: int) -> Shapes:
    """Returns what a dense layer has."""
    return {f"{root}.weight": (outputs, inputs), f"{root}.bias": (outputs,)}


def batch_norm(root: str, width: int) -> Shapes:
    """Returns what batch normalisation has."""
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {f"{root}.{leaf}": (width,) for leaf in leaves} | {f"{root}.num_batches_tracked": ()}


def values(shapes: Shapes, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns random tensors, none like another; counters and positions as they are."""
    random, found = np.random.default_rng(seed), {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            found[key] = np.array(9)
        elif key.endswith("pos_ids"):
            found[key] = np.arange(64)
        else:
            found[key] = random.normal(size=shape).astype(np.float32)
            if key.endswith("running_var"):
                found[key] = np.abs(found[key]) + np.float32(0.1)
    return found


def weights(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns those that a model here has a place for."""
    begin, end = ("audio_network.base.fc.", "final_bn.", "linear_layer."), ("_tracked", "pos_ids")
    return {k: v for k, v in tensors.items() if not (k.startswith(begin) or k.endswith(end))}
