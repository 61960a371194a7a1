"""Whole evaluations, of scenes with and without labels, and the command line of evaluation.py."""

import csv
import dataclasses
import json
import re
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import air
from air.data import held_out, mnist, published
from air.data.objects import Digits
from air.data.scenes import SceneSet
from air.errors import AIRError, DataError, UsageError
from air.evaluation import command, measures, report, scores
from air.evaluation.config import EvaluationConfig
from air.evaluation.evaluate import Evaluator, evaluate
from air.evaluation.probes import Objects
from air.evaluation.recognition import ReferenceSet
from air.model.composition import Composition
from air.model.generative import compose
from air.support import console
from air.training.checkpoints import save_weights

FEW = {"scenes": 40, "samples": 3, "importance_scenes": 5, "reference_scenes": 60, "other_scenes": 8, "pyro_scenes": 40}


def convolutional(make_model, **changes):
    """Make an untrained model for any canvas that finds objects."""
    model = make_model(controller="convolutional", looks=1, **changes)
    model.controller.presence.bias.assign([0.5])
    model.controller.presence.kernel.assign(100 * model.controller.presence.kernel)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory, few_digits, make_model):
    """`few_digits`, a folder with a model of their canvas size and metrics.csv, and a model for any canvas."""
    folder = tmp_path_factory.mktemp("evaluation")
    shutil.copytree(few_digits, folder, dirs_exist_ok=True)
    model = make_model(canvas_size=(50, 50), window_size=(10, 8), likelihood_std=0.25)
    output = model.controller.heads["presence"].layers[-1]
    output.kernel.assign(20 * output.kernel)
    output.bias.assign([0.5])
    (folder / "model").mkdir()
    save_weights(model, folder / "model" / "air.keras")
    save_weights(convolutional(make_model, canvas_size=(50, 50), window_size=(10, 8)), folder / "convolutional.keras")
    with open(folder / "model" / "metrics.csv", "w", newline="") as file:
        head = ("step", "seconds", "train_loss", "count_accuracy/all")
        csv.writer(file).writerows([head, (5, 1, 300, 0.3), (9, 2, 200, 0.4)])
    return folder


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Run evaluation.py in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluation.py", *map(str, arguments)])
        command.main()

    return run


@pytest.fixture
def eagerly():
    """Spare the compilation of functions that are called only a few times."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_the_script(folder, script, eagerly, tmp_path, capsys):
    flags = [f for name, value in FEW.items() for f in (f"--{name.replace('_', '-')}", value)]
    script(folder / "model", "--data", folder / "data", "--mnist", folder / "digits.npz", "--output", "report", *flags)
    printed = capsys.readouterr().out
    assert "count accuracy, deterministic" in printed
    assert "Written: report/report.md" in printed
    result = json.loads((tmp_path / "report" / "report.json").read_text())
    measured = result["held_out"]
    assert set(measured) == {"scenes", "reconstruction", "count", "boxes", "segmentation", "bounds", "z_what"}
    assert measured["scenes"] == np.sum(measured["count"]["deterministic"]["confusion"]) == 40
    assert set(measured["bounds"]["importance"]["normal"]["geometric"]["by_samples"]) == {"1", "3"}
    assert set(result["generalisation"]["three_digits"]) == {"title", "scenes", "count", "boxes", "named"}
    assert len(result["generalisation"]["drawn_3_digits"]["count"]["deterministic"]["confusion"]) == 4
    assert "50x50 pixels only" in result["generalisation"]["larger_canvas"]["not_possible"]
    assert result["pyro"]["scenes"] == 40
    text = (tmp_path / "report" / "report.md").read_text()
    assert "nan" not in text
    assert re.search(r"^\| Normal\(0\.25\) +\| +geometric", text, re.MULTILINE)
    assert "trained with cross-entropy" in text
    pictures = re.findall(r"\((figures/\w+\.png)\)", text)
    assert {f"figures/{name}.png" for name in ("training", "confusion", "policy", "worst_boxes")} <= set(pictures)
    assert all(min(Image.open(tmp_path / "report" / picture).size) > 100 for picture in pictures)


def test_images_alone_are_evaluated_as_far_as_possible(folder, eagerly, tmp_path):
    SceneSet(SceneSet.load(folder / "data" / "test.npz").images[:8]).save(tmp_path / "images.npz")
    config = EvaluationConfig(**{**FEW, "other_scenes": 0, "pyro_scenes": 0})
    result = evaluate(str(folder / "model" / "air.keras"), str(tmp_path / "out"), config, data=str(tmp_path / "images.npz"))
    assert set(result["held_out"]) == {"scenes", "reconstruction", "bounds"}
    assert "worst_reconstructions.png" in result["figures"]
    assert "confusion.png" not in result["figures"]
    assert "count accuracy" not in (tmp_path / "out" / "report.md").read_text()


def test_a_model_for_any_canvas_is_evaluated_on_any(folder, eagerly, tmp_path):
    scenes = SceneSet.load(folder / "data" / "test.npz")
    SceneSet(scenes.images[:6, :, 5:45], scenes.count[:6]).save(tmp_path / "narrow.npz")
    config = EvaluationConfig(**{**FEW, "other_scenes": 0, "pyro_scenes": 0, "figures": False})
    result = evaluate(folder / "convolutional.keras", tmp_path / "out", config, data=tmp_path / "narrow.npz")
    assert result["held_out"]["count"]["deterministic"]["absolute_error"] >= 0
    assert len(result["held_out"]["bounds"]["priors"]["frequency"]) == 4
    with pytest.raises(DataError, match=r"50x40 pixels do not fit"):
        evaluate(folder / "model", tmp_path / "out", config, data=tmp_path / "narrow.npz")


def test_outside_the_box_of_a_model_for_any_canvas(folder, eagerly, monkeypatch):
    digits, kinds = mnist.load(folder / "digits.npz"), held_out.generalisation
    shown = ("four_digits", "canvas_100", "size_150", "pyro", "drawn_2_digits")
    monkeypatch.setattr(held_out, "generalisation", lambda *given: [kind for kind in kinds(*given) if kind.name in shown])
    monkeypatch.setattr(measures, "MIN_STEPS", 6)
    model = air.load(folder / "convolutional.keras")
    names = ReferenceSet(np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 10, 0)
    measured = Evaluator(model, EvaluationConfig(**FEW), None, names).generalisation(digits)
    assert tuple(measured) == shown
    assert {name for name, kind in measured.items() if "any_size" in kind} == {"size_150", "pyro", "drawn_2_digits"}
    assert [kind["scenes"] for kind in measured.values()] == [8, 2, 8, 8, 8]
    assert len(measured["four_digits"]["count"]["deterministic"]["confusion"][4]) == 7  # up to 6 found, in more than 3 steps
    assert all(0 <= kind["named"] <= 1 and 0 <= kind["boxes"]["object"]["ap50"] <= 1 for kind in measured.values())
    (table,) = report._outside(measured.values())
    assert "any size: named" in table
    assert len(table.splitlines()) == 2 + len(shown)


def test_the_fraction_of_digits_named_correctly():
    boxes = np.array([[[0, 0, 4, 4], [10, 10, 4, 4]], [[5, 5, 2, 2], [0, 0, 0, 0]]], np.float32)
    scenes = SceneSet(np.zeros((2, 20, 20), np.uint8), np.array([2, 1]), boxes, np.array([[3, 7], [5, -1]]))
    z_what = np.eye(10)[[[3, 7], [0, 5]]]  # 3 and 7 are found, 5 is seen as 0
    found = measures.Observations(np.array([2, 1]), np.ones((2, 2)), boxes, boxes, np.zeros((2, 20, 20)), z_what, np.zeros(2))
    names = ReferenceSet(np.eye(10), np.arange(10), 0)
    measured = measures.measure_briefly(scenes, found, names)
    assert measured["named"] == pytest.approx(2 / 3)
    missed = measures.measure_briefly(scenes, found._replace(count=np.array([1, 0])), names)
    assert missed["named"] == pytest.approx(1 / 3)
    assert missed["count"]["deterministic"]["absolute_error"] == 1.0


def test_objects_are_observed_one_by_one(make_model, tiny_images, monkeypatch):
    model = convolutional(make_model)
    model.decoder.logits.bias.assign(3.0 + 0.0 * model.decoder.logits.bias)  # bright windows
    images = np.rint(255 * tiny_images).astype(np.uint8)
    scenes = model.infer(images, max_steps=5)
    assert scenes.count.max() > 3
    monkeypatch.setattr(measures, "MAX_PIXELS", 2000)  # batches of two scenes
    found = measures.observe(model, images, max_steps=5)
    objects = scenes.objects
    np.testing.assert_array_equal(found.count, scenes.count)
    np.testing.assert_array_equal(found.object_boxes, scores.tight_boxes(objects, measures.OBJECT_THRESHOLD))
    np.testing.assert_array_equal(found.segments, np.where(objects.max(axis=1) > 0, objects.argmax(axis=1) + 1, 0))


def test_objects_that_cover_get_the_pixels_that_show_them():
    """As the masks of all objects and of the background say, which are rendered together."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (6, 3, 1, 1, 5)) + rng.normal(0, 1, (6, 3, 7, 7, 5))
    z_where = np.concatenate([rng.uniform(0.4, 0.8, (6, 3, 1)), rng.uniform(-0.4, 0.4, (6, 3, 2))], axis=-1)
    present = np.arange(3) < np.array([0, 1, 2, 3, 3, 3])[:, None]
    tensors = (tf.constant(array, tf.float32) for array in (logits, np.zeros((6, 3, 4)), z_where, present))
    composed = compose(*tensors, (20, 24), Composition("over", 3), tf.fill([6, 20, 24, 3], 0.5))
    scenes = type(composed)(*(field.numpy() for field in composed))
    boxes, segments = measures._boxes_and_segments(scenes, covers=True)
    masks = np.concatenate([1 - scenes.masks.sum(axis=1, keepdims=True), scenes.masks], axis=1)
    first, second = np.sort(masks, axis=1)[:, :-3:-1].swapaxes(0, 1)
    is_clear = first - second > 1e-3
    np.testing.assert_array_equal(segments[is_clear], masks.argmax(axis=1)[is_clear])
    assert is_clear.mean() > 0.9
    assert set(np.unique(segments)) == {0, 1, 2, 3}
    whole = scenes._replace(decoded_windows=scenes.opacity).objects
    np.testing.assert_array_equal(boxes, scores.tight_boxes(whole, measures.OBJECT_THRESHOLD))


def test_perfect_observations_get_perfect_scores(folder):
    scenes = held_out.with_segments(SceneSet.load(folder / "data" / "test.npz"), mnist.load(folder / "digits.npz"))
    boxes = np.pad(scenes.boxes, ((0, 0), (0, 1), (0, 0)))
    presence = (np.arange(3) < scenes.count[:, None]).astype(float)
    z_what = np.where(presence[..., None] > 0, np.eye(10)[np.pad(scenes.labels, ((0, 0), (0, 1)))], 0)
    nats = np.zeros(len(scenes), np.float32)
    found = measures.Observations(scenes.count, presence, boxes, boxes, scenes.segments, z_what, nats)
    reference = Objects(np.repeat(np.eye(10), 9, axis=0), np.repeat(np.arange(10), 9))
    measured = measures.measure(scenes, found, reference)
    for kind in ("deterministic", "sampled"):
        assert measured["count"][kind]["accuracy"] == 1.0
    for kind in ("object", "window"):
        assert (measured["boxes"][kind]["ap"], measured["boxes"][kind]["mean_iou"]) == (1.0, 1.0)
    assert measured["segmentation"] == {"ari": 1.0, "scenes": 15, "ari_all": 1.0}
    assert (measured["z_what"]["knn"], measured["z_what"]["linear"]) == (1.0, 1.0)
    assert set(measures.measure(SceneSet(scenes.images, scenes.count), found)) == {"scenes", "reconstruction", "count"}
    assert set(measures.measure(SceneSet(scenes.images), found)) == {"scenes", "reconstruction"}


def test_sampled_counts_have_their_probabilities():
    presence = np.tile([0.9, 0.6, 0.1], (20000, 1))
    frequencies = np.bincount(measures.sampled_counts(presence), minlength=4) / 20000
    np.testing.assert_allclose(frequencies, [0.1, 0.3, 0.5, 0.1], atol=0.02)


def test_more_steps_continue_where_the_others_end(make_model, tiny_images, eagerly):
    model = make_model(refinement="linear(0, 1, steps=2000)")
    model.refiner.correction.bias.assign([0.5] * 6)  # an untrained one corrects nothing
    model.step.assign(1500)  # with less refinement, boxes would differ
    wider = measures.with_steps(model, 5)
    once, once_wider = (either.attend(tf.constant(tiny_images), None, looks=1) for either in (model, wider))
    np.testing.assert_allclose(once_wider.z_what[:, :3], once.z_what, rtol=1e-4, atol=1e-5)
    scenes, more = model.infer(tiny_images), wider.infer(tiny_images)  # the second look sees what the other steps leave
    for name in ("scale", "shift", "presence"):
        np.testing.assert_allclose(getattr(more, name)[:, :3], getattr(scenes, name), rtol=1e-4)
    np.testing.assert_allclose(wider.count_prior, [*model.count_prior.numpy(), 0, 0])
    assert measures.with_steps(model, 1).count_prior.shape == (2,)


def test_more_steps_keep_the_learned_standard_deviation(make_model):
    model = make_model(likelihood="normal", learn_likelihood_std=True)
    model.log_std.assign(0.5)
    assert float(measures.with_steps(model, 5).likelihood_std()) == float(model.likelihood_std())


def test_one_step_cannot_be_followed_by_latents_it_never_saw(make_model):
    with pytest.raises(UsageError, match="max_steps: 1 is not allowed"):
        measures.with_steps(make_model(controller="latents", max_steps=1), 2)
    with pytest.raises(UsageError, match="max_steps: 3 is not allowed"):
        measures.with_steps(make_model(controller="dense"), 5)


def test_derived_segments_are_those_of_the_generator(folder):
    digits = mnist.load(folder / "digits.npz")
    for kind in held_out.generalisation(9, (50, 50), digits, max_steps=3):
        made = kind.make()
        derived = held_out.with_segments(dataclasses.replace(made, segments=None), digits)
        if kind.name.startswith(("three", "four", "five")):
            np.testing.assert_array_equal(derived.segments, made.segments)
        else:
            assert derived.segments is None  # changed digits are not those of the file


def test_pyro_scenes_keep_the_rules():
    images = np.zeros((3, 28, 28), np.uint8)
    images[:, 4:24, 8:20] = 200
    digits = Digits.from_images(images, np.array([4, 5, 6]), whole=True)
    scenes = published.generate("pyro", digits, [0, 1, 2] * 40, np.random.default_rng(0))
    assert scenes.count.tolist() == [0, 1, 2] * 40
    heights = scenes.boxes[scenes.count > 0][:, 0, 3]
    assert 20 / 1.7 < heights.min() < heights.max() < 20 / 0.9
    assert heights.mean() == pytest.approx(20 / 1.3 + 1, abs=0.7)  # the edge of a shrunk bar is a pixel wide
    assert set(np.unique(scenes.labels)) == {-1, 4, 5, 6}
    np.testing.assert_array_equal(scenes.segments > 0, scenes.images > 0)


def test_a_canvas_without_room_is_reported(tiny_model, folder, make_model):
    digits, size = mnist.load(folder / "digits.npz"), tiny_model.config.canvas_size
    with pytest.raises(UsageError, match=r"canvas_size: \(20, 24\)"):
        held_out.pyro_scenes(3, size, digits).make()
    result = Evaluator(tiny_model, EvaluationConfig(**FEW), None, None).pyro(digits)
    assert "must be more than 28 pixels" in result["not_possible"]
    assert "Not possible" in report._pyro(result)[0]
    large = convolutional(make_model, canvas_size=(50, 50), window_size=(30, 30))
    kinds = {kind.name: kind for kind in held_out.generalisation(3, (50, 50), digits, 3, any_canvas=True)}
    result = Evaluator(large, EvaluationConfig(**FEW), None, None).measure_kind(kinds["canvas_28"])
    assert "or larger" in result["not_possible"]
    assert "0-1 digits on 28x28 pixels: not possible" in report._outside([result])[1]


def test_scenes_that_do_not_fit(folder, tmp_path):
    digits = mnist.load(folder / "digits.npz")
    with pytest.raises(DataError, match=r"50x50.*20x24"):
        held_out.load(folder / "data", (20, 24), 5, 5, digits)
    with pytest.raises(DataError, match="has no pictures"):
        held_out.load(tmp_path, (50, 50), 5, 5, digits)
    assert held_out.load(folder / "data" / "test.npz", (50, 50), 5, 5, digits).reference is None


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["{folder}/model", "--data", "nowhere"], 1, "nowhere: no such file or folder"),
        (["{folder}/digits.npz", "--data", "{folder}/data"], 1, "not a .keras file"),
        (["--samples", "0"], 2, "samples: 0 is not allowed"),
        (["--scenes", "many"], 2, "scenes"),
        (["--bank-scenes", "5"], 2, "--bank-scenes is now called --reference-scenes"),
        (["model", "--nonsense"], 2, "--nonsense"),
        (["seeds", "--n", "0"], 2, "n: 0 is not allowed"),
        (["seeds", "--data", "nowhere"], 1, "nowhere: no such data"),
        (["seeds", "--estimators", "nvil", "nvil"], 2, "name each estimator only once"),
        (["seeds", "--preset", "nonsense"], 2, "--preset"),
        (["seeds", "--data", "{folder}/data", "--seed", "2147483647"], 2, "seed: 2147483648 is not allowed"),
        (["seeds", "--data", "{folder}/data", "--canvas-size", "40", "40"], 1, "canvas_size of 40x40"),
    ],
)
def test_mistakes_get_one_line(folder, script, arguments, status, message):
    with pytest.raises(AIRError) as error:
        script(*(argument.format(folder=folder) for argument in arguments))
    assert error.value.exit_status == status
    assert message in str(error.value)


def test_the_exit_status(run_script):
    done = run_script("evaluation.py", "nowhere")
    assert (done.returncode, done.stderr) == (1, "evaluation.py: error: nowhere: no such file or folder\n")


def test_help_names_both_reports(script, capsys):
    with pytest.raises(SystemExit):
        script("--help")
    assert "evaluation.py seeds" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        script("seeds", "--help")
    assert re.search("--validate-every.*?default: 50[)]", capsys.readouterr().out, re.DOTALL)


def test_tables_are_aligned():
    text = console.table(("a", "long"), [("first", "1"), ("b", "22222")])
    assert text.splitlines() == ["| a     |  long |", "| ----- | ----: |", "| first |     1 |", "| b     | 22222 |"]
