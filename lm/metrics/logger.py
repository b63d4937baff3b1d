"""What a run tells: JSON lines, TensorBoard curves and lines for whoever launched it."""

import json
import sys
from pathlib import Path
from typing import Any, Self

from infra.store.cache_dir import write_atomic
from lm.metrics.mlflow import MlflowLogger


class NullLogger:
    """For the processes that do not speak."""

    def write(self, line: dict[str, Any]) -> None:
        """Ignore it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""


class MetricsLogger(NullLogger):
    """Appends to ``metrics.jsonl``, draws TensorBoard's curves, and prints each line.

    A run that goes on from a checkpoint first takes back what was noted after it, and draws the
    curves anew from what is left, so that both tell each step once, and all steps, whichever
    machine or branch took them.
    """

    def __init__(self, folder: Path, step: int, mlflow_logger: MlflowLogger | None = None) -> None:
        """Go on at ``step`` steps done.

        Args:
            folder: holds ``metrics.jsonl`` and ``tensorboard/``.
            step: later lines are taken back.
            mlflow_logger: a server that is told, too.
        """
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
        """Note it in all places."""
        text = json.dumps(line)
        self._file.write(text + "\n")
        self._write_event(line)
        if self._mlflow_logger is not None:
            self._mlflow_logger.write(line)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

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

    def __exit__(self, *error: object) -> None:
        """Flush everything to the disk, and tell the server how it ended."""
        self._file.close()
        self._event_writer.close()
        if self._mlflow_logger is not None:
            self._mlflow_logger.close(failed=error[0] is not None)


def _new_event_file(folder: Path) -> Any:
    """A writer to a new file of events, which counts alone from now on.

    A TensorBoard that shows the run forgets what it has read of the former files when it meets the
    mark of a start. They are not removed, since it would wait for ever for more from a file that is
    gone.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    writer.add_event(Event(step=0, session_log=SessionLog(status=SessionLog.START)))
    return writer


def tensorboard_file(folder: Path) -> Path:
    """The file with all curves of a run that has ended."""
    return max((folder / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; none if it is not there. A torn last line is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
