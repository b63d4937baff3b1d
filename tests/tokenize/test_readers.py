from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from infra.formats.megatron import Tokens
from tasks.tokenize.encode import Encoder
from tasks.tokenize.shards import tokenize_documents
from tests.tokenize.corpora import EOS, encoder, table, variations
from tests.tokenize.readers import DATATROVE, MEGATRON, run_code

pytestmark = pytest.mark.e2e

READ_MEGATRON = """
import json, sys
from megatron.core.datasets.indexed_dataset import IndexedDataset
print(json.dumps([
    [
        shard.index.dtype.__name__, shard.document_indices.tolist(),
        [shard[i].tolist() for i in range(len(shard))],
        shard.get(3, offset=1, length=2).tolist(),
    ]
    for shard in map(IndexedDataset, sys.argv[1:])
]))
"""

READ_DATATROVE = """
import json, sys
from datatrove.utils.dataset import DatatroveFileDataset, DatatroveFolderDataset
folder, width, eos = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = dict(token_size=width, return_positions=True, positions_from_eos_token_id=eos)
one = DatatroveFileDataset(folder + "/part-00000.train.bin", 31, **options)
many = DatatroveFolderDataset(folder, 31, filename_pattern="*.train.bin", **options)
print(json.dumps([
    [[item["input_ids"].tolist(), item["positions"].tolist()] for item in map(data.__getitem__, range(len(data)))]
    for data in (one, many)
]))
"""


def wide() -> Encoder:
    """A tokenizer whose ids take 32 bits."""
    vocab = {f"w{number}": number for number in range(70_000)} | {EOS: 70_000}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[no-untyped-call, unused-ignore]
    return Encoder(tokenizer.to_str().encode(), EOS)


CASES = pytest.mark.parametrize("small", [True, False], ids=["16 bit", "32 bit"])


def write(folder: Path, number: int, small: bool) -> tuple[Encoder, list[Tokens]]:
    """Write a part's training shard; return the ids that `tokenizers` gives its documents."""
    tokenizer = encoder() if small else wide()
    texts = variations(40) if small else [f"w{n} w{69_999 - n} w5 w7 w{n * 9}" for n in range(40)]
    out = tokenize_documents(table(texts), tokenizer, seed=1, threshold=0.0)
    for suffix in ("train.bin", "train.idx"):
        (folder / f"part-{number:05d}.{suffix}").write_bytes(out.files[suffix])
    return tokenizer, [ids for ids in tokenizer.encode(texts) if not isinstance(ids, Exception)]


def test_megatrons_indexed_dataset_reads_shards_of_both_widths(tmp_path: Path) -> None:
    written = [write(tmp_path, 0, small=True), write(tmp_path, 1, small=False)]
    prefixes = [tmp_path / f"part-{number:05d}.train" for number in range(2)]
    answers = run_code(MEGATRON, READ_MEGATRON, *prefixes, folder=tmp_path / "x")
    for (tokenizer, expected), width, answer in zip(
        written, ("uint16", "int32"), answers, strict=True
    ):
        dtype, documents, sequences, piece = answer
        assert dtype == tokenizer.dtype.name == width
        assert documents == list(range(41))
        assert sequences == [ids.tolist() for ids in expected]
        assert piece == expected[3][1:3].tolist()


@CASES
def test_datatroves_datasets_read_the_shards(tmp_path: Path, small: bool) -> None:
    tokenizer, expected = write(tmp_path, 0, small)
    write(tmp_path, 1, small)
    one, many = run_code(
        DATATROVE,
        READ_DATATROVE,
        tmp_path,
        tokenizer.dtype.itemsize,
        tokenizer.eos_id,
        folder=tmp_path / "x",
    )
    flat = np.concatenate(expected)
    windows = flat[: len(flat) // 32 * 32].reshape(-1, 32)
    assert [ids for ids, _ in one] == windows.tolist()
    assert many == [*one, *one]
    for ids, positions in one:  # positions restart after each end of text
        expected_position = 0
        for token, position in zip(ids, positions, strict=True):
            assert position == expected_position
            expected_position = 0 if token == tokenizer.eos_id else expected_position + 1
