"""The history of a document: found by any spelling, complete, explicit about what is unknown."""

from collections.abc import Iterator

import pyarrow as pa
import pytest

from flows.steps import STEPS
from infra.formats.megatron import TRAIN, TokenShards
from infra.runs.run_records import RunNotFoundError
from infra.store.storage import Storage
from lm.data.sampler import steps_containing
from tests.views.real_run import KEPT, NEAR, SITE, RealRun, pages
from views.documents.lookup import DocumentNotFoundError, loose_url, search
from views.history.document_history import RunHistory, document_history


def history(run: RealRun, query: str) -> RunHistory:
    (result,) = document_history(run.storage, query, STEPS).runs
    return result


def test_a_kept_page_is_followed_to_its_tokens_and_models(real_run: RealRun) -> None:
    page = pages()[KEPT]
    result = document_history(real_run.storage, page.url, STEPS)
    (run,) = result.runs
    stages = ["acquire", "extract", "annotate", "dedup", "select", "tokenize"]
    assert [event.stage for event in run.events][:6] == stages
    assert run.id == real_run.ids()[page.url]
    assert (run.source, run.title) == ("site", f"Page {KEPT}")
    assert run.excerpt is not None
    assert run.excerpt[:60] == page.text[:60]
    details = {event.stage: event.details for event in run.events}
    assert details["annotate"]["language"] == "en"
    ids = real_run.ids()
    assert sorted(details["dedup"]["other_members"]) == sorted(ids[pages()[n].url] for n in NEAR)
    tokens = details["tokenize"]
    expected = {
        name: steps_containing(
            real_run.dataset("train", name), tokens["first_token"], tokens["end_token"]
        )
        for name in ("tiny", "late")
    }
    exposed = {e.details["model"]: e.details for e in run.events if e.verdict == "exposed"}
    assert {name: item["steps"] for name, item in exposed.items() if item["steps"]} == {
        name: steps for name, steps in expected.items() if steps
    }
    assert run.outcome.startswith("kept by tokenize")
    text = result.to_text()
    assert run.outcome in text
    assert "first_token" in text


def test_a_model_lists_the_model_it_was_initialized_from(real_run: RealRun) -> None:
    """A document of the first model's last steps, which the second one did not reach."""
    shards = TokenShards(real_run.dataset("tokenize"), TRAIN)
    tiny, late = real_run.dataset("train", "tiny"), real_run.dataset("train", "late")
    document = next(
        number
        for number in range(shards.num_documents)
        if steps_containing(tiny, *shards.document_range(number))
        and not steps_containing(late, *shards.document_range(number))
    )
    run = history(real_run, shards.ids[document])
    exposed = {e.details["model"]: e.details for e in run.events if e.verdict == "exposed"}
    assert exposed["late"]["steps"] == []
    assert exposed["late"]["via_models"] == ["tiny"]
    assert "via_models" not in exposed["tiny"]


def test_token_ranges_are_those_of_the_whole_split(real_run: RealRun) -> None:
    shards = TokenShards(real_run.dataset("tokenize"), TRAIN)
    for document in (0, shards.num_documents // 2, shards.num_documents - 1):
        run = history(real_run, shards.ids[document])
        details = next(e for e in run.events if e.stage == "tokenize").details
        assert (details["first_token"], details["end_token"]) == shards.document_range(document)


def test_a_dropped_page_names_reason_evidence_and_kept_document(real_run: RealRun) -> None:
    run = history(real_run, pages()[NEAR[0]].url)
    last = run.events[-1]
    assert (last.stage, last.verdict, last.reason) == ("select", "dropped", "near_duplicate")
    assert last.evidence["survivor"] == real_run.ids()[pages()[KEPT].url]
    assert last.evidence["similarity"] > 0.8
    assert run.outcome == "dropped by select: near_duplicate"


def test_a_page_that_failed_to_load_has_a_history(real_run: RealRun) -> None:
    run = history(real_run, f"{SITE}/missing/0")
    assert run.outcome == "failed by acquire: http_404"
    assert run.excerpt is None


@pytest.mark.parametrize(
    "query",
    [
        f"{SITE}/page/10/",
        "docs.example.org/page/10",
        "http://DOCS.example.org:80/page/10#top",
        "https://www.docs.example.org/page/1%30",
    ],
)
def test_spellings_of_a_url_are_one(real_run: RealRun, query: str) -> None:
    assert history(real_run, query).url == f"{SITE}/page/10"


def test_an_id_or_its_beginning_is_enough(real_run: RealRun) -> None:
    document = real_run.ids()[pages()[KEPT].url]
    assert history(real_run, document).id == document
    assert history(real_run, document[:16]).id == document


def test_a_source_of_documents_needs_no_extraction(real_run: RealRun) -> None:
    run = history(real_run, "https://books.example.net/9")
    assert [event.stage for event in run.events][:2] == ["acquire", "annotate"]
    assert run.events[0].details["license"] == "CC0-1.0"


def test_an_unknown_url_or_id_gets_suggestions(real_run: RealRun) -> None:
    with pytest.raises(DocumentNotFoundError, match="/page/110,"):
        document_history(real_run.storage, f"{SITE}/page/11x", STEPS)
    with pytest.raises(DocumentNotFoundError, match="host"):
        document_history(real_run.storage, "https://elsewhere.example/", STEPS)
    with pytest.raises(DocumentNotFoundError, match="beginning"):
        document_history(real_run.storage, "0000000000", STEPS)


def test_an_empty_store_has_no_run() -> None:
    with pytest.raises(RunNotFoundError, match="no run yet"):
        document_history(Storage("/nonexistent/store"), "x", STEPS)


def tables(*rows: tuple[str, str]) -> Iterator[tuple[str, pa.Table]]:
    """One table per row, with the URL as its key."""
    for document, url in rows:
        yield url, pa.table({"id": [document], "url": [url]})


def test_an_ambiguous_beginning_lists_the_ids() -> None:
    rows = (("abcd1", "http://a.org/1"), ("abcd2", "http://a.org/2"))
    with pytest.raises(DocumentNotFoundError, match=r"abcd1, abcd2"):
        search(lambda: tables(*rows), "abcd")
    ((key, _),) = search(lambda: tables(*rows), "abcd2")
    assert key == "http://a.org/2"


def test_the_strictest_meaning_wins_wherever_it_is_found() -> None:
    rows = (("a", "http://a.org/x/"), ("b", "http://a.org/x"), ("c", "https://a.org/x"))
    matches = search(lambda: tables(*rows), "http://a.org/x")
    assert [key for key, _ in matches] == ["http://a.org/x"]
    matches = search(lambda: tables(*rows), "a.org/x")
    assert len(matches) == 3


def test_tables_are_read_one_at_a_time_and_twice_at_most() -> None:
    in_memory: list[int] = []
    passes: list[int] = []

    def counted() -> Iterator[tuple[int, pa.Table]]:
        passes.append(0)
        for number in range(50):
            in_memory.append(number)
            yield number, pa.table({"id": [f"{number:032x}"], "url": [f"http://a.org/{number}"]})

    with pytest.raises(DocumentNotFoundError):
        search(counted, "http://a.org/elsewhere")
    assert len(passes) == 2
    assert len(in_memory) == 100


def test_loose_urls_keep_what_matters() -> None:
    assert loose_url("http://a.b/x?q=1") != loose_url("http://a.b/x?q=2")
    assert loose_url("http://a.b:8080/x") != loose_url("http://a.b/x")
    assert loose_url("http://a.b/X") != loose_url("http://a.b/x")
