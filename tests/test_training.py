"""Training runs: what they write, how they end, and how they are resumed."""

import json
import shutil
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from real_runs import EVERY, MODEL, RECIPE, SCRIPT, assert_same, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import air
from air.data.scenes import SceneSet
from air.errors import AIRError, DataError, UsageError
from air.training import command as training
from air.training import run
from air.training.callbacks import Progress, TrainingError
from air.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def finished(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 40 steps."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    keras.utils.clear_session()  # numbers layers from the start, as in a process of its own
    assert run.start(MODEL, RECIPE, data=squares, run=folder)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """Calls the main function of training.py: script("--seed", "1")."""

    def call(*flags: str | Path) -> None:
        monkeypatch.setattr(sys, "argv", ["training.py", *map(str, flags)])
        training.main()

    return call


@pytest.mark.slow
def test_default_recipe_learns_to_count(tmp_path: Path) -> None:
    done = train(tmp_path, "--iterations", "600", "--validate-every", "600")
    assert done.returncode == 0, done.stderr
    (row,) = RunFolder(tmp_path / "air_results").metrics.rows()
    # Ten of ten seeds have more than 96 % by now. A model that takes two digits for one has 66 %, an untrained one 0 or 33 %.
    assert row["count_accuracy/all"] >= 0.9
    assert row["count_accuracy/0"] >= 0.95
    model = air.load(tmp_path / "air_results")
    held_out = SceneSet.load(tmp_path / "multi_mnist/test.npz").select(slice(300))
    scenes = model.infer(held_out.images)
    assert np.mean(scenes.count == held_out.count) >= 0.9
    single = held_out.count == 1
    centre = scenes.attention_boxes[single, 0, :2] + scenes.attention_boxes[single, 0, 2:] / 2
    true_centre = held_out.boxes[single, 0, :2] + held_out.boxes[single, 0, 2:] / 2
    assert np.median(np.linalg.norm(centre - true_centre, axis=1)) < 3.0  # pixels
    black = np.sum((held_out.images / 255.0) ** 2)
    assert np.sum((held_out.images / 255.0 - scenes.reconstruction) ** 2) < 0.6 * black


def test_run_folder_is_complete(finished: Path) -> None:
    record = json.loads((finished / "config.json").read_text())
    assert record["training"]["iterations"] == 40
    assert record["model"]["canvas_size"] == [20, 20]
    assert set(record["versions"]) >= {"python", "tensorflow", "keras", "numpy"}
    assert sorted(path.name for path in (finished / "models").iterdir()) == ["step_00000030.keras", "step_00000040.keras"]
    for source in ("training.py", "air/model/air_model.py"):
        assert (finished / "source" / source).read_text() == (SCRIPT.parent / source).read_text()
    rows = RunFolder(finished).metrics.rows()
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert all(0 <= row["count_accuracy/all"] <= 1 for row in rows)


def test_summaries_are_what_the_documentation_lists(finished: Path) -> None:
    def tags(folder: str, kind: str) -> set[str]:
        events = EventAccumulator(str(finished / "summary" / folder), size_guidance={"tensors": 0})
        events.Reload()
        plugins = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]}
        return {tag for tag, plugin in plugins.items() if plugin == kind}

    scalars = tags("train", "scalars")
    for quantity in ("loss", "reconstruction", "count", "count_accuracy", "z_pres_kl_1", "scale_2", "z_what_kl_2"):
        assert {f"{quantity}/{count}" for count in ("0", "1", "2", "all")} <= scalars
    assert {"gradient_norm/before_clipping", "gradient_norm/after_clipping"} <= scalars
    assert {"schedule/learning_rate", "schedule/z_pres_prior_odds", "schedule/temperature"} <= scalars
    histograms = tags("train", "histograms")
    assert any(tag.startswith("variables/") for tag in histograms)
    assert {tag.replace("variables/", "gradients/") for tag in histograms} <= histograms
    assert tags("train", "images") == {"attention"}
    assert {"count_accuracy/all", "reconstruction/all"} <= tags("validation", "scalars")


def test_an_interrupted_run_ends_like_a_whole_one(finished: Path, squares: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Also if it is then made longer, and its scenes have moved."""

    class InterruptedAt20(Progress):
        def on_step(self, step, logs):
            super().on_step(step, logs)
            if step == 20:
                signal.raise_signal(signal.SIGINT)

    folder, moved = tmp_path / "run", tmp_path / "moved"
    keras.utils.clear_session()
    with monkeypatch.context() as patch:
        patch.setattr(run, "Progress", InterruptedAt20)
        assert not run.start(MODEL, RECIPE.replace(iterations=30), data=squares, run=folder)
    assert f"Stopped at step 20 of 30. Continue with: python training.py --resume {folder}\n" in capsys.readouterr().out
    assert int(air.load(folder).step.numpy()) == 20
    shutil.copytree(squares, moved)
    keras.utils.clear_session()
    assert run.resume(folder, 40, data=moved)
    assert_same(folder, finished)
    _, recipe, record = RunFolder(folder).read()
    assert (recipe.iterations, record["data"]) == (40, str(moved))


def test_not_a_number_stops_the_run_and_keeps_the_last_checkpoint(squares: Path, tmp_path: Path, capsys) -> None:
    recipe = RECIPE.replace(iterations=10, **{f"{name}_every": 5 for name in EVERY})
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) by step 5; there is no checkpoint yet"):
        run.start(MODEL.replace(scale_prior_mean=1e38), recipe, data=squares, run=tmp_path / "run")
    assert list((tmp_path / "run/models").iterdir()) == []
    assert capsys.readouterr().err.endswith("\n")  # so that the error has a line of its own


def test_unlabelled_scenes_of_any_name(squares: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Bïlder für 像"
    folder.mkdir()
    np.save(folder / "pictures 1.npy", SceneSet.load(squares / "train.npz").images)
    recipe = RECIPE.replace(iterations=10)
    assert run.start(MODEL, recipe, data=folder / "pictures 1.npy", run=folder / "Läufe/no. 1", animate=True)
    assert int(air.load(folder / "Läufe/no. 1").step.numpy()) == 10
    assert (folder / "Läufe/no. 1/attention.gif").is_file()


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--presence", "nvil"], 2, ["--presence is now called --estimator"]),
        (["--data", "missing"], 1, ["missing", "no such data", "multi_mnist.py"]),
        (["--data", "text.npz"], 1, ["text.npz"]),
        (["--data", "small.npy"], 1, ["small.npy", "30x31", "--canvas-size 30 31"]),
        (["--resume", "missing"], 1, ["missing", "not a run folder"]),
        (["--run", "text.npz/run"], 1, ["text.npz/run can't be written", "is not a folder"]),
        (["--mnist", "missing.npz"], 1, ["missing.npz"]),
    ],
)
def test_mistakes_get_one_line(tmp_path: Path, monkeypatch, script, flags: list[str], status: int, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.npz").write_text("not an archive")
    np.save(tmp_path / "small.npy", np.zeros((4, 30, 31), np.uint8))
    with pytest.raises(AIRError) as caught:
        script(*flags)
    assert caught.value.exit_status == status
    assert all(word in str(caught.value) for word in words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.npy", "text.npz"]


def test_an_impossible_batch_size_costs_no_run(squares: Path, copied: Path, tmp_path: Path) -> None:
    before = sorted(copied.rglob("*"))
    for name, overwrite in (("run", True), ("new", False)):
        with pytest.raises(UsageError, match="batch_size: 5000 is not allowed"):
            run.start(MODEL, RECIPE.replace(batch_size=5000), data=squares, run=tmp_path / name, overwrite=overwrite)
    assert sorted(copied.rglob("*")) == before
    assert not (tmp_path / "new").exists()


def test_resume_with_other_scenes_is_refused(squares: Path, copied: Path, tmp_path: Path) -> None:
    scenes = SceneSet.load(squares / "train.npz")
    shutil.copytree(squares, tmp_path / "data")
    before = (copied / "config.json").read_bytes()
    changed = scenes.images.copy()
    changed[7, 3, 3] ^= 1
    SceneSet(changed, scenes.count).save(tmp_path / "data/train.npz")
    for places, message in (
        ({"data": tmp_path / "data"}, "data: not the training scenes that the run began with; say where those are with --data"),
        ({"held_out": squares / "train.npz"}, r"train\.npz: not the held-out scenes that the run began with"),
        ({"data": tmp_path / "gone"}, "gone: no such data; say where the run's scenes are with --data"),
    ):
        with pytest.raises(DataError, match=message):
            run.resume(copied, 50, **places)
    assert (copied / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "original"], "leave out --preset and --mnist"),
        (["--mnist", "digits.npz"], "leave out --preset and --mnist"),
        (["--run", "other"], "leave out --run and --overwrite"),
        (["--lstm-units", "17"], "lstm_units: 17 is not allowed with --resume; the run has 16"),
        (["--iterations", "39"], "iterations: 39 is not allowed with --resume; it must be at least the run's 40"),
    ],
)
def test_resume_refuses_what_it_would_not_use(finished: Path, script, flags: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        script("--resume", finished, *flags)


def test_resume_refuses_a_checkpoint_of_another_configuration(copied: Path) -> None:
    config = copied / "config.json"
    config.write_text(config.read_text().replace('"lstm_units": 16', '"lstm_units": 17'))
    with pytest.raises(DataError, match=r"lstm_units 16, but config\.json has 17"):
        run.resume(copied, 50)


STORED = Path(__file__).parent / "stored"  # a run, its scenes and what came of it, by the code before `presence` was renamed


def test_a_model_of_an_older_version_infers_the_same() -> None:
    expected = np.load(STORED / "expected.npz")
    model = air.load(STORED / "run")
    assert (model.config.estimator, model.config.likelihood_std.initial) == ("nvil", 0.4)
    scenes = model.infer(SceneSet.load(STORED / "scenes/validation.npz").images)
    for name in ("count", "presence", "attention_boxes", "decoded_windows", "z_what", "reconstruction"):
        np.testing.assert_allclose(getattr(scenes, name), expected[name], atol=1e-5, err_msg=name)


def test_a_run_of_an_older_version_is_resumed_exactly(tmp_path: Path) -> None:
    shutil.copytree(STORED / "run", tmp_path / "run")
    assert run.resume(tmp_path / "run", 12, data=STORED / "scenes")
    expected = np.load(STORED / "expected.npz")
    rows = RunFolder(tmp_path / "run").metrics.rows()
    assert [row["step"] for row in rows] == list(range(1, 13))
    np.testing.assert_allclose([row["train_loss"] for row in rows[10:]], expected["losses"], rtol=1e-5)
    weights = np.concatenate([np.ravel(weight) for weight in air.load(tmp_path / "run").get_weights()])
    np.testing.assert_allclose(weights, expected["weights"], atol=1e-6)
