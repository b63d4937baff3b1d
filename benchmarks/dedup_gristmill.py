"""Gristmill's own deduplication, run through its command line and read from its committed verdicts."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig

DUPLICATE_REASONS = ("exact_duplicate", "near_duplicate")
MAX_ERROR_CHARS = 2000  # characters of an error that are shown


class RunFailedError(Exception):
    """``gristmill run`` failed; the message is its output."""


@dataclass(frozen=True)
class Removal:
    """Why a document went.

    Attributes:
        reason: of the verdict.
        survivor: URL of the document that was kept instead.
        similarity: as the evidence has it.
    """

    reason: str
    survivor: str
    similarity: float


@dataclass(frozen=True)
class RunResult:
    """What one run did.

    Attributes:
        seconds: of each stage that this run made.
        removed: duplicates that were dropped, by URL.
        kept: URLs of the corpus.
        dedup: facts of the dedup stage's data set.
    """

    seconds: Mapping[str, float]
    removed: Mapping[str, Removal]
    kept: frozenset[str]
    dedup: Mapping[str, Any]


@dataclass(frozen=True)
class Workers:
    """Local Dask workers that outlive a run.

    Attributes:
        client: connected to their scheduler.
    """

    client: Any

    @property
    def address(self) -> str:
        """Of the scheduler, for a recipe's ``cluster.address``."""
        return str(self.client.scheduler.address)

    def cpu(self) -> float:
        """CPU seconds that all of them have used."""
        return float(sum(self.client.run(time.process_time).values()))


@contextmanager
def start_workers(count: int) -> Iterator[Workers]:
    """Local Dask workers, as a run starts them itself."""
    with DaskCluster(ClusterConfig.model_validate({"workers": count})) as cluster:
        yield Workers(cluster.client())


def write_recipe(documents: Path, folder: Path, **more: Any) -> Path:
    """Write a recipe that deduplicates Parquet files by default settings and judges nothing else."""
    path = folder / "recipe.yaml"
    content = {
        "name": "bench",
        "storage": str(folder / "data"),
        "sources": [
            {
                "name": "bench",
                "kind": "documents",
                "paths": [f"{documents}/*.parquet"],
                "url_column": "url",
            }
        ],
        "select": {"languages": {}, "quality_filters": [], "pii": "keep"},
        **more,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def run(path: Path, until: str) -> dict[str, Any]:
    """``gristmill run RECIPE --until STAGE --json``; gives what it prints.

    Raises:
        RunFailedError: if the command fails.
    """
    command = [str(Path(sys.executable).with_name("gristmill")), "run", str(path)]
    done = subprocess.run(
        [*command, "--until", until, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RunFailedError(done.stderr.strip()[-MAX_ERROR_CHARS:])
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def read_result(*printed: Mapping[str, Any]) -> RunResult:
    """Read the verdicts of a run up to ``select`` that may have been made in several steps."""
    stages = [stage for one in printed for stage in one["stages"]]
    seconds = {stage["stage"]: stage["seconds"] for stage in stages if not stage["cached"]}
    paths = {stage["stage"]: Path(stage["path"]) for stage in stages}
    tables = [pq.read_table(file) for file in sorted(paths["select"].glob("*.verdicts.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    urls = {row["id"]: row["url"] for row in rows}
    removed = {}
    for row in rows:
        if row["reason"] in DUPLICATE_REASONS:
            evidence = json.loads(row["evidence"])
            removed[row["url"]] = Removal(
                row["reason"], urls[evidence["survivor"]], evidence["similarity"]
            )
    kept = frozenset(row["url"] for row in rows if row["verdict"] == "kept")
    facts = json.loads((paths["dedup"] / "manifest.json").read_text())["stats"]
    return RunResult(seconds, removed, kept, facts)
