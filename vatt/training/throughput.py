"""How fast a run is, and the one line that says so."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

# Rows and columns of the products that tell what a device can do: enough to fill it.
_SIDES = {"CPU": 1536, "GPU": 8192}
_TRIES = 4


def matmul_peak(strategy: tf.distribute.Strategy, precision: str) -> float | None:
    """Returns the operations per second of plain matrix products on all devices of a strategy.

    The best of a few, since others may be using the machine. None on devices that are not
    measured (TPUs).
    """
    import tensorflow as tf

    devices = strategy.extended.worker_devices  # of this worker
    kind = tf.DeviceSpec.from_string(devices[0]).device_type
    if kind not in _SIDES:
        return None
    side, dtype = _SIDES[kind], "bfloat16" if precision == "mixed_bfloat16" else "float32"
    with tf.device(devices[0]):
        x = tf.cast(tf.random.stateless_uniform([side, side], [0, 0]), dtype)
        product = tf.function(lambda x: tf.linalg.matmul(x, x)[0, 0], autograph=False)
        product(x).numpy()
        seconds = []
        for _ in range(_TRIES):
            started = time.perf_counter()
            product(x).numpy()
            seconds.append(time.perf_counter() - started)
    # Logical devices of a CPU share its cores.
    local = 1 if kind == "CPU" else len(devices)
    workers = strategy.num_replicas_in_sync // len(devices)
    return 2 * side**3 / min(seconds) * local * workers


class Progress:
    """Counts time from log to log and prints the progress line."""

    def __init__(
        self,
        total_steps: int,
        step: int,
        batch_size: int,
        flops_per_step: float,
        peak: float | None = None,
    ) -> None:
        """Starts the clock at `step`; `batch_size` is the global number of clips per step.

        `peak` is what `matmul_peak` gives, of which the model's operations are a share (MFU).
        """
        self._total, self._batch, self._flops = total_steps, batch_size, flops_per_step
        self._peak = peak
        self._step = step
        self._first: int | None = None  # the step from which on the time is counted
        self._since = time.monotonic()
        self._training_s = 0.0
        self._terminal = sys.stderr.isatty()
        self._open = False  # whether a line is being rewritten

    def update(self, step: int, data_wait_s: float) -> dict[str, float]:
        """Throughput since the last update."""
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        steps = step - self._step
        if self._first is None:
            self._first = step  # what came before was tracing and filling of buffers, too
        else:
            self._training_s += seconds
        self._since, self._step = now, step
        found = {
            "steps_per_second": steps / seconds,
            "clips_per_second": steps * self._batch / seconds,
            "data_wait_share": min(data_wait_s / seconds, 1.0),
            "model_flops_per_second": steps * self._flops / seconds,
        }
        if self._peak:
            found["model_flops_utilization"] = found["model_flops_per_second"] / self._peak
        return found

    def resume(self) -> None:
        """Starts the clock again after work that is not training (saving, evaluating)."""
        self._since = time.monotonic()

    def show(self, metrics: Mapping[str, float]) -> None:
        """Prints the progress line: rewritten in place on a terminal, else a new line each time."""
        pairs = [
            f"{name.rsplit('/', 1)[-1].removesuffix('_loss').replace('_', ' ')} {value:.3f}"
            for name, value in metrics.items()
            if _is_shown(name, value, metrics["total_loss"])
        ]
        shown = f" ({', '.join(pairs)})" if pairs else ""
        share = metrics.get("model_flops_utilization")
        used = "" if share is None else f" (MFU {share:.0%})"
        line = (
            f"step {self._step}/{self._total}  loss {metrics['total_loss']:.3f}"
            f"{shown}  lr {metrics['learning_rate']:.2e}"
            f"  {metrics['clips_per_second']:.0f} clips/s"
            f"  {metrics['model_flops_per_second'] / 1e9:.0f} GFLOP/s{used}"
            f"  data wait {metrics['data_wait_share']:.0%}{self._left()}"
        )
        print(
            f"\r\033[K{line}" if self._terminal else line,
            end="" if self._terminal else "\n",
            file=sys.stderr,
            flush=True,
        )
        self._open = self._terminal

    def _left(self) -> str:
        """The time that is left, once it can be told."""
        done = self._step - (self._first or self._step)
        if not done:
            return ""
        return f"  ETA {duration((self._total - self._step) * self._training_s / done)}"

    def done(self) -> None:
        """Ends the line that was being rewritten."""
        if self._open:
            print(file=sys.stderr)
        self._open = False


def _is_shown(name: str, value: float, total: float) -> bool:
    """Whether a figure stands beside the loss: its parts, and what is measured of the batch."""
    if "/" in name:
        return name.endswith("_loss") and not name.endswith("total_loss")
    if name in ("model_loss", "regularization_loss"):
        return value not in (0.0, total)
    return name in ("top_1_accuracy", "binary_cross_entropy")


def duration(seconds: float) -> str:
    """Formats seconds as m:ss or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
