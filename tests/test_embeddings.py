"""Embeddings: inferred objects and their true digits, projections and plots, the folder, and TensorBoard's view of it."""

import io
import json
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

from air.data.scenes import SceneSet
from air.embeddings import command, objects, plots, projector
from air.embeddings.config import OWN_FILES, EmbeddingsConfig
from air.embeddings.export import export
from air.errors import DataError, UsageError
from air.evaluation import evaluate
from air.evaluation.config import EvaluationConfig
from air.model import transformer
from air.model.images import as_float
from air.training import checkpoints

QUICK = EmbeddingsConfig(distance=0.5, tsne_objects=50)
ALWAYS = ["inferred_count", "step", "presence", "scale", "shift_x", "shift_y"]
ALWAYS += ["box_x", "box_y", "box_width", "box_height", "scene"]


def blobs(scenes, seed):
    """Labelled scenes of 0 to 2 blobs on 20 x 24 pixels, whose class is their width."""
    rng = np.random.default_rng(seed)
    images = np.zeros((scenes, 20, 24), np.uint8)
    segments = np.zeros_like(images)
    boxes, labels = np.zeros((scenes, 2, 4), np.float32), np.full((scenes, 2), -1)
    counts = np.arange(scenes) % 3
    for scene, count in enumerate(counts):
        for slot in range(count):
            label = int(rng.integers(3))
            width, x, y = 3 + 2 * label, int(rng.integers(4)) + 12 * slot, int(rng.integers(14))
            images[scene, y : y + 6, x : x + width] = 200 + slot
            segments[scene, y : y + 6, x : x + width] = slot + 1
            boxes[scene, slot], labels[scene, slot] = (x, y, width, 6), label
    return SceneSet(images, counts, boxes, labels, None, segments)


@pytest.fixture(scope="module", autouse=True)
def single_thread():
    """Keep OpenMP's threads, which wait actively, from slowing down small problems on busy cores."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    blobs(60, 0).save(folder / "test.npz")
    blobs(90, 1).save(folder / "train.npz")
    return folder


@pytest.fixture(scope="module")
def saved_model(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "air.keras"
    checkpoints.save_weights(tiny_model, path)
    return path


@pytest.fixture(scope="module")
def exported(saved_model, data, tmp_path_factory):
    """The folder, its embeddings.npz and the summary of an export."""
    folder = tmp_path_factory.mktemp("exported") / "embeddings"
    summary = export(str(saved_model), str(folder), QUICK, data=str(data))
    return folder, dict(np.load(folder / "embeddings.npz")), summary


def table(text):
    head, *rows = (line.split("\t") for line in text.splitlines())
    return head, rows


# Objects


@pytest.mark.parametrize("picture", [None, "reconstruction", "crop"])
def test_infer_agrees_with_the_model(tiny_model, tiny_images, picture):
    images = np.rint(tiny_images * 255).astype(np.uint8)
    sizes = []
    found, expected = objects.infer(tiny_model, images, picture, sizes.append), tiny_model.infer(images)
    assert sum(sizes) == len(images)
    for name in ("count", "presence", "scale", "shift", "attention_boxes", "z_what"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)
    z_where = np.concatenate([expected.scale[..., None], expected.shift], axis=-1)
    crops = transformer.crop(as_float(images, images.shape[1:]), z_where, (8, 6))
    pictures = {None: np.zeros((8, 3, 0, 0)), "reconstruction": expected.decoded_windows, "crop": crops}[picture]
    assert found.pictures.dtype == np.uint8
    np.testing.assert_allclose(found.pictures / 255, pictures, atol=0.5 / 255 + 1e-5)


@pytest.mark.parametrize(
    ("steps", "boxes", "distance", "expected"),
    [
        ([(104, 45, 10, 10)], [(90, 40, 20, 20)], 0.1, [0]),  # a canvas unit is 100 pixels to the right
        ([(106, 45, 10, 10)], [(90, 40, 20, 20)], 0.1, [-1]),
        ([(95, 49, 10, 10)], [(90, 40, 20, 20)], 0.1, [0]),  # and 50 pixels down
        ([(95, 51, 10, 10)], [(90, 40, 20, 20)], 0.1, [-1]),
        # The least total distance would pair the first with the first and leave the others too far apart.
        ([(100, 40, 4, 4), (85, 40, 4, 4)], [(100, 40, 4, 4), (115, 40, 4, 4)], 0.16, [1, 0]),
    ],
)
def test_match_finds_as_many_pairs_within_the_distance_as_possible(steps, boxes, distance, expected):
    absent = boxes[0]  # at the place of a true object
    attention_boxes, blank = np.array([[*steps, absent]], np.float32), np.zeros((1, len(steps) + 1))
    inferred = objects.Inferred(np.array([len(steps)]), blank, blank, None, attention_boxes, None, None)
    scenes = SceneSet(np.zeros((1, 100, 200), np.uint8), [len(boxes)], [boxes])
    assert objects.match(inferred, scenes, distance).tolist() == [[*expected, -1]]


def test_isolate_keeps_one_digit_in_place():
    scenes = blobs(6, 0)
    two = int(np.flatnonzero(scenes.count == 2)[0])
    first, second = objects.isolate(scenes, np.array([two, two]), np.array([0, 1]))
    assert set(np.unique(first)) == {0, 200}
    assert set(np.unique(second)) == {0, 201}
    np.testing.assert_array_equal(np.maximum(first, second), scenes.images[two])
    coloured = objects.isolate(scenes.in_colour(), np.array([two]), np.array([0]))
    np.testing.assert_array_equal(coloured[0], np.repeat(first[..., None], 3, axis=-1))


# Projections and plots


def test_whitened_components_have_unit_variance_and_omit_unused_dimensions():
    white = plots.whiten(np.random.default_rng(0).normal(size=(500, 5)) * [10, 5, 3, 1e-4, 0])
    assert white.shape == (500, 3)
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=1e-6)


def test_only_different_vectors_can_be_projected():
    assert plots.can_project(np.eye(4))
    assert not any(map(plots.can_project, (np.eye(3), np.ones((9, 4)), np.arange(9.0)[:, None])))


def test_tsne_samples_and_is_reproducible():
    vectors = np.random.default_rng(0).normal(size=(60, 4))
    (_, positions, indices), (_, again, _) = (plots.tsne(vectors, 50, 1) for _ in range(2))
    assert positions.shape == (50, 2)
    assert (np.diff(indices) > 0).all()
    np.testing.assert_array_equal(positions, again)


def test_mosaic_shows_the_most_central_point_of_a_cell():
    positions = np.array([[5.5, 7.5], [5.9, 7.9]]) / plots.CELLS
    pictures = np.array([255, 51], np.uint8)[:, None, None] * np.ones((3, 2), np.uint8)
    image = plots.mosaic(positions, pictures, np.array([[1, 0, 0], [0, 1, 0]]))
    expected = np.zeros((plots.CELLS * 3, plots.CELLS * 2, 4))
    expected[-8 * 3 : -7 * 3, 5 * 2 : 6 * 2] = [1, 0, 0, 1]
    np.testing.assert_array_equal(image, expected)


def test_groups_have_different_colours():
    digits = [*map(str, range(10)), "none"]
    colours = plots.group_colours("digit", np.array(digits))
    assert list(colours) == digits
    assert len(set(colours.values())) == 11
    assert len(set(plots.group_colours("digit", np.array([*map(str, range(47))])).values())) == 47
    green = (52 / 255, 199 / 255, 89 / 255)
    assert plots.group_colours("step", np.array(["2"])) == {"2": green}


# The folder


def test_sprite_is_square_and_in_reading_order():
    assert projector.capacity(28, 28) == 292**2  # within 8192 pixels
    pictures = np.arange(1, 6, dtype=np.uint8)[:, None, None] * np.full((5, 8, 6), 40, np.uint8)
    pictures[:, 0, 0] = 0
    ink = np.linspace(0, 1, 15).reshape(5, 3)
    *red_green_blue, opacity = map(np.asarray, projector.sprite(pictures, ink).split())
    assert opacity.shape == (24, 24)
    assert [[band[4, 8 * i + 4] for band in red_green_blue] for i in range(3)] == np.round(255 * ink[:3]).tolist()
    expected = np.zeros((9, 8, 8))
    expected[:5, :, 1:7] = 255  # the brightest pixel of each is opaque
    expected[:5, 0, 1] = 0
    np.testing.assert_array_equal(opacity.reshape(3, 8, 3, 8).swapaxes(1, 2).reshape(9, 8, 8), expected)


def test_folder_agrees_with_the_model_and_the_truth(exported, tiny_model, data):
    folder, arrays, summary = exported
    names = {path.name for path in folder.iterdir()}
    assert all(OWN_FILES.fullmatch(name) for name in names)
    assert {"projector_config.pbtxt", projector.EVENTS, "z_what.tsv", "embeddings.npz", "pca.png", "tsne.png"} <= names
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]

    scenes = SceneSet.load(data / "test.npz")
    found = tiny_model.infer(scenes.images)
    scene, step = arrays["scene"], arrays["step"] - 1
    assert len(scene) == summary.exported == summary.inferred == found.count.sum()
    np.testing.assert_allclose(arrays["z_what"], found.z_what[scene, step], atol=1e-5)
    np.testing.assert_allclose(arrays["box_x"], found.attention_boxes[scene, step, 0], atol=1e-4)
    np.testing.assert_array_equal(arrays["true_count"], scenes.count[scene])
    np.testing.assert_array_equal(arrays["digit"] >= 0, arrays["matched"] == 1)
    present, matched = zip(*summary.classes.values(), strict=True)
    assert summary.present == scenes.count.sum() == sum(present)
    assert 0 < summary.matched == arrays["matched"].sum() == sum(matched)


@pytest.mark.slow
def test_accuracy_is_that_of_an_evaluation(exported, saved_model, data, tmp_path):
    summary = exported[-1]
    config = EvaluationConfig(importance_scenes=1, samples=1, other_scenes=0, pyro_scenes=0, figures=False)
    expected = evaluate.evaluate(saved_model, tmp_path / "report", config, data=data)["held_out"]["z_what"]
    assert (summary.knn, summary.reference_objects) == (expected["knn"], expected["reference_objects"])


def test_summary_has_all_numbers(exported):
    summary = exported[-1]
    text = str(summary._replace(exported=7, capacity=7, knn=0.5, clean=3))
    parts = [f"{summary.present} objects present", f"{summary.matched} matched", "50.0 %", "first 7 of", "8192", "Clean: 3"]
    assert all(part in text for part in parts)
    assert "8192" not in str(summary._replace(exported=7))
    assert "5-NN" not in str(summary._replace(knn=None, classes={}))


# TensorBoard


@pytest.fixture(scope="module")
def fetch(exported):
    """TensorBoard's projector plugin over HTTP, for a folder of embeddings and runs: fetch(route, **query) -> bytes."""
    import tensorflow as tf
    from tensorboard import program
    from tensorboard.plugins.core import core_plugin
    from tensorboard.plugins.projector import projector_plugin

    server = program.TensorBoard(plugins=[core_plugin.CorePluginLoader(), projector_plugin.ProjectorPlugin])
    folder = exported[0].parent
    with tf.summary.create_file_writer(str(folder / "air_results" / "summary")).as_default():
        tf.summary.scalar("loss", 1.0, step=1)
    server.configure(argv=["", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0", "--load_fast", "false"])
    address = server.launch()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(route, **query):
        query = urllib.parse.urlencode({"run": "embeddings", **query})
        return opener.open(f"{address.rstrip('/')}/data/plugin/projector/{route}?{query}", timeout=20).read()

    return get


@pytest.mark.slow
def test_tensorboard_finds_embeddings_and_bookmarks(fetch, exported):
    arrays = exported[1]
    assert json.loads(fetch("runs")) == ["embeddings"]
    info = json.loads(fetch("info"))["embeddings"]
    assert [entry["tensorName"] for entry in info] == ["z_what", "z_what_whitened", "z_what_clean"]
    assert all(entry["tensorShape"] == list(arrays[entry["tensorName"]].shape) for entry in info)
    views = json.loads(fetch("bookmarks", name="z_what"))
    assert [view["label"] for view in views] == ["PCA, by digit", "t-SNE, by digit"]
    assert len(views[1]["projections"]) == len(views[1]["filteredPoints"]) == len(arrays["tsne"]) == 50


@pytest.mark.slow
@pytest.mark.parametrize("name", ["z_what", "z_what_whitened", "z_what_clean"])
def test_tensorboard_serves_vectors_metadata_and_sprites(fetch, exported, name):
    arrays = exported[1]
    vectors = np.frombuffer(fetch("tensor", name=name), np.float32).reshape(arrays[name].shape)
    np.testing.assert_allclose(vectors, arrays[name], rtol=1e-4, atol=1e-5)

    head, rows = table(fetch("metadata", name=name).decode())
    assert head == ["digit", "true_count", "matched", *ALWAYS, "true_digit"]
    assert len(rows) == len(vectors)
    prefix = "clean_" if name == "z_what_clean" else ""
    digits = arrays[f"{prefix}digit"]
    assert [row[0] for row in rows] == ["none" if digit < 0 else str(digit) for digit in digits]
    # The projector has ten colours, so that `none` would share one with a digit; an empty cell has its own.
    assert [row[-1] for row in rows] == ["" if digit < 0 else str(digit) for digit in digits]
    assert {view["selectedColorOptionName"] for view in json.loads(fetch("bookmarks", name=name))} == {"true_digit"}
    np.testing.assert_allclose([float(row[head.index("scale")]) for row in rows], arrays[f"{prefix}scale"], rtol=1e-3)

    sprite = np.asarray(Image.open(io.BytesIO(fetch("sprite_image", name=name))))
    columns = int(np.ceil(len(vectors) ** 0.5))
    cells = sprite.reshape(columns, 8, columns, 8, 4).swapaxes(1, 2).reshape(-1, 64, 4)
    np.testing.assert_array_equal(cells[..., 3].max(axis=1), np.where(np.arange(columns**2) < len(vectors), 255, 0))
    colours = {(digit, *cell[0, :3]) for digit, cell in zip(digits.tolist(), cells, strict=False)}
    assert len(colours) == len(np.unique(digits)) == len({colour[1:] for colour in colours})  # one for each digit, and for none


# Other data, and mistakes


@pytest.mark.parametrize(("known", "limit"), [((), 20), (("count",), 20), (("count", "boxes"), 1)])
def test_labels_are_optional(saved_model, tmp_path, known, limit):
    scenes, out = blobs(30, 2), tmp_path / "out"
    SceneSet(scenes.images, **{name: getattr(scenes, name) for name in known}).save(tmp_path / "some.npz")
    summary = export(saved_model, out, QUICK.replace(limit=limit, sprite="crop"), data=tmp_path / "some.npz")
    assert (summary.knn, summary.clean, summary.exported) == (None, None, limit)
    assert (summary.present is None, summary.matched is None) == ("count" not in known, "boxes" not in known)
    assert f"only the first {limit} of" in str(summary)
    head, rows = table((out / "metadata_scenes.tsv").read_text())
    assert head == [*["true_count", "matched"][: len(known)], *ALWAYS]
    assert len(rows) == len((out / "z_what.tsv").read_text().splitlines()) == limit
    assert f"tensor_shape: {limit}\n" in (out / "projector_config.pbtxt").read_text()
    assert not (out / "z_what_clean.tsv").exists()
    assert (out / "tsne.png").exists() == (out / "z_what_whitened.tsv").exists() == (limit > 1)


def test_scenes_of_another_canvas(make_model, tmp_path):
    model, scenes = make_model(controller="convolutional", z_pres_prior_odds=1e30), blobs(12, 2)  # objects cost nothing
    model.controller.presence.bias.assign([3.0])
    checkpoints.save_weights(model, tmp_path / "air.keras")
    images = np.zeros((12, 80, 80), np.uint8)
    images[:, 40:60, 50:74] = scenes.images
    SceneSet(images, scenes.count, scenes.boxes + np.float32([50, 40, 0, 0]), scenes.labels).save(tmp_path / "large.npz")
    config = QUICK.replace(sprite="crop")
    summary = export(tmp_path / "air.keras", tmp_path / "out", config, data=tmp_path / "large.npz")
    arrays, found = np.load(tmp_path / "out" / "embeddings.npz"), model.infer(images)
    scene, step = arrays["scene"], arrays["step"] - 1
    assert len(scene) == summary.exported == found.count.sum() > 0
    assert step.max() >= 3  # more objects than steps of training
    np.testing.assert_allclose(arrays["z_what"], found.z_what[scene, step], atol=1e-5)
    np.testing.assert_allclose(arrays["box_x"], found.attention_boxes[scene, step, 0], atol=1e-4)
    z_where = np.concatenate([found.scale[..., None], found.shift], axis=-1)
    crops = transformer.crop(as_float(images, (80, 80)), z_where, (8, 6)).numpy()[scene, step]
    pictures = objects.infer(model, images, "crop").at(scene, step).pictures
    np.testing.assert_allclose(pictures / 255, crops, atol=0.5 / 255 + 1e-5)


def test_a_canvas_that_the_model_does_not_take(make_model, saved_model, tmp_path):
    checkpoints.save_weights(make_model(controller="convolutional"), tmp_path / "any.keras")
    np.save(tmp_path / "scenes.npy", np.zeros((3, 7, 30), np.uint8))
    with pytest.raises(DataError, match=r"\(3, 7, 30\) is not allowed; it must be .*, the window's size, or larger"):
        export(tmp_path / "any.keras", tmp_path / "out", QUICK, data=tmp_path / "scenes.npy")
    with pytest.raises(DataError, match="7x30 pixels do not fit the model's canvas_size of 20x24"):
        export(saved_model, tmp_path / "out", QUICK, data=tmp_path / "scenes.npy")


def test_no_object_is_an_error_that_leaves_nothing(make_model, data, tmp_path):
    blind = make_model()
    blind.controller.heads["presence"].layers[-1].bias.assign([-100.0])
    checkpoints.save_weights(blind, tmp_path / "blind.keras")
    with pytest.raises(DataError, match="finds no object in these 60 scenes"):
        export(tmp_path / "blind.keras", tmp_path / "out", QUICK, data=data)
    assert [path.name for path in tmp_path.iterdir()] == ["blind.keras"]


@pytest.mark.slow
def test_script_writes_a_folder(run_script, saved_model, data):
    done = run_script("embeddings.py", "--run", saved_model, "--data", data, "--distance", 0.5)
    assert (done.returncode, done.stderr) == (0, "")
    assert "5-NN accuracy" in done.stdout
    assert "tensorboard --logdir embeddings" in done.stdout


@pytest.mark.parametrize(
    ("flags", "error", "text"),
    [
        (["--run", "no model"], DataError, "^no model: no such file or folder$"),
        (["--run", ".", "--data", "nowhere.npz"], DataError, r"^nowhere\.npz: no such file or folder$"),
        (["--run", ".", "--output", "mine"], UsageError, "mine exists already"),
    ],
)
def test_mistakes_get_one_line(monkeypatch, tmp_path, flags, error, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr("sys.argv", ["embeddings.py", *flags])
    with pytest.raises(error, match=text):
        command.main()


def test_script_refuses_to_replace_other_files(run_script, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").touch()
    refused = run_script("embeddings.py", "--run", ".", "--output", "mine", "--overwrite")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "diary.txt" in refused.stderr


def test_advice_can_be_pasted_into_a_shell(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["embeddings.py", "--run", ".", "--data", ".", "--output", "my embeddings"])
    monkeypatch.setattr("air.embeddings.export.export", lambda *args, **options: "...")
    command.main()
    assert "tensorboard --logdir 'my embeddings'\n" in capsys.readouterr().out
