"""The log survives damage, full disks and clocks, and never keeps a run waiting."""

import json
import logging
import os
import resource

import pytest
from tensorboardX.proto import event_pb2

from seg_jax.checks import UserError
from seg_jax.runs import log, tensorboard


def line(step, **values):
    return json.dumps({"kind": "train", "step": step, **values}).encode() + b"\n"


@pytest.mark.parametrize(
    "bad", [b"\xa5\xff\n", b"[1]\n", b"3\n", b'{"step": 2}\n', b'{"kind": "train"}\n', b"[" * 9999]
)
def test_lines_that_are_not_the_log_s_are_skipped_and_said(tmp_path, caplog, bad):
    bad = bad.removesuffix(b"\n") + b"\n"
    (tmp_path / "metrics.jsonl").write_bytes(line(1, seconds=5.0) + bad + line(3))
    with caplog.at_level(logging.WARNING):
        assert [found["step"] for found in log.read(tmp_path)] == [1, 3]
    assert "metrics.jsonl: line 2 cannot be read: skipped" in caplog.text
    run_log = log.RunLog(tmp_path, 3, active=True)  # and the run goes on
    run_log.close()
    assert run_log.seconds_before == 5.0


def test_a_half_written_last_line_is_what_a_kill_leaves_and_no_damage(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").write_bytes(line(1) + line(2)[:9])
    assert [found["step"] for found in log.read(tmp_path)] == [1]
    assert not caplog.records


def test_a_pipe_under_the_log_s_name_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match="not a regular file"):
        log.read(tmp_path)


def test_evaluated_steps_are_known_after_a_resume_and_later_ones_dropped(tmp_path):
    first = log.RunLog(tmp_path, 0, active=True)
    for step in (2, 4):
        first.write("evaluate", step, {"mean_iou": 0.5})
    first.close()
    assert log.RunLog(tmp_path, 3, active=False).evaluated == {2}
    assert [found["step"] for found in log.read(tmp_path)] == [2, 4]


def test_a_full_disk_costs_no_line_and_no_waiting(tmp_path, caplog):
    run_log = log.RunLog(tmp_path, 0, active=True)
    run_log.write("train", 1, {"loss": 1.0})
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        for step in range(2, 200):  # more than any queue holds
            run_log.write("train", step, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(caplog.records) == 1 and "cannot be written now" in caplog.text
    run_log.write("train", 200, {"loss": 1.0})
    run_log.close()
    assert [found["step"] for found in log.read(tmp_path)] == list(range(1, 201))


def test_a_piece_is_appended_as_a_whole_or_not_at_all(tmp_path):
    file = tensorboard.Appender(tmp_path / "file")
    file.append(b"1234")
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, hard))  # two bytes of the next piece fit
    try:
        with pytest.raises(OSError, match="File too large"):
            file.append(b"5678")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "file").read_bytes() == b"1234"
    file.append(b"abcd")
    file.close()
    assert (tmp_path / "file").read_bytes() == b"1234abcd"


def masked_crc32c(data):
    """Castagnoli's CRC, bit by bit, masked as a TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def events(folder):
    """Read event files, with checksums of another implementation."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            record = data[12 : 12 + length]
            for part, at in ((data[:8], 8), (record, 12 + length)):
                assert masked_crc32c(part) == int.from_bytes(data[at : at + 4], "little")
            yield event_pb2.Event.FromString(record)
            data = data[16 + length :]


def test_tensorboard_reads_what_is_written_whatever_the_clock_says(tmp_path, monkeypatch):
    clock = iter(range(1000, 0, -10))  # backwards
    monkeypatch.setattr(tensorboard.time, "time", lambda: float(next(clock)))
    board = tensorboard.Board(tmp_path / "board", purge_step=7)
    for step in range(7, 40):
        board.write(step, {"train/loss": step / 8, "train/accuracy": 0.5})
    board.write(40, {})
    board.close()
    version, start, *scalars = events(tmp_path / "board")
    assert version.file_version == "brain.Event:2"
    assert start.step == 7 and start.session_log.status == event_pb2.SessionLog.START
    assert [event.step for event in scalars] == list(range(7, 40))
    assert [value.tag for value in scalars[0].summary.value] == ["train/loss", "train/accuracy"]
    assert [event.summary.value[0].simple_value for event in scalars][:2] == [7 / 8, 1.0]
