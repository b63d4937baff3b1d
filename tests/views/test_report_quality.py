"""The report's histograms of quality signals."""

from pathlib import Path

import pyarrow as pa

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context
from infra.store.storage import Storage
from tests.views.duplicate_datasets import stage
from views.report.sections.quality import build_quality


def test_a_source_without_documents_does_not_prevent_the_report(tmp_path: Path) -> None:
    workers = DaskCluster(ClusterConfig.model_validate({"workers": 0}))
    ctx = Context(Storage(str(tmp_path)), 1, workers, NullReporter())
    parts = {"empty": [], "full": [0.1, 0.9]}
    annotations, verdicts = [], []
    for source, scores in parts.items():
        ids = [f"{source}{n}" for n in range(len(scores))]
        table = pa.table(
            {"id": pa.array(ids, pa.string()), "language_score": pa.array(scores, pa.float64())}
        )
        annotations.append(
            stage(ctx, "annotate", source, [], [(table, ledger_table("annotate", ids))])
        )
        reasons = ["language" if score < 0.5 else None for score in scores]
        kept = pa.table({"id": [i for i, reason in zip(ids, reasons, strict=True) if not reason]})
        verdicts.append((kept, ledger_table("select", ids, reasons=reasons)))
    found = build_quality(annotations, stage(ctx, "select", None, annotations, verdicts))
    assert found is not None
    assert found.documents == 2
    (drawn,) = found.histograms
    assert "2 documents, 1 of them dropped" in drawn.chart
