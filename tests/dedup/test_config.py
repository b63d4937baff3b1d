"""The dedup section: what is refused, and what changes nothing."""

import pytest
from pydantic import ValidationError

from tasks.dedup.config import DedupConfig


def read(**fields: object) -> DedupConfig:
    return DedupConfig.model_validate(fields)


def test_bands_may_follow_from_a_recall() -> None:
    wanted = read(threshold=0.8, target_recall=0.95)
    assert wanted.banding == (21, 9)
    assert wanted.num_permutations == 189
    assert wanted.to_json() == read(bands=21, rows=9).to_json()


def test_how_the_work_is_cut_changes_nothing() -> None:
    other = read(partition_memory="1GiB", max_cluster=5, max_bucket=7, max_permutations=300)
    assert other.to_json() == read().to_json()
    assert other.partition_bytes == 2**30


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bands": 5, "target_recall": 0.9}, "or the target_recall wanted at threshold, not both"),
        (
            {"target_recall": 0.9, "threshold": 0.3, "max_permutations": 2},
            "allow more permutations",
        ),
        ({"bands": 257}, "less than or equal to 256"),
        ({"partition_memory": "much"}, "'much' is not a size such as 512MiB"),
        ({"languages": {"thai": {}}}, "no language is named 'thai'"),
        ({"shingle_unit": "letters"}, "words"),
        ({"shingle": 5}, "Extra inputs"),
    ],
)
def test_a_wrong_value_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        read(**fields)
