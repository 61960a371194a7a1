"""Evaluate AIR with the measures that are usual in its field.

    python evaluation.py model                  # or a run folder, or a .keras file: report.md, report.json and figures
    python evaluation.py seeds --n 10           # train the default recipe with ten seeds, and report on each of them
    python evaluation.py seeds --estimators concrete nvil enumerated            # and compare the estimators of z_pres
    python evaluation.py seeds --help

For a folder named seeds, write ./seeds.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from air import presets
from air.config import DEFAULT_DATA, DEFAULT_MODEL, RENAMED, AIRConfig, TrainingConfig, find_model
from air.errors import DataError
from air.evaluation.config import EvaluationConfig, SeedsConfig, scored_often
from air.presets import Preset, PresetName
from air.support import cli, files

FORMER = {**RENAMED, "out": "output"}
FilePath = Annotated[Path, tyro.conf.arg(metavar="PATH")]


@dataclasses.dataclass(frozen=True)
class ModelArguments:
    model: tyro.conf.Positional[FilePath] = DEFAULT_MODEL
    """Folder with air.keras, run folder or .keras file; or the word seeds, for the other kind of report."""
    data: FilePath = DEFAULT_DATA
    """Folder with test.npz and train.npz, or one file of scenes; the default folder is made if missing."""
    mnist: FilePath | None = None
    """MNIST as an .npz in Keras' format or a folder of IDX files, unless the scenes are made of the bundled one."""
    output: FilePath = Path("air_evaluation")
    """Folder for report.md, report.json and figures; an earlier report in it is replaced."""
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)


@dataclasses.dataclass(frozen=True)
class SeedsArguments:
    data: FilePath | None = None
    """Folder with train.npz, and test.npz, which is scored; by default, runs draw their scenes while they train, and the
    test.npz in multi_mnist is scored. That folder is made if missing."""
    mnist: FilePath | None = None
    """MNIST as an .npz in Keras' format or a folder of IDX files, unless the scenes are made of the bundled one."""
    output: FilePath = Path("air_seeds")
    """Folder for the runs and their report; finished runs are not trained again, unfinished ones are resumed."""
    preset: PresetName = "default"
    """Recipe that provides the defaults of the model's and training's flags, but not the scenes."""
    seeds: SeedsConfig = dataclasses.field(default_factory=SeedsConfig)
    model: AIRConfig = dataclasses.field(default_factory=AIRConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


def evaluate_model() -> None:
    arguments = cli.parse(ModelArguments, __doc__, renamed=FORMER)
    model = find_model(arguments.model)
    for path in (model, arguments.data):  # here, because a mistake should not wait for TensorFlow
        if not path.exists() and path != DEFAULT_DATA:
            raise DataError(f"{path}: no such file or folder")
    files.check_writable(arguments.output)
    with cli.quiet_import():
        from air.evaluation import evaluate, report

    where = {"data": arguments.data, "mnist_path": arguments.mnist}
    result = evaluate.evaluate(model, arguments.output, arguments.evaluation, **where)
    print(report.markdown(result).split("\n## Figures")[0])
    print(f"Written: {arguments.output / 'report.md'}, report.json and {len(result.get('figures', []))} figures.")


def evaluate_seeds() -> None:
    preset, recipe = presets.of_flags(*map(cli.peek, ("--preset", "--estimator", "--channels")))
    recipe = scored_often(recipe)
    default = SeedsArguments(preset=preset, model=recipe.model, training=recipe.training)
    text = "Train a recipe with several seeds, and report how soon and how well each learns to count."
    arguments = cli.parse(SeedsArguments, text, sys.argv[2:], default, FORMER)
    files.check_writable(arguments.output)
    from air.evaluation import seeds

    recipe = Preset(arguments.model, arguments.training)
    print(seeds.report(arguments.output, arguments.seeds, arguments.data, recipe, arguments.preset, arguments.mnist))
    print(f"Written: {arguments.output / 'seeds.md'}, seeds.json and seeds.png.")


def main() -> None:
    evaluate_seeds() if sys.argv[1:2] == ["seeds"] else evaluate_model()


def script() -> None:
    """Run the command air-evaluate, or evaluation.py."""
    cli.run(main)
