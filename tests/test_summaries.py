"""TensorBoard's event files when a run is resumed, scores of held-out scenes, the animation, and how a run is interrupted."""

import signal
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from air.data.scenes import SceneSet
from air.model.generative import cross_entropy
from air.support import drawing
from air.training import animation, summaries, validation
from air.training.callbacks import Interruption, Progress


@pytest.fixture
def folder(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path / "train"))
    with writer.as_default():
        for step in range(10, 60, 10):
            tf.summary.scalar("loss", 1.0, step=step)
    writer.close()
    return tmp_path


def steps(folder):
    (path,) = folder.glob("train/events*")
    return [event.step for event in tf.compat.v1.train.summary_iterator(str(path))]


@pytest.mark.parametrize(
    ("step", "left"), [(100, [0, 10, 20, 30, 40, 50]), (35, [0, 10, 20, 30]), (30, [0, 10, 20, 30]), (0, [0])]
)
def test_events_after_the_step_go(folder, step, left):
    summaries.rewind(folder, step)
    assert steps(folder) == left


@pytest.mark.parametrize("length", [1, 20, 50])
def test_a_half_written_event_goes(folder, length):
    (path,) = folder.glob("train/events*")
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-100:][:length])
    summaries.rewind(folder, 100)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("reconstructed", [3, 1000])
def test_count_scores(tiny_model, tiny_images, monkeypatch, reconstructed):
    monkeypatch.setattr(validation, "RECONSTRUCTED", reconstructed)
    scenes = SceneSet(np.rint(255 * tiny_images).astype(np.uint8), np.arange(8) % 4)
    scores = validation.count_scores(tiny_model, scenes, batch_size=3)
    inferred = tiny_model.infer(scenes.images)
    right = inferred.count == scenes.count
    assert scores["count_accuracy/all"] == right.mean()
    assert [scores[f"count_accuracy/{count}"] for count in range(4)] == [right[count::4].mean() for count in range(4)]
    nats = cross_entropy(tf.constant(scenes.images / 255, tf.float32), tf.constant(inferred.reconstruction)).numpy()
    assert scores["reconstruction/all"] == pytest.approx(nats[:reconstructed].mean(), rel=1e-5)
    assert set(validation.count_scores(tiny_model, SceneSet(scenes.images))) == {"reconstruction/all"}


def test_frames_are_dense_at_first():
    steps = animation.frame_steps(0, 15000)
    assert steps[-1] == 15000
    assert len(steps) == animation.FRAMES
    assert np.diff(steps)[0] < 20 < 400 < np.diff(steps)[-1]
    assert animation.frame_steps(100, 103) == [101, 102, 103]
    assert animation.frame_steps(100, 100) == []


def test_animation_of_a_training_run(make_model, tiny_images, tmp_path):
    path = tmp_path / "attention.gif"
    model = make_model()
    model.compile(jit_compile=False, run_eagerly=True)
    model.controller.heads["presence"].layers[-1].bias.assign([2.0])
    callback = animation.Animation(path, tiny_images, iterations=6)
    model.fit(tiny_images, batch_size=8, epochs=6, verbose=0, shuffle=False, callbacks=[callback])
    with Image.open(path) as gif:
        assert gif.n_frames == 7
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == animation.MILLISECONDS
        pixels = np.asarray(gif.convert("RGB")).reshape(-1, 3)
    found = model.infer(tiny_images[: animation.SCENES])
    for step in range(found.count.max()):  # an untrained model attends to something at each
        assert (pixels == drawing.colour(step)).all(axis=1).any()


def test_a_large_animation_is_thinned_out(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)) for _ in range(12)]
    monkeypatch.setattr(animation, "MAX_BYTES", 15_000)
    animation.write_gif(tmp_path / "noise.gif", frames)
    assert (tmp_path / "noise.gif").stat().st_size <= 15_000
    with Image.open(tmp_path / "noise.gif") as gif:
        assert 2 <= gif.n_frames < 12
        gif.seek(gif.n_frames - 1)
        assert gif.info["duration"] == animation.PAUSE
    animation.write_gif(tmp_path / "none.gif", [])
    assert not (tmp_path / "none.gif").exists()


def test_progress_is_one_line(capsys):
    progress = Progress(20, 60, labelled=True)
    progress.on_step(40, {"loss": 12.34, "count_accuracy": 0.5})
    progress.bar.close()
    err = capsys.readouterr().err
    assert err.startswith("Compiling the training step ...\n")
    assert "40/60" in err.splitlines()[-1]
    assert "loss 12.3 count 50.0%" in err.splitlines()[-1]
    Progress(0, 60, labelled=False, hidden=True).bar.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_lets_the_steps_finish(number):
    model = types.SimpleNamespace(request_stop=lambda: None)
    before = signal.signal(number, signal.default_int_handler)
    try:
        with Interruption(model) as interruption:
            signal.raise_signal(number)
            assert interruption.happened
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) is signal.default_int_handler
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
        with Interruption(model) as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption.happened
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(number, before)
