"""The cost of evaluation by model: what built its data sets counts, in this run or before it."""

from infra.dataset.manifest import Counts
from infra.runs.run_records import StageRecord
from views.report.sections.timings import evaluation_costs


def record(
    stage: str, entry: str | None, seconds: float, built: float | None = None
) -> StageRecord:
    return StageRecord(
        stage=stage,
        source=entry,
        entry=entry,
        path=f"{stage}/{entry}",
        fingerprint="",
        counts=Counts(),
        text_bytes=0,
        seconds=seconds,
        cached=built is not None,
        built_seconds=seconds if built is None else built,
        manifest_sha256="",
    )


def test_the_evaluation_of_a_model_costs_what_its_data_sets_took() -> None:
    costs = evaluation_costs(
        [
            record("train", "tiny", 500),
            record("evaluate", "tiny", 3),
            record("suites", "tiny", 0.2, built=40),
            record("evaluate", "large", 30),
            record("suites", "large", 60),
            record("memorization", "large", 5),
            record("tokenize", None, 9),
        ],
        ["evaluate", "suites", "memorization"],
    )
    assert [(cost.model, cost.total) for cost in costs] == [("large", 95), ("tiny", 43)]
    assert costs[1].seconds == {"evaluate": 3, "suites": 40}
