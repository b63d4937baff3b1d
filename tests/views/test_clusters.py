"""Clusters as a reader asks for them: the right ones, with members, verdicts and differences."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.steps import STEPS
from infra.dataset.dataset import PartRef
from tests.views.duplicate_datasets import A, B, C, store
from views.documents.texts import read_rows
from views.duplicates import render
from views.duplicates.clusters import (
    ClusterNotFoundError,
    DuplicateData,
    resolve_cluster_id,
    select_clusters,
)
from views.duplicates.members import Cluster, load_clusters
from views.duplicates.render import (
    ANSI,
    PLAIN,
    format_heading,
    format_member,
    to_json,
    with_diffs,
    wrap_diff,
)
from views.duplicates.word_diff import DiffSpan, diff


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DuplicateData:
    return DuplicateData.from_run(*store(tmp_path_factory.mktemp("clusters")), STEPS)


def only(data: DuplicateData, name: str) -> Cluster:
    (found,) = load_clusters(data, [name])
    return found


def test_the_largest_come_first_then_the_smaller_id(data: DuplicateData) -> None:
    assert select_clusters(data, 10) == [A, B, C]
    assert select_clusters(data, 1) == [A]


@given(seed=st.integers(0, 2**63 - 1))
def test_a_sample_depends_on_the_seed_and_grows(data: DuplicateData, seed: int) -> None:
    every = select_clusters(data, 10, "random", seed=seed)
    assert sorted(every) == [A, B, C]
    assert select_clusters(data, 2, "random", seed=seed) == every[:2]


def test_samples_of_other_seeds_differ(data: DuplicateData) -> None:
    assert len({tuple(select_clusters(data, 1, "random", seed=seed)) for seed in range(40)}) == 3


def test_only_clusters_of_a_source(data: DuplicateData) -> None:
    assert select_clusters(data, 10, source="books") == [C]
    with pytest.raises(ClusterNotFoundError, match="there are books, site"):
        select_clusters(data, 10, source="nowhere")


def test_the_beginning_of_an_id_names_a_cluster(data: DuplicateData) -> None:
    assert resolve_cluster_id(data, "aaa") == A
    assert resolve_cluster_id(data, B.upper()) == B
    with pytest.raises(ClusterNotFoundError, match="'d'"):
        resolve_cluster_id(data, "d")
    with pytest.raises(ClusterNotFoundError, match="3 cluster"):
        resolve_cluster_id(data, "")


def test_kept_members_come_first_then_duplicates_then_others(data: DuplicateData) -> None:
    found = only(data, A)
    assert [member.id[0] for member in found.members] == ["1", "3", "2", "6"]
    assert (found.sources, found.reasons) == ({"site": 4}, {"near_duplicate": 1, "language": 1})
    assert (found.kept, found.documents) == (2, 4)
    first, other, duplicate, german = found.members
    assert first.compared_to is None
    assert (other.compared_to, other.similarity, other.verified) == (first.row_ref, 0.72, False)
    assert (duplicate.compared_to, duplicate.similarity, duplicate.band) == (first.row_ref, 0.9, 3)
    assert (german.compared_to, german.similarity, german.band) == (other.row_ref, 0.95, 2)


def test_a_large_cluster_is_counted_whole_and_loaded_in_part(data: DuplicateData) -> None:
    (found,) = load_clusters(data, [A], max_members=1)
    assert [member.id[0] for member in found.members] == ["1", "2"]
    assert (found.documents, found.kept) == (4, 2)
    assert found.reasons == {"near_duplicate": 1, "language": 1}
    assert "2 kept; dropped: near_duplicate 1, language 1" in format_heading(found)[1]


def test_a_row_without_a_verdict_does_not_shift_the_others(data: DuplicateData) -> None:
    kept, dropped = only(data, B).members
    assert (kept.id[0], kept.verdict) == ("4", "kept")
    assert (dropped.id[0], dropped.reason, dropped.exact) == ("5", "exact_duplicate", True)
    assert dropped.compared_to == kept.row_ref


def test_before_select_members_are_compared_with_the_first(tmp_path: Path) -> None:
    data = DuplicateData.from_run(*store(tmp_path, until="dedup"), STEPS)
    found = only(data, A)
    assert not found.selected
    assert "select has not run" in format_heading(found)[1]
    first, *rest = found.members
    assert first.compared_to is None
    assert {member.compared_to for member in rest} == {first.row_ref}
    assert only(data, B).members[1].exact


def test_a_run_that_was_not_deduplicated_has_no_clusters(tmp_path: Path) -> None:
    with pytest.raises(ClusterNotFoundError, match="before dedup"):
        DuplicateData.from_run(*store(tmp_path, until="acquire"), STEPS)


def format_cluster(data: DuplicateData, name: str, **options: Any) -> str:
    found = only(data, name)
    names = render.reference_labels(data, found, found.members)
    lines = format_heading(found)
    for item in with_diffs(data, found.members):
        lines += format_member(item, names, width=100, **options)
    return "\n".join(lines)


def test_the_text_shows_verdicts_and_differences(data: DuplicateData) -> None:
    text = format_cluster(data, A)
    assert f"cluster {A}  4 documents: site 4" in text
    assert "2 kept; dropped: near_duplicate 1, language 1" in text
    assert "  kept     https://1.org/\n           Title 1" in text
    assert "similarity only 0.720 to https://1.org/, compared within the cluster" in text
    assert "near_duplicate: similarity 0.900 to https://1.org/, candidate pair of band 3" in text
    assert "word6 [-word7-] {+changed+} word8" in text
    assert "language (language de)\n           similarity 0.950 to https://3.org/" in text
    assert (
        "exact_duplicate: the normalized text is equal to that of the kept document"
        in format_cluster(data, B)
    )
    assert "compared within the cluster" in format_cluster(data, C)
    assert max(map(len, text.splitlines())) <= 100


def test_on_a_terminal_colors_mark_the_differences(data: DuplicateData) -> None:
    text = format_cluster(data, A, style=ANSI)
    assert "word6 \x1b[31;9mword7\x1b[0m \x1b[32mchanged\x1b[0m word8" in text
    assert "[-" not in text


def test_texts_are_read_for_members_that_are_shown(
    data: DuplicateData, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[str | None, str, tuple[int, ...]]] = []

    def watch(part: PartRef, rows: Sequence[int], columns: Sequence[str]) -> Any:
        if "text" in columns:
            reads.append((part.source, part.name, tuple(rows)))
        return read_rows(part, rows, columns)

    monkeypatch.setattr("views.duplicates.members.read_rows", watch)
    found = only(data, A)
    list(with_diffs(data, found.members[:3]))
    assert reads == [("site", "00000", (0, 2)), ("site", "00001", (0,))]


def test_json_holds_every_member_and_the_differences_of_those_compared(
    data: DuplicateData,
) -> None:
    found = only(data, A)
    value = json.loads(json.dumps(to_json(data, found, list(with_diffs(data, found.members[:3])))))
    assert (value["cluster"], value["documents"], value["kept"]) == (A, 4, 2)
    assert [member["url"] for member in value["members"]][:2] == [
        "https://1.org/",
        "https://3.org/",
    ]
    duplicate = value["members"][2]
    assert (duplicate["compared_to"], duplicate["part"], duplicate["row"]) == ("1" * 32, "00000", 2)
    assert {piece["kind"] for piece in duplicate["diff"]} == {"equal", "delete", "insert"}
    assert value["members"][3]["diff"] is None


@given(
    st.lists(st.sampled_from(["grain", "穀物", "a", "x" * 90])),
    st.lists(st.sampled_from(["grain", "穀物", "b", "y" * 90])),
    st.integers(10, 60),
)
def test_lines_hold_every_word_and_keep_to_the_width(
    one: list[str], other: list[str], width: int
) -> None:
    pieces: list[DiffSpan] = diff(" ".join(one), " ".join(other), max_shown=None)
    lines = wrap_diff(pieces, width, PLAIN)
    assert all(render._display_width(line) <= width for line in lines)
    words = "".join("".join(lines).split())
    for mark in ("[-", "-]", "{+", "+}"):
        words = words.replace(mark, "")
    assert words == "".join("".join(piece.text.split()) for piece in pieces)
