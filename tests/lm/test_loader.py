import zlib
from pathlib import Path

import numpy as np
import pytest

from infra.dataset.dataset import Dataset
from infra.errors import UserError
from infra.formats.megatron import TRAIN, TokenShards
from lm.config.train import TrainConfig
from lm.data.loader import Batch, DataLoaderError, build_loader, validation_rows
from tests.lm.corpora import tiny, token_shards

CHOICES = [{"packing": name} for name in ("concatenate", "concatenate_masked", "best_fit_masked")]
MIXED = {
    "mixture": {"books": 2, "site": 1},
    "shuffle_window_tokens": 700,
    "packing": "best_fit_masked",
}
EOS = 0


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def served(
    tokens: Dataset, config: TrainConfig, cache: Path, rank: int = 0, world: int = 1, first: int = 0
) -> list[Batch]:
    feed = build_loader(config, tokens, 1337, rank, world, cache, first, ((3, 5),))
    try:
        return [next(feed) for _ in range(first, 10)]
    finally:
        feed.close()


@pytest.mark.parametrize("choice", [*CHOICES, MIXED])
def test_any_number_of_processes_share_the_same_rows(
    tokens: Dataset, tmp_path: Path, choice: dict[str, object]
) -> None:
    config = tiny(**choice)
    whole = served(tokens, config, tmp_path)
    for world in (2, 4, 8):
        rank_parts = [served(tokens, config, tmp_path, rank, world) for rank in range(world)]
        for step, batch in enumerate(whole):
            parts = [rank_part[step] for rank_part in rank_parts]
            assert np.concatenate([part.rows for part in parts]).tolist() == batch.rows.tolist()
            assert np.concatenate([p.samples for p in parts]).tolist() == batch.samples.tolist()
            assert sum(part.digest for part in parts) == batch.digest


def test_resuming_needs_the_step_alone(tokens: Dataset, tmp_path: Path) -> None:
    config = tiny(**MIXED)
    whole, rest = served(tokens, config, tmp_path), served(tokens, config, tmp_path, first=6)
    assert [batch.digest for batch in rest] == [batch.digest for batch in whole[6:]]
    assert whole[3].samples.tolist() == list(range(5 * 8, 6 * 8))  # batches 3 and 4 are skipped
    assert len({batch.digest for batch in whole}) == len(whole)
    assert whole[0].digest == sum(zlib.crc32(row.tobytes()) for row in whole[0].rows)


@pytest.mark.parametrize("packing", ["concatenate", "concatenate_masked"])
def test_windows_are_tokens_of_the_split(tokens: Dataset, tmp_path: Path, packing: str) -> None:
    flat = TokenShards(tokens, TRAIN).read(0, tokens.stats["tokens"][TRAIN]).tolist()
    windows = {tuple(flat[at : at + 17]) for at in range(0, len(flat) - 16, 16)}
    for batch in served(tokens, tiny(packing=packing), tmp_path):
        assert {tuple(row) for row in batch.rows.tolist()} <= windows


def test_packed_rows_are_documents(tokens: Dataset, tmp_path: Path) -> None:
    shards = TokenShards(tokens, TRAIN)
    documents = [shards.read_document(number).tolist() for number in range(shards.num_documents)]
    longest = max(map(len, documents))
    whole = {tuple(document) for document in documents}
    for batch in served(tokens, tiny(packing="best_fit_masked", context_length=longest), tmp_path):
        for row in batch.rows.tolist():
            assert row[0] == EOS
            content = row[1 : row.index(-1) if -1 in row else None]
            assert set(row[1 + len(content) :]) <= {-1}
            ends = [at + 1 for at, token in enumerate(content) if token == EOS]
            assert ends[-1] == len(content)
            parts = [tuple(content[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
            assert set(parts) <= whole


def test_a_document_that_is_cut_goes_on_after_its_last_token(
    tokens: Dataset, tmp_path: Path
) -> None:
    shards = TokenShards(tokens, TRAIN)
    flat = shards.read(0, len(shards)).tolist()
    joined = ",".join(map(str, flat))
    going_on = 0
    for batch in served(tokens, tiny(packing="best_fit_masked"), tmp_path):
        for row in batch.rows.tolist():
            if row[0] != EOS:
                first = row[: row.index(EOS) + 1] if EOS in row else row
                assert ",".join(map(str, first)) in joined
                going_on += 1
    assert going_on > 10


def test_what_goes_wrong_ahead_is_raised_where_it_is_asked_for(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenShards, "copy_spans", lambda *_: 1 / 0)
    feed = build_loader(tiny(), tokens, 1337, 0, 1, tmp_path, 50)
    with pytest.raises(DataLoaderError, match="step 50: division by zero"):
        next(feed)
    feed.close()


def test_a_mixture_of_unknown_sources_is_refused(tokens: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train.data.mixture.web"):
        build_loader(tiny(mixture={"web": 1}), tokens, 1337, 0, 1, tmp_path)
    with pytest.raises(ValueError, match=r"mixture\n.*'web' is not positive"):
        tiny(mixture={"web": -1})


def test_validation_rows_are_spread_over_the_split(tokens: Dataset) -> None:
    held_out = TokenShards(tokens, "validation")
    rows = validation_rows(held_out, 16, 160)
    assert rows.shape == (10, 17)
    flat = held_out.read(0, len(held_out)).tolist()
    assert rows[0].tolist() == flat[:17]
    assert rows[-1].tolist()[: (len(flat) - 1) % 16 + 1] == flat[-((len(flat) - 1) % 16) - 1 :]
    assert len(validation_rows(held_out, 16, 0)) == 0
