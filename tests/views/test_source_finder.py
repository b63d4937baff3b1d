"""The sources of a text while a released model writes it."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.steps import STEPS
from infra.suffix_array.source_index import SourceIndex
from serve.sources import SourceFinder as ServedFinder
from tests.views.real_run import WORDS as RUN_WORDS
from tests.views.real_run import RealRun, pages
from tests.views.test_sources import kept_page, quote
from views.source.finder import SourceFinder, open_finder
from views.source.passages import Passage, PassageTracker
from views.source.removed import RemovedDocuments
from views.source.sources import NoIndexError, find_sources


def export_path(run: RealRun, name: str) -> str:
    """Return the folder of a model's release below the storage root."""
    return next(e.path for e in run.record.stages if (e.stage, e.entry) == ("release", name))


def open_release(run: RealRun, name: str) -> SourceFinder:
    """Open the finder of a model of a recipe of which nothing was removed."""
    removed = RemovedDocuments(run.storage, "nothing-removed")
    return open_finder(run.storage, export_path(run, name), STEPS, removed)


@pytest.fixture(scope="module")
def finder(real_run: RealRun) -> SourceFinder:
    return open_release(real_run, "late")


def test_a_model_tells_its_own_steps_and_those_of_its_base(
    real_run: RealRun, finder: SourceFinder
) -> None:
    served: ServedFinder = finder  # the contract of the endpoint
    url, text = kept_page(real_run)
    found = served.track().update(quote(text), final=True)
    assert found is not None
    json.dumps(found)
    [passage] = found["passages"]
    assert (passage["start"], passage["end"], passage["text"]) == (
        0,
        len(quote(text)),
        quote(text),
    )
    [place] = passage["places"]
    assert (place["url"], place["license"]) == (url, "CC0-1.0")
    [whole] = find_sources(real_run.storage, quote(text), STEPS)
    assert place["steps"] == whole.passages[0].places[0].steps
    assert place["steps"].keys() == {"late", "tiny"}
    base = open_release(real_run, "tiny")
    [passage] = (base.track().update(quote(text), final=True) or {})["passages"]
    assert passage["places"][0]["steps"].keys() == {"tiny"}


def look_up_whole(finder: SourceFinder, text: str) -> tuple[int, list[dict[str, object]]]:
    """Return the longest run and the passages of a text that was not looked up before."""
    tracker = PassageTracker(finder.index, finder.tokenizer, finder.runs)
    passages = tracker.passages(text)
    return tracker.longest, [passage.to_json() for passage in passages]


WORDS = [word for page in (1, 3, 5) for word in pages()[page].text.split()[:40]]


@given(
    pieces=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(WORDS), st.just(" ")).map("".join),
            st.integers(0, 80).map(lambda start: " ".join(WORDS[start : start + 20])),
            st.text(max_size=3),
        ),
        max_size=12,
    )
)
def test_a_text_that_grows_has_the_passages_of_the_whole_text(
    finder: SourceFinder, pieces: list[str]
) -> None:
    tracker = finder.track()
    shown: list[dict[str, object]] = []
    for number in range(len(pieces) + 1):
        text = "".join(pieces[:number])
        update = tracker.update(text, final=number == len(pieces))
        longest, expected = look_up_whole(finder, text)
        if update is not None:
            shown[update["first"] :] = update["passages"]
            assert update["longest"] == longest
        assert shown == expected


def test_a_last_word_may_become_another_one(finder: SourceFinder) -> None:
    tracker = PassageTracker(finder.index, finder.tokenizer, finder.runs)
    counts = set()
    for noun in RUN_WORDS["en"]["noun"].split():
        text = f"they said that the {noun}"
        passages = [passage.to_json() for passage in tracker.passages(text)]
        assert passages == look_up_whole(finder, text)[1]
        counts |= {(item["num_tokens"], item["count"]) for item in passages}
    assert len({length for length, _ in counts}) < len(counts)  # of one length, but not the same


def test_what_did_not_change_is_not_looked_up_again(
    real_run: RealRun, finder: SourceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = kept_page(real_run)
    before = f"{quote(text)} xyzzy qwertz. "
    tracker = finder.track()
    assert tracker.update(before) is not None
    asked: list[int] = []
    longest_matches = SourceIndex.longest_matches

    def count(self: SourceIndex, ids: object) -> object:
        asked.append(len(ids))  # type: ignore[arg-type]
        return longest_matches(self, ids)  # type: ignore[arg-type]

    monkeypatch.setattr(SourceIndex, "longest_matches", count)
    assert tracker.update(f"{before}More") is None
    assert max(asked) < 8
    asked.clear()
    assert tracker.update(f"{before}More") is None
    assert asked == []


def test_why_there_are_no_sources(run_copy: RealRun) -> None:
    export = export_path(run_copy, "tiny")
    removed = RemovedDocuments(run_copy.storage, "nothing-removed")
    with pytest.raises(NoIndexError, match="not released"):
        open_finder(run_copy.storage, "release/other", STEPS, removed)
    shutil.rmtree(run_copy.path("index"))
    with pytest.raises(NoIndexError, match="no index"):
        open_finder(run_copy.storage, export, STEPS, removed)


def test_passages_are_equal_only_if_their_places_are() -> None:
    assert Passage(0, 1, "a", 1, 1, []) != Passage(0, 1, "a", 1, 2, [])
