"""A finished run becomes a folder such as model/."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import air
from air.data.scenes import SceneSet
from air.errors import DataError, UsageError
from air.evaluation import release
from air.evaluation.config import EvaluationConfig
from air.evaluation.recognition import ReferenceSet

MODEL = Path(__file__).resolve().parent.parent / "model"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder whose newest checkpoint has the weights in model/."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    (folder / "models").mkdir(parents=True)
    shutil.copy(MODEL / "air.keras", folder / "models" / "step_00020000.keras")
    shutil.copy(MODEL / "metrics.csv", folder)
    record = json.loads((MODEL / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**record, "date": "2026-01-02", "host": "mine"}))
    return folder


@pytest.mark.slow
def test_a_release_is_complete_and_correct(run, few_digits, tmp_path):
    quick = EvaluationConfig(figures=False, other_scenes=0, pyro_scenes=0, samples=1, importance_scenes=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("The card of this model.")
    metrics = release.release(run, few_digits / "data", tmp_path / "out", overwrite=True, config=quick)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"air.keras", "reference_set.npz", "attract.npz", "config.json", "metrics.csv", "metrics.json", "README.md"}
    assert (tmp_path / "out" / "README.md").read_text() == "The card of this model."
    assert json.loads((tmp_path / "out" / "config.json").read_text()).keys().isdisjoint({"date", "host"})
    assert all(release.OWN_FILES.fullmatch(name) for name in names)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert (metrics["steps"], metrics["scores"]["scenes"]) == (20_000, 45)
    assert metrics["scores"]["count_accuracy"] >= 0.95
    assert metrics["scores"]["object_boxes_ap50"] >= 0.9
    released, images = air.load(tmp_path / "out"), SceneSet.load(few_digits / "data" / "test.npz").images
    np.testing.assert_array_equal(released.infer(images).z_what, air.load(MODEL).infer(images).z_what)
    ReferenceSet.load(tmp_path / "out" / "reference_set.npz").check(released)
    with pytest.raises(UsageError, match="exists already"):
        release.release(run, few_digits / "data", tmp_path / "out")


@pytest.mark.parametrize("missing", ["count", "boxes", "labels", "indices"])
def test_scenes_that_allow_no_scores(run, few_digits, tmp_path, missing):
    shutil.copytree(few_digits / "data", tmp_path / "data")
    scenes = SceneSet.load(tmp_path / "data" / "test.npz")
    fields = ["images"] if missing == "count" else {"images", "count", "boxes", "labels", "indices"} - {missing}
    SceneSet(**{name: getattr(scenes, name) for name in fields}).save(tmp_path / "data" / "test.npz")
    with pytest.raises(DataError, match=rf"test\.npz: has no array '{missing}'"):
        release.release(str(run), str(tmp_path / "data"), str(tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
