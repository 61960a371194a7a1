"""Several processes at once, and processes that are killed: nothing is lost, and nothing half-written stays."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from air.config import AIRConfig, TrainingConfig
from air.data.scenes import SceneSet
from air.errors import DataError, UsageError
from air.support import files
from air.support.files import BusyError, Claim, check_replaceable, replacing_folder
from air.training.run_folder import RunFolder

ROOT = Path(__file__).resolve().parent.parent
OWN = re.compile(r"[ab]\.txt")
HOLD = "print('ready', flush=True); import time; time.sleep(600)"
WRITE = f"""
import re, sys
from air.support.files import replacing_folder
with replacing_folder(sys.argv[1], False, re.compile(r"[ab][.]txt"), "a test") as folder:
    (folder / "a.txt").write_text("new")
    {HOLD}
"""


@pytest.fixture
def python(tmp_path):
    """Start Python code in an empty folder: python(code, *arguments) -> Popen; all are killed in the end."""
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


def replace(output, overwrite=False):
    """Replace a folder by one with the file b.txt."""
    with replacing_folder(output, overwrite, OWN, "a test") as folder:
        (folder / "b.txt").touch()


def test_a_claim_is_exclusive_and_vanishes(tmp_path):
    first, second = Claim(tmp_path / "lock"), Claim(tmp_path / "lock")
    assert first.take()
    assert not second.take()
    second.release()  # has nothing to release
    assert names(tmp_path) == ["lock"]
    first.release()
    assert names(tmp_path) == []
    assert second.take()


def test_a_claim_ends_with_its_process(python, tmp_path):
    holder = python(f"from air.support.files import Claim; claim = Claim('lock'); assert claim.take(); {HOLD}")
    wait_until_ready(holder)
    assert not Claim(tmp_path / "lock").take()
    holder.kill()
    holder.wait()
    assert Claim(tmp_path / "lock").take()


def test_simultaneous_starts_get_different_run_folders(python, tmp_path):
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
    processes = [python(code) for _ in range(3)]
    for process in processes:
        wait_until_ready(process)
    (tmp_path / "go").touch()
    found = sorted(process.stdout.readline().strip() for process in processes)
    assert found == ["air_results", "air_results_1", "air_results_2"]


def test_a_run_folder_in_use_is_neither_resumed_nor_replaced(python, tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.record(AIRConfig(), TrainingConfig(), data="multi_mnist", held_out=None)
    del folder
    trainer = python(f"from air.training.run_folder import RunFolder; folder = RunFolder('run'); folder.claim(); {HOLD}")
    wait_until_ready(trainer)
    before = (tmp_path / "run/config.json").read_bytes()
    with pytest.raises(BusyError, match="run: in use by another process"):
        RunFolder(tmp_path / "run").claim()
    with pytest.raises(BusyError, match="run: in use by another process"):
        RunFolder.create(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run/config.json").read_bytes() == before
    trainer.kill()
    trainer.wait()
    RunFolder.create(tmp_path / "run", overwrite=True)
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["models", "summary"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_folder_that_another_process_writes(python, tmp_path, number):
    writer = python(WRITE, "out")
    wait_until_ready(writer)
    with pytest.raises(BusyError, match="out is being written by another process"):
        replace(tmp_path / "out")
    writer.send_signal(number)
    writer.wait()
    assert names(tmp_path) == ([".air-out.lock", ".air-out.new"] if number == signal.SIGKILL else [])
    replace(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["b.txt"]


def test_a_kill_between_two_renames_loses_nothing(tmp_path):
    old = tmp_path / ".air-out.old"
    old.mkdir()
    (old / "a.txt").write_text("old")
    with pytest.raises(UsageError, match="exists already"):
        replace(tmp_path / "out")
    assert (tmp_path / "out/a.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_an_interruption_between_two_renames_loses_nothing(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.txt").write_text("old")
    rename = os.rename

    def interrupted(source, target):
        if Path(target) == tmp_path / "out" and not str(source).endswith(".old"):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/a.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.slow
def test_two_processes_make_the_default_data_once(python, tmp_path):
    code = """
import time
from pathlib import Path
from air.data import multi_mnist
from air.data.generator import GeneratorConfig
generate = multi_mnist.generate
multi_mnist.generate = lambda *arguments: (open("made", "a").write("x"), generate(*arguments))[1]
multi_mnist.GeneratorConfig = lambda **fields: GeneratorConfig(
    images_per_count=300, validation_size=30, test_size=30, **fields)
while not Path("go").exists():
    time.sleep(0.01)
multi_mnist.ensure(Path("multi_mnist"), (50, 50))
"""
    processes = [python(code) for _ in range(2)]
    time.sleep(0.5)
    (tmp_path / "go").touch()
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert (tmp_path / "made").read_text() == "xxx"  # once for each of the three files
    assert names(tmp_path) == ["go", "made", "multi_mnist"]
    assert names(tmp_path / "multi_mnist") == ["config.json", "preview.png", "test.npz", "train.npz", "validation.npz"]


def test_only_our_own_folders_are_replaced(tmp_path, monkeypatch):
    def check(output, overwrite=True):
        check_replaceable(output, overwrite, OWN, "a test", flag="out")

    (tmp_path / "file").touch()
    (tmp_path / "out/a").mkdir(parents=True)
    check(tmp_path / "new", overwrite=False)
    with pytest.raises(UsageError, match="out exists already; choose another --out, or add --overwrite"):
        check(tmp_path / "out", overwrite=False)
    with pytest.raises(UsageError, match="file is not a folder"):
        check(tmp_path / "file")
    with pytest.raises(UsageError, match="contains 'a', which is not part of a test"):
        check(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out/a")
    with pytest.raises(UsageError, match="contains the current folder"):
        check("..")


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    files.check_writable(tmp_path)
    files.check_writable(tmp_path / "a/b")
    for path in ("file", "file/a", "file/a/b"):
        with pytest.raises(DataError, match="is not a folder"):
            files.check_writable(tmp_path / path)


def test_the_folder_is_not_blamed_for_other_files(tmp_path):
    with pytest.raises(PermissionError), replacing_folder(tmp_path / "out", False, OWN, "a test"):
        raise PermissionError(13, "Permission denied", str(tmp_path / "digits.npz"))
    with (
        pytest.raises(DataError, match=r"output: .*out can't be written \(No space left"),
        replacing_folder(tmp_path / "out", False, OWN, "a test") as folder,
    ):
        raise OSError(28, "No space left on device", str(folder / "a.txt"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b" " * (files.MAX_JSON + 1)])
def test_json_that_cannot_be_read(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.json: not valid JSON"):
        files.read_json(tmp_path / "x.json")


def test_files_are_flushed_as_windows_allows(tmp_path, monkeypatch):
    """Windows can't flush a file that is open for reading only."""
    flushed = []

    def fsync(descriptor):
        assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        flushed.append(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_atomically(str(tmp_path / "a.txt"), lambda path: path.write_text("a"))
    files.write_json(tmp_path / "a.json", {})
    SceneSet(np.zeros((1, 4, 4), np.uint8)).save(str(tmp_path / "a.npz"))
    replace(tmp_path / "out")
    assert len(flushed) == 3
    assert names(tmp_path) == ["a.json", "a.npz", "a.txt", "out"]


def test_files_that_come_with_the_project(tmp_path, monkeypatch):
    assert files.shipped("data", "mnist.npz") == ROOT / "data/mnist.npz"
    (tmp_path / "air/shipped").mkdir(parents=True)
    monkeypatch.setattr(files, "__file__", str(tmp_path / "air/support/files.py"))
    assert files.shipped("data", "mnist.npz") == tmp_path / "air/shipped/data/mnist.npz"


def test_json_has_no_nan(tmp_path):
    files.write_json(tmp_path / "x.json", {"a": [1, float("nan")], "b": (float("inf"),)})
    assert files.read_json(tmp_path / "x.json") == {"a": [1, None], "b": [None]}
