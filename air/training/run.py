"""Training runs: starting one, going on with one."""

import contextlib
import math
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from air.config import DEFAULT_DATA, AIRConfig, TrainingConfig
from air.data import multi_mnist
from air.data.pipeline import check_batch_size, pipeline
from air.data.scenes import SceneSet
from air.errors import DataError
from air.model.air_model import AIRModel
from air.model.images import as_float
from air.model.optimisation import LearningRate
from air.training import checkpoints, strategies
from air.training.animation import Animation
from air.training.callbacks import Checkpoints, FiniteLoss, Progress
from air.training.run_folder import RunFolder, versions
from air.training.summaries import Summaries, rewind
from air.training.validation import Validation

PICTURED = 4  # scenes in TensorBoard's pictures: its cards are narrow
MAX_STEPS_PER_CALL = 10  # steps that TensorFlow runs before Python looks; more is hardly faster, and slower to interrupt


def start(
    model_config: AIRConfig,
    training: TrainingConfig,
    *,
    data: Path = DEFAULT_DATA,
    held_out: Path | None = None,
    mnist: Path | None = None,
    run: Path | None = None,
    overwrite: bool = False,
    animate: bool = False,
    strategy: str = "none",
) -> bool:
    """Trains a new model in a new run folder.

    Args:
        model_config: of the model.
        training: of the run.
        data: see `load_data`; `multi_mnist` is made if it is missing.
        held_out: see `load_data`.
        mnist: the digits to make it of, see `air.data.mnist.load`.
        run: the folder to make, see `RunFolder.create`.
        overwrite: replace that folder.
        animate: see `train`.
        strategy: see `strategies.create`; of several workers, only the chief makes the folder.

    Returns:
        Whether the run reached its end, see `train`.

    Raises:
        AIRError: if the data or the folder can't be used, or the training fails.
    """
    replicas = strategies.create(strategy, training.batch_size)
    with strategies.watched():
        multi_mnist.ensure(data, model_config.canvas_size, mnist)
        scenes = load_data(data, held_out, model_config.canvas_size)
        check_batch_size(training.batch_size, len(scenes[0]))
        _check_agreement(replicas, model_config, training, scenes[0])
        folder = None
        if strategies.is_chief(replicas):
            folder = RunFolder.create(run, overwrite)
            more = {"data": str(data), "held_out": held_out and str(held_out), "strategy": strategy}
            folder.record(model_config, training, **more, scenes=_checksums(scenes))
        keras.utils.set_random_seed(training.seed)
        with replicas.scope():
            model = AIRModel(model_config, seed=training.seed)
        return train(model, training, folder, *scenes, animate=animate)


def resume(
    run: Path,
    iterations: int,
    *,
    data: Path | None = None,
    held_out: Path | None = None,
    animate: bool = False,
    strategy: str = "none",
) -> bool:
    """Goes on with a run from its newest intact checkpoint, by the configuration in its folder.

    Args:
        run: the run folder.
        iterations: where the run shall end now.
        data: where the run's scenes are now, see `load_data`; where they were when None.
        held_out: likewise.
        animate: see `train`.
        strategy: see `strategies.create`; need not be that of the run so far. All workers read the folder.

    Returns:
        Whether the run reached its end, see `train`.

    Raises:
        DataError: if the folder is not a run's, or has no intact checkpoint, or one of another configuration; or if the scenes
            are not those that the run began with.
        BusyError: if another process is training it.
        AIRError: if the training fails.
    """
    folder = RunFolder(run)
    model_config, training, record = folder.read()
    training = training.replace(iterations=iterations)
    replicas = strategies.create(strategy, training.batch_size)
    if strategies.is_chief(replicas):
        folder.claim()
    with strategies.watched():
        data = data or Path(record["data"])
        held_out = held_out or (record.get("held_out") and Path(record["held_out"]))
        if not data.exists():
            raise DataError(f"{data}: no such data; say where the run's scenes are with --data")
        scenes = load_data(data, held_out, model_config.canvas_size)
        _check_scenes(record, scenes, data, held_out)
        _check_agreement(replicas, model_config, training, scenes[0])
        with replicas.scope():
            step, model = checkpoints.newest_checkpoint(run)
        for field in AIRConfig.model_fields:
            ours, theirs = getattr(model_config, field), getattr(model.config, field)
            if ours != theirs:
                raise DataError(f"{run}: its checkpoint of step {step} has {field} {theirs}, but config.json has {ours}")
        strategies.check_agreement(replicas, checkpoint=model.get_weights())
        if strategies.is_chief(replicas):
            folder.update(iterations=iterations, data=str(data), held_out=held_out and str(held_out))
        return train(model, training, folder if strategies.is_chief(replicas) else None, *scenes, animate=animate)


def train(
    model: AIRModel,
    training: TrainingConfig,
    folder: RunFolder | None,
    data: SceneSet,
    held_out: SceneSet | None,
    animate: bool = False,
) -> bool:
    """Trains a model up to `training.iterations` steps, from wherever it is.

    Args:
        model: new, or loaded from a checkpoint, under the strategy to train it with.
        training: the run's configuration.
        folder: where everything is written; None for a worker that writes nothing.
        data: training scenes.
        held_out: scenes of which the first `training.validation_scenes` are scored; None for no scores.
        animate: write attention.gif, a few scenes through training.

    Returns:
        Whether the run reached its end; False if it was interrupted, with a checkpoint saved.

    Raises:
        TrainingError: if the loss is no longer finite; the last checkpoint is kept.
        WorkerLostError: if another worker of a cluster ended; likewise.
    """
    begin = int(model.step.numpy())
    strategy = model.distribute_strategy
    with strategy.scope():
        compile_model(model, training)
    batches = pipeline(data, training.batch_size, seed=training.seed, start_step=begin)
    callbacks = [] if folder is None else _recorders(folder, training, data, held_out, begin, animate)
    steps = training.iterations - begin
    with _Interruption(model) as interruption, contextlib.ExitStack() as shown, strategies.watched(lambda: _advice(folder)):
        if folder is not None:
            callbacks.append(shown.enter_context(Progress(training.iterations, data.count is not None, begin)))
        if steps > 0:
            batches = strategies.distribute(strategy, batches)
            model.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=callbacks)
    interrupted = interruption.happened or model.stop_training
    _report(int(model.step.numpy()), training, folder, interrupted)
    return not interrupted


def _recorders(
    folder: RunFolder,
    training: TrainingConfig,
    data: SceneSet,
    held_out: SceneSet | None,
    begin: int,
    animate: bool,
) -> list[keras.callbacks.Callback]:
    """What guards a run and writes into its folder, the checkpoints last."""
    pictured = _pictured(held_out or data)
    rewind(folder.summary, begin)
    batch = as_float(data.images[: training.batch_size])
    summaries = Summaries(folder.summary, training, batch, pictured[:PICTURED], begin)
    callbacks = [FiniteLoss(folder.path, begin), summaries]
    if held_out is not None:
        scored = held_out.select(slice(training.validation_scenes))
        callbacks.append(Validation(folder.metrics, folder.summary, training, scored, begin))
    if animate:
        callbacks.append(Animation(folder.path / "attention.gif", pictured, training.iterations, begin))
    return [*callbacks, Checkpoints(folder.path, training, begin)]


def _pictured(scenes: SceneSet) -> np.ndarray:
    """Images worth looking at: those with objects, where that is known and there are any."""
    shown = scenes.images if scenes.count is None else scenes.images[scenes.count > 0]
    return shown if len(shown) else scenes.images


def compile_model(model: AIRModel, training: TrainingConfig) -> None:
    """Compiles a model for a run; a model that already has an optimiser keeps its state."""
    intervals = [getattr(training, name) for name in type(training).model_fields if name.endswith("_every")]
    common = math.gcd(training.iterations, int(model.step.numpy()), *intervals)
    rate = LearningRate(training.learning_rate.over(training.iterations))
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None:
        optimizer.learning_rate = rate
    model.compile(
        optimizer=optimizer,
        learning_rate=rate,
        baseline_learning_rate=LearningRate(training.baseline_learning_rate.over(training.iterations)),
        clip_norm=training.clip_norm,
        jit_compile=training.xla,
        steps_per_execution=max(n for n in range(1, MAX_STEPS_PER_CALL + 1) if common % n == 0),
    )


def load_data(path: Path, held_out: Path | None, canvas_size: tuple[int, int]) -> tuple[SceneSet, SceneSet | None]:
    """The training scenes and, where there are any, the held-out ones.

    Args:
        path: a folder with train.npz and perhaps validation.npz, or one file of scenes.
        held_out: a file of other held-out scenes.
        canvas_size: that the scenes must have.

    Raises:
        DataError: if there are no such scenes, or they have another canvas size.
    """
    if held_out is None and (path / "validation.npz").exists():
        held_out = path / "validation.npz"
    train_set = multi_mnist.read(path / "train.npz" if path.is_dir() else path, canvas_size)
    train_set = SceneSet(train_set.images, train_set.count)  # frees the segments, which are as large as the images
    return train_set, multi_mnist.read(held_out, canvas_size) if held_out else None


def _checksums(scenes: tuple[SceneSet, SceneSet | None]) -> dict[str, int | None]:
    """Of the training scenes and the held-out ones."""
    training, held_out = scenes
    return {"training": training.checksum(), "held-out": None if held_out is None else held_out.checksum()}


def _check_scenes(record: dict[str, Any], scenes: tuple[SceneSet, SceneSet | None], data: Path, held_out: Path | None) -> None:
    """Raises DataError if these are not the scenes that a run began with: it would be another run."""
    known = record.get("scenes")
    if known is None:  # of a run of an older version
        return
    found = _checksums(scenes)
    for kind, place, flag in (("training", data, "data"), ("held-out", held_out or data, "held-out")):
        if not isinstance(known, dict) or found[kind] != known.get(kind):
            raise DataError(f"{place}: not the {kind} scenes that the run began with; say where those are with --{flag}")


def _check_agreement(strategy: tf.distribute.Strategy, model: AIRConfig, training: TrainingConfig, data: SceneSet) -> None:
    """Raises AIRError if the workers of a cluster would not train the same run."""
    flags = model.to_json() + training.to_json()
    arrays = [data.images] if data.count is None else [data.images, data.count]
    strategies.check_agreement(strategy, flags=flags, training_scenes=arrays, versions=str(versions()))


def _advice(folder: RunFolder | None) -> str:
    """What to do when a worker was lost."""
    kept = checkpoints.checkpoints(folder.path) if folder else []
    if kept:
        return f"; the last checkpoint is {kept[-1][1]}: go on with python training.py --resume {folder.path}"
    return "; there is no checkpoint yet" if folder else "; the chief's run folder has the last checkpoint: go on with --resume"


def _report(step: int, training: TrainingConfig, folder: RunFolder | None, interrupted: bool) -> None:
    stopped = f"Stopped at step {step} of {training.iterations}."
    if folder is None:
        print(f"{stopped if interrupted else f'Trained {step} steps.'} The chief has the run folder.")
    elif interrupted:
        print(f"{stopped} Go on with: python training.py --resume {folder.path}")
    else:
        print(f"Trained {step} steps. Look at the run with: tensorboard --logdir {folder.summary}")


class _Interruption:
    """Turns the first signal to end into a stop after the current steps, so that a checkpoint can be saved.

    These are SIGINT, SIGTERM and, unless it is ignored as under nohup, the SIGHUP of a terminal that is closed.
    """

    def __init__(self, model: AIRModel) -> None:
        self.model, self.happened = model, False
        self.previous: dict[int, Callable[..., Any] | int | None] = {}

    def __enter__(self) -> "_Interruption":
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # Windows has none
            numbers.append(signal.SIGHUP)
        for number in numbers:
            self.previous[number] = signal.signal(number, self._stop)
        return self

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        self.model.request_stop()
        signal.signal(number, self.previous[number])  # a second one stops at once

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
