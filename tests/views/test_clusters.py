"""Clusters as a reader asks for them: the right ones, with members, verdicts and differences."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
def copies(tmp_path_factory: pytest.TempPathFactory) -> DuplicateData:
    return DuplicateData.from_run(*store(tmp_path_factory.mktemp("clusters")))


def only(copies: DuplicateData, name: str) -> Cluster:
    (found,) = load_clusters(copies, [name])
    return found


def test_the_largest_come_first_and_of_equals_the_lesser_name(copies: DuplicateData) -> None:
    assert select_clusters(copies, 10) == [A, B, C]
    assert select_clusters(copies, 1) == [A]


@given(seed=st.integers(0, 2**63 - 1))
def test_a_sample_depends_on_the_seed_and_grows(copies: DuplicateData, seed: int) -> None:
    every = select_clusters(copies, 10, "random", seed=seed)
    assert sorted(every) == [A, B, C]
    assert select_clusters(copies, 2, "random", seed=seed) == every[:2]


def test_samples_of_other_seeds_differ(copies: DuplicateData) -> None:
    assert len({tuple(select_clusters(copies, 1, "random", seed=seed)) for seed in range(40)}) == 3


def test_only_clusters_of_a_source(copies: DuplicateData) -> None:
    assert select_clusters(copies, 10, source="books") == [C]
    with pytest.raises(ClusterNotFoundError, match="there are books, site"):
        select_clusters(copies, 10, source="nowhere")


def test_a_cluster_is_named_by_the_beginning_of_its_name(copies: DuplicateData) -> None:
    assert resolve_cluster_id(copies, "aaa") == A
    assert resolve_cluster_id(copies, B.upper()) == B
    with pytest.raises(ClusterNotFoundError, match="'d'"):
        resolve_cluster_id(copies, "d")
    with pytest.raises(ClusterNotFoundError, match="3 clusters"):
        resolve_cluster_id(copies, "")


def test_survivors_of_a_chain_then_copies_then_what_went_otherwise(copies: DuplicateData) -> None:
    found = only(copies, A)
    assert [member.id[0] for member in found.members] == ["1", "3", "2", "6"]
    assert (found.sources, found.reasons) == ({"site": 4}, {"near_duplicate": 1, "language": 1})
    assert (found.kept, found.documents) == (2, 4)
    first, other, copy, foreign = found.members
    assert first.compared_to is None
    assert (other.compared_to, other.similarity, other.verified) == (first.row_ref, 0.72, False)
    assert (copy.compared_to, copy.similarity, copy.band) == (first.row_ref, 0.9, 3)
    assert (foreign.compared_to, foreign.similarity, foreign.band) == (other.row_ref, 0.95, 2)


def test_a_large_cluster_is_counted_whole_and_held_in_part(copies: DuplicateData) -> None:
    (found,) = load_clusters(copies, [A], max_members=1)
    assert [member.id[0] for member in found.members] == ["1", "2"]
    assert (found.documents, found.kept) == (4, 2)
    assert found.reasons == {"near_duplicate": 1, "language": 1}
    assert "2 stay; went: near_duplicate 1, language 1" in format_heading(found)[1]


def test_a_row_that_was_not_judged_does_not_move_the_verdicts(copies: DuplicateData) -> None:
    kept, gone = only(copies, B).members
    assert (kept.id[0], kept.verdict) == ("4", "kept")
    assert (gone.id[0], gone.reason, gone.exact) == ("5", "exact_duplicate", True)
    assert gone.compared_to == kept.row_ref


def test_before_select_members_are_compared_with_the_first(tmp_path: Path) -> None:
    copies = DuplicateData.from_run(*store(tmp_path, until="dedup"))
    found = only(copies, A)
    assert not found.selected
    assert "select has not run" in format_heading(found)[1]
    first, *rest = found.members
    assert first.compared_to is None
    assert {member.compared_to for member in rest} == {first.row_ref}
    assert only(copies, B).members[1].exact


def test_a_run_without_marks_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ClusterNotFoundError, match="before dedup"):
        DuplicateData.from_run(*store(tmp_path, until="acquire"))


def told(copies: DuplicateData, name: str, **options: Any) -> str:
    found = only(copies, name)
    names = render.reference_labels(copies, found, found.members)
    lines = format_heading(found)
    for item in with_diffs(copies, found.members):
        lines += format_member(item, names, width=100, **options)
    return "\n".join(lines)


def test_a_reader_is_told_who_stays_and_what_differs(copies: DuplicateData) -> None:
    text = told(copies, A)
    assert f"cluster {A}  4 documents: site 4" in text
    assert "2 stay; went: near_duplicate 1, language 1" in text
    assert "  stays    https://1.org/\n           Title 1" in text
    assert "similarity only 0.720 to https://1.org/, compared within the cluster" in text
    assert "near_duplicate: similarity 0.900 to https://1.org/, nominated by band 3" in text
    assert "word6 [-word7-] {+changed+} word8" in text
    assert "language (language de)\n           similarity 0.950 to https://3.org/" in text
    assert "exact_duplicate: the normalised text is equal to the one that stays" in told(copies, B)
    assert "compared within the cluster" in told(copies, C)
    assert max(map(len, text.splitlines())) <= 100


def test_on_a_terminal_colours_mark_what_differs(copies: DuplicateData) -> None:
    text = told(copies, A, style=ANSI)
    assert "word6 \x1b[31;9mword7\x1b[0m \x1b[32mchanged\x1b[0m word8" in text
    assert "[-" not in text


def test_texts_are_read_for_members_that_are_shown(
    copies: DuplicateData, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str | None, str, tuple[int, ...]]] = []

    def watch(part: PartRef, rows: Sequence[int], columns: Sequence[str]) -> Any:
        if "text" in columns:
            asked.append((part.source, part.name, tuple(rows)))
        return read_rows(part, rows, columns)

    monkeypatch.setattr("views.duplicates.members.read_rows", watch)
    found = only(copies, A)
    list(with_diffs(copies, found.members[:3]))
    assert asked == [("site", "00000", (0, 2)), ("site", "00001", (0,))]


def test_json_holds_every_member_and_the_differences_of_those_compared(
    copies: DuplicateData,
) -> None:
    found = only(copies, A)
    value = json.loads(
        json.dumps(to_json(copies, found, list(with_diffs(copies, found.members[:3]))))
    )
    assert (value["cluster"], value["documents"], value["kept"]) == (A, 4, 2)
    assert [member["url"] for member in value["members"]][:2] == [
        "https://1.org/",
        "https://3.org/",
    ]
    copy = value["members"][2]
    assert (copy["compared_to"], copy["part"], copy["row"]) == ("1" * 32, "00000", 2)
    assert {piece["kind"] for piece in copy["diff"]} == {"equal", "delete", "insert"}
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
