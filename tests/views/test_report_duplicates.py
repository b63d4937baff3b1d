"""The report's section on duplicates: the S-curve, the pairs compared, clusters side by side."""

import re
from dataclasses import replace
from pathlib import Path

from infra.dataset.dataset import open_dataset
from tests.views.duplicate_datasets import A, B, C, store
from views.report.duplicates import build_duplicates, highlight_differences
from views.report.page import _environment


def test_the_figures_of_a_run(tmp_path: Path) -> None:
    storage, record = store(tmp_path)
    marks = next(entry for entry in record.stages if entry.stage == "dedup").open(storage)
    found = build_duplicates(storage, record, marks)
    assert (found.n_clusters, found.documents, found.threshold) == (3, 8, 0.8)
    assert [cluster.id for cluster in found.examples] == [A, C, B]
    (pair,) = found.examples[0].pairs
    assert (pair.url, pair.kept_url) == ("https://2.org/", "https://1.org/")
    assert "<mark>changed</mark>" in pair.right
    assert found.similarity_histogram is not None
    assert (found.similarity_histogram.verified, found.similarity_histogram.rejected) == (4, 2)


def test_the_page_draws_the_s_curve_with_the_threshold(tmp_path: Path) -> None:
    storage, record = store(tmp_path)
    marks = next(entry for entry in record.stages if entry.stage == "dedup").open(storage)
    found = build_duplicates(storage, record, marks)
    page = _environment().get_template("duplicates.html").render(duplicates=found)
    assert "14 bands of 8 rows" in page
    assert "92.4 % of the pairs" in page
    (curve,) = re.findall(r'<svg[^>]*aria-label="Probability that a pair.*?</svg>', page)
    assert curve.count('class="threshold"') == 1
    assert "4 reached the threshold, 2 did not" in page


COUNTS = (
    "exact_groups",
    "exact_duplicates",
    "candidates",
    "verified",
    "rejected",
    "within_clusters",
    "within_clusters_verified",
    "within_clusters_left_out",
    "largest_bucket",
    "skewed_buckets",
    "pairs_left_out",
    "short_documents",
)


def test_the_page_shows_every_count_and_what_was_left_out(tmp_path: Path) -> None:
    storage, record = store(tmp_path)
    marks = next(entry for entry in record.stages if entry.stage == "dedup").open(storage)
    facts = {**marks.stats, **{name: 7_000_001 + k for k, name in enumerate(COUNTS)}}
    found = replace(build_duplicates(storage, record, marks), stats=facts)
    page = _environment().get_template("duplicates.html").render(duplicates=found)
    assert [name for name in COUNTS if f'<td class="num">{facts[name]:,}</td>' not in page] == []


def test_examples_need_the_documents_but_figures_do_not(tmp_path: Path) -> None:
    storage, record = store(tmp_path)
    first = next(entry for entry in record.stages if entry.source == "books")
    marks = open_dataset(
        storage.subdir(*next(e for e in record.stages if e.stage == "dedup").path.split("/"))
    )
    storage.subdir(*first.path.split("/")).remove_tree()
    found = build_duplicates(storage, record, marks)
    assert (found.n_clusters, found.examples) == (3, [])


def test_of_many_short_lines_in_common_the_last_are_shown() -> None:
    lines = [f"line {n}" for n in range(9)]
    left, right = highlight_differences("\n".join([*lines, "here"]), "\n".join([*lines, "there"]))
    assert left == "… line 6\nline 7\nline 8\n<mark>here</mark>"
    assert right.endswith("<mark>there</mark>")
