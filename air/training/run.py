"""Train a model: start a run, or resume one.

from air.training.run import resume, start
start(run="mine", callbacks=[...])                                  # the default recipe, as training.py trains it
start(AIRConfig(max_steps=4), TrainingConfig(iterations=3000), data="scenes")
start(data=SCENES["noise"].replace(gap=1))                          # scenes of such rules, drawn while it trains
resume("mine", 40000)
"""

import contextlib
import math
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from air import presets
from air.config import AIRConfig, TrainingConfig
from air.data import multi_mnist
from air.data.folders import rules_of
from air.data.pipeline import check_batch_size, pipeline
from air.data.rules import SCENES, GeneratorConfig
from air.data.scenes import SceneSet
from air.data.shards import Shards
from air.data.stream import SceneStream
from air.errors import AIRError, DataError, UsageError
from air.model.air_model import AIRModel
from air.model.images import as_float
from air.model.optimisation import LearningRate
from air.support import cli
from air.support.arrays import checksum
from air.training import checkpoints, strategies
from air.training.animation import SCENES as ANIMATED
from air.training.animation import Animation
from air.training.callbacks import Checkpoints, FiniteLoss, Interruption
from air.training.own_data import STREAM
from air.training.progress import Progress
from air.training.run_folder import RunFolder, versions
from air.training.summaries import Summaries, rewind, write_configuration
from air.training.validation import Validation

Path_ = str | Path
PICTURED = 4  # scenes in TensorBoard's pictures: its cards are narrow
FLAGS = {"training": "--data", "held-out": "--held-out"}
MAX_STEPS_PER_CALL = 10  # steps that TensorFlow runs before Python looks; more is hardly faster, and slower to interrupt


class RunData(NamedTuple):
    """The scenes of a run."""

    training: SceneSet  # the first batch of a stream or of shards
    held_out: SceneSet | None
    stream: SceneStream | Shards | None = None

    def batches(self, training: TrainingConfig, start_step: int) -> Any:
        """Return a `tf.data.Dataset` of the batches from a step on."""
        if self.stream is not None:
            return self.stream.batches(training.batch_size, start_step)
        return pipeline(self.training, training.batch_size, seed=training.seed, start_step=start_step)

    @property
    def error(self) -> AIRError | None:
        """Return what was wrong with scenes that could not be read while the model trained; None if nothing was."""
        return self.stream.error if isinstance(self.stream, Shards) else None

    def checksums(self) -> dict[str, int | None]:
        """Compute the checksums by which a resumed run recognises its scenes, as recorded in config.json."""
        held_out = None if self.held_out is None else self.held_out.checksum()
        training = self.stream if isinstance(self.stream, Shards) else self.training
        return {"training": training.checksum(), "held-out": held_out}


def start(
    model_config: AIRConfig | None = None,
    training: TrainingConfig | None = None,
    *,
    data: Path_ | GeneratorConfig | None = None,
    held_out: Path_ | None = None,
    mnist: Path_ | None = None,
    run: Path_ | None = None,
    overwrite: bool = False,
    animate: bool = False,
    strategy: str = "none",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> bool:
    """Train a new model in a new run folder.

    Args:
        model_config, training: the configurations of the model and of the run; by default the default recipe's, of the same
            estimator.
        data, held_out: see `load_data`; by default the default scenes on the model's canvas, drawn while it trains. The folder
            multi_mnist is made if it is missing.
        mnist: the digits of the scenes that are made or drawn, see `air.data.mnist.load`.
        run, overwrite: the folder to make, see `RunFolder.create`.
        animate, callbacks: see `train`.
        strategy: see `strategies.create`; in a cluster, only the chief makes the folder.

    Returns:
        Whether the run reached its end, see `train`.

    Raises:
        AIRError: if the data or the folder can't be used, or the training fails.
    """
    recipe = presets.default(model_config.estimator if model_config else "concrete")
    model_config, training = model_config or recipe.model, training or recipe.training
    data = SCENES["default"].replace(canvas_size=model_config.canvas_size) if data is None else data
    replicas = strategies.create(strategy, training.batch_size)
    with strategies.watched():
        if not isinstance(data, GeneratorConfig):
            multi_mnist.ensure(data, model_config.canvas_size, mnist)
        scenes = load_data(data, held_out, model_config, training, mnist)
        check_batch_size(training.batch_size, len(scenes.training))
        checksums = scenes.checksums()
        _check_workers(replicas, model_config, training, checksums)
        folder = None
        if strategies.is_chief(replicas):
            folder = RunFolder.create(run, overwrite)
            places: dict[str, Any] = {"data": str(data), "held_out": held_out and str(held_out)}
            if isinstance(data, GeneratorConfig):
                places |= {"data": STREAM, "rules": data.to_dict(), "mnist": mnist and str(mnist)}
            elif (fitting := rules_of(data)) is not None:
                places["fitting"] = fitting.to_dict()
            folder.record(model_config, training, **places, strategy=strategy, scenes=checksums)
        keras.utils.set_random_seed(training.seed)
        with replicas.scope():
            model = AIRModel(model_config, seed=training.seed)
        return train(model, training, folder, scenes, animate, callbacks)


def resume(
    run: Path_,
    iterations: int | None = None,
    *,
    data: Path_ | None = None,
    held_out: Path_ | None = None,
    animate: bool = False,
    strategy: str = "none",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> bool:
    """Resume a run from its newest intact checkpoint, by the configuration in its folder.

    Args:
        run: the run folder.
        iterations: the last training step; the run's own when None.
        data, held_out: where the run's scenes are now, see `load_data`; where they were before when None.
        animate, strategy, callbacks: see `start`; the strategy may differ from that of the run so far.

    Returns:
        Whether the run reached its end, see `train`.

    Raises:
        DataError: if the folder is not a run's, or has no intact checkpoint, or one of another configuration; or if the scenes
            are not those that the run began with.
        AIRError: if another process uses the folder, or the training fails.
    """
    folder = RunFolder(run)
    model_config, training, record = folder.read()
    training = training.replace(iterations=training.iterations if iterations is None else iterations)
    replicas = strategies.create(strategy, training.batch_size)
    if strategies.is_chief(replicas):
        folder.claim()
    with strategies.watched():
        rules = record.get("rules")
        data, held_out = Path(data or record["data"]), held_out or record.get("held_out")
        if rules is None and not data.exists():
            raise DataError(f"{data}: no such data; give their path with --data")
        source = data if rules is None else GeneratorConfig.from_dict(rules)
        scenes = load_data(source, held_out, model_config, training, record.get("mnist"))
        checksums = scenes.checksums()
        _check_scenes(record, checksums, {"training": data, "held-out": Path(held_out or data)})
        _check_workers(replicas, model_config, training, checksums)
        with replicas.scope():
            step, model = checkpoints.newest_checkpoint(run)
        for (field, ours), (_, theirs) in zip(model_config, model.config, strict=True):
            if ours != theirs:
                raise DataError(f"{run}: its checkpoint of step {step} has {field} {theirs}, but config.json has {ours}")
        strategies.check_agreement(replicas, checkpoint=checksum(*model.get_weights()))
        if strategies.is_chief(replicas):
            folder.update(iterations=training.iterations, data=str(data), held_out=held_out and str(held_out))
        return train(model, training, folder if strategies.is_chief(replicas) else None, scenes, animate, callbacks)


def train(
    model: AIRModel,
    training: TrainingConfig,
    folder: RunFolder | None,
    data: RunData,
    animate: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> bool:
    """Train a model from its current step up to step `training.iterations`.

    Args:
        model: new, or loaded from a checkpoint, under the strategy to train it with.
        training: the run's configuration.
        folder: for all files; None for a worker that writes nothing.
        data: training scenes; and held-out ones, of which the first `training.validation_scenes` are scored.
        animate: write attention.gif, a few scenes through training.
        callbacks: more Keras callbacks, on every worker; the whole run is one epoch, and `Validation` adds to their `logs`.

    Returns:
        Whether the run reached its end; False if it was interrupted, with a checkpoint saved.

    Raises:
        TrainingError: if the loss is no longer finite; the last checkpoint is kept.
        DataError: if a shard can't be read; the last checkpoint is kept.
        WorkerLostError: if another worker of a cluster ended; the last checkpoint is kept.
    """
    began, begin = time.perf_counter(), int(model.step.numpy())
    if begin >= training.iterations:
        more = cli.command("training", "--resume", folder.path if folder else "RUN", "--iterations", 2 * begin)
        print(f"Trained {begin} steps already. Continue with: {more}")
        return True
    if folder is not None:
        watch = shlex.join(["tensorboard", "--logdir", str(folder.path)])
        print(f"Training in {folder.path}. Watch it with: {watch}", flush=True)
    strategy = model.distribute_strategy
    with strategy.scope():
        compile_model(model, training)
    own = [] if folder is None else _callbacks(folder, model.config, training, data, animate, begin)
    progress = Progress(begin, training.iterations, labelled=data.training.count is not None, hidden=folder is None)
    with (
        Interruption(model) as interruption,
        contextlib.closing(progress),
        strategies.watched(lambda: _advice(folder)),
        _reading(data, folder),
    ):
        model.fit(
            strategies.distribute(strategy, data.batches(training, begin)),
            steps_per_epoch=training.iterations - begin,
            verbose=0,
            shuffle=False,
            callbacks=[*own, progress, *callbacks],
        )
    interrupted = interruption.happened or model.stop_training
    _report(int(model.step.numpy()), training, folder, interrupted, time.perf_counter() - began)
    return not interrupted


@contextlib.contextmanager
def _reading(data: RunData, folder: RunFolder | None) -> Iterator[None]:
    """Replace TensorFlow's error about scenes that can't be read by our own."""
    try:
        yield
    except tf.errors.OpError:
        if data.error is None:
            raise
        raise type(data.error)(f"{data.error}{_advice(folder)}") from None


def _callbacks(
    folder: RunFolder, model: AIRConfig, training: TrainingConfig, data: RunData, animate: bool, begin: int
) -> list[keras.callbacks.Callback]:
    """Make what guards a run and writes into its folder, in the order in which they act after a step."""
    rewind(folder.summary, begin, training)
    write_configuration(folder.summary, model, training)
    batch, held_out = as_float(data.training.images[: training.batch_size], data.training.canvas_size), data.held_out
    validation = [] if held_out is None else [Validation(folder.metrics, folder.summary, training, held_out, _shown(held_out))]
    animated = _shown(held_out or data.training, ANIMATED)
    return [
        FiniteLoss(folder.path),  # first, so that no NaN reaches a file
        Summaries(folder.summary, training, batch, _shown(data.training)),
        *validation,
        *([Animation(folder.path / "attention.gif", animated, training.iterations)] if animate else []),
        Checkpoints(folder.path, training),  # last, so that the files of a resumed run are complete up to its checkpoint
    ]


def _shown(scenes: SceneSet, number: int = PICTURED) -> np.ndarray:
    """Return the images of the first scenes with objects, where that is known and there are any."""
    return (scenes.images if scenes.count is None or not scenes.count.any() else scenes.images[scenes.count > 0])[:number]


def compile_model(model: AIRModel, training: TrainingConfig) -> None:
    """Compile a model for a run; a model that already has an optimiser keeps its state."""
    # A call may not pass over a step at which a callback acts, the first step or the last one.
    common = math.gcd(training.iterations, int(model.step.numpy()), *training.intervals)
    rate = LearningRate(training.learning_rate.over(training.iterations))
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None:
        optimizer.learning_rate = rate
    elif training.optimizer == "rmsprop":
        optimizer = keras.optimizers.RMSprop(rate, momentum=0.9, centered=True)
    model.compile(
        optimizer=optimizer,
        learning_rate=rate,
        baseline_learning_rate=LearningRate(training.baseline_learning_rate.over(training.iterations)),
        clip_norm=training.clip_norm,
        jit_compile=training.xla,
        steps_per_execution=max(n for n in range(1, MAX_STEPS_PER_CALL + 1) if common % n == 0),
    )


def load_data(
    data: Path_ | GeneratorConfig,
    held_out: Path_ | None,
    model: AIRConfig,
    training: TrainingConfig,
    mnist: Path_ | None = None,
) -> RunData:
    """Load or draw the training scenes and, where there are any, the held-out ones.

    Args:
        data: a folder with train.npz or shards, see `Shards`, and perhaps validation.npz; one file of scenes; a folder of
            pictures; or the rules of scenes to draw while the model trains, by the run's seed.
        held_out: a file of other held-out scenes.
        model: whose canvas_size and channels the scenes must have, or DataError is raised.
        training: the run's configuration.
        mnist: see `air.data.mnist.load`.
    """
    canvas_size = model.canvas_size
    if isinstance(data, GeneratorConfig):
        if (data.canvas_size, data.channels) != (canvas_size, model.channels):
            drawn = f"{data.canvas_size} and {data.channels} channels"
            raise UsageError(
                f"data: {drawn} are not allowed; the model has a canvas of {canvas_size} and {model.channels} channels"
            )
        stream = SceneStream(data, training.seed, mnist)
        if held_out is None:
            scenes = stream.batch(0, training.validation_scenes, "validation")
        else:
            scenes = multi_mnist.read(held_out, canvas_size, model.channels)
        return RunData(stream.batch(0, training.batch_size), scenes, stream)
    path = Path(data)
    if held_out is None and (path / "validation.npz").exists():
        held_out = path / "validation.npz"
    held_out_set = multi_mnist.read(Path(held_out), canvas_size, model.channels) if held_out else None
    if multi_mnist.find_shards(path):
        shards = Shards(path, training.seed)
        multi_mnist.check_shape(shards.files[0], shards.shape, canvas_size, model.channels)
        check_batch_size(training.batch_size, len(shards))
        return RunData(shards.first(training.batch_size), held_out_set, shards)
    train_set = multi_mnist.read(multi_mnist.find_scenes(path, "train"), canvas_size, model.channels)
    train_set = SceneSet(train_set.images, train_set.count)  # frees the segments, which are as large as the images
    return RunData(train_set, held_out_set)


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
    resume = f"continue with {cli.command('training', '--resume', folder.path)}"
    return f"; the last checkpoint is {kept[-1].path}: {resume}" if kept else "; there is no checkpoint yet"


def _report(step: int, training: TrainingConfig, folder: RunFolder | None, interrupted: bool, seconds: float) -> None:
    """Print how a run ended, and what to do next."""
    took = tqdm.format_interval(seconds)
    done = f"Stopped at step {step} of {training.iterations} after {took}" if interrupted else f"Trained {step} steps in {took}"
    if folder is None:
        print(f"{done}. The run folder is on the chief.")
        return
    rows = folder.metrics.rows()
    accuracy = rows[-1].get("count_accuracy/all") if rows else None
    print(done + ("." if accuracy is None else f"; it counts {accuracy:.1%} of the held-out scenes correctly."))
    if interrupted:
        print(f"Continue with: {cli.command('training', '--resume', folder.path)}")
    print(f"Evaluate it:   {cli.command('evaluation', folder.path)}")
    print(f"Watch it look: {cli.command('demo', '--model', folder.path)}")
    print(f"Export z_what: {cli.command('embeddings', '--run', folder.path)}", flush=True)
