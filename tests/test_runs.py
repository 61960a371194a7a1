"""The files of a run folder, and which folders may be replaced by a new run."""

import datetime
import json
import platform
import subprocess

import pytest

from air.config import AIRConfig, TrainingConfig
from air.errors import AIRError, DataError
from air.training.run_folder import ROOT, MetricsFile, RunFolder, git_commit

ROW = {"step": 10, "seconds": 1.5, "scoring_seconds": 0.2, "train_loss": 99.0, "count_accuracy/all": 0.5}
HEAD = ",".join(ROW)


@pytest.fixture
def metrics(tmp_path):
    return MetricsFile(tmp_path / "metrics.csv")


def new_run(path):
    folder = RunFolder.create(path)
    folder.record(AIRConfig(), TrainingConfig(iterations=100), data="multi_mnist", held_out=None)
    return folder


def test_rows_are_what_was_appended(metrics):
    assert metrics.rows() == []
    metrics.append(ROW)
    metrics.append({**ROW, "step": 20})
    assert metrics.path.read_text() == f"{HEAD}\n10,1.5,0.2,99,0.5\n20,1.5,0.2,99,0.5\n"
    assert metrics.rows("seconds") == [ROW, {**ROW, "step": 20}]
    assert metrics.rewind(15) == ROW
    assert metrics.rows() == [ROW]
    assert metrics.rewind(5) == {}
    assert not metrics.path.exists()


def test_the_row_at_an_end_between_two_intervals_goes(metrics):
    for step in (10, 20, 23):
        metrics.append({**ROW, "step": step})
    assert metrics.rewind(23, every=10)["step"] == 23  # the clocks continue from there
    assert [row["step"] for row in metrics.rows()] == [10, 20]


@pytest.mark.parametrize("cut", ["", "2", "20,1.", "20,1.5,0.2,99.0,0.5"])
def test_an_incomplete_row_is_left_out(metrics, capsys, cut):
    """As after a power failure or on a full disk."""
    metrics.append(ROW)
    with open(metrics.path, "a") as file:
        file.write(cut)
    assert metrics.rows() == [ROW]
    assert ("its last row is incomplete" in capsys.readouterr().err) == bool(cut)
    metrics.rewind(10)
    metrics.append({**ROW, "step": 20})
    assert [row["step"] for row in metrics.rows()] == [10, 20]


@pytest.mark.parametrize("head", ["", "step,sec"])
def test_a_file_without_a_whole_line_has_no_rows(metrics, head):
    metrics.path.write_text(head)
    assert metrics.rows() == []
    assert metrics.rewind(10) == {}
    metrics.append(ROW)
    assert metrics.rows() == [ROW]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b\n1,2\n", "no column 'step'"),
        (f"{HEAD}\n1,1\n".encode(), "damaged"),
        (f"{HEAD}\n1,1,1,1,1,1\n".encode(), "damaged"),
        (f"{HEAD}\n1,1,1,1,x\n".encode(), "could not convert"),
        (f"{HEAD}\n1,1,1,nan,1\n".encode(), "not finite"),
        (b"\xff\xfe\n", "damaged"),
    ],
)
def test_damaged_metrics(metrics, content, reason):
    metrics.path.write_bytes(content)
    with pytest.raises(DataError, match=r"metrics\.csv: damaged, or not the metrics of a run") as caught:
        metrics.rows()
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: [], "not the configuration of a run"),
        (lambda record: {**record, "model": 5}, "must be an object of named fields"),
        (lambda record: {**record, "model": {"self": 1}}, "self: AIRConfig has no such field"),
        (lambda record: {**record, "data": None}, "data: None is not allowed"),
        (lambda record: {**record, "held_out": 5}, "held_out: 5 is not allowed"),
        (lambda record: {key: value for key, value in record.items() if key != "training"}, "not the configuration of a run"),
    ],
)
def test_damaged_configurations(tmp_path, change, reason):
    folder = new_run(tmp_path / "run")
    assert folder.read().model == AIRConfig()
    record = json.loads((folder.path / "config.json").read_text())
    (folder.path / "config.json").write_text(json.dumps(change(record)))
    with pytest.raises(DataError, match=r"config\.json: ") as caught:
        folder.read()
    assert reason in str(caught.value)


def test_a_run_records_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/bin/training.py", "--run", "my run"])
    fields = new_run(str(tmp_path / "run")).read().fields
    assert fields["command"] == "python training.py --run 'my run'"
    age = datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(fields["date"])
    assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=5)
    assert fields["host"] == platform.node()
    assert fields["commit"] == git_commit(ROOT)


def test_the_commit_of_a_checkout(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert git_commit(tmp_path) is None
    git("init")
    assert git_commit(tmp_path) is None  # as there is no commit yet
    git("commit", "--allow-empty", "--message", "Begin")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "site-packages").mkdir()
    assert git_commit(tmp_path / "site-packages") is None


def test_updates(tmp_path):
    folder = new_run(tmp_path / "run")
    folder.update(iterations=300, data="elsewhere")
    _, training, record = folder.read()
    assert (training.iterations, record["data"], record["training"]["iterations"]) == (300, "elsewhere", 300)


def test_run_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [RunFolder.create(None).path.name for _ in range(3)]
    assert names == ["air_results", "air_results_1", "air_results_2"]
    (tmp_path / "air_results" / "mine.txt").touch()
    with pytest.raises(AIRError, match=r"'mine\.txt', which is not part of a run"):
        RunFolder.check(None, overwrite=True)


def test_a_run_is_only_replaced_on_demand(tmp_path):
    path = new_run(tmp_path / "run").path
    with pytest.raises(AIRError, match="run exists already; choose another --run, or add --overwrite"):
        RunFolder.create(path)
    assert RunFolder(path).read().training.iterations == 100
    folder = RunFolder.create(path, overwrite=True)
    assert sorted(entry.name for entry in folder.path.iterdir()) == [".lock", "models", "summary"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run"]


def test_a_run_that_was_killed_in_its_first_moment_can_be_replaced(tmp_path):
    (tmp_path / "run/models").mkdir(parents=True)
    (tmp_path / "run/.air-a1b2c3d4.json").write_text("{")  # of config.json
    assert RunFolder.create(tmp_path / "run", overwrite=True).models.is_dir()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("thesis.txt", "years of work"),
        ("models/thesis.txt", "years of work"),
        ("source/main.c", "years of work"),
        (".settings.json", "{}"),
        ("config.json", "{}"),
        ("config.json", '{"model": {}, "training": {"iterations": -1}}'),
    ],
)
def test_a_folder_with_anything_else_is_not_replaced(tmp_path, name, content):
    for part in ("models", "source"):
        (tmp_path / "mine" / part).mkdir(parents=True)
    (tmp_path / "mine" / name).write_text(content)
    with pytest.raises(AIRError, match="is not replaced"):
        RunFolder.create(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / name).read_text() == content


@pytest.mark.parametrize("inside", [".", "models"])
def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch, inside):
    folder = new_run(tmp_path / "run")
    monkeypatch.chdir(folder.path / inside)
    with pytest.raises(AIRError, match="contains the current folder"):
        RunFolder.create(folder.path if inside != "." else ".", overwrite=True)
    assert folder.read().model == AIRConfig()
