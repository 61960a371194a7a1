"""Runs with several seeds and estimators: trained as users train, every one reported, and nothing measured twice."""

import contextlib
import json
import sys
import types

import numpy as np
import pytest

import air
from air import presets
from air.config import AIRConfig
from air.data import mnist
from air.data.scenes import SceneSet
from air.errors import AIRError, DataError, UsageError
from air.evaluation import seed_report, seed_scores, seeds
from air.evaluation.config import SeedsConfig, scored_often
from air.evaluation.seed_report import SeedRun
from air.presets import PRESETS, Preset
from air.training import checkpoints, run_folder

TINY = {
    "window_size": (10, 8), "lstm_units": 8, "head_units": (4,), "cnn_filters": (), "cnn_kernels": (), "cnn_strides": (),
    "cnn_pools": (), "encoder_units": (8,), "decoder_units": (8,), "z_what_size": 3, "baseline_units": (4,),
}  # fmt: skip
UNJUDGED = {"samples": 0, "more_digits_scenes": 0}
INFINITE = float("inf")


@pytest.fixture
def data(few_digits):
    return few_digits / "data"


def write_run(planned, rows):
    folder = run_folder.RunFolder.create(planned.folder)
    folder.record(planned.model, planned.training, data="multi_mnist")
    for step, accuracy in rows:
        folder.metrics.append(
            {
                "step": step, "seconds": 10.0 + step, "compile_seconds": 8.0, "scoring_seconds": step / 10,
                "count_accuracy/all": accuracy, "count_accuracy/0": 1.0, "count_accuracy/2": accuracy,
            }
        )  # fmt: skip


def recipe(**training):
    model, default = scored_often(presets.default())
    return Preset(model, default.replace(**training))


def tables(text):
    """Every table of a Markdown text by the first cell of its rows, which are lists of cells."""
    found = []
    for block in text.split("\n\n"):
        if block.startswith("|"):
            lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
            found.append({line[0]: line[1:] for line in (lines[0], *lines[2:])})
    return found


@pytest.fixture
def trained(tmp_path):
    """Three runs: one reaches 98 %, one doesn't, one stopped early."""
    config = SeedsConfig(n=3, **UNJUDGED)
    rows = {0: [(50, 0.97), (100, 0.99)], 1: [(50, 0.3), (100, 0.4)], 2: [(50, 0.985)]}
    for planned in seeds.plan(tmp_path / "out", config, recipe(iterations=100), "default")["concrete"]:
        write_run(planned, rows[planned.training.seed])
    return tmp_path / "out", config


@pytest.mark.parametrize(("goal", "steps"), [(0.993, ["never"] * 3), (0.985, ["100", "never", "50"]), (0.3, ["50"] * 3)])
def test_the_goal_can_be_another_one(trained, data, monkeypatch, goal, steps):
    out, config = trained
    monkeypatch.setattr(seeds.subprocess, "Popen", answer(1, []))
    text = seeds.report(out, config.replace(goal=goal), data, recipe(iterations=100))
    comparison, table = tables(text)
    assert comparison["estimator"][0] == f"reached {100 * goal:g} %"
    assert table["seed"][:2] == [f"steps to {100 * goal:g} %", f"seconds to {100 * goal:g} %"]
    assert [cells[0] for name, cells in table.items() if name[0] in "012"] == steps
    assert json.loads((out / "seeds.json").read_text())["goal"] == goal


def answer(status, calls):
    """A stand-in for subprocess.Popen."""

    @contextlib.contextmanager
    def run(command, **options):
        calls.append(command)
        yield types.SimpleNamespace(wait=lambda: status)

    return run


def test_every_seed_is_reported(trained, data, monkeypatch, capsys):
    out, config = trained
    calls = []
    monkeypatch.setattr(seeds.subprocess, "Popen", answer(1, calls))
    text = seeds.report(out, config, data, recipe(iterations=100))
    assert len(calls) == 1  # two runs are finished
    assert calls[0][2:4] == ["--run", str(out / "seed_2")]
    assert "Seed 2, concrete, failed" in capsys.readouterr().err
    comparison, table = tables(text)
    assert comparison["concrete"] == ["2 of 3", "100", "never", "100.0", "never", "98.50%", "40.00%"]
    assert table["0"][:4] == ["100", "100.0", "8.0", "99.00%"]
    assert table["1"][:4] == ["never", "never", "8.0", "40.00%"]
    assert table["2 (stopped at 50)"][:4] == ["50", "55.0", "8.0", "98.50%"]
    assert table["**median**"][:4] == ["100", "100.0", "8.0", "98.50%"]
    assert table["**worst**"][:4] == ["never", "never", "8.0", "40.00%"]
    saved = json.loads((out / "seeds.json").read_text())
    assert [run["steps_to_goal"] for run in saved["runs"]] == [100, None, 50]
    assert (out / "seeds.png").stat().st_size > 1000


def test_estimators_are_compared_failures_included(tmp_path, data, monkeypatch):
    """NVIL: one run reaches the goal late, the others never were scored."""
    config = SeedsConfig(n=3, estimators=("concrete", "nvil"), samples=7, bound_scenes=5, more_digits_scenes=6)
    plans = seeds.plan(tmp_path, config, recipe(iterations=100), "default")
    for planned, accuracy in zip(plans["concrete"], (0.99, 0.985, 0.995), strict=True):
        write_run(planned, [(50, 0.5), (100, accuracy)])
    write_run(plans["nvil"][1], [(50, 0.97), (100, 0.98)])
    calls = []
    monkeypatch.setattr(seeds.subprocess, "Popen", answer(1, calls))
    text = seeds.report(tmp_path, config, data, recipe(iterations=100))
    assert [command[command.index("--run") + 1] for command in calls] == [str(tmp_path / f"nvil/seed_{n}") for n in (0, 2)]
    assert all(command[command.index("--estimator") + 1] == "nvil" for command in calls)
    comparison, concrete, nvil = tables(text)
    unjudged = ["0.00%", "none", "none"]  # there is no checkpoint
    assert comparison["estimator"][-3:] == ["3 digits, median", "ELBO, median", "IWAE 7, median"]
    assert comparison["concrete"] == ["3 of 3", "100", "100", "100.0", "100.0", "99.00%", "98.50%", *unjudged]
    assert comparison["nvil"] == ["1 of 3", "never", "never", "never", "never", "0.00%", "0.00%", *unjudged]
    assert list(concrete)[1:] == ["0", "1", "2", "**median**", "**worst**"]
    assert list(nvil)[1:] == ["0 (stopped at 0)", "1", "2 (stopped at 0)", "**median**", "**worst**"]
    saved = json.loads((tmp_path / "seeds.json").read_text())
    assert [(run["estimator"], run["seed"]) for run in saved["runs"]] == [(e, n) for e in plans for n in range(3)]
    assert saved["summary"]["nvil"]["median"]["steps_to_goal"] is None
    assert saved["runs"][0]["elbo"] is None


def run_of(seed, steps, final, elbo):
    return SeedRun(seed, 100, steps, steps / 10, 8.0, 20.0, final, final, {"0": 1.0}, True, elbo, elbo + 5, final / 2)


def test_medians_are_honest():
    several = [run_of(0, 50, 0.99, -100.0), run_of(1, INFINITE, 0.5, -INFINITE), run_of(2, 90, 0.98, -120.0)]
    odd, even = seed_report.summarise(several), seed_report.summarise([*several, run_of(3, INFINITE, 0.4, -400.0)])
    assert (odd["reached"], odd["runs"]) == (2, 3)
    assert [odd["median"][field] for field in ("steps_to_goal", "seconds_to_goal", "final", "elbo")] == [90, 9, 0.98, -120]
    assert (odd["worst"]["steps_to_goal"], odd["worst"]["elbo"], odd["worst"]["three_digits"]) == (INFINITE, -INFINITE, 0.25)
    assert even["median"]["steps_to_goal"] == INFINITE  # between 90 and never
    assert even["median"]["elbo"] == -260
    assert "elbo" not in seed_report.summarise([several[0], several[2]._replace(elbo=None)])["median"]  # not asked for


def test_plans():
    config = SeedsConfig(n=2, estimators=("nvil", "enumerated"))
    plans = seeds.plan(seeds.Path("out"), config, recipe(seed=4, iterations=100), "default")
    assert [[str(run.folder) for run in several] for several in plans.values()] == [
        [f"out/{name}/seed_{seed}" for seed in (4, 5)] for name in ("nvil", "enumerated")
    ]
    one = seeds.plan(seeds.Path("out"), SeedsConfig(n=1, estimators=("nvil",)), recipe(), "default")
    assert [(str(run.folder), run.model.estimator) for run in one["nvil"]] == [("out/seed_0", "nvil")]
    for iterations, steps in ((100, 20000), (20000, 20000), (30000, 30000)):  # a longer run is no beginning
        training = seeds.plan(seeds.Path("out"), config, recipe(iterations=iterations), "default")["nvil"][0].training
        assert training.learning_rate == presets.default("nvil").training.learning_rate.over(steps)
    assert one["nvil"][0].model == presets.default("nvil").model
    assert plans["enumerated"][0].model == presets.default("enumerated").model


@pytest.mark.parametrize("presence", [None, "enumerated", "nvil"])
@pytest.mark.parametrize("preset", PRESETS)
def test_flags_make_the_configuration(preset, presence, monkeypatch):
    monkeypatch.syspath_prepend(seeds.SCRIPT.parent)
    from training import read_arguments

    model, training = presets.recipe(preset, presence)
    model = model.replace(**TINY, learn_count_prior_after=9, centre_signal=False, temperature="linear(1, 0.5, steps=7)")
    training = training.replace(seed=3, xla=False, learning_rate="cosine(1e-3, 1e-5, steps=90)")
    monkeypatch.setattr(sys, "argv", ["training.py", *seeds.flags(model, training)])
    parsed = read_arguments()
    assert (parsed.model, parsed.training) == (model, training)


def test_changes_of_the_recipe_are_told(trained, data, monkeypatch):
    out, config = trained
    text = seeds.report(out, config.replace(n=2), data, recipe(iterations=100))
    assert text.startswith("# The default recipe with 2 seeds")
    assert "Other than" not in text
    changed = Preset(AIRConfig(controller_input="residual"), recipe(iterations=100, batch_size=32).training)
    for planned in seeds.plan(out / "changed", config, changed, "default")["concrete"]:
        write_run(planned, [(50, 0.5), (100, 0.99)])
    text = seeds.report(out / "changed", config, data, changed)
    assert "Other than in the preset: `controller_input residual`, `batch_size 32`." in text


def test_runs_of_another_recipe_are_refused(trained, data):
    out, config = trained
    with pytest.raises(DataError, match="another recipe"):
        seeds.report(out, config, data, recipe(iterations=50))
    with pytest.raises(DataError, match="another recipe"):
        seeds.report(out, config, data, recipe(iterations=200, batch_size=32))
    with pytest.raises(DataError, match="another recipe"):
        seeds.report(out, config.replace(estimators=["nvil"]), data, recipe(iterations=100))


def test_runs_go_on_to_more_iterations(trained, data, monkeypatch):
    out, config = trained
    calls = []
    monkeypatch.setattr(seeds.subprocess, "Popen", answer(1, calls))
    monkeypatch.setattr(seeds.checkpoints, "checkpoints", lambda folder: [folder])
    seeds.report(out, config, data, recipe(iterations=200))
    assert [call[2:] for call in calls] == [["--resume", str(out / f"seed_{n}"), "--iterations", "200"] for n in range(3)]


def test_an_interruption_is_passed_on(trained, data, monkeypatch):
    out, config = trained
    monkeypatch.setattr(seeds.subprocess, "Popen", answer(130, []))
    with pytest.raises(KeyboardInterrupt):
        seeds.report(out, config, data, recipe(iterations=100))


def test_an_interrupted_run_may_save_its_checkpoint(trained, data, monkeypatch):
    """Ctrl-C reaches both processes; the one that trains takes its time."""
    out, config = trained
    waits = []

    @contextlib.contextmanager
    def popen(command, **options):
        def wait():
            waits.append("interrupted" if not waits else "saved")
            if len(waits) == 1:
                raise KeyboardInterrupt
            return 130

        yield types.SimpleNamespace(wait=wait)

    monkeypatch.setattr(seeds.subprocess, "Popen", popen)
    with pytest.raises(KeyboardInterrupt):
        seeds.report(out, config, data, recipe(iterations=100))
    assert waits == ["interrupted", "saved"]


def test_no_run_at_all(tmp_path, data, monkeypatch):
    monkeypatch.setattr(seeds.subprocess, "Popen", answer(2, []))
    with pytest.raises(AIRError, match="no run came as far"):
        seeds.report(tmp_path / "out", SeedsConfig(n=2, **UNJUDGED), data, recipe(iterations=50))


def test_scenes_that_can_not_be_judged(tmp_path, data):
    (tmp_path / "data").mkdir()
    SceneSet(SceneSet.load(data / "test.npz").images).save(tmp_path / "data" / "test.npz")
    with pytest.raises(DataError, match=r"test\.npz: has no counts"):
        seeds.report(tmp_path / "out", SeedsConfig(n=1), tmp_path / "data", recipe())
    digits = mnist.load(data.parent / "digits.npz")
    with pytest.raises(UsageError, match="--more-digits-scenes 0 leaves out the scenes of 3 digits"):
        seed_scores.more_digits(2, AIRConfig(canvas_size=(18, 18)), digits)
    assert set(seed_scores.more_digits(4, AIRConfig(max_steps=2), digits).count) == {3}


def test_nothing_is_measured_twice(make_model, tmp_path):
    """The model of each run is judged, once for each checkpoint and each thing that was asked."""
    folders, calls = [tmp_path / "a", tmp_path / "b", tmp_path / "without a checkpoint"], []
    for seed, folder in enumerate(folders[:2]):
        (folder / "models").mkdir(parents=True)
        checkpoints.save_checkpoint(folder, make_model(seed), keep=1)

    def judged(**subject):
        calls.clear()
        wanted = {"three_digits": seed_scores.Task(measure, subject)}
        return [scores.three_digits for scores in seed_scores.judge(folders, wanted, "normal")]

    def measure(model):
        calls.append(model)
        return float(np.abs(model.decoder.get_weights()[0]).sum())

    right = [pytest.approx(measure(make_model(seed))) for seed in range(2)]
    assert right[0] != right[1].expected
    assert judged(scenes=4) == [*right, 0.0]
    assert calls[0] is calls[1]  # compiled once
    assert (judged(scenes=4), calls) == ([*right, 0.0], [])
    assert (judged(scenes=5), len(calls)) == ([*right, 0.0], 2)
    (folders[0] / "scores.json").write_text('{"three_digits": ')
    assert (judged(scenes=5), len(calls)) == ([*right, 0.0], 1)
    newer = make_model(1)
    newer.step.assign(7)
    checkpoints.save_checkpoint(folders[0], newer, keep=1)
    assert (judged(scenes=5), len(calls)) == ([right[1], right[1], 0.0], 1)
    (folders[0] / "models" / "step_00000007.keras").write_bytes(b"damaged")
    (folders[0] / "scores.json").unlink()
    assert judged(scenes=5) == [0.0, right[1], 0.0]


def test_seeds_are_trained_as_users_train(data, run_script, tmp_path):
    sizes = [w for name, value in TINY.items() for w in (f"--{name.replace('_', '-')}", *np.atleast_1d(value).astype(int))]
    rare = [word for name in ("images", "histograms", "gradients") for word in (f"--{name}-every", 1000)]
    flags = (
        *("--data", data, "--mnist", data.parent / "digits.npz", "--n", 1, "--estimators", "enumerated", "nvil"),
        *("--iterations", 4, "--validate-every", 2, "--validation-scenes", 10, "--no-xla", *sizes, *rare),
        *("--samples", 3, "--bound-scenes", 20, "--more-digits-scenes", 9),
    )
    done = run_script("evaluation.py", "seeds", *flags, timeout=300)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "air_seeds"
    saved = json.loads((out / "seeds.json").read_text())
    assert [(run["estimator"], run["steps"], run["complete"]) for run in saved["runs"]] == [
        ("enumerated", 4, True), ("nvil", 4, True),
    ]  # fmt: skip
    assert saved["scenes"] == 10
    model, training, record = run_folder.RunFolder(out / "nvil" / "seed_0").read()
    recipe_model, default = presets.default("nvil")
    rate = default.learning_rate.over(default.iterations)  # the beginning of the whole recipe
    assert training == default.replace(
        seed=0, iterations=4, learning_rate=rate, validate_every=2, validation_scenes=10, xla=False,
        images_every=1000, histograms_every=1000, gradients_every=1000,
    )  # fmt: skip
    assert model == recipe_model.replace(**TINY)
    assert record["held_out"].endswith("test.npz")

    images = SceneSet.load(data / "test.npz").images[:20]
    three = seed_scores.more_digits(9, model, mnist.load(data.parent / "digits.npz"))
    for run, row in zip(saved["runs"], list(tables(done.stdout)[0].values())[1:], strict=True):
        trained = air.load(out / run["estimator"] / "seed_0")
        assert run["elbo"] < run["iwae"]
        assert run["elbo"] == run["bounds"]["elbo"]["cross_entropy"]["frequency"]["mean"]
        assert run["three_digits"] == (trained.infer(three.images).count == 3).mean()
        assert row[-3:] == [f"{run['three_digits']:.2%}", f"{run['elbo']:.1f}", f"{run['iwae']:.1f}"]
    assert run["iwae"] == pytest.approx(trained.log_prob_bound(images, samples=3).mean(), rel=1e-5)

    kept = [path.stat().st_mtime_ns for path in out.glob("*/seed_0/*.json")]
    again = run_script("evaluation.py", "seeds", *flags)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == done.stdout
    assert [path.stat().st_mtime_ns for path in out.glob("*/seed_0/*.json")] == kept
    assert len(kept) == 4
