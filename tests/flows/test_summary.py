"""What people read of a run in Prefect's UI."""

import pytest

from flows.summary import describe_counts, describe_samples, fence, markdown_table
from infra.dataset.manifest import Counts
from views.report.sections.models import Models, ReportModel, Sample


def test_counts_have_every_reason_the_most_frequent_first() -> None:
    counts = Counts(2140, 800, {"pii": 28, "language": 1300}, {"bad_json": 12})
    assert describe_counts(counts) == (
        "2,140 in, 800 kept, 1,328 dropped (language 1,300, pii 28), 12 failed (bad_json 12)"
    )
    assert describe_counts(Counts(3, 3)) == "3 in, 3 kept"


def test_a_cell_of_a_table_cannot_end_it() -> None:
    assert markdown_table(["a", "b"], [["x | y\nz", ""]]).splitlines()[-1] == r"| x \| y z |  |"


@pytest.mark.parametrize("text", ["plain", "```python\nx\n```", "`````", "[a](http://b) <b>"])
def test_text_of_a_document_stays_in_its_block(text: str) -> None:
    first, *middle, last = fence(text).split("\n")
    assert first == f"{last}text"
    assert "\n".join(middle) == text
    assert set(last) == {"`"}
    assert last not in text


def test_a_long_sample_is_cut_off() -> None:
    assert len(fence("x" * 10_000)) < 1000


def test_samples_have_each_model_beside_the_document() -> None:
    sample = Sample("1", None, "en", "Once", "upon a time", {"tiny": "more", "base": "again"})
    models = Models([ReportModel("tiny", 0), ReportModel("base", 1)], [], [], [sample], [])
    text = describe_samples(models)
    for words in ("Once", "upon a time", "**tiny**", "more", "**base**", "again"):
        assert words in text
