"""TensorBoard's event files when a run is resumed, scores of held-out scenes, the animation, progress and interruption."""

import signal
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from air.config import TrainingConfig
from air.data.scenes import SceneSet
from air.model.generative import cross_entropy
from air.support import cli, drawing
from air.training import animation, progress, summaries, validation
from air.training.callbacks import Interruption
from air.training.progress import Progress


@pytest.fixture
def folder(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path / "train"))
    with writer.as_default():
        for step in range(10, 60, 10):
            tf.summary.scalar("loss", 1.0, step=step)
    writer.close()
    return tmp_path


def steps(folder):
    (path,) = folder.glob("*/events*")
    return [event.step for event in tf.compat.v1.train.summary_iterator(str(path))]


@pytest.mark.parametrize(
    ("step", "left"), [(100, [0, 10, 20, 30, 40, 50]), (35, [0, 10, 20, 30]), (30, [0, 10, 20, 30]), (0, [0])]
)
def test_events_after_the_step_go(folder, step, left):
    summaries.rewind(str(folder), step, TrainingConfig())
    assert steps(folder) == left


@pytest.mark.parametrize(("name", "tag"), [("train", "attention"), ("validation", "attention"), ("validation", "loss/all")])
@pytest.mark.parametrize(("step", "left"), [(20, [0, 20]), (23, [0])])
def test_what_only_the_end_of_a_run_has_goes(tmp_path, name, tag, step, left):
    writer = tf.summary.create_file_writer(str(tmp_path / name))
    with writer.as_default(step=step):
        tf.summary.scalar(tag, 1.0)
    writer.close()
    summaries.rewind(tmp_path, 23, TrainingConfig(images_every=10, validate_every=10))
    assert steps(tmp_path) == left


@pytest.mark.parametrize("length", [1, 20, 50])
def test_a_half_written_event_goes(folder, length):
    (path,) = folder.glob("train/events*")
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-100:][:length])
    summaries.rewind(folder, 100, TrainingConfig())
    assert path.read_bytes() == whole


def test_count_scores(tiny_model, tiny_images):
    scenes = SceneSet(np.rint(255 * tiny_images).astype(np.uint8), np.arange(8) % 4)
    scores = validation.count_scores(tiny_model, scenes, batch_size=3)
    inferred = tiny_model.infer(scenes.images)
    right = inferred.count == scenes.count
    assert scores["count_accuracy/all"] == right.mean()
    assert [scores[f"count_accuracy/{count}"] for count in range(4)] == [right[count::4].mean() for count in range(4)]
    nats = cross_entropy(tf.constant(scenes.images / 255, tf.float32), tf.constant(inferred.reconstruction)).numpy()
    assert scores["reconstruction/all"] == pytest.approx(nats.mean(), rel=1e-5)
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


@pytest.fixture
def clock(monkeypatch):
    """The time of a run: clock.now, in seconds."""
    clock = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock.now)
    return clock


def show(progress, clock, times):
    """Let a run be at each step at its time."""
    for seconds, step, logs in times:
        clock.now = 1000.0 + seconds
        progress.on_step(step, {"loss": 12.34, "count_accuracy": 0.5, **logs})
    progress.close()


STEPS = [
    (300, 20, {}),
    (302, 40, {"val_count_accuracy": 0.25}),
    (304, 60, {}),
    (315, 170, {"val_count_accuracy": 0.75}),
    (318, 200, {}),
]


def test_a_log_gets_whole_lines(capsys, clock):
    show(Progress(0, 200, labelled=True), clock, STEPS)
    assert capsys.readouterr().err.splitlines() == [
        "Compiling the training step ...",
        "step 40/200, loss 12.3, count 50.0%, held-out 25.0%, 10 steps/s, 00:16 left",  # 300 s were the compiler's
        "step 170/200, loss 12.3, count 50.0%, held-out 75.0%, 10 steps/s, 00:03 left",
        "step 200/200, loss 12.3, count 50.0%, held-out 75.0%, 10 steps/s, 00:00 left",
    ]


def test_a_terminal_gets_one_live_line(capsys, clock, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show(Progress(0, 200, labelled=False), clock, STEPS)
    first, *live = capsys.readouterr().err.rstrip().split("\n")
    assert first == "Compiling the training step ..."
    assert len(live) == 1
    assert live[0].count("\r") > 1
    last = live[0].rpartition("\r")[2]
    assert last.startswith("200/200 ")
    assert last.endswith(" loss 12.3, held-out 75.0%, 10 steps/s, 00:00 left")
    assert "?" not in live[0]


def test_a_hidden_progress_shows_nothing(capsys, clock):
    show(Progress(0, 200, labelled=True, hidden=True), clock, STEPS)
    assert capsys.readouterr().err == ""


def test_a_command_line_is_that_of_the_user(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/me/training.py"])
    assert cli.command("evaluation", Path("my run")) == "python evaluation.py 'my run'"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/air-train"])
    lines = [
        cli.command("training", "--resume", "my run"),
        cli.command("evaluation", "run"),
        cli.command("demo", "--model", "run"),
        cli.command("embeddings", "--run", "run"),
    ]
    assert lines == ["air-train --resume 'my run'", "air-evaluate run", "air-demo --model run", "air-embeddings --run run"]


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


def test_a_thread_leaves_signals_alone():
    found = []

    def enter():
        with Interruption(types.SimpleNamespace()) as interruption:
            found.append((interruption.happened, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(False, signal.getsignal(signal.SIGTERM))]
