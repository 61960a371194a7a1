"""Figures are drawn for whatever a model finds, steps in their colours; the GIF of training stays small."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from air.config import TrainingConfig
from air.data.scenes import SceneSet
from air.evaluation import curves, figures, measures
from air.support import drawing
from air.training import animation


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
        picture = rgb(figure, tmp_path)
        assert picture.min() < 60
        assert picture.max() == 255


def test_steps_have_their_colours(tiny_model, images, tmp_path):
    found = measures.observe(tiny_model, images)
    picture = rgb(figures.strips(tiny_model, images, found), tmp_path).reshape(-1, 3)
    for step in range(found.count.max()):
        assert (picture == drawing.colour(step)).all(axis=1).any()


@pytest.mark.parametrize("size", [0.0, 1e-9, 0.1, 0.3, 1.0, 2.0, 1e6])
@pytest.mark.parametrize("place", [-1e6, -0.2, 3.4, 7.0, 1e6])
def test_a_window_of_any_size_is_drawn(size, place):
    """Training may make them as small as it likes."""
    picture = np.asarray(drawing.canvas(np.zeros((7, 9), np.uint8), [(place, place, size, size)], zoom=4))
    assert picture.shape == (28, 36, 3)
    if size <= 2 and 0 <= place < 7:
        assert (picture == drawing.colour(0)).all(axis=2).any()


def test_a_model_without_mistakes(tiny_model, images, tmp_path):
    found = measures.observe(tiny_model, images)
    figure = figures.miscounted(tiny_model, SceneSet(images, found.count), found)
    assert "0 of 0" in figure.get_suptitle()
    rgb(figure, tmp_path)


def test_scenes_of_hundreds_of_objects_are_drawn_in_part(images, tmp_path):
    """In figures that grow with the counts; a file from elsewhere may claim any."""
    counts = np.arange(256).repeat(2)
    scenes = SceneSet(np.resize(images, (512, *images.shape[1:])), counts)
    assert len(figures.examples(scenes).axes) == figures.MAX_COUNTS * figures.EXAMPLES
    figure = figures.confusion(np.diag(counts[::2]), 1.0, (0.99, 1.0))
    assert len(figure.axes[0].texts) == figures.MAX_COUNTS**2
    rgb(figure, tmp_path)


def test_confusion(tmp_path):
    figure = figures.confusion([[5, 0, 0], [1, 3, 0]], 8 / 9, (0.5, 0.9))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["5\n100.00%", "0\n0.00%", "0\n0.00%", "1\n25.00%", "3\n75.00%", "0\n0.00%"]
    rgb(figure, tmp_path)


def test_probability_of_a_count():
    presence = np.array([[0.9, 0.3]] * 4)
    np.testing.assert_allclose(figures._probability_of(np.array([0, 1, 2, 3]), presence), [0.1, 0.6, 0.3, 0.0])


def test_curves(tmp_path):
    rows = [
        {
            "step": s,
            "train_loss": 300 / s,
            "reconstruction/all": 200 / s,
            "count_accuracy/all": 1 - 1 / s,
            "count_accuracy/1": 1.0,
        }
        for s in (1, 50, 100)
    ]
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
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["seed 0", "seed 3"]
    rgb(figure, tmp_path)
    figure = curves.seed_curves({"nvil": {**runs, 4: []}, "enumerated": runs}, "Seeds")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["nvil, median of 3", "enumerated, median of 2"]
    nvil, enumerated = (next(line for line in figure.axes[0].lines if line.get_label() == label) for label in labels)
    np.testing.assert_allclose(nvil.get_ydata(), [90, 20, 100])  # a run that has ended, or never began, is all wrong
    np.testing.assert_allclose(enumerated.get_ydata(), [85, 15, 50.5])
    assert nvil.get_color() != enumerated.get_color()
    picture = rgb(figure, tmp_path).reshape(-1, 3)
    for line in (nvil, enumerated):
        assert (picture == [round(255 * channel) for channel in to_rgb(line.get_color())]).all(axis=1).any()


def test_frames_are_dense_at_first():
    steps = animation.frame_steps(0, 15000)
    assert steps[-1] == 15000
    assert len(steps) == animation.FRAMES
    assert np.diff(steps)[0] < 20 < 400 < np.diff(steps)[-1]
    assert animation.frame_steps(100, 103) == [101, 102, 103]
    assert animation.frame_steps(100, 100) == []


def test_animation_of_a_training_run(make_model, tiny_images, tmp_path):
    import tensorflow as tf

    path = tmp_path / "attention.gif"
    model = make_model()
    model.compile(jit_compile=False)
    model.controller.heads["presence"].layers[-1].bias.assign([2.0])
    callback = animation.Animation(path, tiny_images, TrainingConfig(iterations=6).iterations)
    data = tf.data.Dataset.from_tensors(tiny_images).repeat()
    model.fit(data, steps_per_epoch=6, verbose=0, callbacks=[callback])
    with Image.open(path) as gif:
        assert gif.n_frames == 7
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == animation.MILLISECONDS
        pixels = np.asarray(gif.convert("RGB")).reshape(-1, 3)
    found = model.infer(tiny_images[: animation.SCENES])
    for step in range(found.count.max()):  # an untrained model attends to something at each
        assert (pixels == drawing.colour(step)).all(axis=1).any()
    assert path.stat().st_size < animation.LARGEST


def test_a_large_animation_is_thinned_out(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)) for _ in range(12)]
    monkeypatch.setattr(animation, "LARGEST", 15_000)
    animation.write_gif(tmp_path / "noise.gif", frames)
    assert (tmp_path / "noise.gif").stat().st_size <= 15_000
    with Image.open(tmp_path / "noise.gif") as gif:
        assert 2 <= gif.n_frames < 12
        gif.seek(gif.n_frames - 1)
        assert gif.info["duration"] == animation.PAUSE
    animation.write_gif(tmp_path / "none.gif", [])
    assert not (tmp_path / "none.gif").exists()
