"""What a run folder's files may and may not say."""

import json

import pytest

from air.config import AIRConfig, TrainingConfig
from air.errors import AIRError, DataError
from air.training.run_folder import MetricsFile, RunFolder

ROW = {
    "step": 10,
    "seconds": 1.5,
    "compile_seconds": 1.0,
    "scoring_seconds": 0.2,
    "train_loss": 99.0,
    "count_accuracy/all": 0.5,
}
HEAD = ",".join(ROW)


@pytest.fixture
def metrics(tmp_path):
    return MetricsFile(tmp_path / "metrics.csv")


def test_rows_are_what_was_appended(metrics):
    assert metrics.rows() == []
    metrics.append(ROW)
    metrics.append({**ROW, "step": 20})
    assert metrics.rows() == [ROW, {**ROW, "step": 20}]
    assert metrics.rewind(15) == ROW
    assert metrics.rows() == [ROW]
    assert metrics.rewind(5) == {}
    assert not metrics.path.exists()


@pytest.mark.parametrize("cut", ["", "2", "20,1.", "20,1.5,1.0,0.2,99.0,0.5"])
def test_a_row_that_was_cut_off_is_left_out(metrics, capsys, cut):
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
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "no column 'step'"),
        (f"{HEAD},step\n1,1,1,1,1,1,1\n", "two columns of one name"),
        (f"{HEAD}\n1,1\n", "shorter"),
        (f"{HEAD}\n1,1,1,1,1,1,1\n", "longer"),
        (f"{HEAD}\n1,1,1,1,1,x\n", "could not convert"),
        (f"{HEAD}\n1,1,1,1,nan,1\n", "impossible values in line 2"),
        (f"{HEAD}\n1,1,1,1,1,1\n1.5,1,1,1,1,1\n", "impossible values in line 3"),
        (f"{HEAD}\n-1,1,1,1,1,1\n", "impossible values"),
        (f"{HEAD}\ninf,1,1,1,1,1\n", "impossible values"),
        (f"{HEAD}\n{'9' * 200_000},1,1,1,1,1\n", "field larger"),
    ],
)
def test_damaged_metrics(metrics, text, reason):
    metrics.path.write_text(text)
    with pytest.raises(DataError, match=r"metrics\.csv: damaged, or not the metrics of a run") as caught:
        metrics.rows()
    assert reason in str(caught.value)


def test_metrics_that_are_no_text(metrics):
    metrics.path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match="damaged"):
        metrics.rows()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: [], "not the configuration of a run"),
        (lambda record: {**record, "model": 5}, "must be an object of named fields"),
        (lambda record: {**record, "model": {"self": 1}}, "self: AIRConfig has no such field"),
        (lambda record: {**record, "model": {"max_steps": 10**400}}, "max_steps"),
        (lambda record: {**record, "data": None}, "data: None is not allowed"),
        (lambda record: {**record, "data": "a\0b"}, "data"),
        (lambda record: {**record, "data": "\ud800"}, "data"),
        (lambda record: {**record, "held_out": 5}, "held_out: 5 is not allowed"),
        (lambda record: {key: value for key, value in record.items() if key != "training"}, "not the configuration of a run"),
    ],
)
def test_damaged_configurations(tmp_path, change, reason):
    folder = RunFolder.create(tmp_path / "run")
    folder.record(AIRConfig(), TrainingConfig(), data="multi_mnist", held_out=None)
    assert folder.read()[0] == AIRConfig()
    record = json.loads((folder.path / "config.json").read_text())
    (folder.path / "config.json").write_text(json.dumps(change(record)))
    with pytest.raises(DataError, match=r"config\.json: ") as caught:
        folder.read()
    assert reason in str(caught.value)


def test_a_configuration_that_is_nested_without_end(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deeply"):
        RunFolder(tmp_path).read()


def test_a_run_that_was_killed_in_its_first_moment_can_be_replaced(tmp_path):
    (tmp_path / "run" / "models").mkdir(parents=True)
    (tmp_path / "run" / ".air-a1b2c3d4.json").write_text("{")  # of config.json
    assert RunFolder.create(tmp_path / "run", overwrite=True).models.is_dir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".settings.json").write_text("{}")
    with pytest.raises(AIRError, match=r"mine: holds '\.settings\.json', which is no part of a run, so it is not replaced"):
        RunFolder.create(tmp_path / "mine", overwrite=True)


@pytest.mark.parametrize("content", ["{}", "[]", '{"model": {}, "training": {"iterations": -1}}'])
def test_a_folder_with_another_config_is_not_replaced(tmp_path, content):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(content)
    with pytest.raises(AIRError, match=r"config\.json: .*, so it is not replaced"):
        RunFolder.create(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "config.json").read_text() == content


@pytest.mark.parametrize("name", ["thesis.txt", "models/thesis.txt", "source/main.c"])
def test_a_folder_with_anything_else_is_not_replaced(tmp_path, name):
    for part in ("models", "source"):
        (tmp_path / "mine" / part).mkdir(parents=True)
    (tmp_path / "mine" / name).write_text("years of work")
    with pytest.raises(AIRError, match="so it is not replaced"):
        RunFolder.create(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / name).read_text() == "years of work"


@pytest.mark.parametrize("inside", [".", "models"])
def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch, inside):
    run = RunFolder.create(tmp_path / "run")
    run.record(AIRConfig(), TrainingConfig(), data="multi_mnist", held_out=None)
    monkeypatch.chdir(run.path / inside)
    with pytest.raises(AIRError, match="has the current folder in it"):
        RunFolder.create(run.path if inside != "." else ".", overwrite=True)
    assert run.read()[0] == AIRConfig()


def test_updates(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.record(AIRConfig(), TrainingConfig(iterations=100), data="multi_mnist", held_out=None)
    run.update(iterations=300, data="elsewhere")
    _, training, record = run.read()
    assert (training.iterations, record["data"], record["training"]["iterations"]) == (300, "elsewhere", 300)


def test_hidden_files_of_others_stay(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    (run.path / ".settings.json").write_text("mine")
    (run.path / ".air-a1b2c3d4.json").write_text("half")
    (run.path / ".air-a1b2c3d4.tmp").mkdir()
    del run
    RunFolder(tmp_path / "run").claim()
    assert sorted(path.name for path in (tmp_path / "run").glob(".*")) == [".air-a1b2c3d4.tmp", ".settings.json"]
