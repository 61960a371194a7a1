"""What is left of TensorBoard's event files when a run goes on from a checkpoint."""

import pytest
import tensorflow as tf

from air import summaries


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
    path.write_bytes(whole + whole[:length])
    summaries.rewind(folder, 100)
    assert path.read_bytes()[: len(whole)] == whole
    assert steps(folder)[:6] == [0, 10, 20, 30, 40, 50]


def test_a_record_that_is_no_event_ends_the_file(folder, tmp_path):
    """Its checksums are right, so it is not damaged but forged."""
    (path,) = folder.glob("train/events*")
    whole = path.read_bytes()
    with tf.io.TFRecordWriter(str(tmp_path / "forged")) as writer:
        writer.write(b"\xff" * 20)
    path.write_bytes(whole + (tmp_path / "forged").read_bytes() + whole)
    summaries.rewind(folder, 100)
    assert path.read_bytes() == whole
