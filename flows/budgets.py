"""Whether the store and the corpus are within the recipe's `budget` when a run ends."""

from collections.abc import Iterator
from dataclasses import dataclass

from flows.metrics import count_tokens
from flows.recipe import Recipe
from flows.steps import TOKENIZE
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage
from views.report.formatting import format_bytes


@dataclass(frozen=True)
class ExceededBudget:
    """A limit of the recipe's section `budget`, what was counted, and both in a sentence."""

    budget: str
    limit: int
    value: int
    reason: str


def find_exceeded_budgets(
    storage: Storage, recipe: Recipe, record: RunRecord
) -> Iterator[ExceededBudget]:
    """Yield the limits that are exceeded after a run; nothing is read for what has none."""
    limit = recipe.budget.max_store_bytes
    if limit is not None and (stored := sum(storage.file_sizes().values())) > limit:
        counted = f"the store holds {format_bytes(stored)}"
        allowed = recipe.budget.max_store_size
        yield ExceededBudget(
            "max_store_size", limit, stored, f"{counted}; budget.max_store_size is {allowed}"
        )
    limit = recipe.budget.max_corpus_tokens
    tokens = None if limit is None else count_corpus_tokens(storage, record)
    if limit is not None and tokens is not None and tokens > limit:
        reason = f"the corpus has {tokens:,} tokens; budget.max_corpus_tokens is {limit:,}"
        yield ExceededBudget("max_corpus_tokens", limit, tokens, reason)


def count_corpus_tokens(storage: Storage, record: RunRecord) -> int | None:
    """Return the tokens of a run's corpus; ``None`` if the run ended before it was tokenized."""
    stage = next((stage for stage in record.stages if stage.stage == TOKENIZE.name), None)
    shards = None if stage is None else stage.try_open(storage)
    return None if shards is None else count_tokens(shards)
