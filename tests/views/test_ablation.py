"""Variants of a corpus beside the recipe as it is, from the scores of their models."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.errors import UserError
from infra.runs.run_records import COMPLETED, ModelRecord, RunRecord, StageRecord
from infra.schemas.metrics import ITEMS_FILE, make_items
from infra.store.storage import Storage
from views.models.ablation import Ablation, compare_variants

STAGE = Stage("evaluate", ())
Scores = Mapping[str, float]


def write(items: Scores) -> Iterator[PartResult]:
    rows = [
        {"suite": "held_out", "item": name, "cluster": name, "metric": "bits_per_byte", "value": value, "weight": 100.0}
        for name, value in items.items()
    ]  # fmt: skip
    ids = pa.table({"id": list(items)})
    yield PartResult(ids, ledger_table("evaluate", list(items)), {ITEMS_FILE: make_items(rows)})


def record(store: Storage, name: str, models: Mapping[str, Scores]) -> RunRecord:
    """Save the scores of a variant's models; return the record of its run."""
    cluster = DaskCluster(ClusterConfig.model_validate({"workers": 0}))
    ctx = Context(store, 1, cluster, NullReporter())
    stages = []
    for model, items in models.items():
        spec = DatasetSpec(STAGE, model, {"items": list(items.items()), "variant": name})
        data = build_dataset(ctx, spec, [WorkUnit(model, (items,), len(items))], write)
        stages.append(StageRecord.from_dataset(data, seconds=1.0, cached=False, entry=model))
    return RunRecord(
        recipe=f"mill.{name}",
        run=f"20260131-120000-{name}",
        started="2026-01-31T12:00:00+00:00",
        seconds=1.0,
        state=COMPLETED,
        config={},
        versions={},
        stages=stages,
        models=[ModelRecord(name=model) for model in models],
    )


def scores(offset: float, seed: int, count: int = 60) -> Scores:
    """Scores of a model: those of its items, an offset, and what its seed does."""
    of_items = np.random.default_rng(0).normal(2.0, 0.3, count)
    noise = np.random.default_rng(seed).normal(0, 0.01, count)
    return dict(zip([f"d{n}" for n in range(count)], of_items + offset + noise, strict=True))


def compare(tmp_path: Path, **offsets: float) -> Ablation:
    store = Storage(str(tmp_path))
    records = {
        name: record(
            store, name, {f"tiny-seed{seed}": scores(offset, 10 * index + seed) for seed in (1, 2, 3)}
        )
        for index, (name, offset) in enumerate(offsets.items())
    }  # fmt: skip
    return compare_variants(store, records, "mill", "tiny", (1, 2, 3))


def test_a_variant_is_better_worse_or_cannot_be_told(tmp_path: Path) -> None:
    found = compare(tmp_path, baseline=0.0, lower=-0.1, higher=0.1, same=0.0)
    assert [(item.variant, item.metric, item.answer) for item in found.metrics] == [
        ("lower", "bits_per_byte", "better"),
        ("higher", "bits_per_byte", "worse"),
        ("same", "bits_per_byte", "cannot be told"),
    ]
    lower = found.metrics[0]
    assert lower.difference.value == pytest.approx(-0.1, abs=0.01)
    assert lower.difference.low < -0.1 + 0.01
    assert lower.value == pytest.approx(lower.baseline + lower.difference.value)
    assert lower.difference.seeds == (3, 3)
    assert lower.difference.n == 60
    assert "better" in found.to_text()


@pytest.mark.parametrize(
    ("offsets", "not_worse", "better"),
    [
        ({"lower": -0.1}, True, True),
        ({"same": 0.0}, True, False),
        ({"lower": -0.1, "same": 0.0}, True, False),
        ({"lower": -0.1, "higher": 0.1}, False, False),
    ],
)
def test_a_requirement_is_met_by_all_variants(
    tmp_path: Path, offsets: dict[str, float], not_worse: bool, better: bool
) -> None:
    found = compare(tmp_path, baseline=0.0, **offsets)
    assert found.satisfies("not-worse") == not_worse
    assert found.satisfies("better") == better


def test_only_items_that_all_models_scored_are_compared(tmp_path: Path) -> None:
    store = Storage(str(tmp_path))
    first = {f"tiny-seed{seed}": scores(0.0, seed, 50) for seed in (1, 2)}
    second = {f"tiny-seed{seed}": dict(list(scores(0.0, 5 + seed).items())[20:]) for seed in (1, 2)}
    records = {"baseline": record(store, "baseline", first), "x": record(store, "x", second)}
    (metric,) = compare_variants(store, records, "mill", "tiny", (1, 2)).metrics
    assert metric.difference.n == 30
    other = {f"tiny-seed{seed}": {"elsewhere": 1.0} for seed in (1, 2)}
    records["x"] = record(store, "y", other)
    with pytest.raises(UserError, match="no scored item in common"):
        compare_variants(store, records, "mill", "tiny", (1, 2))
