"""Compiled programs are kept for the next process, within bounds, and only where the user wants it."""

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


@pytest.mark.slow
def test_the_next_process_uses_the_cache(tmp_path):
    (tmp_path / "saved_model.pb").write_text("the user's own")
    compiled = run(tmp_path)
    assert len(compiled) == 1
    assert run(tmp_path) == compiled
    assert (tmp_path / "saved_model.pb").exists()


def test_the_oldest_files_are_deleted(tmp_path, monkeypatch):
    for time, name in enumerate(("two.pb", "one.pb", "three.pb", "mine.txt")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time, time))
    monkeypatch.setattr(xla_cache, "MAX_FILES", 2)
    xla_cache.tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "one.pb", "three.pb"]


@pytest.mark.parametrize("place", ["", "a file/folder"])
def test_without_a_folder_there_is_no_cache(place, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    monkeypatch.setenv(xla_cache.VARIABLE, place and str(tmp_path / place))
    xla_cache.enable()
    assert "TF_XLA_FLAGS" not in os.environ


@pytest.mark.parametrize(("flags", "used"), [("", True), ("--tf_xla_auto_jit=0", True), ("my_flags.txt", False)])
def test_the_users_own_flags_stay(tmp_path, monkeypatch, flags, used):
    monkeypatch.setenv("TF_XLA_FLAGS", flags)
    monkeypatch.setenv(xla_cache.VARIABLE, str(tmp_path))
    xla_cache.enable()
    assert (xla_cache.FLAG in os.environ["TF_XLA_FLAGS"]) == used
    assert os.environ["TF_XLA_FLAGS"].startswith(flags)
