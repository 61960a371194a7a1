"""Train AIR on multi-MNIST.

    python training.py                                   # the default recipe, into air_results
    python training.py --run mine --max-steps 4 --seed 1
    python training.py --preset original                 # the published configuration
    python training.py --config air_results/config.json --seed 1   # the recipe of another run
    python training.py --resume air_results
    python training.py --data photos --crop --canvas-size 64 64    # patches of a folder of pictures
    python training.py --scenes noise                    # other scenes; multi_mnist.py has them all
    TF_CONFIG=... python training.py --strategy multiworker   # on every host, see docs/training.md

Draws its scenes while it trains, unless --data names some. Watch the run with: tensorboard --logdir air_results
"""

import contextlib
import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import TypeAdapter, ValidationError

from air import presets
from air.config import RENAMED, AIRConfig, TrainingConfig
from air.data.rules import SCENES, GeneratorConfig, PictureConfig, SceneName
from air.errors import AIRError, UsageError
from air.presets import PresetName
from air.support import cli, files
from air.training import cluster, own_data
from air.training.run_folder import RunFolder

FILE_FLAGS = (
    "preset",
    "data",
    "scenes",
    "held_out",
    "mnist",
    "run",
    "animate",
    "strategy",
)  # besides those of the configurations
Path_ = Annotated[Path, tyro.conf.arg(metavar="PATH")]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The command line."""

    preset: PresetName = "default"
    """Defaults of the other flags; the default preset has a recipe for each --estimator."""
    config: Path_ | None = None
    """JSON file of flags, such as config.json of a run, whose recipe it then is; flags on the command line override it."""
    data: Path_ = Path(own_data.STREAM)
    """Folder with train.npz (or train_0.npz, train_1.npz ..., if they are more than memory holds) and validation.npz, one file
    of scenes, or a folder of pictures (PNG, JPEG, WebP). The canvas size, the channels and, where there is a background, the
    preset follow from them. By default a stream: scenes are drawn while the model trains, none of them twice."""
    scenes: SceneName = "default"
    """Scenes of the stream, as of multi_mnist.py; by default those of the preset's name, if there are any."""
    held_out: Path_ | None = None
    """File of the scenes to score while training; validation.npz in the data folder by default."""
    mnist: Path_ | None = None
    """MNIST as an .npz of Keras' format or a folder of IDX files, for scenes that are drawn or made."""
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
    pictures: PictureConfig = dataclasses.field(default_factory=PictureConfig)


def read_arguments() -> Arguments:
    """Parse the command line, whose defaults depend on --preset and --estimator, on --config, or on the run to --resume."""
    path = cli.peek("--config")
    fields = read_fields(Path(path)) if path is not None else {}
    asked, estimator = (cli.peek(f"--{name}") or fields.get(name) for name in ("preset", "estimator"))
    asked = asked if isinstance(asked, str) else None  # else it is refused later, as other wrong values are
    data, scenes, channels = (cli.peek(f"--{name}") or fields.get(name) for name in ("data", "scenes", "channels"))
    seen = own_data.look(data or own_data.STREAM, scenes or own_data.scenes_of(asked), channels)
    channels = seen.channels if seen is not None else channels
    preset, (model, training) = presets.of_flags(asked or own_data.preset(seen), estimator, channels)
    model = own_data.fit(model, seen, _picture_config(fields))
    defaults = Arguments(preset=preset, scenes=own_data.scenes_of(preset), model=model, training=training)
    if path is not None:
        defaults = _replace(defaults, fields, path)
    resumed = cli.peek("--resume")
    if resumed is not None:
        model, training, record = RunFolder(Path(resumed)).read()
        held_out = record.get("held_out") and Path(record["held_out"])
        defaults = Arguments(preset, data=Path(record["data"]), held_out=held_out, model=model, training=training)
    arguments = cli.parse(Arguments, __doc__, default=defaults, renamed=RENAMED)
    if arguments.resume is not None:
        _refuse_changes(defaults, arguments)
    return arguments


def read_fields(path: Path) -> dict[str, Any]:
    """Read the fields that a JSON file of flags sets, under their present names.

    It holds an object of flags, some perhaps within objects "model" and "training"; of a run's config.json only these count.
    """
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise UsageError(f"{path}: {content!r:.80} is not allowed; it must be an object of flags")
    is_run = "command" in content
    fields: dict[str, Any] = {}
    for name, value in content.items():
        if name in ("model", "training") and isinstance(value, dict):
            fields |= AIRConfig.upgrade(value) if name == "model" else value
        elif not is_run:
            fields[name] = value
    names = ((name.replace("-", "_"), value) for name, value in fields.items())
    return {RENAMED.get(name, name): value for name, value in names}


def _replace(arguments: Arguments, fields: dict[str, Any], path: str) -> Arguments:
    """Return the arguments with the fields of a file; raise UsageError if one is unknown or has an impossible value."""
    changes: dict[str, Any] = {}
    others = dict(fields)
    for part in ("model", "training", "pictures"):
        config = getattr(arguments, part)
        try:
            changes[part] = config.replace(**{name: others.pop(name) for name in type(config).model_fields if name in others})
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
    for name, value in others.items():
        if name not in FILE_FLAGS:
            raise UsageError(f"{path}: {name}: unknown; it must be a flag of training.py")
        try:
            changes[name] = TypeAdapter(Arguments.__annotations__[name]).validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise UsageError(f"{path}: {name}: {value!r:.80} is not allowed; {message[0].lower()}{message[1:]}") from None
    return dataclasses.replace(arguments, **changes)


def _refuse_changes(run: Arguments, arguments: Arguments) -> None:
    if arguments.run or arguments.overwrite:
        raise UsageError("--resume continues in the run's own folder; leave out --run and --overwrite")
    if arguments.mnist or cli.peek("--preset") is not None or arguments.config:
        raise UsageError("--resume uses the run's own recipe and scenes; leave out --preset, --config and --mnist")
    if cli.peek("--scenes") is not None:
        raise UsageError("--resume continues on the run's own scenes; leave out --scenes")
    if arguments.pictures != run.pictures or (str(run.data) == own_data.STREAM and arguments.data != run.data):
        raise UsageError("--resume continues on the run's own scenes; leave out --crop, --resize and, if it drew them, --data")
    for asked, own in ((arguments.model, run.model), (arguments.training, run.training)):
        for field in type(own).model_fields:
            value, before = getattr(asked, field), getattr(own, field)
            if field == "iterations" and value < before:
                raise UsageError(f"iterations: {value} is not allowed with --resume; it must be at least the run's {before}")
            if field != "iterations" and value != before:
                raise UsageError(f"{field}: {value} is not allowed with --resume; the run has {before}")


def _picture_config(fields: dict[str, Any]) -> PictureConfig:
    """Return the rules for pictures before the command line is parsed; the defaults for impossible values."""
    given = {name: fields[name] for name in PictureConfig.model_fields if name in fields}
    given |= {"crop": True} if "--crop" in sys.argv else {}
    if resize := cli.peek("--resize"):
        given["resize"] = resize
    with contextlib.suppress(AIRError):
        return PictureConfig.from_dict(given)
    return PictureConfig()


def _prepare_data(arguments: Arguments) -> Path | GeneratorConfig:
    """Say what the data look like and which options they chose; return the data set, perhaps made of pictures, or rules."""
    data, model = arguments.data, arguments.model
    recipe = ["--config", arguments.config] if arguments.config else ["--preset", arguments.preset]
    options = [*recipe, "--channels", model.channels, "--canvas-size", *model.canvas_size]
    chosen = f"Training with {shlex.join(map(str, options))}"
    if str(data) == own_data.STREAM:
        if arguments.pictures != PictureConfig():
            raise UsageError("--crop and --resize are not allowed without --data and a folder of pictures")
        rules = SCENES[arguments.scenes]
        if rules.is_painted:
            print(chosen, flush=True)
        return rules.replace(canvas_size=model.canvas_size)
    if arguments.scenes != own_data.scenes_of(arguments.preset):
        raise UsageError(f"scenes: {arguments.scenes} is not allowed with --data {data}; scenes of a kind are drawn")
    if not data.exists():
        return data  # made, or missed, later
    from air.data.look import Look  # only now, see `own_data.look`

    fields = {} if arguments.config is None else read_fields(arguments.config)
    asked = cli.peek("--channels") or fields.get("channels")
    seen = Look.at(data, model.channels if asked else None)
    own_data.check(seen, model, arguments.pictures, bool(cli.peek("--canvas-size") or "canvas_size" in fields))
    if seen.files or seen.has_background or seen.channels > 1:
        print(f"{seen.describe()}\n{chosen}", flush=True)
    return own_data.prepare(seen, model, arguments.pictures)


def main() -> None:
    arguments = read_arguments()
    is_chief = True
    if arguments.strategy == "multiworker":
        place = cluster.read(os.environ)
        cluster.check_batch_size(arguments.training.batch_size, len(place.workers))
        is_chief = place.rank == 0
    data: Path | GeneratorConfig = arguments.data
    if arguments.resume is None:
        if is_chief:
            RunFolder.check(arguments.run, arguments.overwrite)
        data = _prepare_data(arguments)
    with cli.quiet_import():  # only now, so that --help and mistakes do not wait for TensorFlow
        from air.training import run

    shared = {"data": data} | {name: getattr(arguments, name) for name in ("held_out", "animate", "strategy")}
    if arguments.resume is not None:
        finished = run.resume(arguments.resume, arguments.training.iterations, **shared)
    else:
        own = {name: getattr(arguments, name) for name in ("mnist", "run", "overwrite")}
        finished = run.start(arguments.model, arguments.training, **own, **shared)
    if not finished:
        sys.exit(130)


def script() -> None:
    """Run the command air-train, or training.py."""
    cli.run(main)


if __name__ == "__main__":
    sys.argv[0] = "training.py"
    script()
