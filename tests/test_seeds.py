"""Runs with several seeds and estimators: trained as users train, and every one reported."""

import contextlib
import json
import math
import sys
import types

import numpy as np
import pytest

import air
from air import presets
from air.config import AIRConfig
from air.data.scenes import SceneSet
from air.errors import AIRError, DataError, UsageError
from air.evaluation import seed_report, seeds
from air.evaluation.config import SeedsConfig, scored_often
from air.evaluation.seed_report import Result, Study
from air.presets import PRESETS, Preset
from air.training import run_folder

TINY = {
    "window_size": (10, 8), "cell_filters": (4,), "cell_units": 4, "lstm_units": 8, "head_units": (4,), "cnn_filters": (),
    "cnn_kernels": (), "cnn_strides": (), "cnn_pools": (), "encoder_units": (8,), "decoder_units": (8,), "z_what_size": 3,
    "baseline_units": (4,),
}  # fmt: skip
UNSCORED = {"samples": 0, "more_digits_scenes": 0}
STUDY = SeedsConfig(n=3, **UNSCORED)


def test_more_digits_have_the_channels_of_the_model():
    made = seeds.make_more_digits(SeedsConfig(more_digits_scenes=2), AIRConfig(channels=3), None)
    assert made
    assert {scenes.images.shape[3] for scenes in made.values()} == {3}


@pytest.fixture
def data(few_digits):
    return few_digits / "data"


@pytest.fixture
def calls(monkeypatch):
    """Replace training.py: the calls are recorded, and each ends with the exit status `calls.status`."""

    class Calls(list):
        status = 1

    @contextlib.contextmanager
    def popen(command, **options):
        recorded.append(command[3:])
        yield types.SimpleNamespace(wait=lambda: recorded.status)

    recorded = Calls()
    monkeypatch.setattr(seeds, "subprocess", types.SimpleNamespace(Popen=popen, DEVNULL=None))
    return recorded


def recipe(**training):
    model, default = scored_often(presets.default())
    return Preset(model, default.replace(**training))


def write_run(folder, run, scorings):
    made = run_folder.RunFolder.create(folder)
    made.record(run.model, run.training, data="multi_mnist")
    for step, accuracy in scorings:
        seconds = {"seconds": 10.0 + step, "compile_seconds": 8.0, "scoring_seconds": step / 10}
        made.metrics.append({"step": step, **seconds, "count_accuracy/all": accuracy, "count_accuracy/2": accuracy})


def tables(text):
    """Every table of a Markdown text: its rows by their first cell, which are lists of cells."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    found = [[[cell.strip() for cell in line.strip("|").split("|")] for line in block] for block in blocks]
    return [{row[0]: row[1:] for row in rows if not row[0].startswith("---")} for rows in found]


@pytest.fixture
def out(tmp_path):
    """Three runs of 100 steps: one reaches 98 %, one doesn't, one stopped after 50 steps."""
    runs = seeds.planned_runs(tmp_path / "out", STUDY, recipe(iterations=100), "default")
    for folder, scorings in zip(runs, [[(50, 0.97), (100, 0.99)], [(50, 0.3), (100, 0.4)], [(50, 0.985)]], strict=True):
        write_run(folder, runs[folder], scorings)
    return tmp_path / "out"


def test_every_seed_is_reported(out, data, calls, capsys):
    text = seeds.report(out, STUDY, data, recipe(iterations=100))
    assert [call[:2] for call in calls] == [["--run", str(out / "seed_2")]]  # the others are finished
    shown = f"Seed 2, concrete: {out / 'seed_2'}\nSeed 2, concrete: failed; the report shows how far it got\n"
    assert capsys.readouterr().err == shown
    assert text.startswith("# The default recipe with 3 seeds\n")
    assert "## concrete: 2 of 3 runs reach 98 %" in text
    assert tables(text) == [
        {
            "seed": ["steps to 98 %", "seconds to 98 %", "without compilation", "final accuracy", "seconds in all"],
            "0": ["100", "100.0", "92.0", "99.00%", "100"],
            "1": ["never", "never", "never", "40.00%", "100"],
            "2 (stopped at 50)": ["50", "55.0", "47.0", "98.50%", "55"],
            "**median**": ["100", "100.0", "92.0", "98.50%", "100"],
            "**worst**": ["never", "never", "never", "40.00%", "100"],
        }
    ]
    saved = json.loads((out / "seeds.json").read_text())
    assert [run["steps_to_goal"] for run in saved["runs"]] == [100, None, 50]
    assert (out / "seeds.md").read_text() == text
    assert (out / "seeds.png").stat().st_size > 1000

    changed = recipe(iterations=100)._replace(model=AIRConfig(controller="residual"))
    for folder, run in seeds.planned_runs(out / "changed", STUDY, changed, "default").items():
        write_run(folder, run, [(100, 0.99)])
    text = seeds.report(out / "changed", STUDY, data, changed)
    assert text.startswith("# The default recipe, changed, with 3 seeds\n")
    assert "\nChanged from the preset: `controller residual`.\n" in text


@pytest.mark.parametrize(("goal", "steps"), [(0.993, ["never"] * 3), (0.985, ["100", "never", "50"]), (0.3, ["50"] * 3)])
def test_the_goal_can_be_changed(out, data, calls, goal, steps):
    (table,) = tables(seeds.report(out, STUDY.replace(goal=goal), data, recipe(iterations=100)))
    assert table["seed"][0] == f"steps to {100 * goal:g} %"
    assert [cells[0] for cells in table.values()][1:4] == steps


def test_estimators_alternate_and_runs_that_never_began_are_reported(tmp_path, data, calls):
    config = SeedsConfig(n=2, estimators=("concrete", "nvil"), samples=7, bound_scenes=5, more_digits_scenes=6)
    for folder, run in seeds.planned_runs(tmp_path, config, recipe(iterations=100), "default").items():
        if run.model.estimator == "concrete":
            write_run(folder, run, [(50, 0.5), (100, 0.99)])
    text = seeds.report(tmp_path, config, data, recipe(iterations=100))
    assert [call[1] for call in calls] == [str(tmp_path / "nvil" / f"seed_{seed}") for seed in range(2)]
    assert all(call[call.index("--estimator") + 1] == "nvil" for call in calls)
    concrete, nvil = tables(text)
    assert concrete["seed"][-5:] == ["3 digits", "4 digits", "0-8 on 100x100", "ELBO", "IWAE 7"]
    assert concrete["**worst**"] == ["100", "100.0", "92.0", "99.00%", "100", *["0.00%"] * 3, "none", "none"]  # no checkpoint
    assert nvil["1 (stopped at 0)"] == ["never", "never", "never", "0.00%", "never", *["0.00%"] * 3, "none", "none"]


def test_a_run_that_never_reaches_the_goal_counts_as_infinitely_late():
    study = Study("", "", SeedsConfig(), recipe())
    fixed = study._replace(recipe=recipe()._replace(model=AIRConfig(controller="residual")))
    assert set(study.columns) - set(fixed.columns) == {"four_digits", "canvas_100"}
    runs = [Result(0, [], True, 100, 50, elbo=-100.0), Result(1, [], True), Result(2, [], True, 100, 90, elbo=-120.0)]
    odd, even = (seed_report.summarise(study, several) for several in (runs, [*runs, Result(3, [], True, elbo=-400.0)]))
    assert (odd["median"]["steps_to_goal"], odd["median"]["elbo"]) == (90, -120)
    assert (odd["worst"]["steps_to_goal"], odd["worst"]["elbo"]) == (math.inf, -math.inf)
    assert (even["median"]["steps_to_goal"], even["median"]["elbo"]) == (math.inf, -260)


@pytest.mark.parametrize("iterations", [100, 30000])
def test_a_short_run_is_the_beginning_of_the_recipe(iterations, tmp_path):
    config = SeedsConfig(n=2, estimators=("nvil", "enumerated"))
    runs = seeds.planned_runs(tmp_path, config, recipe(seed=4, iterations=iterations), "default")
    assert list(runs) == [tmp_path / name / f"seed_{seed}" for seed in (4, 5) for name in ("nvil", "enumerated")]
    run = runs[tmp_path / "nvil" / "seed_5"]
    assert (run.model, run.training.seed) == (presets.default("nvil").model, 5)
    assert run.training.learning_rate == presets.default("nvil").training.learning_rate.over(
        max(iterations, presets.default().training.iterations)
    )


@pytest.mark.parametrize("estimator", [None, "enumerated", "nvil"])
@pytest.mark.parametrize("preset", PRESETS)
def test_flags_give_the_recipe(preset, estimator, monkeypatch):
    from air.training.command import read_arguments

    model, training = presets.recipe(preset, estimator)
    model = model.replace(**TINY, learn_count_prior_after=9, centre_signal=False, temperature="linear(1, 0.5, steps=7)")
    training = training.replace(seed=3, xla=False, learning_rate="cosine(1e-3, 1e-5, steps=90)")
    monkeypatch.setattr(sys, "argv", ["training.py", *seeds.flags(Preset(model, training))])
    parsed = read_arguments()
    assert (parsed.model, parsed.training) == (model, training)


@pytest.mark.parametrize(
    ("estimators", "changes"), [((), {"iterations": 50}), ((), {"batch_size": 32}), (("nvil",), {})], ids=str
)
def test_runs_of_another_recipe_are_refused(out, data, estimators, changes):
    with pytest.raises(DataError, match="another recipe"):
        seeds.report(out, STUDY.replace(estimators=estimators), data, recipe(**{"iterations": 100, **changes}))


def test_flags_do_not_depend_on_the_data(tmp_path, monkeypatch):
    from air.training.command import read_arguments

    noisy = np.random.default_rng(0).integers(0, 256, (4, 30, 30, 3), np.uint8)
    SceneSet(noisy).save(tmp_path / "train.npz")
    run = recipe()
    monkeypatch.setattr(sys, "argv", ["training.py", "--data", str(tmp_path), *seeds.flags(run)])
    parsed = read_arguments()
    assert (parsed.model, parsed.training) == run


def test_runs_on_other_scenes_are_refused(out, data, calls):
    run_folder.RunFolder(out / "seed_1").update(scenes={"held-out": 1})
    with pytest.raises(DataError, match=r"seed_1: was trained with other held-out scenes than .*test\.npz"):
        seeds.report(out, STUDY, data, recipe(iterations=100))
    assert not calls


def test_runs_are_resumed_for_more_iterations(out, data, calls, monkeypatch):
    monkeypatch.setattr(seeds.Scorer, "score", lambda scorer, folder: {})  # these checkpoints are empty
    for seed in range(3):
        (out / f"seed_{seed}" / "models" / "step_00000100.keras").touch()
    seeds.report(out, STUDY, data, recipe(iterations=200))
    assert calls == [["--resume", str(out / f"seed_{seed}"), "--iterations", "200"] for seed in range(3)]


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [(130, KeyboardInterrupt, None), (2, AIRError, "no run got .*; the reason is above"), (0, AIRError, "first scoring$")],
)
def test_studies_that_end_without_a_report(tmp_path, data, calls, status, error, text):
    calls.status = status
    with pytest.raises(error, match=text):
        seeds.report(str(tmp_path / "out"), STUDY, str(data), recipe(iterations=100))


def test_scenes_that_can_not_be_scored(tmp_path, data):
    SceneSet(SceneSet.load(data / "test.npz").images).save(tmp_path / "test.npz")
    with pytest.raises(DataError, match=r"test\.npz: has no counts"):
        seeds.report(tmp_path / "out", STUDY, tmp_path, recipe())


def test_mistakes_come_to_light_before_a_data_set_is_made(out, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = recipe()._replace(model=AIRConfig(canvas_size=(18, 18)))
    with pytest.raises(UsageError, match="--more-digits-scenes 0 leaves out the scenes of more digits"):
        seeds.report("some", SeedsConfig(), "multi_mnist", small, mnist_path=data.parent / "digits.npz")
    with pytest.raises(DataError, match="another recipe"):
        seeds.report(out, STUDY, "multi_mnist", recipe(iterations=100, batch_size=32))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_seeds_are_trained_and_scored_as_a_user_would(data, run_script, tmp_path):
    sizes = [w for name, value in TINY.items() for w in (f"--{name.replace('_', '-')}", *np.atleast_1d(value).astype(int))]
    flags = (
        *("--data", data, "--mnist", data.parent / "digits.npz", "--n", 1, "--estimators", "enumerated", "nvil"),
        *("--iterations", 4, "--validation-scenes", 10, "--no-xla", *sizes),  # fewer than --validate-every
        *("--samples", 3, "--bound-scenes", 20, "--more-digits-scenes", 9),
    )
    done = run_script("evaluation.py", "seeds", *flags, timeout=300)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "air_seeds"
    saved = json.loads((out / "seeds.json").read_text())["runs"]
    assert [(run["estimator"], run["steps"], run["complete"]) for run in saved] == [("enumerated", 4, True), ("nvil", 4, True)]
    model, training, record = run_folder.RunFolder(out / "nvil" / "seed_0").read()
    assert model == presets.default("nvil").model.replace(**TINY)
    assert (training.iterations, training.xla, record["held_out"]) == (4, False, str(data / "test.npz"))
    test = SceneSet.load(data / "test.npz")
    images = test.images[:20]
    for run, table in zip(saved, tables(done.stdout), strict=True):
        assert run["final"] == np.mean(air.load(out / run["estimator"] / "seed_0").infer(test.images).count == test.count)
        bound = air.load(out / run["estimator"] / "seed_0").log_prob_bound(images, samples=3).mean()
        assert run["elbo"] < run["iwae"] == pytest.approx(bound, rel=1e-5)
        counted = [f"{run[name]:.2%}" for name in ("three_digits", "four_digits", "canvas_100")]
        assert table["0"][-5:] == [*counted, f"{run['elbo']:.1f}", f"{run['iwae']:.1f}"]
    failed = run_script("evaluation.py", "seeds", *flags, "--batch-size", 91, "--output", "failed", timeout=300)
    assert failed.returncode == 1
    assert failed.stderr.count("batch_size: 91 is not allowed") == 2  # once for each estimator
    assert "no run got as far as its first scoring; the reason is above" in failed.stderr
    times = [path.stat().st_mtime_ns for path in sorted(out.glob("*/seed_0/*.json"))]
    again = run_script("evaluation.py", "seeds", *flags)
    assert (again.returncode, again.stderr, again.stdout) == (0, "", done.stdout)
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("*/seed_0/*.json"))] == times
