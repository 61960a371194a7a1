"""Synchronous data-parallel training with `tf.distribute`: every replica takes its share of each global batch.

The replicas together do what one device does with the whole batch: their shares are its consecutive parts, each draws the
random numbers of its own scenes, and whatever is a mean or a sum over scenes is reduced over all of them. Without a strategy,
and with a single replica, every function of a training step returns here what it was given.
"""

import contextlib
import re
import signal
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from air.errors import AIRError
from air.training.cluster import check_batch_size


class WorkerLostError(AIRError):
    """Another worker of the cluster ended or can't be reached."""


def create(name: str, batch_size: int) -> tf.distribute.Strategy:
    """The strategy of a name.

    Args:
        name: "none", TensorFlow's default strategy; "mirrored", all GPUs of this machine or, where there is none, its logical
            CPUs; "multiworker", the cluster in TF_CONFIG, each worker with all its GPUs or its CPU.
        batch_size: of the global batch.

    Raises:
        UsageError: if the replicas can't share a batch evenly.
        AIRError: if this worker can't listen at its address, or the workers don't find each other within an hour.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    else:
        print("Waiting for the other workers ...", file=sys.stderr, flush=True)
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # TensorFlow waits where Python's handler is never called
        try:
            with watched():
                strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.UnknownError as error:
            raise AIRError(f"TF_CONFIG: this worker can't listen at its address there ({error.message:.80})") from None
        finally:
            signal.signal(signal.SIGINT, before)
    check_batch_size(batch_size, strategy.num_replicas_in_sync)
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run folder: that of every strategy but a cluster's other workers."""
    return strategy.extended.should_checkpoint


@contextlib.contextmanager
def watched(advice: Callable[[], str] = str) -> Iterator[None]:
    """Turns what TensorFlow raises when a worker ends, hangs or can't be reached into a WorkerLostError.

    TensorFlow notices a worker that ended by its broken connection, and one that hangs after 10 seconds without its heartbeat.

    Args:
        advice: what to do then.
    """
    try:
        yield
    except tf.errors.OpError as error:
        message = error.message or ""
        lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError, tf.errors.CancelledError)
        _, found, cause = message.partition("Collective ops is aborted by: ")
        if isinstance(error, tf.errors.InvalidArgumentError) or not (found or isinstance(error, lost)):
            raise
        cause = re.split(r"[.:]?\s*\n|\. ", (cause if found else message).strip())[0][:160]
        raise WorkerLostError(f"a worker of the cluster ended or can't be reached ({cause}){advice()}") from None


def check_agreement(strategy: tf.distribute.Strategy, **content: str | Sequence[np.ndarray]) -> None:
    """Compares what all workers are about to do.

    Raises:
        AIRError: if a worker has other content than the chief, named by its keyword.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return
    row = [_checksum(value) for value in content.values()]

    @tf.function
    def gather() -> tf.Tensor:
        return strategy.gather(strategy.run(lambda: tf.constant([row], tf.int64)), axis=0)

    by_worker = gather().numpy()[:: len(strategy.extended.worker_devices)]
    for name, column in zip(content, by_worker.T, strict=True):
        others = np.flatnonzero(column != column[0])
        if len(others):
            ranks, name = ", ".join(map(str, others)), name.replace("_", " ")
            raise AIRError(f"worker {ranks} has other {name} than the chief, worker 0; all need the same")


def _checksum(content: str | Sequence[np.ndarray]) -> int:
    checksum = 0
    for part in [content.encode()] if isinstance(content, str) else map(np.ascontiguousarray, content):
        checksum = zlib.crc32(part, checksum)
    return checksum


def distribute(strategy: tf.distribute.Strategy, batches: tf.data.Dataset) -> Any:
    """Deals each batch of an endless data set out to the replicas, in consecutive parts of equal size."""
    replicas = strategy.num_replicas_in_sync
    if strategy is tf.distribute.get_strategy():
        return batches

    def shares(worker: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // worker.num_input_pipelines
        first = worker.input_pipeline_id * local

        def split(*batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return tuple(tf.stack(tf.split(field, replicas)[first : first + local]) for field in batch)

        # Said to be endless because TensorFlow would otherwise ask all workers before every batch whether there is one.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return batches.map(split).unbatch().apply(endless).prefetch(4 * local)

    return strategy.distribute_datasets_from_function(shares)
