"""What is known of a model of a run: its metrics, its values by item, its removal debts."""

from collections.abc import Mapping, Sequence
from typing import Any

from infra.dataset.dataset import Dataset, try_open_dataset
from infra.registry.versions import Version
from infra.runs.run_records import RunRecord
from infra.schemas.metrics import group_items, metric_name, read_items, read_metrics
from infra.store.storage import Storage
from lm.metrics.conditions import Measurements
from views.removal.exposure import ExposureRecord

DEBTS = "removal.debts"  # documents that were removed since the model was trained on them


def find_scores(storage: Storage, record: RunRecord, model: str) -> list[Dataset]:
    """Return the data sets of a run that measure a model."""
    opened = (stage.try_open(storage) for stage in record.stages if stage.entry == model)
    return [data for data in opened if data is not None and _is_scores(data)]


def _is_scores(data: Dataset) -> bool:
    return bool(read_metrics(data).num_rows) or isinstance(data.stats.get("metrics"), Mapping)


def measure(scores: Sequence[Dataset], rows: Sequence[Mapping[str, Any]] = ()) -> Measurements:
    """Collect what data sets say of a model.

    Args:
        scores: the data sets that measure it.
        rows: further metrics, rows of ``infra.schemas.metrics.METRICS``.
    """
    rows = [*(row for data in scores for row in read_metrics(data).to_pylist()), *rows]
    metrics: dict[str, Any] = {}
    for data in scores:
        metrics |= data.stats.get("metrics", {})  # nested: by source, by language, baselines
    metrics |= {row["name"]: row["value"] for row in rows if row["value"] is not None}
    items = {
        metric_name(*key): values
        for data in scores
        for key, values in group_items(read_items(data)).items()
    }
    return Measurements(metrics, items, {row["name"]: row["higher_is_better"] for row in rows})


def measure_version(storage: Storage, version: Version) -> Measurements:
    """Collect what is known of a registered model; of scores that were deleted only the metrics."""
    opened = [try_open_dataset(storage, path) for path in version.scores]
    scores = [data for data in opened if data is not None]
    return measure(scores, version.metrics if len(scores) < len(opened) else ())


def metric_rows(scores: Sequence[Dataset], debts: int | None) -> list[dict[str, Any]]:
    """Return the metrics of a model as rows of ``infra.schemas.metrics.METRICS``, its debts among them."""
    rows: list[dict[str, Any]] = [row for data in scores for row in read_metrics(data).to_pylist()]
    if debts is not None:
        rows.append(
            {
                "name": DEBTS,
                "value": float(debts),
                "low": None,
                "high": None,
                "n": None,
                "higher_is_better": False,
            }
        )
    return rows


def count_debts(exposures: Sequence[ExposureRecord], path: str) -> int | None:
    """Return how many removed documents a model was trained on; ``None`` if that is unknown.

    Args:
        exposures: of the recipe (``load_exposure``).
        path: the model's data set.
    """
    found = next((item for item in exposures if item.path == path), None)
    return 0 if found is None else found.documents
