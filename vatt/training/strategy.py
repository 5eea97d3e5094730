"""Which devices a run uses: from `strategy_config` to a `tf.distribute` strategy."""

from __future__ import annotations

import tensorflow as tf

from vatt import configs
from vatt.errors import UserError


def build(cfg: configs.experiment.RuntimeConfig) -> tf.distribute.Strategy:
    """Builds the strategy named by `cfg.distribution_strategy`.

    `auto` takes all GPUs (mirrored) or, without any, one CPU device. `num_devices` limits the
    number of GPUs; without a GPU it splits the CPU into that many logical devices, which is how
    data-parallel training is tried on a laptop.

    Raises:
      UserError: more devices asked for than there are, or no TPU answers at the given address.
    """
    kind = cfg.distribution_strategy.lower()
    if kind == "tpu":
        return _tpu(cfg.tpu)
    if kind == "multi_worker_mirrored":
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = _devices(cfg.num_devices)
    if kind == "one_device":
        devices = devices[:1]
    if len(devices) == 1 and kind != "mirrored":
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(devices)


def _devices(count: int | None) -> list[str]:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if count is not None and count > len(gpus):
            raise UserError(
                f"strategy_config.num_devices: {count} GPUs asked for, this machine has {len(gpus)}"
            )
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        return [f"GPU:{i}" for i in range(count or len(gpus))]
    count = count or 1
    if count > 1:
        _split_cpu(count)
    return [f"CPU:{i}" for i in range(count)]


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    configured = tf.config.get_logical_device_configuration(cpu)
    if configured is not None and len(configured) >= count:
        return
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:
        raise UserError(
            f"strategy_config.num_devices: TensorFlow has already started with fewer than {count} "
            "CPU devices in this process; choose the number of devices before using TensorFlow"
        ) from error


def _tpu(address: str | None) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=address or "")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, KeyError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise UserError(
            f"--strategy_type=tpu --tpu={address}: no TPU system answers there "
            f"({str(error).splitlines()[0]}). Give the TPU's name or grpc:// address, or leave "
            "--strategy_type out to run on what this machine has"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
