"""One training run as a value: the task makes it, the launcher writes it, workers read it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from infra.store.environment import expand, mask
from infra.store.storage import Storage
from lm.checkpoint.marker import CheckpointStore
from lm.config.loop import LoopConfig
from lm.models.registry import parse_job_config

JOB_FILE, RESULT_FILE = "job.json", "result.json"


@dataclass(frozen=True)
class TrainJob:
    """All that a training run depends on. It round-trips through the ``job.json`` of its folder.

    The file holds ``${NAME}`` as the recipe does; a node expands it from its own environment.

    Attributes:
        config: the recipe's entry, or one model of an entry of `finetune`.
        seed: the recipe's seed.
        data: folder of the data set that it trains on: token shards, or prepared examples.
        folder: this node's folder for log, result and, by default, checkpoints; survives a crash.
        compatibility_key: what a checkpoint must agree on to be resumed from, by name.
        base_model: folder of the model whose weights it starts with; by default they are random.
        checkpoint_url: folder of the checkpoints; by default ``checkpoints`` in ``folder``.
        skip: half-open ranges of batch numbers that are left out, ascending.
        attempt_id: identifies this attempt to all nodes of a multi-node training run.
        is_first_node: whether this node writes the log and the result.
    """

    config: LoopConfig
    seed: int
    data: Storage
    folder: Path
    compatibility_key: Mapping[str, Any] = field(default_factory=dict)
    base_model: Storage | None = None
    checkpoint_url: str | None = None
    skip: tuple[tuple[int, int], ...] = ()
    attempt_id: str | None = None
    is_first_node: bool = True

    @property
    def checkpoint_store(self) -> CheckpointStore:
        """Where its checkpoints are, and which of them are kept."""
        run = self.config.run
        return CheckpointStore(
            Storage(self.checkpoint_url or str(self.folder / "checkpoints")),
            self.folder,
            run.keep_last,
            run.keep_interval,
            run.storage_timeout,
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything but the folder, which differs between nodes, as JSON values."""
        return {
            "config": self.config.to_record(),
            "seed": self.seed,
            "data": _storage_to_json(self.data),
            "compatibility_key": dict(self.compatibility_key),
            "base_model": _storage_to_json(self.base_model) if self.base_model else None,
            "checkpoint_url": mask(self.checkpoint_url),
            "skip": [list(batches) for batches in self.skip],
            "attempt_id": self.attempt_id,
            "is_first_node": self.is_first_node,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: Path) -> Self:
        """Return the job of ``to_json`` for a folder of this node."""
        base_model = value["base_model"]
        converted = {
            "config": parse_job_config(value["config"]),
            "data": Storage(**expand(value["data"])),
            "base_model": Storage(**expand(base_model)) if base_model else None,
            "checkpoint_url": expand(value["checkpoint_url"]),
            "skip": tuple((first, end) for first, end in value["skip"]),
        }
        return cls(folder=folder, **{**value, **converted})

    def save(self) -> None:
        """Write it to its folder, for this node's workers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / JOB_FILE).write_text(json.dumps(self.to_json()))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the job of a folder."""
        return cls.from_json(json.loads((folder / JOB_FILE).read_bytes()), folder)


def _storage_to_json(storage: Storage) -> dict[str, Any]:
    path = storage.local_path()
    url = str(path) if path is not None else storage.url
    return {"url": mask(url), "options": mask(dict(storage.options))}
