"""The log of a training run: JSON lines, TensorBoard curves, and lines for the launcher."""

import json
import sys
from pathlib import Path
from typing import Any

from infra.store.cache_dir import write_atomic
from lm.metrics.mlflow import MlflowLogger


class MetricsLogger:
    """Appends each line to ``metrics.jsonl``, draws TensorBoard's curves, and prints the line.

    A run that resumes from a checkpoint first removes the lines after it and draws the curves again
    from what is left, so that both hold each step once, and all steps, whichever machine did them.
    """

    def __init__(self, folder: Path, step: int, mlflow_logger: MlflowLogger | None = None) -> None:
        """Open the log in a folder after ``step`` steps; later lines are removed."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        kept = [line for line in read_jsonl(path) if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomic(path, lambda out: out.write(text.encode()))
        self._file = path.open("a", buffering=1)
        self._mlflow_logger = mlflow_logger
        self._event_writer = _new_event_file(folder / "tensorboard")
        for line in kept:
            self._write_event(line)

    def write(self, line: dict[str, Any]) -> None:
        """Write a line everywhere."""
        text = json.dumps(line)
        self._file.write(text + "\n")
        self._write_event(line)
        if self._mlflow_logger is not None:
            self._mlflow_logger.write(line)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def close(self, *, failed: bool) -> None:
        """Flush everything to the disk; MLflow shows whether the run failed."""
        self._file.close()
        self._event_writer.close()
        if self._mlflow_logger is not None:
            self._mlflow_logger.close(failed=failed)

    def _write_event(self, line: dict[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in line.items()
            if name not in ("step", "clock") and isinstance(value, int | float)
        ]
        self._event_writer.add_event(
            Event(wall_time=line["clock"], step=line["step"], summary=Summary(value=values))
        )


def _new_event_file(folder: Path) -> Any:
    """Return a writer to a new event file, which replaces the earlier ones.

    A TensorBoard that shows the run drops what it read of the earlier files when it reads the start
    event. The files are not deleted, because it would wait forever for more from a deleted file.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    writer.add_event(Event(step=0, session_log=SessionLog(status=SessionLog.START)))
    return writer


def tensorboard_file(folder: Path) -> Path:
    """Return the event file with all curves of a run that has ended."""
    return max((folder / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; none if it does not exist. A torn last line is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
