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
    made = []
    for part in parts:
        counted = sorted(Counter(part).items(), key=lambda item: item[0].encode())
        columns = {"word": [w for w, _ in counted], "count": [n for _, n in counted]}
        made.append(pa.table(columns, schema=SCHEMA))
    return made


def summed(parts: list[list[str]], bound: int) -> tuple[dict[str, int], word_counts.WordCounts]:
    made = tables(parts)
    result = total(lambda: iter(made), sum(table.num_rows for table in made), bound)
    rows = result.table.to_pylist()
    assert [row["word"].encode() for row in rows] == sorted(row["word"].encode() for row in rows)
    return {row["word"]: row["count"] for row in rows}, result


@pytest.mark.parametrize("together", [1 << 24, 5], ids=["at once", "in ranges"])
@given(parts=PARTS, bound=st.integers(1, 40))
def test_the_rarest_words_are_left_out_whatever_the_parts_are(
    together: int, parts: list[list[str]], bound: int
) -> None:
    everything = Counter(word for part in parts for word in part)
    least = 1
    while sum(count >= least for count in everything.values()) > bound:
        least += 1
    expected = {word: count for word, count in everything.items() if count >= least}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_counts, "ROWS_IN_MEMORY", together)
        found, result = summed(parts, bound)
    assert found == expected
    assert result.min_count == least
    assert result.distinct == len(everything)
    assert result.occurrences == everything.total()
    assert result.left_out == everything.total() - sum(expected.values())


def test_counts_of_many_ranges_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [[f" word{n * k % 977}" for n in range(2_000)] for k in range(1, 6)]
    whole, _ = summed(parts, 10_000)
    monkeypatch.setattr(word_counts, "ROWS_IN_MEMORY", 100)
    found, result = summed(parts, 10_000)
    assert found == whole
    assert len(found) == result.distinct == len({word for part in parts for word in part})
