"""Checkpoints: sharded over the processes, complete only with their marker, never read without.

A checkpoint is a folder ``step-000000100`` of ``torch.distributed.checkpoint``, with a file
``complete.json`` that is written last. A crash in between leaves a folder without a marker, which
nothing reads and the next save sweeps away.
"""

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed import barrier, is_initialized
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save as save_shards
from torch.optim import Optimizer

from infra.errors import UserError
from tasks.train.meter import place

MARKER = "complete.json"


class OtherRun(UserError):
    """A checkpoint that was made from other data or with another configuration."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        folder: where it lies.
        step: steps done; the next step's number, hence the position in the data.
        world: processes that wrote it.
        identity: what its weights depend on, by name.
        notes: what else the loop wants back.
    """

    folder: Path
    step: int
    world: int
    identity: Mapping[str, Any]
    notes: Mapping[str, Any]


def complete(root: Path) -> list[Checkpoint]:
    """The complete checkpoints below ``root``, oldest first."""
    found = []
    for marker in sorted(root.glob(f"step-*/{MARKER}")):
        value = json.loads(marker.read_bytes())
        found.append(
            Checkpoint(
                marker.parent, value["step"], value["world"], value["identity"], value["notes"]
            )
        )
    return found


def save(
    root: Path,
    step: int,
    model: nn.Module,
    optimizers: Mapping[str, Optimizer],
    identity: Mapping[str, Any],
    *,
    notes: Mapping[str, Any],
    keep: int,
) -> None:
    """Write a checkpoint from all processes, then its marker; keep the ``keep`` newest."""
    folder = root / f"step-{step:09d}"
    if place()[0] == 0:
        done = {checkpoint.folder for checkpoint in complete(root)}
        for left_over in set(root.glob("step-*")) - done:
            _remove(left_over)
        folder.mkdir(parents=True)
    _wait()
    with _alone_is_fine():
        save_shards(_state(model, optimizers), storage_writer=FileSystemWriter(folder))
    _wait()
    if place()[0] == 0:
        mark(folder, {"step": step, "world": place()[1], "identity": identity, "notes": notes})
        for old in complete(root)[:-keep]:
            _remove(old.folder)
    _wait()


def mark(folder: Path, marker: Mapping[str, Any]) -> None:
    """Declare a checkpoint complete: all at once, and on the disk before it counts."""
    draft = folder / ".tmp-complete"
    with draft.open("w") as file:
        json.dump(marker, file, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / MARKER)


def resume(
    root: Path,
    model: nn.Module,
    optimizers: Mapping[str, Optimizer],
    identity: Mapping[str, Any],
) -> Checkpoint | None:
    """Load the newest complete checkpoint into model and optimizers.

    Random states come back too if as many processes wrote them.

    Returns:
        What was loaded; ``None`` if there was nothing to load.

    Raises:
        OtherRun: if the checkpoint differs in what its weights depend on; names what.
    """
    found = complete(root)
    if not found:
        return None
    newest = found[-1]
    for name in sorted(identity.keys() | newest.identity.keys()):
        theirs, ours = newest.identity.get(name), identity.get(name)
        if theirs != ours:
            raise OtherRun(
                f"{newest.folder}: made with {name} = {theirs!r}, this run has {ours!r}; "
                f"remove the folder to begin anew"
            )
    state = _state(model, optimizers)
    if newest.world != place()[1]:
        del state["random"]
    with _alone_is_fine():
        load(state, storage_reader=FileSystemReader(newest.folder))
    set_state_dict(
        model,
        list(optimizers.values()),
        model_state_dict=state["model"],
        optim_state_dict=state["optimizers"],
    )
    if "random" in state:
        _set_random(state["random"][str(place()[0])])
    return newest


def _state(model: nn.Module, optimizers: Mapping[str, Optimizer]) -> dict[str, Any]:
    weights, moments = get_state_dict(model, list(optimizers.values()))
    return {"model": weights, "optimizers": moments, "random": {str(place()[0]): _random()}}


def _random() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random(states: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


@contextmanager
def _alone_is_fine() -> Iterator[None]:
    """Without a process group, torch warns that there is but one process: that is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _remove(folder: Path) -> None:
    """Take the marker away first, so that no half-removed checkpoint counts as complete."""
    (folder / MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _wait() -> None:
    if is_initialized():
        barrier()
