from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.tokenize import word_counts
from tasks.tokenize.word_counts import SCHEMA, total

WORDS = st.sampled_from(["a", "b", " b", " the", "longer than eight", "longer than eight too", "é"])
PARTS = st.lists(st.lists(WORDS | st.text("xyz", max_size=3), max_size=30), max_size=6)


def tables(parts: list[list[str]]) -> list[pa.Table]:
    counted_parts = []
    for part in parts:
        counted = sorted(Counter(part).items(), key=lambda item: item[0].encode())
        columns = {"word": [w for w, _ in counted], "count": [n for _, n in counted]}
        counted_parts.append(pa.table(columns, schema=SCHEMA))
    return counted_parts


def sum_counts(
    parts: list[list[str]], max_words: int
) -> tuple[dict[str, int], word_counts.WordCounts]:
    counted_parts = tables(parts)
    result = total(
        lambda: iter(counted_parts), sum(table.num_rows for table in counted_parts), max_words
    )
    rows = result.table.to_pylist()
    assert [row["word"].encode() for row in rows] == sorted(row["word"].encode() for row in rows)
    return {row["word"]: row["count"] for row in rows}, result


@pytest.mark.parametrize("rows_in_memory", [1 << 24, 5], ids=["at once", "in ranges"])
@given(parts=PARTS, max_words=st.integers(1, 40))
def test_the_rarest_words_are_left_out_for_any_division_into_parts(
    rows_in_memory: int, parts: list[list[str]], max_words: int
) -> None:
    everything = Counter(word for part in parts for word in part)
    min_count = 1
    while sum(count >= min_count for count in everything.values()) > max_words:
        min_count += 1
    expected = {word: count for word, count in everything.items() if count >= min_count}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_counts, "ROWS_IN_MEMORY", rows_in_memory)
        kept, result = sum_counts(parts, max_words)
    assert kept == expected
    assert result.min_count == min_count
    assert result.distinct == len(everything)
    assert result.occurrences == everything.total()
    assert result.left_out == everything.total() - sum(expected.values())


def test_many_ranges_give_the_counts_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [[f" word{n * k % 977}" for n in range(2_000)] for k in range(1, 6)]
    whole, _ = sum_counts(parts, 10_000)
    monkeypatch.setattr(word_counts, "ROWS_IN_MEMORY", 100)
    kept, result = sum_counts(parts, 10_000)
    assert kept == whole
    assert len(kept) == result.distinct == len({word for part in parts for word in part})
