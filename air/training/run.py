"""Train a model: start a run, or resume one."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import keras

from air.config import DEFAULT_DATA, AIRConfig, TrainingConfig
from air.data import multi_mnist
from air.data.pipeline import check_batch_size, pipeline
from air.data.scenes import SceneSet
from air.errors import DataError
from air.model.air_model import AIRModel
from air.model.images import as_float
from air.model.optimisation import LearningRate
from air.support.arrays import checksum
from air.training import checkpoints, strategies
from air.training.animation import Animation
from air.training.callbacks import Checkpoints, FiniteLoss, Interruption, Progress
from air.training.run_folder import RunFolder, versions
from air.training.summaries import Summaries, rewind
from air.training.validation import Validation

PICTURED = 4  # scenes in TensorBoard's pictures: its cards are narrow
FLAGS = {"training": "--data", "held-out": "--held-out"}
MAX_STEPS_PER_CALL = 10  # steps that TensorFlow runs before Python looks; more is hardly faster, and slower to interrupt


class RunData(NamedTuple):
    """The scenes of a run."""

    training: SceneSet
    held_out: SceneSet | None

    def checksums(self) -> dict[str, int | None]:
        """Compute the checksums by which a resumed run recognises its scenes, as they stand in config.json."""
        held_out = None if self.held_out is None else self.held_out.checksum()
        return {"training": self.training.checksum(), "held-out": held_out}


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
    """Train a new model in a new run folder.

    Args:
        model_config, training: the configurations of the model and of the run.
        data, held_out: see `load_data`; `multi_mnist` is made if it is missing.
        mnist: the digits to make it of, see `air.data.mnist.load`.
        run, overwrite: the folder to make, see `RunFolder.create`.
        animate: see `train`.
        strategy: see `strategies.create`; in a cluster, only the chief makes the folder.

    Returns:
        Whether the run reached its end, see `train`.

    Raises:
        AIRError: if the data or the folder can't be used, or the training fails.
    """
    replicas = strategies.create(strategy, training.batch_size)
    with strategies.watched():
        multi_mnist.ensure(data, model_config.canvas_size, mnist)
        scenes = load_data(data, held_out, model_config.canvas_size)
        check_batch_size(training.batch_size, len(scenes.training))
        checksums = scenes.checksums()
        _check_workers(replicas, model_config, training, checksums)
        folder = None
        if strategies.is_chief(replicas):
            folder = RunFolder.create(run, overwrite)
            places = {"data": str(data), "held_out": held_out and str(held_out)}
            folder.record(model_config, training, **places, strategy=strategy, scenes=checksums)
        keras.utils.set_random_seed(training.seed)
        with replicas.scope():
            model = AIRModel(model_config, seed=training.seed)
        return train(model, training, folder, scenes, animate)


def resume(
    run: Path,
    iterations: int,
    *,
    data: Path | None = None,
    held_out: Path | None = None,
    animate: bool = False,
    strategy: str = "none",
) -> bool:
    """Resume a run from its newest intact checkpoint, by the configuration in its folder.

    Args:
        run: the run folder.
        iterations: the last training step.
        data, held_out: where the run's scenes are now, see `load_data`; where they were before when None.
        animate, strategy: see `start`; the strategy may differ from that of the run so far.

    Returns:
        Whether the run reached its end, see `train`.

    Raises:
        DataError: if the folder is not a run's, or has no intact checkpoint, or one of another configuration; or if the scenes
            are not those that the run began with.
        AIRError: if another process uses the folder, or the training fails.
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
        checksums = scenes.checksums()
        _check_scenes(record, checksums, {"training": data, "held-out": held_out or data})
        _check_workers(replicas, model_config, training, checksums)
        with replicas.scope():
            step, model = checkpoints.newest_checkpoint(run)
        for (field, ours), (_, theirs) in zip(model_config, model.config, strict=True):
            if ours != theirs:
                raise DataError(f"{run}: its checkpoint of step {step} has {field} {theirs}, but config.json has {ours}")
        strategies.check_agreement(replicas, checkpoint=checksum(*model.get_weights()))
        if strategies.is_chief(replicas):
            folder.update(iterations=iterations, data=str(data), held_out=held_out and str(held_out))
        return train(model, training, folder if strategies.is_chief(replicas) else None, scenes, animate)


def train(model: AIRModel, training: TrainingConfig, folder: RunFolder | None, data: RunData, animate: bool = False) -> bool:
    """Train a model from its current step up to step `training.iterations`.

    Args:
        model: new, or loaded from a checkpoint, under the strategy to train it with.
        training: the run's configuration.
        folder: for all files; None for a worker that writes nothing.
        data: training scenes; and held-out ones, of which the first `training.validation_scenes` are scored.
        animate: write attention.gif, a few scenes through training.

    Returns:
        Whether the run reached its end; False if it was interrupted, with a checkpoint saved.

    Raises:
        TrainingError: if the loss is no longer finite; the last checkpoint is kept.
        WorkerLostError: if another worker of a cluster ended; the last checkpoint is kept.
    """
    begin = int(model.step.numpy())
    strategy = model.distribute_strategy
    with strategy.scope():
        compile_model(model, training)
    batches = pipeline(data.training, training.batch_size, seed=training.seed, start_step=begin)
    callbacks = [] if folder is None else _callbacks(folder, training, data, animate, begin)
    progress = Progress(begin, training.iterations, labelled=data.training.count is not None, hidden=folder is None)
    with Interruption(model) as interruption, closing(progress.bar), strategies.watched(lambda: _advice(folder)):
        if begin < training.iterations:
            model.fit(
                strategies.distribute(strategy, batches),
                steps_per_epoch=training.iterations - begin,
                verbose=0,
                shuffle=False,
                callbacks=[*callbacks, progress],
            )
    interrupted = interruption.happened or model.stop_training
    _report(int(model.step.numpy()), training, folder, interrupted)
    return not interrupted


def _callbacks(
    folder: RunFolder, training: TrainingConfig, data: RunData, animate: bool, begin: int
) -> list[keras.callbacks.Callback]:
    """Make what guards a run and writes into its folder, in the order in which they act after a step."""
    rewind(folder.summary, begin)
    batch, shown = data.training.images[: training.batch_size], data.held_out or data.training
    # Pictures of scenes with objects, where that is known and there are any.
    pictured = shown.images if shown.count is None or not shown.count.any() else shown.images[shown.count > 0]
    return [
        FiniteLoss(folder.path),  # first, so that no NaN reaches a file
        Summaries(folder.summary, training, as_float(batch, data.training.canvas_size), pictured[:PICTURED]),
        *([Validation(folder.metrics, folder.summary, training, data.held_out)] if data.held_out is not None else []),
        *([Animation(folder.path / "attention.gif", pictured, training.iterations)] if animate else []),
        Checkpoints(folder.path, training),  # last, so that the files of a resumed run are complete up to its checkpoint
    ]


def compile_model(model: AIRModel, training: TrainingConfig) -> None:
    """Compile a model for a run; a model that already has an optimiser keeps its state."""
    # A call may not pass over a step at which a callback acts, the first step or the last one.
    common = math.gcd(training.iterations, int(model.step.numpy()), *training.intervals)
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


def load_data(path: Path, held_out: Path | None, canvas_size: tuple[int, int]) -> RunData:
    """Load the training scenes and, where there are any, the held-out ones.

    Args:
        path: a folder with train.npz and perhaps validation.npz, or one file of scenes.
        held_out: a file of other held-out scenes.
        canvas_size: of the scenes; DataError is raised if they have another.
    """
    if held_out is None and (path / "validation.npz").exists():
        held_out = path / "validation.npz"
    train_set = multi_mnist.read(path / "train.npz" if path.is_dir() else path, canvas_size)
    train_set = SceneSet(train_set.images, train_set.count)  # frees the segments, which are as large as the images
    return RunData(train_set, multi_mnist.read(held_out, canvas_size) if held_out else None)


def _check_scenes(record: dict[str, Any], checksums: dict[str, int | None], places: dict[str, Path]) -> None:
    """Raise DataError if these are not the scenes that the run began with: it would be another run."""
    known = record.get("scenes", checksums)  # runs of older versions have none
    for kind, place in places.items():
        if checksums[kind] != known[kind]:
            raise DataError(f"{place}: not the {kind} scenes that the run began with; say where those are with {FLAGS[kind]}")


def _check_workers(replicas: Any, model: AIRConfig, training: TrainingConfig, checksums: dict[str, int | None]) -> None:
    """Raise AIRError if the workers of a cluster would not train the same run."""
    flags = checksum(model.to_json(), training.to_json())
    scenes = checksums["training"]
    strategies.check_agreement(replicas, flags=flags, training_scenes=scenes, versions=checksum(str(versions())))


def _advice(folder: RunFolder | None) -> str:
    """Say what to do when a worker was lost."""
    if folder is None:
        return "; the chief's run folder has the last checkpoint: continue with --resume"
    kept = checkpoints.checkpoints(folder.path)
    resume = f"continue with python training.py --resume {folder.path}"
    return f"; the last checkpoint is {kept[-1].path}: {resume}" if kept else "; there is no checkpoint yet"


def _report(step: int, training: TrainingConfig, folder: RunFolder | None, interrupted: bool) -> None:
    done = f"Stopped at step {step} of {training.iterations}." if interrupted else f"Trained {step} steps."
    if folder is None:
        print(f"{done} The chief has the run folder.")
    elif interrupted:
        print(f"{done} Continue with: python training.py --resume {folder.path}")
    else:
        print(f"{done} Look at the run with: tensorboard --logdir {folder.summary}")
