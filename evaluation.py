"""Judges AIR as the field does.

    python evaluation.py model                  # or a run folder, or a .keras file: report.md, report.json and figures
    python evaluation.py seeds --n 10           # trains the default recipe with ten seeds, and reports each of them
    python evaluation.py seeds --estimators concrete nvil enumerated            # and compares ways to learn z_pres
    python evaluation.py seeds --help

A folder that is called seeds is written ./seeds.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from air import presets
from air.config import DEFAULT_DATA, RENAMED, AIRConfig, TrainingConfig
from air.errors import DataError
from air.evaluation.config import EvaluationConfig, SeedsConfig, scored_often
from air.presets import Preset, PresetName
from air.support import cli, files

Path_ = Annotated[Path, tyro.conf.arg(metavar="PATH")]


@dataclasses.dataclass(frozen=True)
class ModelArguments:
    model: tyro.conf.Positional[Path_] = Path("model")
    """Folder with air.keras, run folder or .keras file; or the word seeds, for the other kind of report."""
    data: Path_ = DEFAULT_DATA
    """Folder with test.npz and train.npz, or one file of scenes; made when it is the default and missing."""
    mnist: Path_ | None = None
    """MNIST as an .npz of Keras' format or a folder of IDX files, if the scenes are not made of the bundled one."""
    out: Path_ = Path("air_evaluation")
    """Folder for report.md, report.json and figures; an earlier report in it is replaced."""
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)


@dataclasses.dataclass(frozen=True)
class SeedsArguments:
    data: Path_ = DEFAULT_DATA
    """Folder with test.npz and train.npz; made when it is the default and missing."""
    mnist: Path_ | None = None
    """MNIST as an .npz of Keras' format or a folder of IDX files, if the scenes are not made of the bundled one."""
    out: Path_ = Path("air_seeds")
    """Folder for the runs and their report; runs that are finished are not trained again, unfinished ones go on."""
    preset: PresetName = "default"
    """Where the defaults of the recipe's flags come from."""
    seeds: SeedsConfig = dataclasses.field(default_factory=SeedsConfig)
    model: AIRConfig = dataclasses.field(default_factory=AIRConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


def judge_model(arguments: ModelArguments) -> None:
    for path in (arguments.model, arguments.data):  # here, because a mistake should not wait for TensorFlow
        if not path.exists() and path != DEFAULT_DATA:
            raise DataError(f"{path}: no such file or folder")
    files.check_writable(arguments.out, "out")
    with cli.quiet_import():
        from air.evaluation import evaluate, report

    result = evaluate.evaluate(
        arguments.model, arguments.out, arguments.evaluation, data=arguments.data, mnist_path=arguments.mnist
    )
    print(report.markdown(result).split("\n## Figures")[0])
    print(f"Written: {arguments.out / 'report.md'}, report.json and {len(result.get('figures', []))} figures.")


def read_seeds() -> SeedsArguments:
    """The command line, whose defaults are those of its --preset and --estimator."""
    preset, recipe = presets.peeked(cli.peek("--preset"), cli.peek("--estimator"))
    recipe = scored_often(recipe)
    default = SeedsArguments(preset=preset, model=recipe.model, training=recipe.training)
    text = "Trains a recipe with several seeds, and reports how soon and how well each learns to count."
    return cli.parse(SeedsArguments, text, sys.argv[2:], default, RENAMED)


def judge_seeds(arguments: SeedsArguments) -> None:
    files.check_writable(arguments.out, "out")
    from air.evaluation import seeds

    recipe = Preset(arguments.model, arguments.training)
    where = {"data": arguments.data, "mnist_path": arguments.mnist}
    print(seeds.report(arguments.out, arguments.seeds, recipe=recipe, preset=arguments.preset, **where))
    print(f"Written: {arguments.out / 'seeds.md'}, seeds.json and seeds.png.")


def main() -> None:
    if sys.argv[1:2] == ["seeds"]:
        judge_seeds(read_seeds())
    else:
        text = "Judges a model, with a report and figures. For several seeds of a recipe: evaluation.py seeds --help"
        judge_model(cli.parse(ModelArguments, text, renamed=RENAMED))


if __name__ == "__main__":
    cli.run(main)
