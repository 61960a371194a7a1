"""The report of an evaluation: report.json with every number, report.md for people, and the figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from air.data.scenes import SceneSet
from air.evaluation import curves, figures
from air.evaluation.measures import OBJECT_THRESHOLD, Observations
from air.model.air_model import AIRModel
from air.support import files
from air.support.console import table

PUBLISHED = "published for AIR on such scenes, with the geometric prior: ELBO 627.4 ± 0.7, 100-sample bound 636.8 ± 0.8"


def draw(
    folder: Path,
    model: AIRModel,
    scenes: SceneSet,
    found: Observations,
    measured: dict[str, Any],
    rows: Sequence[dict[str, float]] = (),
    seed: int = 0,
) -> list[str]:
    """Writes all figures that the data permits as PNG files.

    Args:
        folder: where, made if missing.
        model: that was judged.
        scenes: on which.
        found: what it made of them.
        measured: its measures.
        rows: of its run's metrics.csv, if there is one.
        seed: of the samples from the prior.

    Returns:
        The names of the files.
    """
    drawn = {
        "scenes": figures.examples(scenes),
        "attention": figures.strips(model, scenes.images, found),
        "windows": figures.windows(model, scenes.images, found),
        "policy": figures.policy(found, scenes.canvas_size),
        "traversals": figures.traversals(model, found),
        "prior": figures.prior_samples(model, seed),
        "worst_reconstructions": figures.unexplained(model, scenes, found),
    }
    if "count" in measured:
        count = measured["count"]["deterministic"]
        drawn["worst_counts"] = figures.miscounted(model, scenes, found)
        drawn["confusion"] = figures.confusion(count["confusion"], count["accuracy"], count["interval"])
    if "boxes" in measured:
        drawn["worst_boxes"] = figures.misplaced(model, scenes, found)
    if rows:
        drawn["training"] = curves.training_curves(rows)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        files.write_atomically(folder / f"{name}.png", figure.savefig)
    return [f"{name}.png" for name in drawn]


def write(out: Path, result: dict[str, Any]) -> None:
    """Writes report.json and report.md into a folder."""
    files.write_json(out / "report.json", result)
    text = markdown(result)
    files.write_atomically(out / "report.md", lambda path: path.write_text(text, encoding="utf-8"))


def markdown(result: dict[str, Any]) -> str:
    """The report for people."""
    model = result["model"]
    likelihoods = {"cross_entropy": "cross-entropy", "normal": f"Normal({model['config']['likelihood_std']})"}
    sections = [
        f"# Evaluation of {model['path']}",
        f"Trained for {model['step']:,} steps; judged on {result['held_out']['scenes']:,} scenes of {result['data']} in "
        f"{result['seconds']:.0f} s. Every number is in report.json.",
        _main_table(result["held_out"]),
    ]
    sections += _confusion(result["held_out"])
    sections += ["## Bounds, nats per scene", *_bounds(result["held_out"]["bounds"], likelihoods)]
    if result["generalisation"]:
        sections += ["## Generalisation", _other_table([*result["generalisation"].values()])]
    if "pyro" in result:
        sections += ["## Scenes by the rules of Pyro's generator, never trained on", _other_table([result["pyro"]])]
        if "bounds" in result["pyro"]:
            sections += [*_bounds(result["pyro"]["bounds"], likelihoods), f"To compare: {PUBLISHED}."]
    sections += ["## How it was measured", _notes(likelihoods, model["config"]["likelihood"])]
    if "figures" in result:
        sections += ["## Figures", *(f"![{name.removesuffix('.png')}](figures/{name})" for name in result["figures"])]
    return "\n\n".join(sections) + "\n"


def percent(value: float) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.2%}"


def _number(value: float, digits: int = 3) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _nats(value: dict[str, float]) -> str:
    error = f" ± {value['error']:.2f}" if np.isfinite(value["error"]) else ""
    return f"{value['mean']:.2f}{error}"


def _main_table(measured: dict[str, Any]) -> str:
    rows = []
    for kind in ("deterministic", "sampled") if "count" in measured else ():
        count = measured["count"][kind]
        low, high = count["interval"]
        by_count = ", ".join(f"{accuracy:.2%} of {n}" for n, accuracy in count["by_count"].items())
        note = f"95 % interval {low:.2%} to {high:.2%}; {by_count} digits"
        rows.append((f"count accuracy, {kind}", percent(count["accuracy"]), note))
    for kind in ("object", "window") if "boxes" in measured else ():
        box = measured["boxes"][kind]
        name = {"object": "object boxes", "window": "attention windows"}[kind]
        wrong = f"{box['false_positives']:,} false positives, {box['missed']:,} missed at IoU 0.5"
        rows += [
            (f"{name}: AP at IoU 0.5", _number(box["ap50"]), wrong),
            (f"{name}: AP at IoU 0.5 to 0.95", _number(box["ap"]), ""),
            (f"{name}: mean matched IoU", _number(box["mean_iou"]), f"{box['pairs']:,} pairs"),
            (f"{name}: centre error", _number(box["centre_error"], 2), "pixels"),
        ]
    if "ari" in measured.get("segmentation", {}):
        ari = measured["segmentation"]
        more = f"{ari['scenes']:,} scenes with 2 objects or more; {ari['ari_all']:.3f} with any"
        rows.append(("segmentation: foreground ARI", _number(ari["ari"]), more))
    z_what = measured.get("z_what", {})
    if "knn" in z_what:
        counts = f"{z_what['objects']:,} objects, bank of {z_what['bank']:,} training objects"
        rows += [
            ("z_what: 5-NN accuracy", percent(z_what["knn"]), counts),
            ("z_what: linear probe accuracy", percent(z_what["linear"]), "logistic regression"),
        ]
    if "kmeans_ami" in z_what:
        rows.append(("z_what: AMI of 10 k-means clusters", _number(z_what["kmeans_ami"]), "adjusted mutual information"))
    rows.append(("reconstruction", _nats(measured["reconstruction"]), "cross-entropy, nats per scene, deterministic"))
    return table(("measure", "value", ""), rows)


def _confusion(measured: dict[str, Any]) -> list[str]:
    if "count" not in measured:
        return []
    matrix = measured["count"]["deterministic"]["confusion"]
    rows = [(f"**{count}**", *(f"{scenes:,}" for scenes in row)) for count, row in enumerate(matrix)]
    return ["True (rows) against inferred number of objects:", table(("", *map(str, range(len(matrix[0])))), rows)]


def _bounds(measured: dict[str, Any], likelihoods: dict[str, str]) -> list[str]:
    terms = measured["terms"]
    head = ["likelihood", "prior over n", "ELBO", "reconstruction", "KL count", "KL where", "KL what"]
    importance = measured.get("importance")
    if importance:
        head += [f"IWAE {samples}" for samples in importance["normal"]["geometric"]["by_samples"]]
    rows = []
    for likelihood, name in likelihoods.items():
        for prior in measured["priors"]:
            row = [name, prior, _nats(measured["elbo"][likelihood][prior]), _nats(terms["log_likelihood"][likelihood])]
            row += [_number(term["mean"], 2) for term in (terms["count_kl"][prior], terms["where_kl"], terms["what_kl"])]
            if importance:
                row += [_nats(bound) for bound in importance[likelihood][prior]["by_samples"].values()]
            rows.append(row)
    sections = [table(head, rows)]
    if importance:
        rises = all(bound["rises"] for by_prior in importance.values() for bound in by_prior.values())
        verdict = "rise with the number of samples, as they must" if rises else "**do not rise with the number of samples**"
        sections.append(
            f"The importance-weighted (IWAE) bounds are of the first {measured['importance_scenes']:,} scenes; they {verdict}."
        )
    prior = ", ".join(f"{p:.2g}" if p < 0.001 else f"{p:.4f}" for p in measured["priors"]["frequency"])
    sections.append(f"Prior over n = 0, 1 ...: *frequency* is {prior}; *geometric* is proportional to 0.01^n.")
    return sections


def _other_table(kinds: Sequence[dict[str, Any]]) -> str:
    columns = {
        "count": (percent, "count", "deterministic", "accuracy"),
        "sampled": (percent, "count", "sampled", "accuracy"),
        "AP50": (_number, "boxes", "object", "ap50"),
        "AP": (_number, "boxes", "object", "ap"),
        "IoU": (_number, "boxes", "object", "mean_iou"),
        "centre, px": (_number, "boxes", "object", "centre_error"),
        "ARI": (_number, "segmentation", "ari"),
        "5-NN": (percent, "z_what", "knn"),
        "linear": (percent, "z_what", "linear"),
        "ELBO": (_nats, "bounds", "elbo", "cross_entropy", "frequency"),
    }
    rows = []
    for kind in kinds:
        if "not_possible" in kind:
            rows.append([kind["title"], "not possible", *["-"] * len(columns)])
        else:
            cells = (show(_at(kind, *path)) for show, *path in columns.values())
            rows.append([kind["title"], f"{kind['scenes']:,}", *cells])
    reasons = [f"{kind['title']}: {kind['not_possible']}." for kind in kinds if "not_possible" in kind]
    return "\n\n".join([table(("scenes", "number", *columns), rows), *reasons])


def _at(tree: Any, *path: str) -> Any:
    """What is at a path of a tree; NaN where the tree ends before."""
    for name in path:
        tree = tree.get(name, float("nan")) if isinstance(tree, dict) else tree
    return tree


def _notes(likelihoods: dict[str, str], trained: str) -> str:
    notes = [
        "Test scenes of `multi_mnist.py` show MNIST *test* digits that are in no training or validation scene; the bank of "
        "z_what is of training digits.",
        "*Deterministic* takes posterior means and rounds z_pres; *sampled* draws the count from its posterior.",
        f"An object's box is the tight one around the pixels of its render of {OBJECT_THRESHOLD} or more (1 is white); the "
        "true box is the tight one around the digit's pixels above 0. Each detection's confidence is the probability of its "
        "step. AP is the area under the precision-recall curve over all scenes, matched as in COCO; IoU and centre error are "
        "over the pairs of a Hungarian matching.",
        "ARI compares pixels of the true digits only; each is given to the object whose render is brightest there.",
        "Bounds are those of the discrete model: Bernoulli z_pres, its sum over n exact in the ELBO. *Cross-entropy* of grey "
        f"values is no density; *{likelihoods['normal']}* is one of the pixels in [0, 1]. The model was trained with "
        f"{likelihoods[trained]}. ± is the standard error over scenes.",
        "The ELBO in tables of other scenes is the one with cross-entropy and frequency prior (at least 1e-6 for each count).",
        "Objects get the label of the true object that a Hungarian matching of centres gives them, whatever the distance.",
    ]
    return "\n".join(f"- {note}" for note in notes)
