"""Documents that were removed are no longer named as sources of a text."""

from pathlib import Path

import pytest

from infra.removals.log import (
    REMOVALS_FOLDER,
    CorruptRemovalLogError,
    append_removals,
    append_restorations,
)
from infra.removals.match import parse_removal
from infra.store.storage import Storage
from infra.suffix_array.source_index import SourceIndex
from tasks.index import task
from tasks.index.config import IndexConfig
from tests.lm.corpora import context, token_shards, tokenizer
from views.source.finder import SourceFinder
from views.source.passages import MAX_PLACES
from views.source.removed import RemovedDocuments

COMMON = "The miller ground the corn. A crow counted seven stones."
RARE = "Nobody never saw ses clefs. Le vieux roi vergaß the sea."
RECIPE = "recipe"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> SourceIndex:
    store = tmp_path_factory.mktemp("store")
    documents = [COMMON] * 20 + [RARE] + [COMMON] * 7
    tokens = token_shards(store, documents=documents)
    ctx, config = context(store), IndexConfig()
    data = task.build(
        ctx, task.spec(ctx, config=config, tokens=tokens), config=config, tokens=tokens
    )
    return SourceIndex(data)


@pytest.fixture
def removed(tmp_path: Path) -> RemovedDocuments:
    return RemovedDocuments(Storage(str(tmp_path)), RECIPE)


def sources(finder: SourceFinder, text: str) -> tuple[int, list[str | None]]:
    """Return how often a text occurs, and the documents that are named."""
    finder.removed.refresh()
    [passage] = (finder.track().update(text, final=True) or {})["passages"]
    return passage["count"], [place["id"] for place in passage["places"]]


def test_a_removed_document_is_not_named_and_another_takes_its_place(
    index: SourceIndex, removed: RemovedDocuments, tmp_path: Path
) -> None:
    log = Storage(str(tmp_path))
    finder = SourceFinder(index, tokenizer(), [], removed)
    assert sources(finder, RARE) == (1, ["d20"])
    removal = parse_removal("url", "https://example.org/20")
    append_removals(log, RECIPE, [removal])
    assert sources(finder, RARE) == (1, [])
    append_restorations(log, RECIPE, [removal])
    assert sources(finder, RARE) == (1, ["d20"])
    count, first = sources(finder, COMMON)
    assert count > 20
    assert len(first) == MAX_PLACES
    gone = [parse_removal("url", f"https://example.org/{str(name)[1:]}") for name in first[1:]]
    append_removals(log, RECIPE, gone)
    same, others = sources(finder, COMMON)
    assert same == count
    assert len(others) == MAX_PLACES
    assert not set(others) & set(first[1:])
    append_removals(log, "another", [parse_removal("license", "CC0-1.0")])
    assert sources(finder, COMMON) == (count, others)
    append_removals(log, RECIPE, [parse_removal("domain", "example.org")])
    assert sources(finder, COMMON) == (count, [])


def test_no_document_is_named_while_it_is_unknown_what_was_removed(
    index: SourceIndex, removed: RemovedDocuments, tmp_path: Path
) -> None:
    finder = SourceFinder(index, tokenizer(), [], removed)
    broken = f"{REMOVALS_FOLDER}/{RECIPE}/broken.json"
    Storage(str(tmp_path)).write(broken, b"{")
    with pytest.raises(CorruptRemovalLogError):
        sources(finder, RARE)
    Storage(str(tmp_path)).remove(broken)
    assert sources(finder, RARE) == (1, ["d20"])
