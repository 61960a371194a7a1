"""Scenes by the rules of other systems, and the page that compares their figures with ours."""

import keras
import numpy as np
import pytest

from air import presets
from air.data import mnist
from air.data.generator import generate
from air.data.multi_mnist import make_dataset
from air.data.objects import Digits
from air.data.rules import SCENES
from air.data.scenes import SceneSet
from air.errors import ConfigError, UsageError
from air.model.air_model import AIRModel
from air.presets import PRESETS, Preset
from air.training.run import compile_model
from docs import reproduce

TINY = {
    "lstm_units": 8,
    "head_units": (),
    "encoder_units": (8,),
    "decoder_units": (8,),
    "z_what_size": 3,
    "baseline_units": (4,),
}


def test_kosioreks_digits_keep_their_size_and_share_no_pixel(few_digits, tmp_path):
    make_dataset(tmp_path / "a", SCENES["kosiorek"].replace(images_per_count=3, test_size=60), few_digits / "digits.npz")
    scenes, source = SceneSet.load(tmp_path / "a" / "test.npz"), mnist.load(few_digits / "digits.npz")
    ink = (source.test_images > 0).sum(axis=(1, 2))
    expected = np.where(scenes.indices < 0, 0, ink[scenes.indices]).sum(axis=1)
    np.testing.assert_array_equal((scenes.images > 0).sum(axis=(1, 2)), expected)


def test_borea17s_digits_have_distant_centres():
    block = Digits.from_images(np.full((1, 28, 28), 100, np.uint8), np.array([7]), whole=True)
    boxes = generate(SCENES["borea17"], block, [2] * 60, np.random.default_rng(0)).boxes
    assert (boxes[..., 2:] == 24).all()
    assert 12 <= np.abs(boxes[:, 0, :2] - boxes[:, 1, :2]).min() <= 14
    with pytest.raises(UsageError, match="no room for 4 digits by the rules borea17"):
        generate(SCENES["borea17"], block, [4], np.random.default_rng(0))


def test_numpys_digits_are_small_and_may_overlap():
    block = Digits.from_images(np.full((1, 28, 28), 100, np.uint8), np.array([7]), whole=True)
    scenes = generate(SCENES["numpy"], block, [2] * 200, np.random.default_rng(0))
    assert np.unique(scenes.boxes[..., 2:]).tolist() == [12, 13, 14, 15, 16, 17, 18]
    assert (scenes.boxes[..., 2] == scenes.boxes[..., 3]).all()
    assert 0.8 < (scenes.images == 200).any(axis=(1, 2)).mean() < 1  # where two overlap


def test_rules_that_contradict_each_other():
    with pytest.raises(ConfigError, match="gap: 2 is not allowed; the rules pyro replace it"):
        SCENES["pyro"].replace(gap=2)


@pytest.mark.parametrize("name", ["borea17", "kosiorek", "numpy"])
def test_recipes_train(name):
    model, training = PRESETS[name]()
    model = AIRModel(model.replace(**TINY, canvas_size=(32, 32)))
    compile_model(model, training.replace(xla=False))
    assert isinstance(model.optimizer, keras.optimizers.RMSprop if name == "kosiorek" else keras.optimizers.Adam)
    images = np.pad(np.random.default_rng(0).random((4, 16, 16), np.float32), ((0, 0), (8, 8), (8, 8)))
    before = [weight.numpy() for weight in model.learners()[0]]
    model.train_on_batch(images)
    changed = [not np.array_equal(a, b.numpy()) for a, b in zip(before, model.learners()[0], strict=True)]
    assert np.mean(changed) > 0.7  # some ReLU may never fire


@pytest.mark.slow
def test_runs_are_resumed_and_shown(tmp_path, monkeypatch):
    """The second call resumes seed 0 and begins seed 1; the third one trains nothing."""
    out, page = tmp_path / "out", tmp_path / "page.md"
    page.write_text(f"Before.\n{reproduce.START}old\n{reproduce.END}After.\n")
    monkeypatch.setattr(reproduce, "STORED", tmp_path)
    monkeypatch.setattr(reproduce, "PAGE", page)
    monkeypatch.setattr(reproduce, "SYSTEMS", {"borea17": reproduce.SYSTEMS["borea17"]._replace(validate_every=2)})
    monkeypatch.setitem(SCENES, "borea17", SCENES["borea17"].replace(images_per_count=3, validation_size=3, test_size=6))
    model, training = PRESETS["borea17"]()

    def call(iterations, seeds):
        recipe = Preset(model.replace(**TINY), training.replace(iterations=iterations, batch_size=2, xla=False))
        with monkeypatch.context() as patch:
            patch.setattr(presets, "recipe", lambda name, estimator=None: recipe)
            reproduce.reproduce(reproduce.Arguments("borea17", seeds, out))
        return [run[:, 1].tolist() for run in reproduce.read("borea17")]

    assert call(2, 1) == [[2]]
    first = reproduce.read("borea17")[0][0]
    assert call(4, 2) == [[2, 4], [2, 4]]
    assert reproduce.read("borea17")[0][0].tolist() == first.tolist()  # not trained again
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert " 4; 4 |" in text
    call(4, 2)
    assert page.read_text() == text


def test_stored_curves_of_seeds_that_were_run_elsewhere_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "STORED", tmp_path)
    (tmp_path / "pyro.csv").write_text("header\n0,100,9,50\n0,200,18,60\n2,100,9,70\n")
    folder = tmp_path / "out" / "pyro" / "seed_1"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,seconds,scoring_seconds,count_accuracy/all\n100,7,1,0.8\n")
    (folder.parent / "seed_0").mkdir()  # begun again, and interrupted
    reproduce.store("pyro", tmp_path / "out")
    stored = [run.tolist() for run in reproduce.read("pyro")]
    assert stored == [[[0, 100, 9, 50], [0, 200, 18, 60]], [[1, 100, 6, 80]], [[2, 100, 9, 70]]]


def test_the_page_shows_the_stored_runs():
    assert reproduce.table() in reproduce.PAGE.read_text(encoding="utf-8")
