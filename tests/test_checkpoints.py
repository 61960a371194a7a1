"""Saving and loading of models, intact and broken."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from real_runs import MODEL

import air
from air.errors import DataError
from air.model.air_model import AIRModel
from air.model.optimisation import LearningRate
from air.training import checkpoints


@pytest.fixture(scope="module")
def model() -> AIRModel:
    keras.utils.set_random_seed(0)
    model = AIRModel(MODEL)
    model.compile(jit_compile=False, learning_rate="cosine(1e-3, 1e-4, steps=40)")
    return model


@pytest.fixture(scope="module")
def saved(model: AIRModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    (folder / "models").mkdir()
    for step in (10, 20, 30):
        model.step.assign(step)
        checkpoints.save_checkpoint(folder, model, keep=3)
    return folder


@pytest.fixture
def run(saved: Path, model: AIRModel, tmp_path: Path) -> Path:
    """A run folder with checkpoints of steps 10, 20 and 30."""
    model.step.assign(30)
    shutil.copytree(saved / "models", tmp_path / "models")
    return tmp_path


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change config.json in a `.keras` archive."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_loads_file_run_and_model_folder(model: AIRModel, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shipped"
    folder.mkdir()
    checkpoints.save_weights(model, folder / "air.keras")
    for path in (run, run / "models/step_00000030.keras", folder, str(folder / "air.keras")):
        for left, right in zip(model.get_weights(), air.load(path).get_weights(), strict=True):
            np.testing.assert_array_equal(left, right)
    assert (folder / "air.keras").stat().st_size < 0.6 * (run / "models/step_00000030.keras").stat().st_size
    assert getattr(air.load(folder), "optimizer", None) is None


@pytest.mark.parametrize("estimator", ["concrete", "nvil"])
def test_optimisers_keep_their_state(tmp_path: Path, estimator: str) -> None:
    model = AIRModel(MODEL.replace(estimator=estimator, baseline_units=[4]))
    model.compile(jit_compile=False)
    optimizers = (model.optimizer, model.baseline_optimizer)
    for optimizer, variables in zip(optimizers, model.learners(), strict=True):
        if variables:
            optimizer.apply([np.full(variable.shape, 0.5, np.float32) for variable in variables], variables)
    (tmp_path / "models").mkdir()
    loaded = checkpoints.load_file(checkpoints.save_checkpoint(tmp_path, model, keep=1))
    loaded.compile(optimizer=loaded.optimizer, baseline_learning_rate=LearningRate("linear(1e-2, 1e-3, steps=9)"))
    for before, after in zip(optimizers, (loaded.optimizer, loaded.baseline_optimizer), strict=True):
        for left, right in zip(before.variables if before else [], after.variables if after else [], strict=True):
            np.testing.assert_array_equal(left, right)


@keras.saving.register_keras_serializable(package="tests")
class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """A user's own schedule."""

    def __init__(self, every: int) -> None:
        self.every = every

    def __call__(self, step: Any) -> Any:
        return 0.01 * 0.5 ** (keras.ops.cast(step, "float32") / self.every)

    def get_config(self) -> dict[str, Any]:
        return {"every": self.every}


SCHEDULES = keras.optimizers.schedules
RATES = [
    Halving(10),
    SCHEDULES.CosineDecay(1e-3, 100),
    SCHEDULES.CosineDecayRestarts(1e-3, 10),
    SCHEDULES.ExponentialDecay(1e-3, 10, 0.9),
    SCHEDULES.InverseTimeDecay(1e-3, 10, 0.5),
    SCHEDULES.PiecewiseConstantDecay([5, 10], [1e-3, 1e-4, 1e-5]),
    SCHEDULES.PolynomialDecay(1e-3, 10),
]


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("rate", RATES, ids=lambda rate: type(rate).__name__)
def test_any_schedule_and_a_scaled_loss_are_loaded(tmp_path: Path, rate: Any, scaled: bool) -> None:
    model = AIRModel(MODEL.replace(estimator="nvil", baseline_units=[4]))
    optimizer = keras.optimizers.Adam(rate)
    model.compile(
        keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer, baseline_learning_rate=rate, jit_compile=False
    )
    optimizer.apply([np.full(variable.shape, 0.5, np.float32) for variable in model.learners()[0]], model.learners()[0])
    model.save(tmp_path / "model.keras")
    loaded = air.load(str(tmp_path / "model.keras"))
    own = loaded.optimizer.inner_optimizer if scaled else loaded.optimizer
    for ours, theirs in ((optimizer, own), (model.baseline_optimizer, loaded.baseline_optimizer)):
        assert (type(theirs._learning_rate), theirs.get_config()) == (type(rate), ours.get_config())
        for left, right in zip(ours.variables, theirs.variables, strict=True):
            np.testing.assert_array_equal(left, right)
    assert int(own.iterations.numpy()) == 1


def test_an_optimiser_without_its_state_is_refused(run: Path) -> None:
    path = run / "models/step_00000030.keras"
    rewrite(path, lambda config: config["compile_config"]["optimizer"]["config"].update(amsgrad=True))
    with pytest.raises(DataError, match=r"step_00000030\.keras: the model can't be loaded"):
        air.load(path)


def test_oldest_checkpoints_are_deleted(model: AIRModel, run: Path) -> None:
    model.step.assign(40)
    checkpoints.save_checkpoint(run, model, keep=2)
    assert [checkpoint.step for checkpoint in checkpoints.checkpoints(run)] == [30, 40]


def test_a_full_disk_costs_no_checkpoint(model: AIRModel, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    model.step.assign(40)
    monkeypatch.setattr(model, "save", fill)
    message = r"step_00000040\.keras: can't be written \(No space left on device\); the previous checkpoints are kept"
    with pytest.raises(DataError, match=message):
        checkpoints.save_checkpoint(run, model, keep=2)
    assert sorted(path.name for path in (run / "models").iterdir()) == [f"step_000000{step}.keras" for step in (10, 20, 30)]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_broken_newest_checkpoint_is_skipped_with_a_warning(run: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    newest = run / "models/step_00000030.keras"
    content = bytearray(newest.read_bytes())
    if damage == "truncate":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[len(content) // 2] ^= 0xFF
    else:
        content = b"" if damage == "empty" else b"not a model"
    newest.write_bytes(content)
    with pytest.raises(DataError, match=r"step_00000030\.keras: ") as caught:
        air.load(newest)
    assert "\n" not in str(caught.value)
    step, model = checkpoints.newest_checkpoint(run)
    assert step == int(model.step.numpy()) == 20
    assert capsys.readouterr().err == f"warning: {caught.value}; using the previous checkpoint\n"


def test_missing_and_foreign_files(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        air.load(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no intact checkpoint"):
        air.load(tmp_path / "empty")
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(DataError, match="holds 'Sequential'; it must be an AIRModel"):
        air.load(tmp_path / "other.keras")
    monkeypatch.setattr(checkpoints, "MAX_FILE_BYTES", 1000)
    with pytest.raises(DataError, match="a model has at most 1000"):
        air.load(run / "models/step_00000030.keras")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_steps": 0}, "max_steps: 0 is not allowed"),
        ({"self": 1}, "no such field"),
        ({"encoder_units": [9]}, "the model can't be loaded"),  # whose weights have other shapes
    ],
)
def test_a_configuration_that_is_not_that_of_the_weights(run: Path, fields: dict[str, Any], message: str) -> None:
    path = run / "models/step_00000030.keras"
    rewrite(path, lambda config: config["config"]["config"].update(fields))
    with pytest.raises(DataError, match=rf"step_00000030\.keras: .*{message}"):
        air.load(path)


def test_nothing_but_keras_and_our_own_classes_is_made(run: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = {"module": "subprocess", "class_name": "Popen", "registered_name": None, "config": {"args": ["touch", "made"]}}
    rewrite(run / "models/step_00000030.keras", lambda config: config["compile_config"].update(optimizer=program))
    with pytest.raises(DataError, match="the model can't be loaded"):
        air.load(run / "models/step_00000030.keras")
    assert not (tmp_path / "made").exists()
