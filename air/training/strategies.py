"""Synchronous data-parallel training with `tf.distribute`: each replica takes an equal part of every global batch.

`air.model.replicas` has the part of this that belongs to a training step.
"""

import contextlib
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from air.errors import AIRError
from air.training.cluster import check_batch_size

LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError, tf.errors.CancelledError)


class WorkerLostError(AIRError):
    """Another worker of the cluster ended or can't be reached."""


def create(name: str, batch_size: int) -> tf.distribute.Strategy:
    """Create a strategy by its name.

    Args:
        name: "none", TensorFlow's default strategy; "mirrored", all GPUs of this machine or, where there is none, its logical
            CPUs; "multiworker", the cluster in TF_CONFIG, each worker with all its GPUs or its CPU.
        batch_size: of the global batch; UsageError is raised if the replicas can't divide it evenly.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    else:
        print("Waiting for the other workers ...", file=sys.stderr, flush=True)
        is_main = threading.current_thread() is threading.main_thread()
        # TensorFlow waits where Python's handler is never called.
        before = signal.signal(signal.SIGINT, signal.SIG_DFL) if is_main else None
        try:
            with watched():
                strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.UnknownError as error:
            raise AIRError(f"TF_CONFIG: this worker can't listen at its address there ({error.message:.80})") from None
        finally:
            if is_main:
                signal.signal(signal.SIGINT, before)
    check_batch_size(batch_size, strategy.num_replicas_in_sync)
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return whether this process writes the run folder; in a cluster, only one does."""
    return strategy.extended.should_checkpoint


@contextlib.contextmanager
def watched(advice: Callable[[], str] = str) -> Iterator[None]:
    """Turn the errors that TensorFlow raises when a worker is lost into a WorkerLostError, which ends with advice."""
    try:
        yield
    except tf.errors.OpError as error:
        message = error.message or ""
        _, found, cause = message.partition("Collective ops is aborted by: ")
        if isinstance(error, tf.errors.InvalidArgumentError) or not (found or isinstance(error, LOST)):
            raise
        cause = re.split(r"[.:]?\s*\n|\. ", (cause if found else message).strip())[0][:160]
        raise WorkerLostError(f"a worker of the cluster ended or can't be reached ({cause}){advice()}") from None


def check_agreement(strategy: tf.distribute.Strategy, **checksums: int) -> None:
    """Raise AIRError if a worker of a cluster differs from the chief in one of these checksums of what all workers share."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return

    @tf.function
    def gather() -> tf.Tensor:
        return strategy.gather(strategy.run(lambda: tf.constant([list(checksums.values())], tf.int64)), axis=0)

    by_worker = gather().numpy()[:: len(strategy.extended.worker_devices)]
    for name, column in zip(checksums, by_worker.T, strict=True):
        others = np.flatnonzero(column != column[0])
        if len(others):
            ranks, name = ", ".join(map(str, others)), name.replace("_", " ")
            raise AIRError(f"worker {ranks} has different {name} from the chief, worker 0; all workers need the same")


def distribute(strategy: tf.distribute.Strategy, batches: tf.data.Dataset) -> Any:
    """Distribute each batch of an endless data set to the replicas, in consecutive parts of equal size."""
    replicas = strategy.num_replicas_in_sync
    if strategy is tf.distribute.get_strategy():
        return batches

    def parts(worker: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // worker.num_input_pipelines
        own = slice(worker.input_pipeline_id * local, (worker.input_pipeline_id + 1) * local)

        def split(*batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return tuple(tf.stack(tf.split(field, replicas)[own]) for field in batch)

        # Otherwise TensorFlow would ask all workers before every batch whether there is one.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return batches.map(split).unbatch().apply(endless).prefetch(4 * local)

    return strategy.distribute_datasets_from_function(parts)
