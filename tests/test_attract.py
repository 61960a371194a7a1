"""The recording that the demo shows while TensorFlow loads."""

from pathlib import Path

import numpy as np
import pytest

from air.errors import DataError
from air.evaluation import attract
from air.training import checkpoints

MODEL = Path(__file__).resolve().parent.parent / "model"


def test_a_recording_is_what_the_model_infers(tiny_model, tiny_images, tmp_path):
    images = np.uint8(255 * tiny_images)
    recorded = attract.record(tiny_model, images)
    attract.save(tmp_path / "attract.npz", recorded)
    scenes = tiny_model.infer(images)
    for i, scene in enumerate(attract.load(tmp_path / "attract.npz")):
        np.testing.assert_array_equal(scene.image, images[i])
        assert scene.count == scenes.count[i]
        np.testing.assert_allclose(scene.attention_boxes, scenes.attention_boxes[i], rtol=1e-6)
        np.testing.assert_allclose(scene.reconstruction, scenes.reconstruction[i], atol=0.01)
        assert scene.labels == ()


@pytest.mark.parametrize("content", [None, b"junk", {"image": np.zeros((2, 3, 3))}])
def test_what_is_no_recording_is_refused(tmp_path, content):
    path = tmp_path / "attract.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        np.savez(path, **content)
    with pytest.raises(DataError, match=r"attract\.npz"):
        attract.load(path)


def test_the_shipped_recording_is_of_the_shipped_weights():
    recorded, model = attract.load(MODEL / attract.ATTRACT), checkpoints.load(MODEL)
    assert (MODEL / attract.ATTRACT).stat().st_size <= 200_000
    scenes = model.infer(np.stack([scene.image for scene in recorded]))
    np.testing.assert_array_equal([scene.count for scene in recorded], scenes.count)
    for scene, boxes in zip(recorded, scenes.attention_boxes, strict=True):
        np.testing.assert_allclose(scene.attention_boxes[: scene.count], boxes[: scene.count], atol=0.1)
    assert all(len(scene.labels) == scene.count for scene in recorded)
