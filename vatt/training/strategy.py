"""Which devices a run uses: from `strategy_config` to a `tf.distribute` strategy."""

from __future__ import annotations

import socket

import tensorflow as tf
from absl import logging

from vatt import configs
from vatt.errors import UserError, WorkerError
from vatt.training import cluster, signals

ANSWER_S = 30.0  # s within which a task of a TPU system must answer
# What a client of gRPC says first, the preface of HTTP/2 and empty settings; a server answers.
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def build(cfg: configs.experiment.RuntimeConfig) -> tf.distribute.Strategy:
    """Builds the strategy named by `cfg.distribution_strategy`.

    `auto` takes the TPU that is named, else all GPUs (mirrored) or, without any, one CPU device.
    `num_devices` limits the number of GPUs; without a GPU it splits the CPU into that many logical
    devices, which is how data-parallel training is tried on a laptop.

    Raises:
      UserError: more devices asked for than there are, no TPU answers at the given address, or
        TF_CONFIG cannot be used.
      WorkerError: the other workers cannot be reached.
    """
    members = cluster.of_training(cfg.distribution_strategy)
    if several(cfg):
        return _several(members)
    if members is not None and len(members.addresses) > 1:
        logging.warning(
            "TF_CONFIG names %d workers, of which this process knows nothing: to train together "
            "they need --strategy_type=%s",
            len(members.addresses),
            cluster.SEVERAL,
        )
    return build_local(cfg)


def several(cfg: configs.experiment.RuntimeConfig) -> bool:
    """Whether workers are asked for, each of which runs this program."""
    return cfg.distribution_strategy == cluster.SEVERAL


def build_local(cfg: configs.experiment.RuntimeConfig) -> tf.distribute.Strategy:
    """Builds the same of what this process has, without other workers.

    Raises:
      UserError: more devices asked for than there are, or no TPU answers at the given address.
    """
    kind = cfg.distribution_strategy
    if kind == "tpu" or (kind == "auto" and cfg.tpu):
        return _tpu(cfg.tpu)
    devices = _devices(cfg.num_devices)
    if kind == "one_device":
        devices = devices[:1]
    if len(devices) == 1 and kind != "mirrored":
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(devices)


def local_replicas(strategy: tf.distribute.Strategy) -> int:
    """Returns how many of the replicas run in this process."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return len(strategy.extended.worker_devices)
    return strategy.num_replicas_in_sync


def _several(members: cluster.Cluster | None) -> tf.distribute.Strategy:
    """Waits for the other workers and connects with them."""
    if members is None:
        logging.warning("TF_CONFIG is not set: this process is the only worker")
        return tf.distribute.MultiWorkerMirroredStrategy()
    members.meet(logging.info)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WorkerError(
            f"{members.me}: cannot be connected with the others ({reason})"
        ) from error
    finally:
        signals.take_back()  # TensorFlow takes SIGTERM for itself when it connects


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


def _check_answers(cluster: tf.train.ClusterSpec) -> None:
    """Asks every task of a cluster for a sign of life: TensorFlow itself tries for a quarter of an
    hour, and says nothing.

    Raises:
      OSError: one that no gRPC server answers for.
    """
    tasks = [task for job in cluster.jobs for task in cluster.job_tasks(job)]
    logging.info("connecting to the TPU at %s", ", ".join(tasks))
    for task in tasks:
        host, _, port = task.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), ANSWER_S) as connection:
                connection.settimeout(ANSWER_S)
                connection.sendall(_HTTP2_HELLO)
                if not connection.recv(1):
                    raise OSError("it hangs up")
        except TimeoutError as error:
            raise OSError(f"{task}: no answer within {ANSWER_S:g} s") from error
        except OSError as error:
            raise OSError(f"{task}: {error.strerror or error}") from error


def _tpu(address: str | None) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=address or "")
        _check_answers(resolver.cluster_spec())
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, KeyError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise UserError(
            f"--strategy_type=tpu --tpu={address}: no TPU system answers there "
            f"({str(error).splitlines()[0]}). Give the TPU's name or grpc:// address, or leave "
            "both flags out to run on what this machine has"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
