"""Real runs of training.py, as a user starts them."""

import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from real_runs import SCRIPT, TINY, every, failure, train

import air
from air.data.scenes import SceneSet
from air.training import run
from air.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def finished(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a short run."""
    folder = tmp_path_factory.mktemp("finished")
    run = train(folder, "--data", str(squares), *TINY, *every(10), "--iterations", "40", "--keep-checkpoints", "2")
    assert run.returncode == 0, run.stderr
    return folder / "air_results"


def test_default_recipe_learns_to_count(tmp_path: Path) -> None:
    run = train(tmp_path, "--iterations", "600", *every(600), "--histograms-every", "1200")
    assert run.returncode == 0, run.stderr
    with open(tmp_path / "air_results/metrics.csv") as file:
        (row,) = csv.DictReader(file)
    # Ten of ten seeds have more than 96 % by now. A model that takes two digits for one has 66 %, an untrained one 0 or 33 %.
    assert float(row["count_accuracy/all"]) >= 0.9
    assert float(row["count_accuracy/0"]) >= 0.95
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
    assert (finished / "source/air/model/air_model.py").read_text() == (SCRIPT.parent / "air/model/air_model.py").read_text()
    assert (finished / "source/training.py").read_text() == SCRIPT.read_text()
    with open(finished / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40]
    assert all(0 <= float(row["count_accuracy/all"]) <= 1 for row in rows)


def test_summaries_are_what_the_documentation_lists(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def tags(folder: str, kind: str) -> set[str]:
        events = EventAccumulator(str(finished / "summary" / folder), size_guidance={"tensors": 0})
        events.Reload()
        plugins = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]}
        return {tag for tag, plugin in plugins.items() if plugin == kind}

    scalars = tags("train", "scalars")
    for quantity in ("loss", "reconstruction", "count", "count_accuracy", "z_pres_kl_1", "scale_2", "z_what_kl_3"):
        assert {f"{quantity}/{count}" for count in ("0", "1", "2", "all")} <= scalars
    assert {"gradient_norm/before_clipping", "gradient_norm/after_clipping"} <= scalars
    assert {"schedule/learning_rate", "schedule/z_pres_prior_odds", "schedule/temperature"} <= scalars
    histograms = tags("train", "histograms")
    assert any(tag.startswith("variables/") for tag in histograms)
    assert {tag.replace("variables/", "gradients/") for tag in histograms} <= histograms
    assert tags("train", "images") == {"attention"}
    assert {"count_accuracy/all", "reconstruction/all"} <= tags("validation", "scalars")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_to_end_lets_the_steps_end(number: int) -> None:
    stops: list[bool] = []
    model = types.SimpleNamespace(request_stop=lambda: stops.append(True))
    before = signal.signal(number, signal.default_int_handler)
    try:
        with run._Interruption(model) as interruption:
            signal.raise_signal(number)
            assert (interruption.happened, stops) == (True, [True])
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with run._Interruption(types.SimpleNamespace()) as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption.happened
    finally:
        signal.signal(signal.SIGHUP, before)


def test_interrupt_saves_and_can_be_resumed(squares: Path, tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--data", str(squares), *TINY, *every(10), "--iterations", "1000000"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("air_results/models/*.keras")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    second = train(tmp_path, "--resume", "air_results")
    assert second.returncode == 1
    assert "air_results: in use by another process" in failure(second)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    step = int(re.search(r"Stopped at step (\d+)", out)[1])
    assert (tmp_path / f"air_results/models/step_{step:08d}.keras").is_file()
    assert int(air.load(tmp_path / "air_results").step.numpy()) == step


def test_not_a_number_stops_the_run_and_keeps_the_last_checkpoint(squares: Path, tmp_path: Path) -> None:
    run = train(tmp_path, "--data", str(squares), *TINY, *every(10), "--iterations", "500", "--scale-prior-mean", "1e38")
    assert run.returncode == 1
    assert "the loss became" in failure(run)
    assert all(
        np.isfinite(w).all() for path in tmp_path.glob("air_results/models/*.keras") for w in air.load(path).get_weights()
    )


def test_full_disk_costs_no_checkpoint(finished: Path, tmp_path: Path) -> None:
    """Files of more than 150 kB can't be written, as on a disk with no more room; a checkpoint has 190."""
    shutil.copytree(finished, tmp_path / "run")
    command = [sys.executable, SCRIPT, "--resume", "run", "--iterations", "60"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, preexec_fn=limit)
    assert run.returncode == 1
    assert "step_00000050.keras: can't be written (File too large); the checkpoints before it are kept" in failure(run)
    assert sorted(path.name for path in (tmp_path / "run/models").iterdir()) == ["step_00000030.keras", "step_00000040.keras"]
    assert not list((tmp_path / "run").glob(".*"))
    assert int(air.load(tmp_path / "run").step.numpy()) == 40


def test_unlabelled_scenes_can_be_trained_on(squares: Path, tmp_path: Path) -> None:
    images = SceneSet.load(squares / "train.npz").images
    folder = tmp_path / "Bïlder für 像"  # names of any language
    folder.mkdir()
    np.save(folder / "pictures 1.npy", images)
    flags = ["--data", f"{folder.name}/pictures 1.npy", "--run", f"{folder.name}/Läufe/no. 1"]
    run = train(tmp_path, *flags, *TINY, *every(10), "--iterations", "20")
    assert run.returncode == 0, run.stderr
    assert int(air.load(folder / "Läufe/no. 1").step.numpy()) == 20


def test_existing_run_folder_is_only_replaced_on_demand(squares: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "air_results")
    flags = ["--data", str(squares), *TINY, *every(10), "--iterations", "10", "--run", "air_results"]
    before = (tmp_path / "air_results/config.json").read_bytes()
    refused = train(tmp_path, *flags)
    assert refused.returncode == 1
    assert "air_results: exists already" in failure(refused)
    assert (tmp_path / "air_results/config.json").read_bytes() == before
    assert train(tmp_path, *flags, "--overwrite", "--seed", "5").returncode == 0
    assert json.loads((tmp_path / "air_results/config.json").read_text())["training"]["seed"] == 5
    assert [path.name for path in (tmp_path / "air_results/models").iterdir()] == ["step_00000010.keras"]


def test_run_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [RunFolder.create(None).path.name for _ in range(3)]
    assert names == ["air_results", "air_results_1", "air_results_2"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    with pytest.raises(air.AIRError, match=r"thesis: holds 'chapter\.txt', which is no part of a run"):
        RunFolder.create(Path("thesis"), overwrite=True)
    assert (tmp_path / "thesis/chapter.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--batch-size", "0"], 2, ["batch_size", "0", "greater than or equal to 1"]),
        (["--learning-rate", "-1"], 2, ["learning_rate", "-1", "above 0"]),
        (["--temperature", "fast"], 2, ["temperature", "fast", "linear(1, 0.1"]),
        (["--cnn-kernels", "3"], 2, ["cnn_kernels", "(3,)", "cnn_filters"]),
        (["--preset", "best"], 2, ["preset", "best", "original"]),
        (["--no-such-flag"], 2, ["no-such-flag"]),
        (["--data", "missing"], 1, ["missing", "no such data", "multi_mnist.py"]),
        (["--data", "text.npz"], 1, ["text.npz"]),
        (["--data", "small.npy"], 1, ["small.npy", "30x31", "--canvas-size 30 31"]),
        (["--resume", "missing"], 1, ["missing", "not a run folder"]),
        (["--run", "text.npz/run"], 1, ["text.npz/run can't be written", "is not a folder"]),
        (["--mnist", "missing.npz"], 1, ["missing.npz"]),
    ],
)
def test_mistakes_get_one_line(tmp_path: Path, flags: list[str], status: int, words: list[str]) -> None:
    (tmp_path / "text.npz").write_text("not an archive")
    np.save(tmp_path / "small.npy", np.zeros((4, 30, 31), np.uint8))
    run = train(tmp_path, *flags)
    assert run.returncode == status
    for word in words:
        assert word in failure(run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.npy", "text.npz"]


def test_an_impossible_batch_size_costs_no_run(squares: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    before = sorted((tmp_path / "run").rglob("*"))
    model, recipe, _ = RunFolder(finished).read()
    for name, overwrite in (("run", True), ("new", False)):
        with pytest.raises(air.UsageError, match="batch_size: 5000 is not allowed"):
            run.start(model, recipe.replace(batch_size=5000), data=squares, run=tmp_path / name, overwrite=overwrite)
    assert sorted((tmp_path / "run").rglob("*")) == before
    assert not (tmp_path / "new").exists()


def test_resume_with_other_scenes_is_refused(squares: Path, finished: Path, tmp_path: Path) -> None:
    run, scenes = tmp_path / "run", SceneSet.load(squares / "train.npz")
    shutil.copytree(finished, run)
    shutil.copytree(squares, tmp_path / "data")
    before = (run / "config.json").read_bytes()
    changed = scenes.images.copy()
    changed[7, 3, 3] ^= 1
    SceneSet(changed, scenes.count).save(tmp_path / "data/train.npz")
    for places, message in (
        ({"data": tmp_path / "data"}, "data: not the training scenes that the run began with; say where those are with --data"),
        ({"held_out": squares / "train.npz"}, r"train\.npz: not the held-out scenes that the run began with"),
        ({"data": tmp_path / "gone"}, "gone: no such data; say where the run's scenes are with --data"),
    ):
        with pytest.raises(air.DataError, match=message):
            run.resume(run, 50, **places)
    assert (run / "config.json").read_bytes() == before


def test_resume_finds_moved_scenes_and_remembers_what_was_asked(squares: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    shutil.copytree(squares, tmp_path / "moved")
    assert run.resume(tmp_path / "run", 50, data=tmp_path / "moved")
    assert int(air.load(tmp_path / "run").step.numpy()) == 50
    _, recipe, record = RunFolder(tmp_path / "run").read()
    assert (recipe.iterations, record["data"]) == (50, str(tmp_path / "moved"))


@pytest.mark.parametrize("flags", [["--preset", "original"], ["--mnist", "digits.npz"]])
def test_resume_refuses_what_it_would_not_use(finished: Path, flags: list[str]) -> None:
    run = train(finished.parent, "--resume", "air_results", *flags)
    assert run.returncode == 2
    assert "leave out --preset and --mnist" in failure(run)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(squares: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    run = train(tmp_path, "--data", str(squares), *TINY)
    tmp_path.chmod(0o700)
    assert run.returncode == 1
    assert failure(run) == "training.py: error: run: air_results can't be written (Permission denied)"


def test_resume_refuses_another_configuration(finished: Path, tmp_path: Path) -> None:
    other = train(finished.parent, "--resume", "air_results", "--lstm-units", "17")
    assert other.returncode == 2
    assert "lstm_units: 17 is not allowed with --resume; the run has 16" in failure(other)
    config = finished / "config.json"
    original = config.read_text()
    config.write_text(original.replace('"lstm_units": 16', '"lstm_units": 17'))
    mixed = train(finished.parent, "--resume", "air_results")
    config.write_text(original)
    assert mixed.returncode == 1
    assert "lstm_units 16, but config.json has 17" in failure(mixed)


def test_help_answers_without_tensorflow(tmp_path: Path) -> None:
    code = f"""
import runpy, sys
sys.argv = ["training.py", "--help"]
try:
    runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
except SystemExit as stop:
    assert not stop.code
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert "--learning-rate" in run.stdout
