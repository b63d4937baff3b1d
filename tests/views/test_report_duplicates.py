"""The report's section on duplicates: S-curve, compared pairs, clusters side by side."""

import re
from dataclasses import replace
from pathlib import Path

from flows.steps import STEPS
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage
from tests.views.duplicate_datasets import A, B, C, store
from tests.views.real_run import RealRun
from views.report.page import _environment
from views.report.report_run import ReportRun
from views.report.sections.duplicates import STAT_LABELS, Duplicates, collect
from views.report.sections.duplicates.examples import highlight_differences


def build_duplicates(storage: Storage, record: RunRecord) -> Duplicates:
    data = collect(ReportRun(storage, record, STEPS))
    assert data is not None
    return data


def test_the_counts_of_a_run(tmp_path: Path) -> None:
    storage, record = store(tmp_path)
    found = build_duplicates(storage, record)
    assert (found.n_clusters, found.documents, found.threshold) == (3, 8, 0.8)
    assert [cluster.id for cluster in found.examples] == [A, C, B]
    (pair,) = found.examples[0].pairs
    assert (pair.url, pair.kept_url) == ("https://2.org/", "https://1.org/")
    assert "<mark>changed</mark>" in pair.right
    assert found.similarity_histogram is not None
    assert (found.similarity_histogram.verified, found.similarity_histogram.rejected) == (4, 2)


def test_the_page_draws_the_s_curve_with_the_threshold(tmp_path: Path) -> None:
    storage, record = store(tmp_path)
    found = build_duplicates(storage, record)
    page = _environment().get_template("sections/duplicates/section.html").render(data=found)
    assert "14 bands of 8 rows" in page
    assert "92.4 % of the pairs" in page
    (curve,) = re.findall(r'<svg[^>]*aria-label="Probability that a pair.*?</svg>', page)
    assert curve.count('class="threshold"') == 1
    assert "4 reached the threshold, 2 did not" in page


def test_the_listed_counts_are_those_that_the_stage_makes(real_run: RealRun) -> None:
    assert set(STAT_LABELS) <= set(real_run.dataset("dedup").stats)


def test_the_page_shows_every_count_and_what_was_left_out(tmp_path: Path) -> None:
    storage, record = store(tmp_path)
    found = build_duplicates(storage, record)
    stats = {**found.stats, **{name: 7_000_001 + k for k, name in enumerate(STAT_LABELS)}}
    found = replace(found, stats=stats)
    page = _environment().get_template("sections/duplicates/section.html").render(data=found)
    assert [
        name for name in STAT_LABELS if f'<td class="num">{stats[name]:,}</td>' not in page
    ] == []


def test_examples_need_the_documents_but_counts_do_not(tmp_path: Path) -> None:
    storage, record = store(tmp_path)
    first = next(entry for entry in record.stages if entry.source == "books")
    storage.subdir(*first.path.split("/")).remove_tree()
    found = build_duplicates(storage, record)
    assert (found.n_clusters, found.examples) == (3, [])


def test_the_context_of_a_difference_is_shown_and_the_rest_left_out() -> None:
    words = [f"word{n}" for n in range(99)]
    left, right = highlight_differences(" ".join([*words, "here"]), " ".join([*words, "there"]))
    assert left.endswith("word97 word98 <mark>here</mark>")
    assert right.endswith("word97 word98 <mark>there</mark>")
    assert "word59 " in left
    assert "word58 " not in left
