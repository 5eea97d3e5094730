"""Names of the convolutional backbones' variables in the published checkpoints.

Tables from a path below the layer to a key below the backbone's root; `vatt.methods.vatt.published`
applies them.
"""

from __future__ import annotations

from vatt.modeling.backbones.i3d import CONVS, I3D, MIXED
from vatt.modeling.backbones.resnet2d import ResNet2D

BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
MIXED_UNITS = ("b0_0", "b1_0", "b1_1", "b2_0", "b2_1", "b3_1")


def table(layer: I3D | ResNet2D) -> dict[str, str]:
    """Returns {variable path below `layer`: published key} of every variable."""
    return i3d_table(layer) if isinstance(layer, I3D) else resnet2d_table(layer)


def i3d_table(layer: I3D) -> dict[str, str]:
    """Returns {variable path below `layer`: published key} of every variable."""
    units = {name: name for name in CONVS}
    units |= {f"{block}/{u}": f"{block}/unit3d_{u}" for block in MIXED for u in MIXED_UNITS}
    table: dict[str, str] = {}
    for ours, theirs in units.items():
        table |= _unit(ours, f"{theirs}/conv3d", f"{theirs}/bn")
    return table


def resnet2d_table(layer: ResNet2D) -> dict[str, str]:
    """Returns {variable path below `layer`: published key} of every variable."""
    stem = "initial_conv_relu_max_pool"
    table = _unit("stem", f"{stem}/0/conv2d", f"{stem}/2/bn")
    for g, group in enumerate(layer.groups):
        for b, block in enumerate(group.blocks):
            ours, theirs = f"group_{g}/block_{b}", f"block_groups/{g}/layers/{b}"
            for n in range(3):  # convolution, norm and DropBlock stand in one published list
                convs = f"{theirs}/conv_relu_dropblock_layers"
                conv, norm = f"{convs}/{3 * n}/conv2d", f"{convs}/{3 * n + 1}/bn"
                table |= _unit(f"{ours}/conv_{n}", conv, norm)
            if block.projection is None:
                continue
            shortcut = f"{theirs}/projection_layers"
            table |= _unit(f"{ours}/projection", f"{shortcut}/0/conv2d", f"{shortcut}/1/bn")
    return table


def _unit(ours: str, conv: str, norm: str) -> dict[str, str]:
    return {
        f"{ours}/conv/kernel": f"{conv}/kernel",
        **{f"{ours}/bn/{leaf}": f"{norm}/{leaf}" for leaf in BATCH_NORM},
    }
