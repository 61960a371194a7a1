"""Trains AIR on multi-MNIST.

    python training.py                                   # the default recipe, into air_results
    python training.py --run mine --max-steps 4 --seed 1
    python training.py --preset original                 # the published configuration
    python training.py --resume air_results
    TF_CONFIG=... python training.py --strategy multiworker   # on every host, see README.md

Makes the data set when there is none. TensorBoard shows the run while it goes on: tensorboard --logdir air_results/summary
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
    preset: PresetName = "default"
    """Where the other flags' defaults come from; the default one has a recipe for each --estimator."""
    data: Path_ = Path("multi_mnist")
    """Folder with train.npz and validation.npz, or one file of scenes; made when it is the default and missing."""
    held_out: Path_ | None = None
    """File of the scenes to score while training; the data folder's validation.npz when not given."""
    mnist: Path_ | None = None
    """MNIST as an .npz of Keras' format or a folder of IDX files, when the data has to be made."""
    run: Path_ | None = None
    """Run folder to make; air_results, air_results_1 ... when not given."""
    overwrite: bool = False
    """Replace the run folder."""
    animate: bool = False
    """Also write attention.gif into the run folder: a few scenes through training."""
    resume: Path_ | None = None
    """Run folder to go on with, by its own configuration and scenes; only --iterations may be raised, and scenes moved."""
    strategy: Literal["none", "mirrored", "multiworker"] = "none"
    """Share each batch between all GPUs of this machine, or all workers of the cluster in the variable TF_CONFIG."""
    model: AIRConfig = dataclasses.field(default_factory=AIRConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


def read_arguments() -> Arguments:
    """The command line, whose defaults follow from its --preset and --estimator, or from the run to --resume."""
    defaults = Arguments()
    resume = cli.peek("--resume")
    preset, (model, training) = presets.peeked(cli.peek("--preset"), cli.peek("--estimator"))
    defaults = dataclasses.replace(defaults, preset=preset, model=model, training=training)
    if resume is not None:
        model, training, record = RunFolder(Path(resume)).read()
        held_out = record.get("held_out") and Path(record["held_out"])
        defaults = dataclasses.replace(defaults, data=Path(record["data"]), held_out=held_out, model=model, training=training)
    arguments = cli.parse(Arguments, __doc__, default=defaults, renamed=RENAMED)
    if arguments.resume is not None:
        _refuse_changes(defaults, arguments)
    return arguments


def _refuse_changes(run: Arguments, arguments: Arguments) -> None:
    if arguments.run or arguments.overwrite:
        raise UsageError("--resume goes on in the run's own folder; leave out --run and --overwrite")
    if arguments.mnist or cli.peek("--preset") is not None:
        raise UsageError("--resume goes on with the run's own recipe and scenes; leave out --preset and --mnist")
    for name in ("model", "training"):
        ours, theirs = getattr(arguments, name), getattr(run, name)
        for field in type(ours).model_fields:
            if getattr(ours, field) != getattr(theirs, field) and field != "iterations":
                raise UsageError(
                    f"{field}: {getattr(ours, field)} is not allowed with --resume; the run has {getattr(theirs, field)}"
                )
    if arguments.training.iterations < run.training.iterations:
        raise UsageError(
            f"iterations: {arguments.training.iterations} is not allowed with --resume; it must be at least "
            f"the run's {run.training.iterations}"
        )


def main() -> None:
    arguments = read_arguments()
    rank = 0
    if arguments.strategy == "multiworker":
        workers, rank = cluster.read(os.environ)
        cluster.check_batch_size(arguments.training.batch_size, len(workers))
    if arguments.resume is None and rank == 0:
        RunFolder.check(arguments.run, arguments.overwrite)
    with cli.quiet_import():  # here, because --help and mistakes should not wait for TensorFlow
        from air.training import run

    if arguments.resume is not None:
        finished = run.resume(
            arguments.resume,
            arguments.training.iterations,
            data=arguments.data,
            held_out=arguments.held_out,
            animate=arguments.animate,
            strategy=arguments.strategy,
        )
    else:
        finished = run.start(
            arguments.model,
            arguments.training,
            data=arguments.data,
            held_out=arguments.held_out,
            mnist=arguments.mnist,
            run=arguments.run,
            overwrite=arguments.overwrite,
            animate=arguments.animate,
            strategy=arguments.strategy,
        )
    if not finished:
        sys.exit(130)


if __name__ == "__main__":
    cli.run(main)
