"""Embeddings: objects and their truth, the files, and what TensorBoard itself makes of them."""

import csv
import io
import json
import urllib.parse
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from air.data.scenes import SceneSet
from air.embeddings import export, objects, projections, projector, scatter
from air.embeddings.config import OWN_FILES, EmbeddingsConfig
from air.embeddings.objects import Attention
from air.errors import DataError, UsageError
from air.evaluation import evaluate
from air.evaluation.config import EvaluationConfig
from air.model import transformer
from air.training import checkpoints

QUICK = EmbeddingsConfig(distance=0.5, tsne_objects=50)
KNOWN = ["digit", "true_count", "matched"]
ALWAYS = [
    "inferred_count",
    "step",
    "presence",
    "scale",
    "shift_x",
    "shift_y",
    "box_x",
    "box_y",
    "box_width",
    "box_height",
    "scene",
]


def blobs(scenes, seed):
    """Labelled scenes of 0 to 2 blobs on 20 x 24 pixels, whose class is how wide they are."""
    rng = np.random.default_rng(seed)
    images = np.zeros((scenes, 20, 24), np.uint8)
    segments = np.zeros_like(images)
    boxes, labels = np.zeros((scenes, 2, 4), np.float32), np.full((scenes, 2), -1)
    counts = np.arange(scenes) % 3
    for scene, count in enumerate(counts):
        for slot in range(count):
            kind = int(rng.integers(3))
            width, x, y = 3 + 2 * kind, int(rng.integers(4)) + 12 * slot, int(rng.integers(14))
            images[scene, y : y + 6, x : x + width] = 200 + slot
            segments[scene, y : y + 6, x : x + width] = slot + 1
            boxes[scene, slot], labels[scene, slot] = (x, y, width, 6), kind
    return SceneSet(images, counts, boxes, labels, None, segments)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    blobs(60, 0).save(folder / "test.npz")
    blobs(90, 1).save(folder / "train.npz")
    np.save(folder / "pictures.npy", blobs(30, 2).images)
    return folder


@pytest.fixture(scope="module")
def saved_model(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "air.keras"
    checkpoints.save_weights(tiny_model, path)
    return path


@pytest.fixture(scope="module")
def exported(saved_model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "embeddings"
    return folder, export.export(saved_model, folder, QUICK, data=data)


def table(text):
    rows = list(csv.reader(io.StringIO(text), delimiter="\t"))
    return rows[0], rows[1:]


# Objects


@pytest.mark.parametrize("picture", [None, "reconstruction", "crop"])
def test_attention_is_what_the_model_infers(tiny_model, tiny_images, picture):
    images = np.rint(tiny_images * 255).astype(np.uint8)
    seen = []
    found, expected = objects.attend(tiny_model, images, picture, seen.append), tiny_model.infer(images)
    assert sum(seen) == len(images)
    for field, name in zip(found[:6], ("count", "presence", "scale", "shift", "boxes", "z_what"), strict=True):
        np.testing.assert_allclose(field, getattr(expected, name), atol=1e-5)
    if picture == "reconstruction":
        assert found.pictures.dtype == np.uint8
        np.testing.assert_allclose(found.pictures / 255, expected.decoded_windows, atol=0.5 / 255 + 1e-5)
    elif picture is None:
        assert found.pictures is None


def test_crop_is_what_the_window_shows(tiny_model, tiny_images):
    images = np.rint(tiny_images * 255).astype(np.uint8)
    found = objects.attend(tiny_model, images, "crop")
    z_where = np.concatenate([found.scale[..., None], found.shift], axis=-1)
    expected = transformer.crop(tf.constant(images / np.float32(255)), z_where, (8, 6))
    np.testing.assert_allclose(found.pictures / 255, expected, atol=0.5 / 255 + 1e-5)
    assert found.pictures.any()


def attention_at(boxes, counts):
    boxes = np.asarray(boxes, np.float32)
    blank = np.zeros(boxes.shape[:2], np.float32)
    return Attention(np.asarray(counts), blank, blank, np.zeros((*blank.shape, 2)), boxes, blank[..., None], None)


def scenes_at(boxes, size=(100, 200)):
    """One scene on 100 x 200 pixels: a canvas unit is 50 pixels down, 100 pixels to the right."""
    boxes = np.asarray([boxes], np.float32)
    return SceneSet(np.zeros((1, *size), np.uint8), [boxes.shape[1]], boxes)


@pytest.mark.parametrize(
    ("centre", "expected"),
    [((109, 50), 0), ((121, 50), -1), ((100, 59), 0), ((100, 61), -1)],
)
def test_distance_limit_is_in_canvas_units(centre, expected):
    found = attention_at([[(centre[0] - 5, centre[1] - 5, 10, 10)]], [1])
    truth = objects.match(found, scenes_at([(90, 40, 20, 20)]), 0.2)
    assert truth.tolist() == [[expected]]


def test_as_many_objects_as_possible_are_matched():
    # The shortest total would pair the first with the first and leave the rest too far apart.
    found = attention_at([[(100, 40, 4, 4), (85, 40, 4, 4), (0, 0, 4, 4)]], [2])
    truth = objects.match(found, scenes_at([(100, 40, 4, 4), (115, 40, 4, 4)]), 0.16)
    assert truth.tolist() == [[1, 0, -1]]


def test_absent_steps_are_never_matched():
    found = attention_at([[(100, 40, 4, 4), (50, 40, 4, 4)]], [1])
    assert objects.match(found, scenes_at([(50, 40, 4, 4), (10, 10, 4, 4)]), 3.0).tolist() == [[0, -1]]


def test_alone_keeps_one_digit_at_its_place():
    scenes = blobs(6, 0)
    two = int(np.flatnonzero(scenes.count == 2)[0])
    first, second = objects.alone(scenes, np.array([two, two]), np.array([0, 1]))
    assert set(np.unique(first)) == {0, 200}
    assert set(np.unique(second)) == {0, 201}
    np.testing.assert_array_equal(np.maximum(first, second), scenes.images[two])


# Projections and plots


def test_whitened_components_have_unit_variance_and_leave_out_unused_dimensions():
    vectors = np.random.default_rng(0).normal(size=(500, 5)) * [10, 5, 3, 1e-4, 0]
    white = projections.whitened(vectors)
    assert white.shape == (500, 3)
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=1e-6)


@pytest.mark.parametrize("vectors", [np.ones((1, 4)), np.ones((9, 4)), np.zeros((2, 4))])
def test_too_little_to_project_is_left_out(vectors):
    assert projections.whitened(vectors) is None
    assert projections.pca(vectors) is None


def test_tsne_takes_a_part_and_repeats_itself():
    vectors = np.random.default_rng(0).normal(size=(80, 4))
    plane, again = projections.tsne(vectors, 60, 1), projections.tsne(vectors, 60, 1)
    assert plane.places.shape == (60, 2)
    assert (np.diff(plane.points) > 0).all()
    np.testing.assert_array_equal(plane.places, again.places)
    assert projections.tsne(vectors[:3], 60, 1) is None


def test_mosaic_shows_the_most_central_point_of_a_cell():
    at = (np.array([[5.5, 7.5], [5.9, 7.9]])) / scatter.CELLS
    pictures = np.stack([np.full((3, 2), 255, np.uint8), np.full((3, 2), 51, np.uint8)])
    tint = np.array([[1, 0, 0], [0, 1, 0]])
    image = scatter.mosaic(at, pictures, tint)
    assert image.shape == (scatter.CELLS * 3, scatter.CELLS * 2, 4)
    top = (scatter.CELLS - 1 - 7) * 3
    np.testing.assert_array_equal(image[top : top + 3, 10:12], np.broadcast_to([1, 0, 0, 1], (3, 2, 4)))
    assert image[..., 3].sum() == 6


def test_groups_have_colours_of_their_own():
    digits = np.array([*map(str, range(10)), "none"])
    colours = scatter.group_colours("digit", digits)
    assert list(colours) == digits.tolist()
    assert len(set(colours.values())) == 11
    assert len(set(scatter.group_colours("digit", np.array([*map(str, range(47))])).values())) == 47
    assert scatter.group_colours("step", np.array(["2", "1"])) == {
        "1": (235 / 255, 64 / 255, 52 / 255),
        "2": (52 / 255, 199 / 255, 89 / 255),
    }


# The folder


def test_sprite_is_square_and_in_reading_order():
    pictures = np.arange(1, 6, dtype=np.uint8)[:, None, None] * np.full((5, 8, 6), 40, np.uint8)
    pictures[:, 0, 0] = 0
    ink, opacity = map(np.asarray, projector.sprite(pictures).split())
    assert ink.shape == opacity.shape == (24, 24)
    assert (ink == projector.INK).all()
    cells = opacity.reshape(3, 8, 3, 8).swapaxes(1, 2).reshape(9, 8, 8)
    assert (cells[:5, 1:, 1:7] == 255).all()  # the brightest pixel of each is opaque
    assert (cells[:5, 0, 1] == 0).all()
    assert (cells[:5, :, [0, 7]] == 0).all()
    assert (cells[5:] == 0).all()


def test_capacity_keeps_sprites_within_the_projectors_limit():
    assert projector.capacity(28, 28) == 292**2
    assert projector.capacity(8, 6) == 1024**2
    assert projector.sprite(np.zeros((projector.capacity(1000, 500), 1000, 500), np.uint8)).size == (8000, 8000)


def test_folder_has_nothing_but_its_own_files(exported):
    folder, _ = exported
    names = {path.name for path in folder.iterdir()}
    assert all(OWN_FILES.fullmatch(name) for name in names)
    assert {"projector_config.pbtxt", "z_what.tsv", "embeddings.npz", "pca.png", "tsne.png"} <= names
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    for name in ("pca.png", "tsne.png"):
        assert np.asarray(Image.open(folder / name)).std() > 1


def test_arrays_agree_with_the_model_and_the_truth(exported, tiny_model, data):
    folder, result = exported
    arrays = np.load(folder / "embeddings.npz")
    scenes, found = SceneSet.load(data / "test.npz"), tiny_model.infer(SceneSet.load(data / "test.npz").images)
    scene, step = arrays["scene"], arrays["step"] - 1
    assert len(scene) == result.exported == result.inferred == found.count.sum()
    np.testing.assert_allclose(arrays["z_what"], found.z_what[scene, step], atol=1e-5)
    np.testing.assert_allclose(arrays["box_x"], found.attention_boxes[scene, step, 0], atol=1e-4)
    np.testing.assert_array_equal(arrays["true_count"], scenes.count[scene])
    np.testing.assert_array_equal(arrays["digit"] >= 0, arrays["matched"] == 1)
    assert result.present == scenes.count.sum() == sum(present for present, _ in result.classes.values())
    assert 0 < result.matched == arrays["matched"].sum() == sum(matched for _, matched in result.classes.values())


def test_accuracy_is_the_evaluations_own(exported, saved_model, data, tmp_path):
    _, result = exported
    config = EvaluationConfig(importance_scenes=1, samples=1, other_scenes=0, pyro_scenes=0, figures=False)
    judged = evaluate.evaluate(saved_model, tmp_path / "report", config, data=data)["held_out"]["z_what"]
    assert result.knn == judged["knn"]
    assert result.bank == judged["bank"]


def test_description_has_all_numbers(exported):
    _, result = exported
    text = export.describe(result._replace(exported=7, capacity=7, knn=0.5, clean=3))
    for part in (f"{result.present} objects present", f"{result.matched} matched", "50.0 %", "first 7 of", "8192", "Clean: 3"):
        assert part in text
    assert "8192" not in export.describe(result._replace(exported=7))
    assert "5-NN" not in export.describe(result._replace(knn=None, classes={}))


# What TensorBoard makes of it


@pytest.fixture(scope="module")
def fetch(exported):
    """Answers of TensorBoard's projector plugin over HTTP: fetch(route, **query) -> bytes."""
    from tensorboard import program
    from tensorboard.plugins.core import core_plugin
    from tensorboard.plugins.projector import projector_plugin

    server = program.TensorBoard(plugins=[core_plugin.CorePluginLoader(), projector_plugin.ProjectorPlugin])
    server.configure(argv=["", "--logdir", str(exported[0]), "--host", "127.0.0.1", "--port", "0", "--load_fast", "false"])
    address = server.launch()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(route, **query):
        url = f"{address.rstrip('/')}/data/plugin/projector/{route}?{urllib.parse.urlencode(query)}"
        with opener.open(url, timeout=20) as answer:
            return answer.read()

    return get


def test_tensorboard_finds_the_embeddings(fetch, exported):
    arrays = np.load(exported[0] / "embeddings.npz")
    assert json.loads(fetch("runs")) == ["."]
    info = json.loads(fetch("info", run="."))["embeddings"]
    assert [entry["tensorName"] for entry in info] == ["z_what", "z_what_whitened", "z_what_clean"]
    for entry in info:
        assert entry["tensorShape"] == list(arrays[entry["tensorName"]].shape)
        assert entry["sprite"]["singleImageDim"] == [8, 8]
        assert not any("/" in value for key, value in entry.items() if key.endswith("Path"))


@pytest.mark.parametrize("name", ["z_what", "z_what_whitened", "z_what_clean"])
def test_tensorboard_serves_vectors_metadata_and_sprites(fetch, exported, name):
    arrays = np.load(exported[0] / "embeddings.npz")
    vectors = np.frombuffer(fetch("tensor", run=".", name=name), np.float32).reshape(arrays[name].shape)
    np.testing.assert_allclose(vectors, arrays[name], rtol=1e-4, atol=1e-5)

    head, rows = table(fetch("metadata", run=".", name=name).decode())
    assert head == [*KNOWN, *ALWAYS]
    assert len(rows) == len(vectors)
    prefix = "clean_" if name == "z_what_clean" else ""
    digits = ["none" if digit < 0 else str(digit) for digit in arrays[f"{prefix}digit"]]
    assert [row[0] for row in rows] == digits
    np.testing.assert_allclose([float(row[head.index("scale")]) for row in rows], arrays[f"{prefix}scale"], rtol=1e-3)

    image = Image.open(io.BytesIO(fetch("sprite_image", run=".", name=name)))
    columns = int(np.ceil(len(vectors) ** 0.5))
    assert image.size == (8 * columns, 8 * columns)
    opacity = np.asarray(image)[..., 1].reshape(columns, 8, columns, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    assert (opacity[: len(vectors)].max(axis=(1, 2)) == 255).all()
    assert not opacity[len(vectors) :].any()


def test_tensorboard_serves_bookmarks(fetch, exported):
    views = json.loads(fetch("bookmarks", run=".", name="z_what"))
    assert [view["label"] for view in views] == ["PCA, by digit", "t-SNE, by digit"]
    places = np.load(exported[0] / "embeddings.npz")["tsne"]
    assert len(views[1]["projections"]) == len(places) == 50
    assert len(views[1]["filteredPoints"]) == 50
    assert {view["selectedColorOptionName"] for view in views} == {"digit"}


# Other data, and mistakes


def test_pictures_alone_are_enough(saved_model, data, tmp_path):
    result = export.export(saved_model, tmp_path / "out", QUICK.replace(limit=9, sprite="crop"), data=data / "pictures.npy")
    assert (result.present, result.matched, result.knn, result.clean, result.exported) == (None, None, None, None, 9)
    assert "Cut: exported are the first 9 of" in export.describe(result)
    head, rows = table((tmp_path / "out" / "metadata_scenes.tsv").read_text())
    assert head == ALWAYS
    assert len(rows) == 9
    assert "tensor_shape: 9\n" in (tmp_path / "out" / "projector_config.pbtxt").read_text()
    assert not (tmp_path / "out" / "z_what_clean.tsv").exists()


@pytest.mark.parametrize("known", [("counts",), ("counts", "boxes")])
def test_partly_labelled_scenes_have_the_columns_that_are_known(saved_model, tmp_path, known):
    scenes = blobs(12, 3)
    SceneSet(scenes.images, **{name: getattr(scenes, name) for name in known}).save(tmp_path / "some.npz")
    export.export(saved_model, tmp_path / "out", QUICK, data=tmp_path / "some.npz")
    head, _ = table((tmp_path / "out" / "metadata_scenes.tsv").read_text())
    assert head == [*(["true_count", "matched"][: len(known)]), *ALWAYS]


def test_a_single_object_is_exported(saved_model, data, tmp_path):
    result = export.export(saved_model, tmp_path / "out", QUICK.replace(limit=1), data=data / "pictures.npy")
    assert result.exported == 1
    assert len((tmp_path / "out" / "z_what.tsv").read_text().splitlines()) == 1


def test_no_object_is_an_error_that_leaves_nothing(make_model, data, tmp_path):
    blind = make_model()
    blind.controller.heads["presence"].layers[-1].bias.assign([-100.0])
    checkpoints.save_weights(blind, tmp_path / "blind.keras")
    with pytest.raises(DataError, match="finds no object in these 60 scenes"):
        export.export(tmp_path / "blind.keras", tmp_path / "out", QUICK, data=data)
    assert [path.name for path in tmp_path.iterdir()] == ["blind.keras"]


def test_a_failure_leaves_the_old_folder_as_it_was(saved_model, data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export.export(saved_model, out, QUICK, data=data / "pictures.npy")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(folder, embeddings):
        (folder / "z_what.tsv").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(projector, "write", fail)
    with pytest.raises(UsageError, match="exists already"):
        export.export(saved_model, out, QUICK, data=data / "pictures.npy")
    with pytest.raises(DataError, match="No space left"):
        export.export(saved_model, out, QUICK, data=data / "pictures.npy", overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_script_writes_and_overwrites_only_embeddings(run_script, saved_model, data, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").touch()
    flags = ["--run", saved_model, "--data", data, "--distance", 0.5]
    done = run_script("embeddings.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "5-NN accuracy" in done.stdout
    assert "tensorboard --logdir embeddings" in done.stdout
    assert done.stderr == ""
    for more, part in (([], "embeddings exists already"), (["--output", "mine", "--overwrite"], "diary.txt")):
        refused = run_script("embeddings.py", *flags, *more)
        assert refused.returncode == 2
        assert part in refused.stderr
        assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "status", "part"),
    [
        ([], 1, "model: no such file or folder"),
        (["--run", ".", "--data", "nowhere.npz"], 1, "nowhere.npz: no such file or folder"),
        (["--limit", 0], 2, "limit"),
        (["--distance", "nan"], 2, "distance"),
        (["--sprite", "photo"], 2, "sprite"),
    ],
)
def test_script_refuses_in_one_line(run_script, tmp_path, flags, status, part):
    refused = run_script("embeddings.py", *flags)
    assert refused.returncode == status
    assert part in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())
