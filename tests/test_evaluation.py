"""Whole evaluations: the measures fit together, data without labels is judged as far as it goes, and so do the scripts."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from air.data import held_out, mnist, pyro
from air.data.scenes import SceneSet
from air.errors import DataError, UsageError
from air.evaluation import evaluate, measures, report
from air.evaluation.config import EvaluationConfig
from air.support import console
from air.training.checkpoints import save_weights

FEW = {"scenes": 40, "samples": 3, "importance_scenes": 5, "reference_scenes": 60, "other_scenes": 40, "pyro_scenes": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, few_digits, make_model):
    """`few_digits`, and a model of their canvas size as a run folder would have it."""
    folder = tmp_path_factory.mktemp("evaluation")
    shutil.copytree(few_digits, folder, dirs_exist_ok=True)
    model = make_model(canvas_size=(50, 50), window_size=(10, 8), likelihood_std=0.25)
    output = model.controller.heads["presence"].layers[-1]
    output.kernel.assign(20 * output.kernel)
    output.bias.assign([0.5])
    (folder / "model").mkdir()
    save_weights(model, folder / "model" / "air.keras")
    with open(folder / "model" / "metrics.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [("step", "seconds", "train_loss", "count_accuracy/all"), (5, 1, 300, 0.3), (9, 2, 200, 0.4)]
        )
    return folder


def test_the_script(folder, run_script, tmp_path):
    flags = [f for name, value in FEW.items() for f in (f"--{name.replace('_', '-')}", value)]
    where = ("--data", folder / "data", "--mnist", folder / "digits.npz", "--out", "judged")
    done = run_script("evaluation.py", folder / "model", *where, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert "count accuracy, deterministic" in done.stdout
    assert "Written: judged/report.md" in done.stdout
    result = json.loads((tmp_path / "judged" / "report.json").read_text())
    measured = result["held_out"]
    assert set(measured) == {"scenes", "reconstruction", "count", "boxes", "segmentation", "bounds", "z_what"}
    assert measured["scenes"] == 40
    assert np.sum(measured["count"]["deterministic"]["confusion"]) == 40
    assert set(measured["bounds"]["importance"]["normal"]["geometric"]["by_samples"]) == {"1", "3"}
    assert set(result["generalisation"]) == {
        "three_digits", "three_digits_same_steps", "scaled", "rotated", "larger_canvas"
    }  # fmt: skip
    assert len(result["generalisation"]["three_digits"]["bounds"]["priors"]["frequency"]) == 5
    assert result["pyro"]["scenes"] == 40
    text = (tmp_path / "judged" / "report.md").read_text()
    assert "nan" not in text
    assert re.search(r"^\| Normal\(0\.25\) +\| +geometric", text, re.MULTILINE)
    assert "trained with cross-entropy" in text
    pictures = re.findall(r"\((figures/\w+\.png)\)", text)
    assert {f"figures/{name}.png" for name in ("training", "confusion", "policy", "worst_boxes")} <= set(pictures)
    for picture in pictures:
        with Image.open(tmp_path / "judged" / picture) as image:
            assert min(image.size) > 100


def test_images_alone_are_judged_as_far_as_it_goes(folder, tmp_path):
    SceneSet(SceneSet.load(folder / "data" / "test.npz").images[:8]).save(tmp_path / "images.npz")
    config = EvaluationConfig(**{**FEW, "other_scenes": 0, "pyro_scenes": 0})
    result = evaluate.evaluate(
        folder / "model" / "air.keras", tmp_path / "out", config, data=tmp_path / "images.npz", mnist_path=folder / "digits.npz"
    )
    assert set(result["held_out"]) == {"scenes", "reconstruction", "bounds"}
    assert "worst_reconstructions.png" in result["figures"]
    assert "confusion.png" not in result["figures"]
    assert "count accuracy" not in (tmp_path / "out" / "report.md").read_text()


def test_counts_alone(tiny_model, tiny_images):
    images = np.rint(tiny_images * 255).astype(np.uint8)
    found = measures.observe(tiny_model, images)
    elbo = evaluate.bounds.elbo(tiny_model, images)
    measured = measures.measure(tiny_model, SceneSet(images, found.count), found, elbo=elbo)
    assert set(measured) == {"scenes", "reconstruction", "count", "bounds"}
    assert measured["count"]["deterministic"]["accuracy"] == 1.0
    assert "importance" not in measured["bounds"]


def test_a_perfect_answer_has_perfect_scores(tiny_model, folder):
    scenes = held_out.with_segments(SceneSet.load(folder / "data" / "test.npz"), mnist.load(folder / "digits.npz"))
    steps = 3
    boxes = np.pad(scenes.boxes, ((0, 0), (0, 1), (0, 0)))
    presence = (np.arange(steps) < scenes.count[:, None]).astype(float)
    z_what = np.where(presence[..., None] > 0, np.eye(10)[np.pad(scenes.labels, ((0, 0), (0, 1)))], 0)
    found = measures.Observations(
        scenes.count, presence, boxes, boxes, scenes.segments, z_what, np.zeros(len(scenes), np.float32)
    )
    elbo = evaluate.bounds.Elbo(*(np.zeros(shape) for shape in ((45, 2), (45, 4), 45, 45)))
    bank = evaluate.probes.Objects(np.repeat(np.eye(10), 9, axis=0), np.repeat(np.arange(10), 9))
    measured = measures.measure(tiny_model, scenes, found, elbo=elbo, bank=bank)
    for kind in ("deterministic", "sampled"):
        assert measured["count"][kind]["accuracy"] == 1.0
    for kind in ("object", "window"):
        assert (measured["boxes"][kind]["ap"], measured["boxes"][kind]["mean_iou"]) == (1.0, 1.0)
    assert measured["segmentation"] == {"ari": 1.0, "scenes": 15, "ari_all": 1.0}
    assert (measured["z_what"]["knn"], measured["z_what"]["linear"]) == (1.0, 1.0)


def test_sampled_counts_have_their_probabilities():
    presence = np.tile([0.9, 0.6, 0.1], (20000, 1))
    drawn = np.bincount(measures.sampled_counts(presence), minlength=4) / 20000
    np.testing.assert_allclose(drawn, [0.1, 0.3, 0.5, 0.1], atol=0.02)


def test_more_steps_go_on_where_the_others_end(tiny_model, tiny_images):
    wider = measures.with_steps(tiny_model, 5)
    ours, theirs = (model.attend(tf.constant(tiny_images), None, looks=1) for model in (tiny_model, wider))
    np.testing.assert_allclose(theirs.z_what[:, :3], ours.z_what, rtol=1e-4, atol=1e-5)
    ours, theirs = tiny_model.infer(tiny_images), wider.infer(tiny_images)  # the second look sees what the others leave
    np.testing.assert_allclose(theirs.shift[:, :3], ours.shift, rtol=1e-4)
    np.testing.assert_allclose(theirs.presence[:, :3], ours.presence, rtol=1e-4)
    np.testing.assert_allclose(wider.count_prior, [*tiny_model.count_prior.numpy(), 0, 0])
    fewer = measures.with_steps(tiny_model, 1)
    assert fewer.count_prior.shape == (2,)


def test_more_steps_look_as_closely(make_model, tiny_images):
    model = make_model(refiner_units=(8,), refinement="linear(0, 1, steps=2000)")
    model.refiner.correction.bias.assign([0.5] * 6)  # an untrained one corrects nothing
    before = model.infer(tiny_images).scale
    model.step.assign(1500)
    after = model.infer(tiny_images).scale
    assert np.abs(after - before).max() > 0.05
    np.testing.assert_allclose(measures.with_steps(model, 4).infer(tiny_images).scale[:, :3], after, rtol=1e-4)


def test_segments_that_follow_from_indices_are_the_generators_own(folder):
    digits = mnist.load(folder / "digits.npz")
    for kind in held_out.generalisation(9, (50, 50), digits, max_steps=3):
        made = kind.make()
        derived = held_out.with_segments(SceneSet(made.images, made.count, made.boxes, made.labels, made.indices), digits)
        if kind.name.startswith("three"):
            np.testing.assert_array_equal(derived.segments, made.segments)
        else:
            assert derived.segments is None  # scaled or rotated digits are not those of the file
    unlabelled = SceneSet(made.images)
    assert held_out.with_segments(unlabelled, digits) is unlabelled


def test_pyro_scenes_keep_the_rules():
    images = np.zeros((3, 28, 28), np.uint8)
    images[:, 4:24, 8:20] = 200
    scenes = pyro.generate(images, np.array([4, 5, 6]), [0, 1, 2] * 40, np.random.default_rng(0))
    assert scenes.count.tolist() == [0, 1, 2] * 40
    heights = scenes.boxes[scenes.count > 0][:, 0, 3]
    assert 20 / 1.7 < heights.min() < heights.mean() < heights.max() < 20 / 0.9
    assert heights.mean() == pytest.approx(20 / 1.3 + 1, abs=0.7)  # the edge of a shrunk bar is a pixel wide
    assert set(np.unique(scenes.labels)) == {-1, 4, 5, 6}
    for scene, count in enumerate(scenes.count):
        assert set(np.unique(scenes.segments[scene])) <= set(range(count + 1))
        assert ((scenes.segments[scene] > 0) == (scenes.images[scene] > 0)).all()
        for x, y, width, height in scenes.boxes[scene, :count].astype(int):
            assert scenes.images[scene, y : y + height, x : x + width].any()
    # Sums above 255 are drawn again, which 200 + 200 would be.
    assert scenes.images.max() <= 255
    assert (scenes.boxes[:, 0, :2] == 0).all(axis=1).sum() < 50


def test_pyro_scenes_need_room():
    with pytest.raises(UsageError, match=r"canvas_size: \(50, 28\)"):
        pyro.generate(np.ones((1, 28, 28), np.uint8), np.zeros(1), [1], np.random.default_rng(0), (50, 28))


def test_a_canvas_without_room_is_reported(tiny_model, folder):
    kind = held_out.pyro(3, tiny_model.config.canvas_size, mnist.load(folder / "digits.npz"))
    result = evaluate._judge_kind(tiny_model, kind, EvaluationConfig(**FEW), None)
    assert "must be more than 28 pixels" in result["not_possible"]
    assert "not possible" in report._other_table([{"title": kind.title, **result}])


def test_scenes_that_do_not_fit(folder, tmp_path):
    digits = mnist.load(folder / "digits.npz")
    with pytest.raises(DataError, match="scenes of 50x50 pixels do not fit the model's canvas_size of 20x24"):
        held_out.load(folder / "data", (20, 24), 5, 5, digits)
    with pytest.raises(DataError, match=r"test\.npz: no such file"):
        held_out.load(tmp_path, (50, 50), 5, 5, digits)
    assert held_out.load(folder / "data" / "test.npz", (50, 50), 5, 5, digits).bank is None


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["nowhere"], 1, "nowhere: no such file or folder"),
        (["{folder}/model", "--data", "nowhere"], 1, "nowhere: no such file or folder"),
        (["{folder}/digits.npz", "--data", "{folder}/data"], 1, "not a .keras file"),
        (["--samples", "0"], 2, "samples: 0 is not allowed"),
        (["--scenes", "many"], 2, "scenes"),
        (["model", "--nonsense"], 2, "--nonsense"),
        (["seeds", "--n", "0"], 2, "n: 0 is not allowed"),
        (["seeds", "--data", "nowhere"], 1, "nowhere: no such data"),
        (["seeds", "--estimators", "nvil", "nvil"], 2, "each may be named once"),
        (["seeds", "--preset", "nonsense"], 2, "--preset"),
        (["seeds", "--seed", "2147483647", "--n", "2"], 2, "seed: 2147483648 is not allowed"),
        (["seeds", "--data", "{folder}/data", "--canvas-size", "40", "40"], 1, "do not fit the model's canvas_size of 40x40"),
    ],
)
def test_mistakes_end_in_one_line(folder, run_script, flags, status, message):
    done = run_script("evaluation.py", *(flag.format(folder=folder) for flag in flags))
    assert done.returncode == status
    assert done.stderr.startswith("evaluation.py: error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_names_both_reports(run_script):
    assert "evaluation.py seeds" in run_script("evaluation.py", "--help").stdout
    assert re.search("--validate-every.*?default: 50[)]", run_script("evaluation.py", "seeds", "--help").stdout, re.DOTALL)


def test_tables_align():
    text = console.table(("a", "long"), [("first", "1"), ("b", "22222")])
    assert text.splitlines() == ["| a     |  long |", "| ----- | ----: |", "| first |     1 |", "| b     | 22222 |"]
