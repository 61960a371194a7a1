"""What is left of TensorBoard's event files when a run goes on from a checkpoint."""

import os
import struct

import pytest
import tensorflow as tf
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from air.training import summaries


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


def test_links_lead_nowhere(folder, tmp_path):
    (tmp_path / "diary.txt").write_text("years of work")
    (folder / "train" / "events.out.tfevents.99").symlink_to(tmp_path / "diary.txt")
    (tmp_path / "other" / "x").mkdir(parents=True)
    (tmp_path / "other" / "x" / "events.out.tfevents.1").write_text("of another run")
    (folder / "linked").symlink_to(tmp_path / "other" / "x")
    summaries.rewind(folder, 100)
    assert (tmp_path / "diary.txt").read_text() == "years of work"
    assert (tmp_path / "other" / "x" / "events.out.tfevents.1").read_text() == "of another run"


def test_what_is_no_file_is_left_alone(folder):
    os.mkfifo(folder / "train" / "events.out.tfevents.98")
    (folder / "train" / "events.out.tfevents.99").mkdir()
    summaries.rewind(folder, 100)
    assert len(list((folder / "train").iterdir())) == 3


@pytest.mark.parametrize("length", [1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_record_of_absurd_length_ends_the_file(folder, length):
    """With the right checksum of its length, which TensorFlow would trust."""
    (path,) = folder.glob("train/events*")
    whole, head = path.read_bytes(), struct.pack("<Q", length)
    checksum = masked_crc32c(head)
    path.write_bytes(whole + head + struct.pack("<I", checksum) + bytes(100))
    summaries.rewind(folder, 100)
    assert path.read_bytes() == whole
