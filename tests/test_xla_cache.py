"""What XLA compiled is kept for the next process, and a damaged file is compiled anew."""

import os
import subprocess
import sys

import pytest

from air.support import xla_cache

SCRIPT = """
from air.support import cli
with cli.quiet_import():
    import tensorflow as tf
print(float(tf.function(lambda x: tf.reduce_sum(tf.square(x)), jit_compile=True)(tf.range(4.0))))
"""


def run(folder):
    environment = {"AIR_XLA_CACHE": str(folder), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "14.0\n", "")
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("air/*/*.pb")}


def test_the_next_process_takes_what_is_there(tmp_path):
    folder = tmp_path / "a new" / "folder"
    compiled = run(folder)
    assert len(compiled) == 1
    assert run(folder) == compiled
    damaged = next(folder.glob("air/*/*.pb"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    again = run(folder)
    assert list(again) == list(compiled)
    assert again != compiled


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.pb").write_text(name)
    (tmp_path / "mine.txt").write_text("not of the cache")
    xla_cache.seal(tmp_path)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_only_files_with_their_checksum_are_kept(folder):
    whole = names(folder)
    xla_cache.tidy(folder)
    assert names(folder) == whole
    (folder / "one.pb").write_text("One")
    (folder / "two.pb.crc").unlink()
    (folder / "left over.pb.crc").write_text("12345678")
    xla_cache.tidy(folder)
    assert names(folder) == ["mine.txt", "three.pb", "three.pb.crc"]


def test_a_checksum_is_of_what_was_there_first(folder):
    (folder / "one.pb").write_text("One")
    xla_cache.seal(folder)
    xla_cache.tidy(folder)
    assert "one.pb" not in names(folder)


def test_the_oldest_files_go(folder, monkeypatch):
    os.utime(folder / "two.pb", (0, 0))
    monkeypatch.setattr(xla_cache, "MAX_FILES", 2)
    xla_cache.tidy(folder)
    assert names(folder) == ["mine.txt", "one.pb", "one.pb.crc", "three.pb", "three.pb.crc"]


def test_files_that_another_process_removes_meanwhile_are_no_error(folder, monkeypatch):
    sealed = xla_cache._sealed

    def vanish(path):
        mark = sealed(path)
        path.unlink()
        return mark

    with monkeypatch.context() as patch:
        patch.setattr(xla_cache, "_sealed", vanish)
        xla_cache.tidy(folder)
    xla_cache.tidy(folder)
    assert names(folder) == ["mine.txt"]


@pytest.mark.parametrize("place", ["", "a file/folder"])
def test_without_a_folder_nothing_changes(place, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    monkeypatch.setenv(xla_cache.VARIABLE, place and str(tmp_path / place))
    xla_cache.enable()
    assert "TF_XLA_FLAGS" not in os.environ


def test_files_of_others_stay(tmp_path):
    """The variable may name a folder of models, whose files have the same ending."""
    (tmp_path / "saved_model.pb").write_text("mine")
    os.mkfifo(tmp_path / "pipe.pb")
    run(tmp_path)
    assert (tmp_path / "saved_model.pb").read_text() == "mine"
    assert not list(tmp_path.glob("*.crc"))


def test_a_pipe_in_the_cache_goes(folder):
    os.mkfifo(folder / "pipe.pb")
    xla_cache.tidy(folder)
    assert "pipe.pb" not in names(folder)


@pytest.mark.parametrize(("flags", "taken"), [("", True), (" --tf_xla_auto_jit=0", True), ("my_flags.txt", False)])
def test_a_file_of_flags_is_left_to_tensorflow(tmp_path, monkeypatch, flags, taken):
    monkeypatch.setenv("TF_XLA_FLAGS", flags)
    monkeypatch.setenv("AIR_XLA_CACHE", str(tmp_path))
    monkeypatch.setattr(xla_cache.atexit, "register", lambda *_: None)
    xla_cache.enable()
    assert (xla_cache.FLAG in os.environ["TF_XLA_FLAGS"]) == taken
    assert os.environ["TF_XLA_FLAGS"].startswith(flags.strip())
