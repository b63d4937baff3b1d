"""Why documents were dropped or failed: every reason with its count and samples."""

from collections.abc import Sequence
from contextlib import suppress

from infra.removals.log import CorruptRemovalLogError
from views.documents.dropped import sample_reason, with_text
from views.report.funnel import FunnelStage
from views.report.report_run import ReportRun, Section

SAMPLES_PER_REASON = 5


def collect(run: ReportRun) -> Sequence[FunnelStage]:
    """Return the stages that dropped or failed documents, with samples of every reason."""
    reasons = [reason for stage in run.funnel for reason in stage.reasons]
    drawn = [
        sample_reason(run.storage, run.record, item.stage, item.reason, SAMPLES_PER_REASON)
        for item in reasons
    ]
    documents = [document for sample in drawn for document in sample]
    with suppress(CorruptRemovalLogError):  # without it, what may be quoted is not known
        documents = with_text(run.storage, run.record, documents, run.steps)
    quoted = iter(documents)
    for reason, sample in zip(reasons, drawn, strict=True):
        reason.samples = [next(quoted) for _ in sample]
    return [stage for stage in run.funnel if stage.reasons]


SECTION = Section("reasons", "Why documents were dropped", collect)
