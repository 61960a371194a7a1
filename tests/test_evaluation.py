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

from air.data import held_out, mnist, pyro
from air.data.scenes import SceneSet
from air.errors import AIRError, DataError, UsageError
from air.evaluation import command, measures, report
from air.evaluation.config import EvaluationConfig
from air.evaluation.evaluate import Evaluator, evaluate
from air.evaluation.probes import Objects
from air.support import console
from air.training.checkpoints import save_weights

FEW = {"scenes": 40, "samples": 3, "importance_scenes": 5, "reference_scenes": 60, "other_scenes": 40, "pyro_scenes": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, few_digits, make_model):
    """`few_digits`, and a folder with a model of their canvas size and metrics.csv."""
    folder = tmp_path_factory.mktemp("evaluation")
    shutil.copytree(few_digits, folder, dirs_exist_ok=True)
    model = make_model(canvas_size=(50, 50), window_size=(10, 8), likelihood_std=0.25)
    output = model.controller.heads["presence"].layers[-1]
    output.kernel.assign(20 * output.kernel)
    output.bias.assign([0.5])
    (folder / "model").mkdir()
    save_weights(model, folder / "model" / "air.keras")
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
    script(folder / "model", "--data", folder / "data", "--mnist", folder / "digits.npz", "--out", "report", *flags)
    printed = capsys.readouterr().out
    assert "count accuracy, deterministic" in printed
    assert "Written: report/report.md" in printed
    result = json.loads((tmp_path / "report" / "report.json").read_text())
    measured = result["held_out"]
    assert set(measured) == {"scenes", "reconstruction", "count", "boxes", "segmentation", "bounds", "z_what"}
    assert measured["scenes"] == np.sum(measured["count"]["deterministic"]["confusion"]) == 40
    assert set(measured["bounds"]["importance"]["normal"]["geometric"]["by_samples"]) == {"1", "3"}
    assert len(result["generalisation"]["three_digits"]["bounds"]["priors"]["frequency"]) == 5
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


def test_derived_segments_are_those_of_the_generator(folder):
    digits = mnist.load(folder / "digits.npz")
    for kind in held_out.generalisation(9, (50, 50), digits, max_steps=3):
        made = kind.make()
        derived = held_out.with_segments(dataclasses.replace(made, segments=None), digits)
        if kind.name.startswith("three"):
            np.testing.assert_array_equal(derived.segments, made.segments)
        else:
            assert derived.segments is None  # scaled or rotated digits are not those of the file


def test_pyro_scenes_keep_the_rules():
    images = np.zeros((3, 28, 28), np.uint8)
    images[:, 4:24, 8:20] = 200
    scenes = pyro.generate(images, np.array([4, 5, 6]), [0, 1, 2] * 40, np.random.default_rng(0))
    assert scenes.count.tolist() == [0, 1, 2] * 40
    heights = scenes.boxes[scenes.count > 0][:, 0, 3]
    assert 20 / 1.7 < heights.min() < heights.max() < 20 / 0.9
    assert heights.mean() == pytest.approx(20 / 1.3 + 1, abs=0.7)  # the edge of a shrunk bar is a pixel wide
    assert set(np.unique(scenes.labels)) == {-1, 4, 5, 6}
    np.testing.assert_array_equal(scenes.segments > 0, scenes.images > 0)


def test_a_canvas_without_room_is_reported(tiny_model, folder):
    kind = held_out.pyro_scenes(3, tiny_model.config.canvas_size, mnist.load(folder / "digits.npz"))
    with pytest.raises(UsageError, match=r"canvas_size: \(20, 24\)"):
        kind.make()
    result = Evaluator(tiny_model, EvaluationConfig(**FEW), None).measure_kind(kind)
    assert "must be more than 28 pixels" in result["not_possible"]
    assert "not possible" in report._other_scenes([result])[0]


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
