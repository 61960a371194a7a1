"""Scenes by the rules of other systems, and the page that compares their figures with ours."""

import keras
import numpy as np
import pytest

from air import presets
from air.config import AIRConfig, TrainingConfig
from air.data import mnist
from air.data.generator import generate
from air.data.multi_mnist import make_dataset
from air.data.objects import Digits
from air.data.rules import SCENES, GeneratorConfig
from air.data.scenes import SceneSet
from air.errors import ConfigError, UsageError
from air.model.air_model import AIRModel
from air.presets import PRESETS, Preset
from air.training.run import compile_model
from air.training.run_folder import RunFolder
from docs import reproduce

BLOCK = Digits.from_images(np.full((1, 28, 28), 100, np.uint8), np.array([7]), whole=True)
TINY = {
    "lstm_units": 8,
    "head_units": (),
    "encoder_units": (8,),
    "decoder_units": (8,),
    "z_what_size": 3,
    "baseline_units": (4,),
}


def make(rules, digits, count):
    return generate(GeneratorConfig(rules=rules), digits, count, np.random.default_rng(0))


def test_kosioreks_digits_keep_their_size_and_share_no_pixel(few_digits):
    source = mnist.load(few_digits / "digits.npz")
    digits = Digits.from_images(source.test_images, source.test_labels, whole=True)
    scenes = make("kosiorek", digits, [0, 2, 2, 1] * 20)
    ink = (source.test_images > 0).sum(axis=(1, 2))
    expected = np.where(scenes.indices < 0, 0, ink[scenes.indices]).sum(axis=1)
    np.testing.assert_array_equal((scenes.images > 0).sum(axis=(1, 2)), expected)
    np.testing.assert_array_equal(scenes.segments > 0, scenes.images > 0)


def test_borea17s_digits_have_distant_centres():
    boxes = make("borea17", BLOCK, [2] * 60).boxes
    assert (boxes[..., 2:] == 24).all()
    assert 12 <= np.abs(boxes[:, 0, :2] - boxes[:, 1, :2]).min() <= 14
    with pytest.raises(UsageError, match="no room for 4 digits by the rules borea17"):
        make("borea17", BLOCK, [4])


def test_pyros_digits_never_exceed_white():
    scenes = make("pyro", Digits.from_images(np.full((1, 28, 28), 150, np.uint8), np.array([7]), whole=True), [2] * 20)
    assert scenes.images.max() == 150  # where two met, the scene was drawn again
    assert scenes.boxes[..., 2].std() > 0.5


@pytest.mark.parametrize("name", ["pyro", "kosiorek", "borea17"])
def test_scenes_by_name(name, few_digits, tmp_path):
    config = SCENES[name].replace(images_per_count=3, validation_size=3, test_size=6)
    for folder in ("a", "b"):
        make_dataset(tmp_path / folder, config, few_digits / "digits.npz")
    train, test = (SceneSet.load(tmp_path / "a" / f"{split}.npz") for split in ("train", "test"))
    assert sorted(train.count) == [0] * 3 + [1] * 3 + [2] * 3
    assert len(test) == 6
    assert (tmp_path / "a" / "test.npz").read_bytes() == (tmp_path / "b" / "test.npz").read_bytes()


def test_rules_that_contradict_each_other():
    with pytest.raises(ConfigError, match="gap: 2 is not allowed; the rules pyro replace it"):
        GeneratorConfig(rules="pyro", gap=2)
    assert GeneratorConfig(rules="pyro", max_digits=3, canvas_size=(60, 60), seed=1).rules == "pyro"


@pytest.mark.parametrize("name", ["borea17", "kosiorek"])
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


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "STORED", tmp_path / "stored")
    monkeypatch.setattr(reproduce, "PAGE", tmp_path / "page.md")
    (tmp_path / "stored").mkdir()
    (tmp_path / "page.md").write_text(f"Before.\n{reproduce.START}old\n{reproduce.END}After.\n")
    return tmp_path / "page.md"


def test_the_table_counts_the_runs_that_reach_the_goal(tmp_path, page):
    metrics = {"compile_seconds": 9.0, "scoring_seconds": 30.0}
    for seed, accuracies in enumerate([[0.5, 0.99, 0.97], [0.4, 0.6, 0.985], [0.3, 0.3]]):
        run = RunFolder.create(tmp_path / "out" / "borea17" / f"seed_{seed}")
        for i, accuracy in enumerate(accuracies, 1):
            run.metrics.append({"step": 100 * i, "seconds": 30.0 + 60 * i, **metrics, "count_accuracy/all": accuracy})
    reproduce.store("borea17", tmp_path / "out")
    line = next(line for line in reproduce.table().splitlines() if line.startswith("| `borea17`"))
    assert line.endswith("| 98 %: 2 of 3 | 200; 300; never | 97.0; 98.5; 30.0 | 300; 200 of 3,100 | 3 |")
    assert "97 %: not run |  |  | 0 of 300,000 |  |" in reproduce.table()


@pytest.mark.slow
def test_runs_are_resumed_and_shown(tmp_path, page, monkeypatch):
    """The second call goes on with seed 0 at its checkpoint and begins seed 1; the third one trains nothing."""
    system = reproduce.SYSTEMS["borea17"]._replace(validate_every=2)
    monkeypatch.setitem(reproduce.SYSTEMS, "borea17", system)
    monkeypatch.setitem(SCENES, "borea17", SCENES["borea17"].replace(images_per_count=3, validation_size=3, test_size=6))

    def call(iterations, seeds):
        recipe = Preset(
            PRESETS["borea17"]().model.replace(**TINY),
            TrainingConfig(iterations=iterations, batch_size=2, learning_rate=1e-3, xla=False),
        )
        with monkeypatch.context() as patch:
            patch.setattr(presets, "recipe", lambda name, estimator=None: recipe)
            reproduce.reproduce("borea17", seeds=seeds, out=tmp_path / "out")
        return [[row["step"] for row in run] for run in reproduce.read("borea17")]

    assert call(2, 1) == [[2]]
    first = reproduce.read("borea17")[0][0]
    assert call(4, 2) == [[2, 4], [2, 4]]
    assert reproduce.read("borea17")[0][0] == first  # not trained again
    stored = (reproduce.STORED / "borea17.csv").read_text()
    assert call(4, 2) == [[2, 4], [2, 4]]
    assert (reproduce.STORED / "borea17.csv").read_text() == stored
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "| 4 of 3,100 |" in text
    assert (reproduce.STORED / "curves.png").stat().st_size > 1000


def test_the_page_shows_the_stored_runs():
    assert reproduce.table() in reproduce.PAGE.read_text(encoding="utf-8")


def test_older_models_have_an_lstm_without_biases():
    config = AIRConfig.from_dict({"controller": "canvas"})
    assert (config.recurrence, set(config.head_biases)) == ("lstm", {0.0})
