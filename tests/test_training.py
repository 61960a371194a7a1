"""Training runs: what they write, how they end, and how they are resumed."""

import json
import re
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from real_runs import EVERY, MODEL, RECIPE, SCRIPT, assert_same, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import air
from air import presets
from air.config import AIRConfig, TrainingConfig
from air.data.folders import rules_of
from air.data.rules import SCENES, PictureConfig
from air.data.scenes import SceneSet
from air.data.stream import SceneStream
from air.errors import AIRError, DataError, UsageError
from air.support import cli
from air.training import command as training
from air.training import run
from air.training.callbacks import TrainingError
from air.training.progress import Progress
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
    held_out = SceneStream(SCENES["default"]).batch(0, 300, "test")
    scenes = model.infer(held_out.images)
    assert np.mean(scenes.count == held_out.count) >= 0.9
    single = held_out.count == 1
    centre = scenes.attention_boxes[single, 0, :2] + scenes.attention_boxes[single, 0, 2:] / 2
    true_centre = held_out.boxes[single, 0, :2] + held_out.boxes[single, 0, 2:] / 2
    assert np.median(np.linalg.norm(centre - true_centre, axis=1)) < 3.0  # pixels
    black = np.sum((held_out.images / 255.0) ** 2)
    assert np.sum((held_out.images / 255.0 - scenes.reconstruction) ** 2) < 0.6 * black


class Recorder(keras.callbacks.Callback):
    """A user's own callback, which stops the run after a number of steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.stop_after = stop_after
        self.logs: dict[int, dict[str, Any]] = {}

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        step = int(self.model.step.numpy())
        self.logs[step] = dict(logs or {})
        self.model.stop_training = step == self.stop_after


def load_events(run: Path, folder: str) -> EventAccumulator:
    events = EventAccumulator(str(run / "summary" / folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def pictured_steps(run: Path, folder: str) -> list[int]:
    return [event.step for event in load_events(run, folder).Tensors("attention")]


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
        events = load_events(finished, folder)
        plugins = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]}
        return {tag for tag, plugin in plugins.items() if plugin == kind}

    scalars = tags("train", "scalars")
    for quantity in ("loss", "reconstruction", "count", "count_accuracy", "z_pres_kl_1", "scale_2", "z_what_kl_2"):
        assert {f"{quantity}/{count}" for count in ("0", "1", "2", "all")} <= scalars
    assert {"gradient_norm/before_clipping", "gradient_norm/after_clipping"} <= scalars
    assert {"schedule/z_pres_prior_odds", "schedule/refinement"} == {tag for tag in scalars if tag.startswith("schedule/")}
    assert sorted(scalars)[:2] == ["Overview/count_accuracy", "Overview/loss"]
    histograms = tags("train", "histograms")
    assert any(tag.startswith("variables/") for tag in histograms)
    assert {tag.replace("variables/", "gradients/") for tag in histograms} <= histograms
    assert tags("train", "images") == {"attention"}
    held_out = tags("validation", "scalars")
    assert {"count_accuracy/all", "reconstruction/all", "Overview/count_accuracy"} <= held_out
    assert tags("validation", "images") == {"attention"}
    assert tags("", "text") == {"configuration"}
    for folder, found in (("train", scalars | {"attention"}), ("validation", held_out)):
        events = load_events(finished, folder)
        assert all(events.SummaryMetadata(tag).summary_description for tag in found)


def test_tensorboard_shows_the_configuration(finished: Path) -> None:
    events = load_events(finished, "")
    table = events.Tensors("configuration")[0].tensor_proto.string_val[0].decode()
    assert "`lstm_units`" in table
    assert "exponential(" in table
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert (values["iterations"].number_value, values["xla"].bool_value, values["activation"].string_value) == (
        40,
        False,
        "elu",
    )


def test_an_interrupted_run_ends_like_a_whole_one(finished: Path, squares: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Also if it is then made longer, and its scenes have moved; where it stopped between its intervals leaves no trace."""

    class InterruptedAt15(Progress):
        def on_step(self, step, logs):
            super().on_step(step, logs)
            if step == 15:
                signal.raise_signal(signal.SIGINT)

    folder, moved = tmp_path / "run", tmp_path / "moved"
    keras.utils.clear_session()
    with monkeypatch.context() as patch:
        patch.setattr(run, "Progress", InterruptedAt15)
        patch.setattr(sys, "argv", ["training.py"])
        assert not run.start(MODEL, RECIPE.replace(iterations=25), data=squares, run=folder)
    out = capsys.readouterr().out
    assert re.search(
        r"^Stopped at step 15 of 25 after 00:\d\d; it counts [\d.]+% of the held-out scenes correctly\.$", out, re.M
    )
    assert f"\nContinue with: python training.py --resume {folder}\n" in out
    assert int(air.load(folder).step.numpy()) == 15
    assert [row["step"] for row in RunFolder(folder).metrics.rows()] == [10, 15]
    assert pictured_steps(folder, "train") == pictured_steps(folder, "validation") == [10, 15]
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


def test_a_short_run_in_a_thread(squares: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """It has a score and pictures, though it is shorter than all intervals; paths may be text, callbacks the user's own."""
    monkeypatch.setattr(sys, "argv", ["training.py"])
    path, results, callback = str(tmp_path / "my run"), [], Recorder()
    recipe = TrainingConfig(iterations=3, batch_size=8, validation_scenes=16, xla=False)

    def work() -> None:
        results.append(
            run.start(MODEL, recipe, data=str(squares), held_out=str(squares / "train.npz"), run=path, callbacks=[callback])
        )

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [True]
    (row,) = RunFolder(path).metrics.rows()
    assert row["step"] == 3
    assert pictured_steps(tmp_path / "my run", "train") == pictured_steps(tmp_path / "my run", "validation") == [3]
    assert list(callback.logs) == [1, 2, 3]
    assert callback.logs[3]["val_count_accuracy"] == row["count_accuracy/all"]
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"Training in {path}. Watch it with: tensorboard --logdir '{path}'"
    assert re.fullmatch(r"Trained 3 steps in 00:\d\d; it counts [\d.]+% of the held-out scenes correctly\.", out[1])
    assert out[2:] == [
        f"Evaluate it:   python evaluation.py '{path}'",
        f"Watch it look: python demo.py --model '{path}'",
        f"Export z_what: python embeddings.py --run '{path}'",
    ]


def test_a_callback_may_stop_a_run(copied: Path, squares: Path) -> None:
    callback = Recorder(stop_after=45)
    assert not run.resume(str(copied), 55, data=str(squares), callbacks=[callback])
    assert list(callback.logs) == [45]
    assert RunFolder(str(copied)).metrics.rows()[-1]["step"] == int(air.load(str(copied)).step.numpy()) == 45


def test_without_arguments_the_default_recipe_is_trained(tmp_path: Path, monkeypatch) -> None:
    trained = []
    monkeypatch.setattr(run, "train", lambda model, training, folder, *_: trained.append((model.config, training, folder.path)))
    monkeypatch.chdir(tmp_path)
    run.start()
    run.start(AIRConfig(estimator="nvil"))
    assert trained == [
        (*presets.default(), Path("air_results")),
        (AIRConfig(estimator="nvil"), presets.default("nvil").training, Path("air_results_1")),
    ]


def test_a_finished_run_says_how_to_continue(finished: Path, script, capsys) -> None:
    script("--resume", finished)
    captured = capsys.readouterr()
    command = f"python training.py --resume {finished} --iterations 80"
    assert (captured.out, captured.err) == (f"Trained 40 steps already. Continue with: {command}\n", "")


def test_a_background_gets_one_warning(squares: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    np.save(tmp_path / "bright.npy", 255 - SceneSet.load(squares / "train.npz").images)
    config = {"model": MODEL.to_dict(), "training": RECIPE.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    flags = ["--config", "config.json", "--data", "bright.npy", "--iterations", "1"]
    monkeypatch.setattr(sys, "argv", ["training.py", *flags])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.run(training.main)
    assert ended.value.code == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Compiling the training step ..."
    assert [line for line in lines if "warning" in line] == [lines[1]]
    assert lines[1].startswith("training.py: warning: images: they seem to have a background")
    assert RunFolder("air_results").read()[:2] == (MODEL, RECIPE.replace(iterations=1))


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--presence", "nvil"], 2, ["--presence is now called --estimator"]),
        (["--data", "missing"], 1, ["missing", "no such data", "multi_mnist.py"]),
        (["--data", "text.npz"], 1, ["text.npz"]),
        (["--data", "small.npy", "--canvas-size", "50", "50"], 1, ["small.npy", "30x31", "--canvas-size 30 31"]),
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


def test_a_run_records_how_its_pictures_became_scenes(squares: Path, tmp_path: Path, monkeypatch) -> None:
    rules = PictureConfig(crop=True, resize=0.5)
    shutil.copytree(squares, tmp_path / "patches")
    (tmp_path / "patches" / "config.json").write_text(json.dumps(rules.to_dict()))
    monkeypatch.setattr(run, "train", lambda *arguments: True)
    for name, data in (("of patches", tmp_path / "patches"), ("of scenes", squares)):
        run.start(MODEL, RECIPE, data=data, run=tmp_path / name)
    shutil.rmtree(tmp_path / "patches")
    assert rules_of(tmp_path / "of patches") == rules
    assert rules_of(tmp_path / "of scenes") is None


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
        ({"data": tmp_path / "gone"}, "gone: no such data; give their path with --data"),
    ):
        with pytest.raises(DataError, match=message):
            run.resume(copied, 50, **places)
    assert (copied / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "original"], "leave out --preset, --config and --mnist"),
        (["--mnist", "digits.npz"], "leave out --preset, --config and --mnist"),
        (["--scenes", "noise"], "leave out --scenes"),
        (["--crop"], "leave out --crop, --resize and, if it drew them, --data"),
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
