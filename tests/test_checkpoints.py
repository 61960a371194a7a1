"""Saving and loading of models, intact and broken."""

import io
import json
import os
import resource
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import air
from air.config import AIRConfig
from air.model.air_model import AIRModel
from air.model.optimisation import LearningRate
from air.presets import PRESETS
from air.support import files
from air.training import checkpoints

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
    model = AIRModel(SMALL.replace(estimator="nvil", baseline_units=[4]))
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
    files.write_json(path, {"a": 1})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(path, fail)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_run_folder_copies_are_independent(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (run / "models/step_00000030.keras").unlink()
    assert checkpoints.newest_checkpoint(run)[0] == 20
    assert checkpoints.newest_checkpoint(copy)[0] == 30


def _with_weights(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Changes the weights in a `.keras` archive, whose checksums stay right."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = io.BytesIO(members["model.weights.h5"])
    with h5py.File(content, "r+") as file:
        change(file)
    members["model.weights.h5"] = content.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)


WEIGHT = "encoder/parameters/vars/0"


def _replace(file: h5py.File, **options: object) -> None:
    shape = file[WEIGHT].shape
    del file[WEIGHT]
    file.create_dataset(WEIGHT, **{"shape": shape, "dtype": "f4", **options})


def _link(file: h5py.File, link: object) -> None:
    del file[WEIGHT]
    file[WEIGHT] = link


HOSTILE_WEIGHTS = {
    "absurd shape": lambda file: _replace(file, shape=(2**20, 2**20)),
    "absurd shape in chunks": lambda file: _replace(file, shape=(2**20, 2**20), chunks=(1024, 1024), compression="gzip"),
    "other shape": lambda file: _replace(file, shape=(3, 5), data=np.zeros((3, 5))),
    "text": lambda file: _replace(file, dtype=h5py.string_dtype()),
    "never written": lambda file: _replace(file),
    "in another file": lambda file: _replace(file, external=[("/etc/passwd", 0, 192)]),
    "link to another file": lambda file: _link(file, h5py.ExternalLink("/etc/passwd", "/x")),
    "link": lambda file: _link(file, h5py.SoftLink("/encoder")),
    "circle": lambda file: file["encoder"].update({"again": file["encoder"], "more": file["encoder"]}),
    "not a number": lambda file: file[WEIGHT].write_direct(np.full(file[WEIGHT].shape, np.nan, np.float32)),
    "one missing": lambda file: file.pop(WEIGHT),
    "one of the optimiser's missing": lambda file: file.pop("optimizer/vars/3"),
    "no optimiser": lambda file: file.pop("optimizer"),
    "one more": lambda file: file.create_dataset("optimizer/vars/x", data=np.zeros(3, np.float32)),
}


@pytest.mark.parametrize("change", HOSTILE_WEIGHTS.values(), ids=HOSTILE_WEIGHTS)
def test_hostile_weights_are_skipped(run: Path, change: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """With the right checksums: what no damage, but a program or a stranger may have done."""
    newest = run / "models/step_00000030.keras"
    _with_weights(newest, change)
    with pytest.raises(air.DataError, match=r"step_00000030\.keras: ") as caught:
        air.load(newest)
    assert "\n" not in str(caught.value)
    assert int(air.load(run).step.numpy()) == 20
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning == f"warning: {caught.value}; using the checkpoint before"


def test_rewritten_weights_that_are_right_can_be_loaded(model: AIRModel, run: Path) -> None:
    """Otherwise the hostile ones might be refused for having been rewritten."""
    _with_weights(run / "models/step_00000030.keras", lambda file: None)
    loaded = air.load(run / "models/step_00000030.keras")
    for left, right in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    for left, right in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(left, right)


HOSTILE_OBJECTS = {
    "program": {
        "module": "subprocess",
        "class_name": "Popen",
        "registered_name": None,
        "config": {"args": ["touch", "executed"]},
    },
    "function": {"module": "os", "class_name": "function", "registered_name": "system", "config": "system"},
    "lambda": {"module": "builtins", "class_name": "__lambda__", "registered_name": None, "config": {"value": "4wAAAA=="}},
    "layer": {"module": "keras.layers", "class_name": "Lambda", "registered_name": None, "config": {"function": "x"}},
    "unhashable": {"module": [[]], "class_name": {}, "registered_name": [], "config": None},
}


@pytest.mark.parametrize("hostile", HOSTILE_OBJECTS.values(), ids=HOSTILE_OBJECTS)
@pytest.mark.parametrize("place", ["optimizer", "learning_rate", "more"])
def test_no_object_but_an_optimiser_is_made(run: Path, tmp_path: Path, monkeypatch, hostile: dict, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = run / "models/step_00000030.keras"

    def change(config: dict) -> dict:
        inside = config["compile_config"]["optimizer"]["config"] if place == "learning_rate" else config["compile_config"]
        inside[place] = hostile
        return config

    _rewrite(path, change)
    with pytest.raises(air.DataError, match="only optimisers are allowed"):
        air.load(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lstm_units": 4000}, "needs 68"),
        ({"lstm_units": 65536}, "at most 268435456 are"),
        ({"cnn_filters": [1] * 17}, "cnn_filters"),
        ({"self": 1}, "no such field"),
        ({"temperature": "(" * 100_000}, "neither a number nor a schedule"),
    ],
)
def test_absurd_configurations_take_no_memory(run: Path, fields: dict, message: str) -> None:
    path = run / "models/step_00000030.keras"

    def change(config: dict) -> dict:
        config["config"]["config"].update(fields)
        return config

    _rewrite(path, change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(air.DataError, match=message):
        air.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.parametrize("name", ["config.json", "../../evil", "/evil", "assets/x", "model.weights.npz"])
def test_members_that_are_no_part_of_a_model(run: Path, name: str) -> None:
    path = run / "models/step_00000030.keras"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about config.json, which is there twice
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, "{}")
    with pytest.raises(air.DataError, match=r"not a \.keras file"):
        air.load(path)


def test_a_file_that_inflates_to_more_than_it_is(run: Path) -> None:
    path = run / "models/step_00000030.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, member in members.items():
            with archive.open(name, "w") as file:
                file.write(member)
                for _ in range(256 if name == "config.json" else 0):
                    file.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(air.DataError, match=r"is compressed"):
        air.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_the_number_of_weights_is_known_beforehand(model: AIRModel) -> None:
    odd = SMALL.replace(canvas_size=(21, 35), cnn_filters=(3, 5), cnn_kernels=(5, 2), cnn_strides=(2, 3), cnn_pools=(2, 1))
    for config in (
        SMALL,
        odd,
        SMALL.replace(controller_input="latents", max_steps=1),
        *(preset().model for preset in PRESETS.values()),
    ):
        built = AIRModel(config)
        assert config.weights == sum(int(np.prod(weight.shape)) for weight in built.trainable_variables)


def test_devices_and_folders_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, message in (("pipe", "is not a regular file"), ("folder", "is a directory")):
        with pytest.raises(OSError, match=message):
            files.write_json(tmp_path / name, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]
