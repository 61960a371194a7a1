"""The wheel: what is in it, that its commands run from any folder, and that users' type checkers understand it."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from air.config import find_model

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {"air-scenes", "air-train", "air-evaluate", "air-embeddings", "air-demo"}
SOURCES = ("air", "data", "model", "pyproject.toml", "README.md", "LICENSE")
TINY = [
    *("--window-size", "12", "12", "--lstm-units", "16", "--head-units", "8", "--encoder-units", "16", "--decoder-units", "16"),
    *("--z-what-size", "4", "--cnn-filters", "4", "4", "--refiner-units", "8", "--batch-size", "8", "--validation-scenes", "6"),
    "--no-xla",
]
USER = """
import air
reveal_type(air.load())
reveal_type(air.load("model").infer([]).count)
reveal_type(air.AIRConfig(temperature="linear(1, 0.5, steps=9)", max_steps=4).max_steps)
"""

slow = pytest.mark.slow


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=1200, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the project, so that nothing is left here."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", folder / "dist", folder)
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


@pytest.fixture(scope="module")
def command(installed, few_digits, tmp_path_factory):
    """Run a command of the installed package in a folder that begins with nothing but a few scenes of digits."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(few_digits / "data", folder / "multi_mnist")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    (package,) = importlib.metadata.distributions(name="attend-infer-repeat", path=[str(installed)])
    modules = {entry.name: entry.value for entry in package.entry_points}
    assert set(modules) == COMMANDS

    def run_command(name, *flags):
        module, function = modules[name].split(":")
        code = f"import sys; sys.path.insert(0, {str(installed)!r}); sys.argv[0] = {name!r}; from {module} import {function}; "
        output = run(sys.executable, "-c", f"{code}{function}()", *flags, cwd=folder, env=environment)
        assert str(ROOT) not in output
        return output

    run_command.folder = folder
    return run_command


def test_the_shipped_model_stands_in_for_a_missing_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model(Path("model")) == ROOT / "model"
    assert find_model(Path("other")) == Path("other")
    (tmp_path / "model").mkdir()
    assert find_model(Path("model")) == Path("model")


@slow
def test_the_wheel_brings_what_a_run_needs(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "air").rglob("*.py")}
    files = ("air.keras", "config.json", "metrics.json", "reference_set.npz", "attract.npz")
    shipped = {f"air/shipped/model/{name}" for name in files}
    assert modules | shipped | {"air/shipped/data/mnist.npz", "air/shipped/data/README.md", "air/py.typed"} <= names
    assert all(name.startswith(("air/", "attend_infer_repeat-")) for name in names)
    assert wheel.stat().st_size < 30e6


@slow
def test_training(command):
    command("air-train", "--iterations", 50, "--validate-every", 25, "--data", "multi_mnist", *TINY)
    run_folder = command.folder / "air_results"
    assert json.loads((run_folder / "config.json").read_text())["command"].startswith("air-train --iterations 50 ")
    sources = {str(path.relative_to(run_folder / "source")) for path in (run_folder / "source").rglob("*.py")}
    assert sources == {str(path.relative_to(ROOT)) for path in (ROOT / "air").rglob("*.py")}


@slow
def test_a_study_of_seeds(command):
    flags = ("--n", 1, "--iterations", 4, "--validate-every", 4, "--samples", 0, "--more-digits-scenes", 0)
    assert "1 seed" in command("air-evaluate", "seeds", *flags, *TINY)


@slow
def test_making_scenes_with_the_bundled_digits(command):
    command("air-scenes", "--output", "few", "--images-per-count", 3, "--validation-size", 3, "--test-size", 3)
    assert (command.folder / "few" / "test.npz").exists()


@slow
def test_the_model_is_found(command):
    assert command("air-demo", "--headless") == "count: 0\n"
    command("air-embeddings", "--scenes", 40)
    assert (command.folder / "embeddings" / "embeddings.npz").exists()
    few = {"scenes": 30, "samples": 1, "importance-scenes": 2, "reference-scenes": 30, "other-scenes": 3, "pyro-scenes": 3}
    assert "# Evaluation of " in command(
        "air-evaluate", *(word for name, number in few.items() for word in (f"--{name}", number)), "--no-figures"
    )


@slow
def test_types_for_users(installed, tmp_path):
    (tmp_path / "user.py").write_text(USER)
    environment = {**os.environ, "MYPYPATH": str(installed)}
    output = run(sys.executable, "-m", "mypy", "user.py", "--follow-imports=silent", cwd=tmp_path, env=environment)
    revealed = [line.split('"')[1] for line in output.splitlines() if "Revealed type" in line]
    assert revealed[0] == "air.model.air_model.AIRModel"
    assert revealed[1].startswith("numpy.ndarray")
    assert revealed[2] in ("int", "builtins.int")
