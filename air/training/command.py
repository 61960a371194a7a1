"""Train AIR on multi-MNIST.

    python training.py                                   # the default recipe, into air_results
    python training.py --run mine --max-steps 4 --seed 1
    python training.py --preset original                 # the published configuration
    python training.py --resume air_results
    TF_CONFIG=... python training.py --strategy multiworker   # on every host, see README.md

Makes the data set if it is missing. Watch the run with: tensorboard --logdir air_results/summary
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from air import presets
from air.config import RENAMED, AIRConfig, TrainingConfig
from air.errors import UsageError
from air.presets import PresetName
from air.support import cli
from air.training import cluster
from air.training.run_folder import RunFolder

Path_ = Annotated[Path, tyro.conf.arg(metavar="PATH")]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The command line."""

    preset: PresetName = "default"
    """Defaults of the other flags; the default preset has a recipe for each --estimator."""
    data: Path_ = Path("multi_mnist")
    """Folder with train.npz and validation.npz, or one file of scenes; the default is made if it is missing."""
    held_out: Path_ | None = None
    """File of the scenes to score while training; validation.npz in the data folder by default."""
    mnist: Path_ | None = None
    """MNIST as an .npz of Keras' format or a folder of IDX files, if the data has to be made."""
    run: Path_ | None = None
    """Run folder to make; by default air_results, air_results_1 ..."""
    overwrite: bool = False
    """Replace the run folder."""
    animate: bool = False
    """Also write attention.gif into the run folder: a few scenes through training."""
    resume: Path_ | None = None
    """Run folder to resume, with its own configuration and scenes; only --iterations may be raised, and scenes moved."""
    strategy: Literal["none", "mirrored", "multiworker"] = "none"
    """Divide each batch between all GPUs of this machine, or all workers of the cluster in the variable TF_CONFIG."""
    model: AIRConfig = dataclasses.field(default_factory=AIRConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


def read_arguments() -> Arguments:
    """Parse the command line, whose defaults depend on its --preset and --estimator, or on the run to --resume."""
    preset, (model, training) = presets.of_flags(cli.peek("--preset"), cli.peek("--estimator"))
    defaults = Arguments(preset=preset, model=model, training=training)
    resumed = cli.peek("--resume")
    if resumed is not None:
        model, training, record = RunFolder(Path(resumed)).read()
        held_out = record.get("held_out") and Path(record["held_out"])
        defaults = Arguments(preset, Path(record["data"]), held_out, model=model, training=training)
    arguments = cli.parse(Arguments, __doc__, default=defaults, renamed=RENAMED)
    if arguments.resume is not None:
        _refuse_changes(defaults, arguments)
    return arguments


def _refuse_changes(run: Arguments, arguments: Arguments) -> None:
    if arguments.run or arguments.overwrite:
        raise UsageError("--resume continues in the run's own folder; leave out --run and --overwrite")
    if arguments.mnist or cli.peek("--preset") is not None:
        raise UsageError("--resume uses the run's own recipe and scenes; leave out --preset and --mnist")
    for asked, own in ((arguments.model, run.model), (arguments.training, run.training)):
        for field in type(own).model_fields:
            value, before = getattr(asked, field), getattr(own, field)
            if field == "iterations" and value < before:
                raise UsageError(f"iterations: {value} is not allowed with --resume; it must be at least the run's {before}")
            if field != "iterations" and value != before:
                raise UsageError(f"{field}: {value} is not allowed with --resume; the run has {before}")


def main() -> None:
    arguments = read_arguments()
    is_chief = True
    if arguments.strategy == "multiworker":
        place = cluster.read(os.environ)
        cluster.check_batch_size(arguments.training.batch_size, len(place.workers))
        is_chief = place.rank == 0
    if arguments.resume is None and is_chief:
        RunFolder.check(arguments.run, arguments.overwrite)
    with cli.quiet_import():  # only now, so that --help and mistakes do not wait for TensorFlow
        from air.training import run

    shared = {name: getattr(arguments, name) for name in ("data", "held_out", "animate", "strategy")}
    if arguments.resume is not None:
        finished = run.resume(arguments.resume, arguments.training.iterations, **shared)
    else:
        own = {name: getattr(arguments, name) for name in ("mnist", "run", "overwrite")}
        finished = run.start(arguments.model, arguments.training, **own, **shared)
    if not finished:
        sys.exit(130)
