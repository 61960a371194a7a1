"""Turn a finished run into a folder such as model/: weights, configuration, scores and a reference set.

    python training.py --run release
    python -m air.evaluation.release release --output model --overwrite

air.keras           the weights, without the optimiser's state
config.json         the run's, without its date and host
metrics.csv         copied from the run
metrics.json        the command of the run, and the scores that `evaluation.py` gives the weights, also outside its box
attract.npz         recorded attention, which the demo shows while TensorFlow loads; of grey models only
reference_set.npz   labelled objects by which the demo recognises digits
README.md           kept when the folder is replaced
"""

import dataclasses
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro

from air.config import DEFAULT_DATA
from air.data import multi_mnist
from air.data.scenes import SceneSet
from air.errors import DataError
from air.evaluation import attract, recognition
from air.evaluation.config import EvaluationConfig
from air.support import cli, files
from air.training import checkpoints
from air.training.run_folder import RunFolder

FilePath = Annotated[Path, tyro.conf.arg(metavar="PATH")]
PRIVATE = ("date", "host")  # of a run's config.json
OWN_FILES = re.compile(r"air\.keras|config\.json|metrics\.(csv|json)|(reference_set|bank|attract)\.npz|README\.md")


@dataclasses.dataclass(frozen=True)
class Arguments:
    run: tyro.conf.Positional[FilePath]
    """Run folder, whose newest checkpoint is released."""
    data: FilePath = DEFAULT_DATA
    """Data folder: its test scenes evaluate the weights, its training scenes make the reference set. The default folder is made
    if missing."""
    output: FilePath = Path("model")
    """Folder to write."""
    overwrite: bool = False
    """Replace that folder."""


def scores(report: dict[str, Any]) -> dict[str, Any]:
    """Pick the headline scores of an evaluation's report."""
    measured = report["held_out"]
    count, boxes, z_what = measured["count"]["deterministic"], measured["boxes"], measured["z_what"]
    return {
        "scenes": measured["scenes"],
        "count_accuracy": count["accuracy"],
        "count_accuracy_interval_95": count["interval"],
        "count_accuracy_by_count": count["by_count"],
        "count_accuracy_sampled": measured["count"]["sampled"]["accuracy"],
        "object_boxes_ap50": boxes["object"]["ap50"],
        "object_boxes_mean_iou": boxes["object"]["mean_iou"],
        "attention_windows_mean_iou": boxes["window"]["mean_iou"],
        "foreground_ari": measured["segmentation"].get("ari"),
        "reconstruction_nats": measured["reconstruction"]["mean"],
        "elbo_nats": measured["bounds"]["elbo"]["cross_entropy"]["frequency"]["mean"],
        "z_what_5nn_accuracy": z_what.get("knn"),
        "z_what_linear_probe_accuracy": z_what.get("linear"),
    }


def scores_outside(kind: dict[str, Any]) -> dict[str, Any]:
    """Pick the headline scores of scenes that training did not show."""
    picked = {"count_accuracy": kind["count"]["deterministic"]["accuracy"], "named": kind.get("named")}
    return picked | ({"any_size": scores_outside(kind["any_size"])} if "any_size" in kind else {})


def release(
    run: str | Path,
    data: str | Path,
    output: str | Path,
    overwrite: bool = False,
    config: EvaluationConfig | None = None,
) -> dict[str, Any]:
    """Release a run, see `Arguments`, and return the content of metrics.json; nothing is written if an AIRError is raised."""
    from air.evaluation.evaluate import evaluate  # here, because a mistake in the command should not wait for TensorFlow

    run, data = Path(run), Path(data)
    folder = RunFolder(run)
    model_config, training, record = folder.read()
    multi_mnist.ensure(data, model_config.canvas_size)
    test = SceneSet.load(data / "test.npz")
    for name in ("count", "boxes", "labels", *(["indices"] if test.segments is None else [])):  # segments follow from indices
        if getattr(test, name) is None:
            raise DataError(f"{data / 'test.npz'}: has no array {name!r}; a release needs all scores")
    step, model = checkpoints.newest_checkpoint(run)
    with files.replacing_folder(output, overwrite, OWN_FILES, "a released model") as target:
        checkpoints.save_weights(model, target / "air.keras")
        files.write_json(target / "config.json", {name: value for name, value in record.items() if name not in PRIVATE})
        for path in (folder.metrics.path, Path(output) / "README.md"):
            if path.exists():
                shutil.copyfile(path, target / path.name)
        recognition.build(model, SceneSet.load(multi_mnist.find_scenes(data, "train"))).save(target / recognition.REFERENCE_SET)
        if model_config.channels == 1:  # the window does without a recording in colour
            attract.record_test_scenes(target)
        with tempfile.TemporaryDirectory() as report_folder:
            report = evaluate(target, Path(report_folder), config or EvaluationConfig(figures=False), data=data)
        metrics = {"command": record["command"], "seed": training.seed, "steps": step}
        metrics |= {
            "evaluated_by": f"python evaluation.py {shlex.quote(str(output))}",
            "scores": scores(report),
            "scores_outside": {
                name: scores_outside(kind) for name, kind in report["generalisation"].items() if "count" in kind
            },
            "versions": record["versions"],
        }
        files.write_json(target / "metrics.json", metrics)
    return metrics


def main() -> None:
    arguments = cli.parse(Arguments, __doc__)
    files.check_replaceable(arguments.output, arguments.overwrite, OWN_FILES, "a released model")
    with cli.quiet_import():
        from air.evaluation import evaluate  # noqa: F401
    metrics = release(arguments.run, arguments.data, arguments.output, arguments.overwrite)
    for name, value in metrics["scores"].items():
        print(f"{name:32} {value}")


if __name__ == "__main__":
    cli.run(main)
