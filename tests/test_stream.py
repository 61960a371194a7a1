"""Scenes that are drawn while a model trains: each is new, and the same for every run of a seed."""

import numpy as np
import pytest
from real_runs import MODEL, RECIPE, STATISTICS, metrics, state

from air.data.objects import load
from air.data.rules import SCENES, GeneratorConfig
from air.data.stream import SceneStream
from air.errors import DataError, UsageError
from air.training import checkpoints, run

SHAPES = GeneratorConfig(canvas_size=(20, 20), objects="shapes", scale=(0.5, 0.5), max_digits=2)


@pytest.mark.parametrize("kind", ["default", "paper", "shapes"])
def test_a_batch_depends_on_the_rules_the_seed_and_its_number_alone(kind):
    stream, again = SceneStream(SCENES[kind], 3), SceneStream(SCENES[kind], 3)
    batch = stream.batch(5, 8)
    for other in (stream.batch(5, 8), again.batch(5, 8)):
        np.testing.assert_array_equal(other.images, batch.images)
        np.testing.assert_array_equal(other.count, batch.count)
    for other in (stream.batch(6, 8), SceneStream(SCENES[kind], 4).batch(5, 8)):
        assert (other.images != batch.images).any()


def test_counts_are_equally_frequent_and_digits_are_of_their_split():
    rules = GeneratorConfig(min_digits=1, max_digits=3)
    stream = SceneStream(rules)
    scenes = [stream.batch(step, 64, "validation") for step in range(30)]
    frequency = np.bincount(np.concatenate([each.count for each in scenes]), minlength=4) / (30 * 64)
    np.testing.assert_allclose(frequency, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.04)  # 3.7 standard deviations
    allowed = load(rules)["validation"].indices
    drawn = np.concatenate([each.indices.ravel() for each in scenes])
    assert np.isin(drawn[drawn >= 0], allowed).all()


def test_batches_are_those_of_their_steps():
    stream = SceneStream(SHAPES, 1)
    for step, (images, count) in zip(range(7, 12), stream.batches(4, start_step=7), strict=False):
        expected = stream.batch(step, 4)
        assert images.shape == (4, 20, 20)
        np.testing.assert_array_equal(np.rint(255 * images.numpy()), expected.images)
        np.testing.assert_array_equal(count, expected.count)


@pytest.mark.slow
def test_an_interrupted_run_is_resumed_to_the_last_bit(tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert run.start(MODEL, RECIPE.replace(iterations=20), data=SHAPES, run=whole)
    assert run.start(MODEL, RECIPE.replace(iterations=10), data=SHAPES, run=halves)
    assert run.resume(halves, 20)
    ours, theirs = (state(checkpoints.checkpoints(path)[-1].path) for path in (whole, halves))
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name], array, rtol=1e-5 if name == STATISTICS else 0, err_msg=name)
    assert metrics(halves) == [pytest.approx(row, rel=1e-5) for row in metrics(whole)]


def test_impossible_rules_are_one_line_before_training(tmp_path):
    with pytest.raises(UsageError, match="has no room for"):
        run.start(MODEL, RECIPE, data=SHAPES.replace(max_digits=16, scale=(1, 1)), run=tmp_path / "run")
    with pytest.raises(UsageError, match=r"\(50, 50\) and 1 channels are not allowed; the model has a canvas of \(20, 20\)"):
        run.start(MODEL, RECIPE, data=SCENES["default"], run=tmp_path / "run")
    with pytest.raises(DataError, match="missing"):
        run.start(MODEL, RECIPE, data=SHAPES.replace(objects="digits"), mnist=tmp_path / "missing", run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
