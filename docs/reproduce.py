"""Train a published recipe with several seeds on its own scenes, and update docs/reproduction.md.

    python -m docs.reproduce borea17             # or make reproduce PRESET=borea17; resumes what was interrupted
    python -m docs.reproduce borea17 --seeds 1
    python -m docs.reproduce                     # only the page, from docs/reproduction/*.csv

Scenes and runs are in reproduction/; the rows of the runs' metrics.csv that the page needs are in docs/reproduction/.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import tyro
from matplotlib.figure import Figure

from air import presets
from air.data import multi_mnist
from air.data.rules import SCENES, SceneName
from air.evaluation import seeds as studies
from air.evaluation.curves import STYLE
from air.presets import Preset
from air.support import cli, console, files
from air.training.run_folder import RunFolder

PAGE = Path(__file__).with_name("reproduction.md")
STORED = Path(__file__).with_name("reproduction")
ACCURACY = "count_accuracy/all"
START, END = "<!-- python -m docs.reproduce writes from here -->\n", "<!-- to here -->\n"

SystemName = Literal["original", "original_corrected", "borea17", "pyro", "kosiorek", "paper"]


class System(NamedTuple):
    """A published system, by its preset."""

    scenes: SceneName
    seeds: int
    validate_every: int  # training steps
    goal: float  # count accuracy
    published: str
    points: Sequence[tuple[int, float]] = ()  # published: training step and count accuracy


_ORIGINAL = [(15_000, 0.8), (18_000, 0.95), (20_000, 0.98)]
SYSTEMS: dict[SystemName, System] = {
    "original": System("original", 10, 2500, 0.98, "98 % in 10 of 10 runs, after 25,000 steps in the mean", _ORIGINAL),
    "original_corrected": System("original", 10, 250, 0.98, "the same", _ORIGINAL),
    "borea17": System("borea17", 3, 100, 0.98, "about 98 % after 3,100 steps", [(3100, 0.98)]),
    "pyro": System("pyro", 3, 2000, 0.98, "98.7 % on the training set after 200,000 steps, 4 h on a K80", [(200_000, 0.987)]),
    "kosiorek": System("kosiorek", 5, 3000, 0.9, "98 % in about one run of five, within 300,000 steps", [(300_000, 0.98)]),
    "paper": System("original", 3, 3000, 0.97, "about 97 %, 2 days on a Quadro K4000"),
}


def train(name: SystemName, seeds: int, out: Path) -> None:
    """Train the runs of a system that are not finished, on scenes that are generated if they are missing."""
    system, (model, training) = SYSTEMS[name], presets.recipe(name)
    scenes, config = out / "scenes" / system.scenes, SCENES[system.scenes]
    if not scenes.exists():
        with console.stage(f"Generating {scenes}", config.total_scenes) as advance:
            multi_mnist.make_dataset(scenes, config, progress=advance)
    for seed in range(seeds):
        run = Preset(model, training.replace(seed=seed, validate_every=system.validate_every))
        studies.check_recipe(out / name / f"seed_{seed}", run)
        studies.train(out / name / f"seed_{seed}", run, scenes)


def store(name: SystemName, out: Path) -> None:
    """Copy the curves of a system's runs into docs/reproduction/."""
    rows: list[tuple[Any, ...]] = []
    for folder in sorted((out / name).glob("seed_*"), key=lambda folder: int(folder.name.removeprefix("seed_"))):
        seed = int(folder.name.removeprefix("seed_"))
        for row in RunFolder(folder).metrics.rows(ACCURACY):
            rows.append((seed, int(row["step"]), round(row["seconds"] - row["scoring_seconds"]), row[ACCURACY]))
    if rows:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("seed", "step", "seconds", "accuracy"), *rows])
        files.write_atomically(STORED / f"{name}.csv", lambda path: path.write_text(text.getvalue(), encoding="utf-8"))


def read(name: str) -> list[list[dict[str, float]]]:
    """Return the stored rows of each run; none if nothing is stored."""
    by_seed: dict[str, list[dict[str, float]]] = {}
    path = STORED / f"{name}.csv"
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()) if path.exists() else ():
        by_seed.setdefault(row["seed"], []).append({field: float(value) for field, value in row.items()})
    return list(by_seed.values())


def table() -> str:
    """Return the table of all systems; values of several runs are in the order of their seeds."""
    heads = ["preset", "published", "reach the goal", "after steps", "accuracy at the end, %", "steps run", "minutes"]
    lines = [heads, ["---"] * len(heads)]
    for name, system in SYSTEMS.items():
        runs, steps, goal = read(name), f"{presets.recipe(name).training.iterations:,}", f"{100 * system.goal:.0f} %"
        cells = [f"{goal}: not run", "", "", f"0 of {steps}", ""]
        if runs:
            reached = [next((f"{row['step']:,.0f}" for row in run if row["accuracy"] >= system.goal), "never") for run in runs]
            ends = [run[-1] for run in runs]
            trained = "; ".join(dict.fromkeys(f"{end['step']:,.0f}" for end in ends))
            cells = [f"{goal}: {sum(step != 'never' for step in reached)} of {len(runs)}", "; ".join(reached)]
            cells += ["; ".join(f"{100 * end['accuracy']:.1f}" for end in ends), f"{trained} of {steps}"]
            cells.append(f"{median(end['seconds'] for end in ends) / 60:.0f}")
        lines.append([f"`{name}`", system.published, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure() -> Figure:
    """Plot the count accuracy of every run over the training steps, with the published points."""
    shown = [name for name in SYSTEMS if read(name)]
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(4.2 * len(shown), 3.2))
        for axes, name in zip(drawing.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            curves = [(read(name), "#007aff", "here")]
            if name.startswith("original"):
                curves.append((read("original_authors"), "#8e8e93", "its authors' code, one seed"))
            for runs, colour, label in curves:
                for run in runs:
                    axes.plot([row["step"] for row in run], [row["accuracy"] for row in run], color=colour, label=label)
                    label = None
            axes.plot(*zip(*SYSTEMS[name].points, strict=True), "o", color="#d70015", label="published")
            axes.set(title=name, xlabel="training step", ylabel="count accuracy", ylim=(0, 1.02), xlim=(0, None))
            axes.legend(loc="lower right")
        return drawing


def reproduce(preset: SystemName | None = None, /, *, seeds: int | None = None, out: Path = Path("reproduction")) -> None:
    """Train a system's runs, and bring the page up to date, also if they are interrupted.

    Args:
        preset: the system; without one, only the page is brought up to date.
        seeds: number of runs, with the seeds 0, 1 ...; the system's own by default.
        out: folder for scenes and runs.
    """
    try:
        if preset is not None:
            train(preset, SYSTEMS[preset].seeds if seeds is None else seeds, out)
    finally:
        if preset is not None:
            store(preset, out)
        files.write_atomically(STORED / "curves.png", figure().savefig)
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        PAGE.write_text(f"{before}{START}\n{table()}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
        print(table())


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(reproduce))
