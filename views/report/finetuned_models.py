"""The fine-tuned models of a run that a report shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import Dataset, try_open_dataset
from infra.runs.run_records import FinetunedRecord
from infra.schemas.examples import MODEL
from views.report.report_run import ReportRun


@dataclass(frozen=True)
class ScoredFinetuned:
    """A fine-tuned model of a run with its scores."""

    record: FinetunedRecord
    model: Dataset
    scores: Dataset

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """By name: value, low, high, n."""
        own: Mapping[str, Mapping[str, Any]] = self.scores.stats["systems"][MODEL]
        return own

    @property
    def is_from_base(self) -> bool:
        """Whether it started from the weights of its base."""
        return not self.model.stats["from_scratch"]

    @property
    def has_all_examples(self) -> bool:
        """Whether it was trained on all training examples."""
        return bool(self.model.stats["budget"] == 1)


def find_main_models(run: ReportRun) -> Iterator[tuple[str, Dataset]]:
    """Yield the name and the scores of each entry's model from the base, with the most examples."""
    for scored in group_by_entry(run).values():
        best = find_best(scored)
        yield best.record.name, best.scores


def find_best(scored: Sequence[ScoredFinetuned]) -> ScoredFinetuned:
    """Return the first of an entry's models with the most examples, from the base."""
    return max(scored, key=lambda item: (item.is_from_base, item.model.stats["budget"]))


def group_by_entry(run: ReportRun) -> dict[str, list[ScoredFinetuned]]:
    """Return the run's fine-tuned models that were scored, by the entry of `finetune`."""
    by_entry: dict[str, list[ScoredFinetuned]] = {}
    for record in run.record.finetuned:
        model = try_open_dataset(run.storage, record.finetune)
        scores = try_open_dataset(run.storage, record.score) if record.score else None
        if model is not None and scores is not None:
            by_entry.setdefault(record.entry, []).append(ScoredFinetuned(record, model, scores))
    return by_entry
