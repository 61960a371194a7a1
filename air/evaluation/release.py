"""Makes a folder such as model/ of a finished run: weights, configuration, scores, and the bank of labelled objects.

python training.py --run release
python -m air.evaluation.release release --data multi_mnist --output model

air.keras      the weights, without the optimiser's state
config.json    the run's own
metrics.csv    the run's own
metrics.json   the command of the run, and the scores that `evaluation.py` gives the weights
reference_set.npz       labelled objects by which the demo recognises digits
"""

import dataclasses
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro

from air.config import DEFAULT_DATA
from air.errors import DataError
from air.evaluation.config import EvaluationConfig
from air.support import cli, files
from air.support.files import check_replaceable, replacing_folder
from air.training import checkpoints
from air.training.run_folder import RunFolder

Path_ = Annotated[Path, tyro.conf.arg(metavar="PATH")]
OWN_FILES = re.compile(r"air\.keras|config\.json|metrics\.(csv|json)|bank\.npz")


@dataclasses.dataclass(frozen=True)
class Arguments:
    run: tyro.conf.Positional[Path_]
    """Run folder; its newest checkpoint is taken."""
    data: Path_ = DEFAULT_DATA
    """Data folder that judges the weights, and whose training scenes make the bank."""
    output: Path_ = Path("model")
    """Folder to write."""
    overwrite: bool = False
    """Replace that folder."""


def scores(report: dict[str, Any]) -> dict[str, Any]:
    """The figures of an evaluation's report that fit in a few lines."""
    held_out = report["held_out"]
    return {
        "scenes": held_out["scenes"],
        "count_accuracy": held_out["count"]["deterministic"]["accuracy"],
        "count_accuracy_interval_95": held_out["count"]["deterministic"]["interval"],
        "count_accuracy_by_count": held_out["count"]["deterministic"]["by_count"],
        "count_accuracy_sampled": held_out["count"]["sampled"]["accuracy"],
        "object_boxes_ap50": held_out["boxes"]["object"]["ap50"],
        "object_boxes_mean_iou": held_out["boxes"]["object"]["mean_iou"],
        "attention_windows_mean_iou": held_out["boxes"]["window"]["mean_iou"],
        "foreground_ari": held_out["segmentation"]["ari"],
        "reconstruction_nats": held_out["reconstruction"]["mean"],
        "elbo_nats": held_out["bounds"]["elbo"]["cross_entropy"]["frequency"]["mean"],
        "z_what_5nn_accuracy": held_out["z_what"]["knn"],
        "z_what_linear_probe_accuracy": held_out["z_what"]["linear"],
    }


def release(
    run: Path, data: Path, output: Path, overwrite: bool = False, judging: EvaluationConfig | None = None
) -> dict[str, Any]:
    """Writes the folder, as a whole or not at all, and returns the content of metrics.json.

    Args:
        run: folder of the run; its newest checkpoint is taken.
        data: folder of the scenes that judge it, and make the bank.
        output: the folder to write.
        overwrite: replace it.
        judging: the default evaluation when None.

    Raises:
        AIRError: if the run or the data can't be used, or the folder exists and must not be replaced.
    """
    from air.data.scenes import SceneSet
    from air.evaluation import evaluate, recognition

    folder = RunFolder(run)
    judge = SceneSet.load(data / "test.npz")
    for name in ("count", "boxes", "labels", "indices"):
        if getattr(judge, name) is None and not (name == "indices" and judge.segments is not None):  # which follow from these
            raise DataError(f"{data / 'test.npz'}: has no array {name!r}; a release needs scores of everything")
    _, training, record = folder.read()
    step, model = checkpoints.newest_checkpoint(run)
    with replacing_folder(output, overwrite, OWN_FILES, "a released model") as target:
        checkpoints.save_weights(model, target / "air.keras")
        files.write_json(target / "config.json", record)
        if folder.metrics.path.exists():
            (target / "metrics.csv").write_bytes(folder.metrics.path.read_bytes())
        recognition.build(model, SceneSet.load(data / "train.npz")).save(target / "reference_set.npz")
        with tempfile.TemporaryDirectory() as report_folder:
            judging = EvaluationConfig(figures=False) if judging is None else judging
            report = evaluate.evaluate(target, Path(report_folder), judging, data=data)
        metrics = {
            "command": record["command"],
            "seed": training.seed,
            "steps": step,
            "judged_by": f"python evaluation.py {output}",
            "scores": scores(report),
            "versions": record["versions"],
        }
        files.write_json(target / "metrics.json", metrics)
    return metrics


def main() -> None:
    arguments = cli.parse(Arguments, __doc__)
    check_replaceable(arguments.output, arguments.overwrite, OWN_FILES, "a released model")
    with cli.quiet_import():
        from air.evaluation import evaluate, recognition  # noqa: F401
    metrics = release(arguments.run, arguments.data, arguments.output, arguments.overwrite)
    for name, value in metrics["scores"].items():
        print(f"{name:32} {value}")


if __name__ == "__main__":
    cli.run(main)
