"""The weights in model/ are what they claim to be, on newly made scenes."""

import json
from pathlib import Path

import numpy as np
import pytest

import air
from air.config import AIRConfig, TrainingConfig
from air.data import mnist
from air.data.generator import Digits, GeneratorConfig, generate
from air.evaluation import scores
from air.evaluation.probes import matched_objects
from air.evaluation.recognition import ReferenceSet, reference_set_path
from tests.strokes import make

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def metrics():
    return json.loads((ROOT / "model/metrics.json").read_text())


@pytest.fixture(scope="module")
def model():
    return air.load(ROOT / "model")


@pytest.fixture(scope="module")
def digits():
    source = mnist.load()
    return Digits.from_images(source.test_images, source.test_labels)


@pytest.fixture(scope="module")
def scenes(digits):
    """300 scenes of MNIST test digits that are in no file."""
    return generate(GeneratorConfig(), digits, np.arange(300) % 3, np.random.default_rng(99))


def test_it_is_the_default_recipe(model, metrics):
    assert model.config == AIRConfig()
    record = json.loads((ROOT / "model/config.json").read_text())
    observed = {"validate_every": 500, "histograms_every": 500}  # intervals that training doesn't depend on
    assert TrainingConfig.from_dict(record["training"]).replace(seed=0, **observed) == TrainingConfig()
    assert int(model.step.numpy()) == metrics["steps"] == TrainingConfig().iterations
    assert (ROOT / "model/air.keras").stat().st_size <= 17e6


def test_it_counts_locates_and_reconstructs_new_scenes(model, scenes):
    inferred = model.infer(scenes.images)
    assert np.mean(inferred.count == scenes.count) >= 0.98
    images = scenes.images / 255.0
    assert np.sum((images - inferred.reconstruction) ** 2) < 0.15 * np.sum(images**2)
    single = (scenes.count == 1) & (inferred.count == 1)
    offsets = scores.centres(inferred.attention_boxes[single, 0]) - scores.centres(scenes.boxes[single, 0])
    assert np.median(np.linalg.norm(offsets, axis=1)) < 1.5  # pixels


@pytest.mark.parametrize("size", [0.6, 1.5])
def test_it_counts_digits_of_other_sizes(model, digits, size):
    """At 1.5 times, a single look is right about little more than the empty scenes."""
    count = np.arange(45) % 3
    images = generate(GeneratorConfig(scale=(size, size)), digits, count, np.random.default_rng(98)).images
    assert np.mean(model.infer(images, any_size=True).count == count) >= 0.9


def test_it_samples_as_many_objects_as_it_saw(model):
    images, sampled = model.generate(200, seed=0)
    assert images.shape == (200, 50, 50)
    np.testing.assert_allclose(np.bincount(sampled.count, minlength=4)[:3] / 200, 1 / 3, atol=0.12)
    assert images[sampled.count == 0].max() == 0.0
    assert (images[sampled.count > 0].max(axis=(1, 2)) > 0.2).mean() > 0.9


def test_its_reference_set_names_small_drawings(model):
    reference_set = ReferenceSet.load(reference_set_path(ROOT / "model"))
    reference_set.check(model)
    drawn = make.draw_set(1, (12, 12), np.random.default_rng(97))
    inferred = model.infer(drawn.images, any_size=True)
    objects = matched_objects(inferred.count, inferred.attention_boxes, inferred.z_what, drawn)
    assert (reference_set.predict(objects.z_what)[0] == objects.labels).sum() >= 0.9 * drawn.count.sum()


def test_the_readme_states_its_scores(metrics):
    text = "\n".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    for name in ("count_accuracy", "count_accuracy_sampled", "z_what_5nn_accuracy", "z_what_linear_probe_accuracy"):
        assert f"{100 * metrics['scores'][name]:.2f} %" in text, name
    for name in ("object_boxes_ap50", "object_boxes_mean_iou", "foreground_ari"):
        assert f"{metrics['scores'][name]:.3f}" in text, name


def test_the_readme_states_its_scores_outside_of_its_box(metrics):
    table = (ROOT / "README.md").read_text().split("| outside its box |")[1].split("\n\n")[0]
    stated = {tuple(row.split("|")[2:4]) for row in table.splitlines()[2:]}
    pairs = {tuple(zip(*(cell.replace(" ", "").split(",") for cell in row), strict=True)) for row in stated}
    outside = metrics["scores_outside"].values()
    measured = {
        (f"{100 * score['count_accuracy']:.1f}", f"{100 * score['named']:.1f}")
        for kind in outside
        for score in (kind, kind.get("any_size", kind))
    }
    assert len(pairs) == 7
    assert {pair for row in pairs for pair in row} <= measured
