"""The dedup section: what is refused, and what changes nothing."""

import pytest
from pydantic import ValidationError

from tasks.dedup.config import DedupConfig


def read(**fields: object) -> DedupConfig:
    return DedupConfig.model_validate(fields)


def test_bands_may_follow_from_a_recall() -> None:
    config = read(threshold=0.8, target_recall=0.95)
    assert config.banding == (21, 9)
    assert config.num_permutations == 189
    assert config.to_json() == read(bands=21, rows=9).to_json()


def test_how_the_work_is_cut_changes_nothing() -> None:
    other = read(partition_memory="1GiB", max_cluster=5, max_bucket=7, max_permutations=300)
    assert other.to_json() == read().to_json()
    assert other.partition_bytes == 2**30


@pytest.mark.parametrize(
    ("fields", "location", "word"),
    [
        ({"bands": 5, "target_recall": 0.9}, (), "target_recall"),
        ({"target_recall": 0.9, "threshold": 0.3, "max_permutations": 2}, (), "permutations"),
        ({"bands": 257}, ("bands",), "256"),
        ({"partition_memory": "much"}, ("partition_memory",), "512MiB"),
        ({"languages": {"thai": {}}}, ("languages", "thai", "[key]"), "thai"),
        ({"shingle_unit": "letters"}, ("shingle_unit",), "words"),
        ({"shingle": 5}, ("shingle",), "Extra"),
    ],
)
def test_a_wrong_value_is_refused(
    fields: dict[str, object], location: tuple[str, ...], word: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        read(**fields)
    (error,) = refused.value.errors()
    assert error["loc"] == location
    assert word in error["msg"]
