"""Write the report of an evaluation: report.json with every number, report.md for people, and the figures."""

import functools
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from air.data.scenes import SceneSet
from air.evaluation import curves, figures
from air.evaluation.measures import MIN_STEPS, OBJECT_THRESHOLD, Observations
from air.model.air_model import AIRModel
from air.support import files
from air.support.console import table

PUBLISHED = "published for AIR on such scenes, with the geometric prior: ELBO 627.4 ± 0.7, 100-sample bound 636.8 ± 0.8"
NOTES = """\
- Test scenes of `multi_mnist.py` show MNIST *test* digits that are in no training or validation scene; the reference set of
  z_what consists of training digits.
- *Deterministic* takes posterior means and rounds z_pres; *sampled* draws the count from its posterior.
- An object's box is the tight one around the pixels of its render at {threshold} or more (1 is white); the true box is the
  tight one around the digit's pixels above 0. A detection's confidence is the probability of its step. AP is the area under
  the precision-recall curve over all scenes, matched as in COCO; IoU and centre error are over pairs of a Hungarian matching.
- ARI compares pixels of the true digits only; each belongs to the object whose render is brightest there.
- Bounds are those of the discrete model, with Bernoulli z_pres; the ELBO's sum over n is exact. *Cross-entropy* of grey values
  is no density; *{normal}* is one. The model was trained with {trained}. ± is the standard error over scenes.
- Outside its box, *counted* is the accuracy of deterministic counts, *error* their mean distance from the true ones in digits,
  and *named* the fraction of all true digits that a reference set as in the demo names correctly. Models that take any number
  of steps may take {steps}, or more on larger canvases. *Any size* is `model.infer(images, any_size=True)`.
- For Pyro's scenes, the ELBO has the cross-entropy and the frequency prior (at least 1e-6 for each count).
- Objects get the label of the true object with which a Hungarian matching of centres pairs them, at any distance."""

COUNT_NOTE = "95 % interval {interval[0]:.2%} to {interval[1]:.2%}; {digits} digits"
WRONG_BOXES = "{false_positives:,} false positives, {missed:,} missed at IoU 0.5"
ARI_NOTE = "{scenes:,} scenes with 2 objects or more; {ari_all:.3f} with any"
MEASURES = (
    ("count accuracy, deterministic", "count.deterministic.accuracy", ".2%", COUNT_NOTE, "count"),
    ("count accuracy, sampled", "count.sampled.accuracy", ".2%", COUNT_NOTE, "sampled"),
    ("object boxes: AP at IoU 0.5", "boxes.object.ap50", ".3f", WRONG_BOXES, "AP50"),
    ("object boxes: AP at IoU 0.5 to 0.95", "boxes.object.ap", ".3f", "", "AP"),
    ("object boxes: mean matched IoU", "boxes.object.mean_iou", ".3f", "{pairs:,} pairs", "IoU"),
    ("object boxes: centre error", "boxes.object.centre_error", ".3f", "pixels", "centre, px"),
    ("attention windows: AP at IoU 0.5", "boxes.window.ap50", ".3f", WRONG_BOXES, ""),
    ("attention windows: AP at IoU 0.5 to 0.95", "boxes.window.ap", ".3f", "", ""),
    ("attention windows: mean matched IoU", "boxes.window.mean_iou", ".3f", "{pairs:,} pairs", ""),
    ("attention windows: centre error", "boxes.window.centre_error", ".3f", "pixels", ""),
    ("segmentation: foreground ARI", "segmentation.ari", ".3f", ARI_NOTE, "ARI"),
    (
        "z_what: 5-NN accuracy",
        "z_what.knn",
        ".2%",
        "{objects:,} objects, reference set of {reference_objects:,} training objects",
        "5-NN",
    ),
    ("z_what: linear probe accuracy", "z_what.linear", ".2%", "logistic regression", "linear"),
    ("z_what: AMI of 10 k-means clusters", "z_what.kmeans_ami", ".3f", "adjusted mutual information", ""),
    ("reconstruction", "reconstruction", "", "cross-entropy, nats per scene, deterministic", ""),
)
"""Title, path in the report, format, note (a format string of the values beside it), and column for Pyro's scenes."""


def draw(
    folder: str | Path,
    model: AIRModel,
    scenes: SceneSet,
    found: Observations,
    measured: dict[str, Any],
    rows: curves.Rows,
    seed: int,
) -> list[str]:
    """Draw all figures that the labels of the scenes and the rows of metrics.csv permit; return the names of the PNG files."""
    with mpl.rc_context(curves.STYLE):
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
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        files.write_atomically(folder / f"{name}.png", figure.savefig)
    return [f"{name}.png" for name in drawn]


def write(out: str | Path, result: dict[str, Any]) -> None:
    """Write report.json and report.md into a folder."""
    files.write_json(Path(out) / "report.json", result)
    files.write_atomically(Path(out) / "report.md", lambda path: path.write_text(markdown(result), encoding="utf-8"))


def markdown(result: dict[str, Any]) -> str:
    """Format the report for people."""
    model, measured = result["model"], result["held_out"]
    likelihoods = {"cross_entropy": "cross-entropy", "normal": f"Normal({model['likelihood_std']:.3g})"}
    sections = [
        f"# Evaluation of {model['path']}",
        f"Trained for {model['step']:,} steps; evaluated on {measured['scenes']:,} scenes of {result['data']} in "
        f"{result['seconds']:.0f} s. Every number is in report.json.",
        table(("measure", "value", ""), list(_main_rows(measured))),
    ]
    if "count" in measured:
        matrix = measured["count"]["deterministic"]["confusion"]
        rows = [(f"**{count}**", *(f"{scenes:,}" for scenes in row)) for count, row in enumerate(matrix)]
        sections += ["True (rows) against inferred number of objects:", table(("", *map(str, range(len(matrix[0])))), rows)]
    sections += ["## Bounds, nats per scene", *_bounds(measured["bounds"], likelihoods)]
    if result["generalisation"]:
        sections += ["## Outside its box", *_outside(result["generalisation"].values())]
    if "pyro" in result:
        sections += ["## Scenes by the rules of Pyro's generator, never trained on", *_pyro(result["pyro"])]
        if "bounds" in result["pyro"]:
            sections += [*_bounds(result["pyro"]["bounds"], likelihoods), f"To compare: {PUBLISHED}."]
    trained = likelihoods[model["config"]["likelihood"]]
    notes = NOTES.format(threshold=OBJECT_THRESHOLD, normal=likelihoods["normal"], trained=trained, steps=MIN_STEPS)
    sections += ["## How it was measured", notes.replace("\n  ", " ")]
    if "figures" in result:
        sections += ["## Figures", *(f"![{Path(name).stem}](figures/{name})" for name in result["figures"])]
    return "\n\n".join(sections) + "\n"


def _text(value: Any, form: str = ".3f") -> str:
    """Format a number, or a mean and its standard error; a missing value or NaN is "-"."""
    if isinstance(value, dict) and "mean" in value:
        return f"{value['mean']:.2f}" + (f" ± {value['error']:.2f}" if np.isfinite(value["error"]) else "")
    return format(value, form) if isinstance(value, float) and np.isfinite(value) else "-"


def _main_rows(measured: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    for title, path, form, note, _ in MEASURES:
        value, beside = _at(measured, path), _at(measured, path.rpartition(".")[0])
        if value != {}:  # measured
            digits = ", ".join(f"{accuracy:.2%} of {n}" for n, accuracy in beside.get("by_count", {}).items())
            yield title, _text(value, form), note.format(**beside, digits=digits)


def _bounds(measured: dict[str, Any], likelihoods: dict[str, str]) -> list[str]:
    terms, importance = measured["terms"], measured.get("importance", {})
    kls_of = {"KL where": terms["where_kl"], "KL what": terms["what_kl"]}  # besides that of the count
    if terms["background_kl"]["mean"] > 0:
        kls_of["KL background"] = terms["background_kl"]
    head = ["likelihood", "prior over n", "ELBO", "reconstruction", "KL count", *kls_of]
    if importance:
        head += [f"IWAE {samples}" for samples in importance["normal"]["geometric"]["by_samples"]]
    rows = []
    for likelihood, name in likelihoods.items():
        for prior, elbo in measured["elbo"][likelihood].items():
            kls = [terms["count_kl"][prior], *kls_of.values()]
            samples = importance[likelihood][prior]["by_samples"].values() if importance else ()
            texts = [*map(_text, (elbo, terms["log_likelihood"][likelihood])), *(f"{kl['mean']:.2f}" for kl in kls)]
            rows.append([name, prior, *texts, *map(_text, samples)])
    sections = [table(head, rows)]
    if importance:
        rises = all(bound["rises"] for by_prior in importance.values() for bound in by_prior.values())
        verdict = "rise with the number of samples, as they must" if rises else "**do not rise with the number of samples**"
        scenes = f"the first {measured['importance_scenes']:,} scenes"
        sections.append(f"The importance-weighted (IWAE) bounds are of {scenes}; they {verdict}.")
    prior = ", ".join(f"{p:.2g}" if p < 0.001 else f"{p:.4f}" for p in measured["priors"]["frequency"])
    return [*sections, f"Prior over n = 0, 1 ...: *frequency* is {prior}; *geometric* is proportional to 0.01^n."]


def _outside(kinds: Collection[dict[str, Any]]) -> list[str]:
    """Tabulate kinds of scenes that training did not show, followed by the reasons why some were not possible."""
    one_look = {"counted": ("count.deterministic.accuracy", ".1%"), "error": ("count.deterministic.absolute_error", ".3f")}
    one_look |= {"AP50": ("boxes.object.ap50", ".3f"), "named": ("named", ".1%")}
    any_size = {f"any size: {head}": (f"any_size.{path}", form) for head, (path, form) in one_look.items() if head != "AP50"}
    possible = [kind for kind in kinds if "not_possible" not in kind]
    columns = one_look | (any_size if any("any_size" in kind for kind in possible) else {})
    rows = [
        [kind["title"], f"{kind['scenes']:,}", *(_text(_at(kind, path), form) for path, form in columns.values())]
        for kind in possible
    ]
    reasons = [f"{kind['title']}: not possible; {kind['not_possible']}." for kind in kinds if "not_possible" in kind]
    return [table(("scenes", "number", *columns), rows), *reasons]


def _pyro(measured: dict[str, Any]) -> list[str]:
    """Tabulate the main measures of scenes by Pyro's rules, or state the reason why they were not possible."""
    if "not_possible" in measured:
        return [f"Not possible: {measured['not_possible']}."]
    columns = {head: (path, form) for _, path, form, _, head in MEASURES if head}
    columns["ELBO"] = ("bounds.elbo.cross_entropy.frequency", "")
    values = (_text(_at(measured, path), form) for path, form in columns.values())
    return [table(("scenes", *columns), [[f"{measured['scenes']:,}", *values]])]


def _at(tree: dict[str, Any], path: str) -> Any:
    """Follow dotted names down a tree, to {} where one is missing."""
    return functools.reduce(lambda branch, name: branch.get(name, {}), filter(None, path.split(".")), tree)
