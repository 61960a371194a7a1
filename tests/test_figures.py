"""Figures are drawn for all that a model may find, with the steps in their colours."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from air.data.scenes import SceneSet
from air.evaluation import curves, figures, measures
from air.support import drawing


@pytest.fixture(scope="module")
def images(tiny_images):
    return np.rint(np.tile(tiny_images, (3, 1, 1)) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scenes(images):
    counts = np.arange(len(images)) % 4
    slots = np.arange(3) < counts[:, None]
    return SceneSet(images, counts, np.where(slots[..., None], [2, 3, 5, 6], 0), np.where(slots, 1, -1))


def rgb(figure, tmp_path):
    figure.savefig(tmp_path / "figure.png", dpi=60)
    return np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"))


@pytest.mark.parametrize("none", [False, True])
def test_all_figures_of_a_model(tiny_model, make_model, images, scenes, none, tmp_path):
    model = tiny_model
    if none:  # a model that never attends to anything
        model = make_model()
        model.controller.heads["presence"].layers[-1].bias.assign([-50.0])
    found = measures.observe(model, images)
    assert found.count.any() != none
    drawn = [
        figures.examples(scenes),
        figures.examples(SceneSet(images)),
        figures.strips(model, images, found),
        figures.windows(model, images, found),
        figures.policy(found, model.config.canvas_size),
        figures.traversals(model, found),
        figures.prior_samples(model),
        figures.miscounted(model, scenes, found),
        figures.misplaced(model, scenes, found),
        figures.unexplained(model, SceneSet(images), found),
    ]
    for figure in drawn:
        assert figure.get_suptitle()
        assert rgb(figure, tmp_path).min() < 60


@pytest.mark.parametrize("channels", [1, 3])
def test_traversals_of_objects_that_cover_show_their_colours(channels, make_model, tiny_images):
    model = make_model(controller="convolutional", composition="over", channels=channels)
    images = tiny_images if channels == 1 else np.repeat(tiny_images[..., None], 3, axis=-1)
    figure = figures.traversals(model, measures.observe(model, np.rint(255 * images).astype(np.uint8)))
    shown = [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]
    assert {picture.shape[:2] for picture in shown} == {model.config.window_size}
    assert np.max(shown) < 0.5  # an untrained decoder's objects are nearly transparent


def test_steps_have_their_colours(tiny_model, images, tmp_path):
    found = measures.observe(tiny_model, images)
    picture = rgb(figures.strips(tiny_model, images, found), tmp_path).reshape(-1, 3)
    for step in range(found.count.max()):
        assert (picture == drawing.colour(step)).all(axis=1).any()


@pytest.mark.parametrize("size", [0.0, 1e-9, 0.3, 2.0, 1e6])
@pytest.mark.parametrize("place", [-1e6, -0.2, 3.4, 1e6])
def test_an_attention_box_of_any_size_is_drawn(size, place):
    picture = np.asarray(drawing.canvas(np.zeros((7, 9), np.uint8), [(place, place, size, size)], zoom=4))
    assert picture.shape == (28, 36, 3)
    if size <= 2 and 0 <= place < 7:
        assert (picture == drawing.colour(0)).all(axis=2).any()


def test_a_model_without_mistakes(tiny_model, images):
    found = measures.observe(tiny_model, images)
    assert "0 of 0" in figures.miscounted(tiny_model, SceneSet(images, found.count), found).get_suptitle()


def test_a_strip_of_more_steps_than_a_small_canvas_has_room_for():
    images, boxes = np.zeros((2, 28, 28), np.uint8), np.tile([2, 2, 9, 9], (2, 16, 1))
    picture = drawing.strip(images, images, np.array([16, 3]), boxes, np.ones((2, 16, 28, 28)))
    assert (picture == drawing.colour(15)).all(axis=2).any()


def test_confusion():
    figure = figures.confusion([[5, 0, 0], [1, 3, 0]], 8 / 9, (0.5, 0.9))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["5\n100.00%", "0\n0.00%", "0\n0.00%", "1\n25.00%", "3\n75.00%", "0\n0.00%"]


def test_probability_of_a_count():
    presence = np.array([[0.9, 0.3]] * 4)
    np.testing.assert_allclose(figures._probability_of(np.array([0, 1, 2, 3]), presence), [0.1, 0.6, 0.3, 0.0])


def test_curves(tmp_path):
    names = ("step", "train_loss", "reconstruction/all", "count_accuracy/all", "count_accuracy/1")
    rows = [dict(zip(names, (s, 300 / s, 200 / s, 1 - 1 / s, 1.0), strict=True)) for s in (1, 50, 100)]
    figure = curves.training_curves(rows)
    assert [line.get_label() for line in figure.axes[0].lines] == ["all scenes", "1 digit"]
    assert figure.axes[0].lines[0].get_ydata()[1] == pytest.approx(2)
    rgb(figure, tmp_path)
    rgb(curves.training_curves([{"step": 10, "train_loss": 5.0}]), tmp_path)  # a run on scenes without counts


def test_curves_of_seeds(tmp_path):
    def rows(*errors):
        return [{"step": 50 * i, "count_accuracy/all": 1 - error} for i, error in enumerate(errors, 1)]

    runs = {0: rows(0.8, 0.1, 0.01), 3: rows(0.9, 0.2)}
    figure = curves.seed_curves({"concrete": runs}, "Seeds")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()][:2] == ["seed 0", "seed 3"]
    figure = curves.seed_curves({"nvil": {**runs, 4: []}, "enumerated": runs}, "Seeds")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    nvil, enumerated = lines["nvil, median of 3"], lines["enumerated, median of 2"]
    np.testing.assert_allclose(nvil.get_ydata(), [90, 20, 100])  # a run that has ended, or never began, is all wrong
    np.testing.assert_allclose(enumerated.get_ydata(), [85, 15, 50.5])
    assert nvil.get_color() != enumerated.get_color()
    picture = rgb(figure, tmp_path).reshape(-1, 3)
    for line in (nvil, enumerated):
        assert (picture == [round(255 * channel) for channel in to_rgb(line.get_color())]).all(axis=1).any()
