"""Several processes at once, and processes that are killed: nothing is lost, nothing half-written stays."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from air import presets
from air.config import AIRConfig, TrainingConfig
from air.data.scenes import SceneSet
from air.errors import AIRError, DataError, UsageError
from air.evaluation import seeds
from air.evaluation.config import SeedsConfig, scored_often
from air.support import files
from air.support.files import BusyError, Claim, replacing_folder
from air.training.run_folder import LOCK, RunFolder

ROOT = Path(__file__).resolve().parent.parent
OWN = re.compile(r"[ab]\.txt")
HOLD = "print('ready', flush=True); import time; time.sleep(600)"
WRITE = f"""
import re, sys
from air.support.files import replacing_folder
with replacing_folder(sys.argv[1], len(sys.argv) > 2, re.compile(r"[ab][.]txt"), "a test") as folder:
    (folder / "a.txt").write_text("new")
    {HOLD}
"""


@pytest.fixture
def python(tmp_path):
    """Starts Python code in an empty folder: python(code, *arguments) -> Popen; all are killed in the end."""
    started = []

    def start(code, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_until_ready(process):
    assert process.stdout.readline() == "ready\n", process.stderr.read()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_claim_is_exclusive_and_vanishes(tmp_path):
    first, second = Claim(tmp_path / "lock"), Claim(tmp_path / "lock")
    assert first.take()
    assert not second.take()
    second.release()  # which has none
    assert names(tmp_path) == ["lock"]
    first.release()
    assert names(tmp_path) == []
    with second:
        assert second.take()
        assert not first.take()
    assert first.take()


def test_a_claim_ends_with_its_process(python, tmp_path):
    holder = python(f"from air.support.files import Claim; claim = Claim('lock'); assert claim.take(); {HOLD}")
    wait_until_ready(holder)
    assert not Claim(tmp_path / "lock").take()
    holder.kill()
    holder.wait()
    assert Claim(tmp_path / "lock").take()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    assert Claim(tmp_path / "lock").take()


def test_starts_at_once_get_different_run_folders(python, tmp_path):
    code = """
import os, time
from air.training.run_folder import RunFolder
print("ready", flush=True)
while not os.path.exists("go"):
    pass
folder = RunFolder.create(None)
print(folder.path, flush=True)
time.sleep(600)
"""
    processes = [python(code) for _ in range(4)]
    for process in processes:
        wait_until_ready(process)
    (tmp_path / "go").touch()
    found = sorted(process.stdout.readline().strip() for process in processes)
    assert found == ["air_results", "air_results_1", "air_results_2", "air_results_3"]


def new_run(path):
    folder = RunFolder.create(path)
    folder.record(AIRConfig(), TrainingConfig(), data="multi_mnist", held_out=None)
    return folder


def test_a_run_folder_in_use_is_neither_resumed_nor_replaced(python, tmp_path):
    new_run(tmp_path / "run")
    trainer = python(
        f"from pathlib import Path; from air.training.run_folder import RunFolder; r = RunFolder(Path('run')); r.claim(); {HOLD}"
    )
    wait_until_ready(trainer)
    before = (tmp_path / "run/config.json").read_bytes()
    with pytest.raises(BusyError, match="run: in use by another process"):
        RunFolder(tmp_path / "run").claim()
    with pytest.raises(BusyError, match="run: in use by another process, so it is not replaced"):
        RunFolder.create(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run/config.json").read_bytes() == before
    trainer.kill()
    trainer.wait()
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    del folder
    RunFolder.create(tmp_path / "run", overwrite=True)
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["models", "summary"]


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    folder = new_run(tmp_path / "run")
    left = [folder.models / ".air-a1b2c3d_.keras", folder.path / ".air-abcdefgh.csv"]
    kept = [folder.models / "step_00000010.keras", folder.path / ".notes", folder.path / "metrics.csv"]
    for path in left + kept:
        path.touch()
    del folder
    RunFolder(tmp_path / "run").claim()
    assert [path.exists() for path in left] == [False, False]
    assert all(path.exists() for path in kept)


def test_a_run_killed_before_its_configuration_can_be_replaced(tmp_path):
    RunFolder.create(tmp_path / "run")
    folder = RunFolder.create(tmp_path / "run", overwrite=True)
    (folder.path / "thesis.txt").touch()
    del folder
    with pytest.raises(AIRError, match=r"holds 'thesis\.txt', which is no part of a run"):
        RunFolder.create(tmp_path / "run", overwrite=True)


def test_a_run_folder_is_gone_if_it_cannot_be_recorded(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path / "run")
    monkeypatch.setattr(
        "air.training.run_folder.write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(AIRError, match=r"run: can't be written \(No space left on device\)"):
        folder.record(AIRConfig(), TrainingConfig(), data="multi_mnist", held_out=None)
    assert names(tmp_path) == []


def test_a_folder_that_another_process_writes(python, tmp_path):
    writer = python(WRITE, "out")
    wait_until_ready(writer)
    with (
        pytest.raises(BusyError, match="out is being written by another process"),
        replacing_folder(tmp_path / "out", False, OWN, "a test"),
    ):
        pass
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_a_killed_writer_left_is_removed(python, tmp_path, number):
    writer = python(WRITE, "out")
    wait_until_ready(writer)
    writer.send_signal(number)
    writer.wait()
    left = names(tmp_path)
    assert [name.rpartition(".")[0] for name in left] == ([".out", ".out"] if number == signal.SIGKILL else [])
    stranger = tmp_path / ".out.deadbeef"
    stranger.mkdir()
    (stranger / "thesis.txt").touch()
    with replacing_folder(tmp_path / "out", False, OWN, "a test") as folder:
        (folder / "b.txt").touch()
    assert names(tmp_path) == [".out.deadbeef", "out"]
    assert names(tmp_path / "out") == ["b.txt"]


def test_a_folder_on_its_way_out_is_put_back(tmp_path):
    """As it is after a kill between the two renamings of a replacement."""
    old = tmp_path / ".out.01234567.old"
    old.mkdir()
    (old / "a.txt").write_text("old")
    with pytest.raises(UsageError, match="exists already"), replacing_folder(tmp_path / "out", False, OWN, "a test"):
        pass
    assert (tmp_path / "out/a.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_an_interruption_between_two_renamings_loses_nothing(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.txt").write_text("old")
    rename = os.rename

    def interrupted(source, target):
        if Path(target) == tmp_path / "out" and not str(source).endswith(".old"):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "out", True, OWN, "a test") as folder:
        (folder / "a.txt").write_text("new")
    assert (tmp_path / "out/a.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_two_starts_make_the_default_data_once(python, tmp_path):
    code = """
import time
from pathlib import Path
from air.data import multi_mnist
made = dataset.generate
dataset.generate = lambda *arguments: (open("made", "a").write("x"), made(*arguments))[1]
dataset.GeneratorConfig = lambda **fields: __import__("air.data.generator").generator.GeneratorConfig(
    images_per_count=300, validation_size=30, test_size=30, **fields)
while not Path("go").exists():
    time.sleep(0.01)
dataset.ensure(Path("multi_mnist"), (50, 50))
"""
    processes = [python(code) for _ in range(2)]
    time.sleep(0.5)
    (tmp_path / "go").touch()
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert (tmp_path / "made").read_text() == "xxx"  # one set for each of its three files
    assert names(tmp_path) == ["go", "made", "multi_mnist"]
    assert names(tmp_path / "multi_mnist") == ["config.json", "preview.png", "test.npz", "train.npz", "validation.npz"]


def test_what_cannot_be_written_is_known_beforehand(tmp_path):
    (tmp_path / "file").touch()
    files.check_writable(tmp_path)
    files.check_writable(tmp_path / "a/b")
    for path in ("file", "file/a", "file/a/b"):
        with pytest.raises(DataError, match="is not a folder"):
            files.check_writable(tmp_path / path)
    with pytest.raises(DataError, match="is not a folder"):
        RunFolder.check(tmp_path / "file/run")


@pytest.mark.skipif(not Path("/sys").is_dir() or os.access("/sys", os.W_OK), reason="/sys may be written here")
def test_a_read_only_file_system():
    with pytest.raises(DataError, match="Permission denied"):
        files.check_writable("/sys/run")


def test_seeds_at_once(tmp_path):
    (tmp_path / "data").mkdir()
    SceneSet(np.zeros((2, 50, 50), np.uint8), np.zeros(2, np.uint8)).save(tmp_path / "data/test.npz")
    (tmp_path / "out").mkdir()
    with Claim(tmp_path / "out" / LOCK) as claim:
        assert claim.take()
        recipe = scored_often(presets.default())
        with pytest.raises(BusyError, match="out: in use by another process"):
            seeds.report(tmp_path / "out", SeedsConfig(n=1, more_digits_scenes=0), tmp_path / "data", recipe)
    assert names(tmp_path / "out") == []


def test_devices_and_pipes_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    for path in (tmp_path / "pipe.npz", Path("/dev/zero")):
        with pytest.raises(DataError, match="not a regular file"):
            files.check_file(path)


def test_a_pipe_can_not_be_claimed(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(OSError, match=r"is not a regular file: .*\.lock"):
        Claim(tmp_path / ".lock").take()


def test_what_a_folder_is_made_of_has_its_own_errors(tmp_path):
    """The folder is not to blame for another file that can't be read, even one beside it."""
    with pytest.raises(PermissionError), replacing_folder(tmp_path / "out", False, OWN, "a test"):
        raise PermissionError(13, "Permission denied", str(tmp_path / "digits.npz"))
    with (
        pytest.raises(DataError, match=r"output: .*out can't be written \(No space left"),
        replacing_folder(tmp_path / "out", False, OWN, "a test") as folder,
    ):
        raise OSError(28, "No space left on device", str(folder / "a.txt"))
    assert not list(tmp_path.iterdir())
