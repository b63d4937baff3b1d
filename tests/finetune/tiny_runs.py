"""Fine-tuning of tiny models, step by step, in this process: `prepare`, `finetune`, `release`, `score`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from infra.dataset.dataset import Dataset, try_open_dataset
from infra.dataset.stage import Context
from infra.removals.match import Removal
from tasks.finetune import prepare_task, score_task
from tasks.finetune import task as finetune_task
from tasks.finetune.config import AnyFinetuneEntry
from tasks.finetune.entry import FinetuneEntry, Variant
from tasks.release import task as release_task
from tasks.train import task as train_task
from tests.lm.corpora import context, tiny, token_shards

_ENTRY: TypeAdapter[AnyFinetuneEntry] = TypeAdapter(AnyFinetuneEntry)
ENCODER = {"family": "encoder", "architecture": "bert", "num_kv_heads": None}
DECODER = {"name": "decoder"}


class TinyStore:
    """A store with token shards, and what is made from them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.context: Context = context(root / "store")
        self.tokens = token_shards(root / "store")

    def base(self, **changes: Any) -> Dataset:
        """Train a base, unless this store has it."""
        config = tiny(**{"name": "base", "context_length": 64, "train_tokens": 512, **changes})
        spec = train_task.spec(self.context, config=config, tokens=self.tokens)
        existing = try_open_dataset(self.context.storage, spec.folder)
        if existing is not None:
            return existing
        return train_task.build(self.context, spec, config=config, tokens=self.tokens)

    def prepare(self, item: FinetuneEntry, removals: Sequence[Removal] = ()) -> Dataset:
        """Make the examples of an entry."""
        arguments: dict[str, Any] = {"entry": item, "corpus": None, "removals": removals}
        spec = prepare_task.spec(self.context, **arguments)
        return prepare_task.build(self.context, spec, **arguments)

    def finetune(
        self,
        variant: Variant,
        examples: Dataset,
        base: Dataset,
        translator: tuple[FinetuneEntry, Dataset] | None = None,
    ) -> Dataset:
        """Fine-tune a variant."""
        arguments: dict[str, Any] = {
            "variant": variant,
            "examples": examples,
            "model": base,
            "tokens": self.tokens,
            "translator": translator,
        }
        spec = finetune_task.spec(self.context, **arguments)
        return finetune_task.build(self.context, spec, **arguments)

    def release(self, model: Dataset, **arguments: Any) -> Dataset:
        """Export a model; ``tokens=None`` for one whose base is a released folder."""
        given = {"model": model, "tokens": self.tokens, **arguments}
        spec = release_task.spec(self.context, **given)
        return release_task.build(self.context, spec, **given)

    def score(self, variant: Variant, export: Dataset, examples: Dataset) -> Dataset:
        """Score a released model."""
        arguments: dict[str, Any] = {
            "variant": variant,
            "model": export,
            "examples": examples,
            "rivals": [],
        }
        spec = score_task.spec(self.context, **arguments)
        return score_task.build(self.context, spec, **arguments)


def entry(task: str, files: Path | str, **changes: Any) -> FinetuneEntry:
    """An entry of `finetune` with the settings of tiny models; ``a__b`` names the field b of section a."""
    value: dict[str, Any] = {
        "name": "task",
        "base": "base",
        "task": task,
        "data": {"files": [str(files)]},
        "optim": {"optimizer": "adamw", "epochs": 2, "batch_size": 8, "lr": 0.003},
        "run": {"num_processes": 1, "precision": "fp32", "device": "cpu", "log_interval": 1},
        "baselines": {"from_scratch": False},
    }
    for name, item in changes.items():
        section, _, key = name.partition("__")
        if key:
            value.setdefault(section, {})[key] = item
        else:
            value[section] = item
    return _ENTRY.validate_python(value)


def variant(item: FinetuneEntry) -> Variant:
    """The entry's first model."""
    return next(iter(item.expand()))


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
