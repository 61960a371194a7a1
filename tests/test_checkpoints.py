"""Saving and loading of models, intact and broken."""

import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import air
from air import checkpoints
from air.config import AIRConfig
from air.learning_rate import LearningRate
from air.model import AIRModel

SMALL = AIRConfig(
    canvas_size=(20, 20),
    window_size=(8, 8),
    lstm_units=8,
    head_units=(8,),
    encoder_units=(8,),
    decoder_units=(8,),
    z_what_size=3,
)


@pytest.fixture(scope="module")
def model() -> AIRModel:
    keras.utils.set_random_seed(0)
    model = AIRModel(SMALL)
    model.compile(jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def run(model: AIRModel, tmp_path: Path) -> Path:
    """A run folder with checkpoints of steps 10, 20 and 30."""
    (tmp_path / "models").mkdir()
    for step in (10, 20, 30):
        model.step.assign(step)
        checkpoints.save_checkpoint(tmp_path, model, keep=3)
    return tmp_path


def test_loads_file_run_and_model_folder(model: AIRModel, run: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((5, 20, 20), np.float32)
    expected = model.infer(images)
    folder = tmp_path / "shipped"
    folder.mkdir()
    checkpoints.save_weights(model, folder / "air.keras")
    for path in (run, run / "models/step_00000010.keras", folder, str(folder / "air.keras")):
        for left, right in zip(expected, air.load(path).infer(images), strict=True):
            np.testing.assert_array_equal(left, right)


def test_the_baseline_keeps_its_optimisers_state(tmp_path: Path) -> None:
    model = AIRModel(SMALL.replace(presence="nvil", baseline_units=[4]))
    model.compile(jit_compile=False)
    baseline = model.estimator.trainable_variables
    model.baseline_optimizer.apply([np.full(variable.shape, 0.5, np.float32) for variable in baseline], baseline)
    model.optimizer.build([v for v in model.trainable_variables if not any(v is known for known in baseline)])
    (tmp_path / "models").mkdir()
    _, loaded = checkpoints.newest_checkpoint(checkpoints.save_checkpoint(tmp_path, model, keep=1).parent.parent)
    loaded.compile(optimizer=loaded.optimizer, baseline_learning_rate=LearningRate("linear(1e-2, 1e-3, steps=9)"))
    assert len(loaded.baseline_optimizer.variables) > len(baseline)
    for left, right in zip(model.baseline_optimizer.variables, loaded.baseline_optimizer.variables, strict=True):
        np.testing.assert_array_equal(left, right)


def test_weights_only_file_is_smaller_and_has_no_optimiser(model: AIRModel, run: Path, tmp_path: Path) -> None:
    checkpoints.save_weights(model, tmp_path / "air.keras")
    assert (tmp_path / "air.keras").stat().st_size < 0.6 * (run / "models/step_00000030.keras").stat().st_size
    assert getattr(air.load(tmp_path / "air.keras"), "optimizer", None) is None


def test_oldest_checkpoints_are_deleted(model: AIRModel, run: Path) -> None:
    model.step.assign(40)
    checkpoints.save_checkpoint(run, model, keep=2)
    assert [step for step, _ in checkpoints.checkpoints(run)] == [30, 40]


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
    step, model = checkpoints.newest_checkpoint(run)
    assert step == 20
    assert int(model.step.numpy()) == 20
    assert "step_00000030.keras" in capsys.readouterr().err
    with pytest.raises(air.DataError, match=r"step_00000030\.keras"):
        air.load(newest)


def test_missing_and_foreign_files(run: Path, tmp_path: Path) -> None:
    with pytest.raises(air.DataError, match="no such file or folder"):
        air.load(tmp_path / "missing")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(air.DataError, match="no intact checkpoint"):
        air.load(empty)
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(air.DataError, match="must be an AIRModel"):
        air.load(tmp_path / "other.keras")


def _rewrite(path: Path, change: object) -> None:
    """Replaces config.json in a `.keras` archive."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = json.dumps(change(json.loads(members["config.json"]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_impossible_configuration_in_a_file(run: Path) -> None:
    path = run / "models/step_00000030.keras"

    def change(config: dict) -> dict:
        config["config"]["config"]["max_steps"] = 0
        return config

    _rewrite(path, change)
    with pytest.raises(air.DataError, match=r"step_00000030\.keras: max_steps: 0 is not allowed"):
        air.load(path)


def test_weights_of_another_configuration(run: Path) -> None:
    path = run / "models/step_00000030.keras"

    def change(config: dict) -> dict:
        config["config"]["config"]["lstm_units"] = 9
        return config

    _rewrite(path, change)
    with pytest.raises(air.DataError, match="can't be loaded"):
        air.load(path)


def test_lambda_layer_is_not_executed(run: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    layer = keras.layers.Lambda(lambda x, path=str(marker): (open(path, "w").close(), x)[1])
    hostile = keras.Sequential([keras.Input((2,)), layer])
    marker.unlink(missing_ok=True)
    hostile.save(tmp_path / "hostile.keras")
    with pytest.raises(air.DataError, match="must be an AIRModel"):
        air.load(tmp_path / "hostile.keras")
    assert not marker.exists()


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    checkpoints.write_json(path, {"a": 1})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        checkpoints.write_atomically(path, fail)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_run_folder_copies_are_independent(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (run / "models/step_00000030.keras").unlink()
    assert checkpoints.newest_checkpoint(run)[0] == 20
    assert checkpoints.newest_checkpoint(copy)[0] == 30
