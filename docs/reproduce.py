"""Train a published recipe with several seeds on its own scenes, and update docs/reproduction.md.

    python -m docs.reproduce borea17             # or make reproduce PRESET=borea17; resumes what was interrupted
    python -m docs.reproduce borea17 --seeds 1
    python -m docs.reproduce                     # only the page, from docs/reproduction/*.csv

Scenes and runs are in reproduction/; the columns of the runs' metrics.csv that the page needs are in docs/reproduction/.
"""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from air import presets
from air.data import multi_mnist
from air.data.rules import SCENES, SceneName
from air.evaluation import seeds as studies
from air.evaluation.curves import STYLE
from air.presets import Preset
from air.support import cli, console
from air.training.run_folder import RunFolder

PAGE = Path(__file__).with_name("reproduction.md")
STORED = Path(__file__).with_name("reproduction")
ACCURACY = "count_accuracy/all"
START, END = "<!-- python -m docs.reproduce writes from here -->\n", "<!-- to here -->\n"
COLUMNS = 4  # of the figure
GOAL = 98  # count accuracy, %
HEADS = ("preset", "published", f"{GOAL} % after steps", "accuracy at the end, %", "steps run", "minutes")
SystemName = Literal["original", "original_corrected", "borea17", "pyro", "kosiorek", "paper", "numpy"]


class System(NamedTuple):
    """A published system, by its preset."""

    scenes: SceneName
    seeds: int
    validate_every: int  # training steps
    published: str
    points: tuple[tuple[int, float], ...] = ()  # published: training step and count accuracy, %
    authors: str | None = None  # name of the stored curve of its authors' code


_ORIGINAL = ((15_000, 80), (18_000, 95), (20_000, 98)), "original_authors"
SYSTEMS: dict[SystemName, System] = {
    "original": System("original", 10, 2500, "98 % in 10 of 10 runs, after 25,000 steps in the mean", *_ORIGINAL),
    "original_corrected": System("original", 10, 250, "the same", *_ORIGINAL),
    "borea17": System("borea17", 3, 100, "about 98 % after 3,100 steps", ((3100, 98),)),
    "numpy": System("numpy", 3, 250, "79.7 % on 300 scenes after the best of 376 steps", ((376, 79.7),)),
    "pyro": System("pyro", 3, 2000, "98.7 % on the training set after 200,000 steps, 4 h on a K80", ((200_000, 98.7),)),
    "kosiorek": System("kosiorek", 5, 3000, "98 % in about one run of five, within 300,000 steps", ((300_000, 98),)),
    "paper": System("original", 3, 3000, "about 97 %, 2 days on a Quadro K4000"),
}


def train(name: SystemName, seeds: int, out: Path) -> None:
    """Train the runs of a system that are not finished, on scenes that are generated if they are missing."""
    system, (model, training) = SYSTEMS[name], presets.recipe(name)
    scenes, config = out / "scenes" / system.scenes, SCENES[system.scenes]
    if not scenes.exists():
        with console.stage(f"Generating {scenes}", config.total_scenes) as advance:
            multi_mnist.make_dataset(scenes, config, progress=advance)
    for seed in range(seeds):
        folder = out / name / f"seed_{seed}"
        run = Preset(model, training.replace(seed=seed, validate_every=system.validate_every))
        studies.check_recipe(folder, run)
        studies.train(folder, run, ["--data", scenes, "--held-out", scenes / "test.npz"])


def store(name: SystemName, out: Path) -> None:
    """Copy the curves of a system's runs into docs/reproduction/, beside those of seeds that were run elsewhere."""
    curves = {int(run[0, 0]): run.tolist() for run in read(name)}
    for folder in (out / name).glob("seed_*"):
        seed = int(folder.name.removeprefix("seed_"))
        curve = [
            (seed, row["step"], row["seconds"] - row["scoring_seconds"], 100 * row[ACCURACY])
            for row in RunFolder(folder).metrics.rows(ACCURACY)
        ]
        curves[seed] = max(curve, curves.get(seed, []), key=len)  # a run that has just begun doesn't replace a longer one
    rows = [row for _, curve in sorted(curves.items()) for row in curve]
    if rows:
        header = "seed,step,seconds,count accuracy in %"
        np.savetxt(STORED / f"{name}.csv", rows, "%d,%d,%.0f,%.5g", header=header, comments="")


def read(name: str) -> list[np.ndarray]:
    """Return the stored rows [scorings, columns] of each run; none if nothing is stored."""
    path = STORED / f"{name}.csv"
    rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2) if path.exists() else np.empty((0, 4))
    return [rows[rows[:, 0] == seed] for seed in np.unique(rows[:, 0])]


def cells(name: SystemName, system: System) -> list[str]:
    """Return a system's row of the table; values of several runs are in the order of their seeds."""
    recipe = f"`{name}`, {presets.recipe(name).training.iterations:,} steps"
    runs = [] if read(name) else [("not run", "", "", "")]
    for run in read(name):
        reached = next((f"{step:,.0f}" for _, step, _, accuracy in run if accuracy >= GOAL), "not reached")
        _, step, seconds, accuracy = run[-1]
        runs.append((reached, f"{accuracy:.1f}", f"{step:,.0f}", f"{seconds / 60:.0f}"))
    return [recipe, system.published, *map("; ".join, zip(*runs, strict=True))]


def table() -> str:
    return console.table(HEADS, [cells(name, system) for name, system in SYSTEMS.items()])


def figure() -> Figure:
    """Plot the count accuracy of every run over the training steps, with the published points."""
    shown = [name for name in SYSTEMS if read(name)]
    with mpl.rc_context(STYLE):
        rows = math.ceil(len(shown) / COLUMNS)
        drawing = Figure(figsize=(3.6 * COLUMNS, 3.0 * rows), layout="constrained")
        panels = list(drawing.subplots(rows, COLUMNS).flat)
        for axes, name in zip(panels, shown, strict=False):
            authors = read(SYSTEMS[name].authors) if SYSTEMS[name].authors else []
            for runs, colour, label in ((authors, "#8e8e93", "its authors' code, one seed"), (read(name), "#007aff", "here")):
                for i, (_, steps, *_, accuracies) in enumerate(run.T for run in runs):
                    axes.plot(steps, accuracies, color=colour, label=None if i else label)
            if SYSTEMS[name].points:
                axes.scatter(*np.transpose(SYSTEMS[name].points), color="#d70015", label="published", zorder=3)
            axes.set(title=name, xlabel="training step", ylabel="count accuracy, %", ylim=(0, 102), xscale="log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.legend(loc="lower right", frameon=True, edgecolor="none")
        for axes in panels[len(shown) :]:
            axes.remove()
        return drawing


@dataclasses.dataclass(frozen=True)
class Arguments:
    preset: Annotated[tyro.conf.Positional[SystemName | None], tyro.conf.arg(metavar="PRESET")] = None
    """The system; without one, only the page is brought up to date."""
    seeds: int | None = None
    """Number of runs, with the seeds 0, 1 ...; the system's own by default."""
    output: Annotated[Path, tyro.conf.arg(metavar="PATH")] = Path("reproduction")
    """Folder for scenes and runs."""


def reproduce(arguments: Arguments) -> None:
    """Train a system's runs, and bring the page up to date, also if they are interrupted."""
    preset, out = arguments.preset, arguments.output
    try:
        if preset is not None:
            train(preset, SYSTEMS[preset].seeds if arguments.seeds is None else arguments.seeds, out)
    finally:
        if preset is not None:
            store(preset, out)
        figure().savefig(STORED / "curves.png")
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        PAGE.write_text(f"{before}{START}\n{table()}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    cli.run(lambda: reproduce(cli.parse(Arguments, __doc__)))
