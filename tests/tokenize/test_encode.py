import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from infra.formats.megatron import Tokens
from tasks.tokenize import encode
from tasks.tokenize.bpe import train_bpe_from_texts
from tasks.tokenize.encode import Encoder, InvalidTokenizerError, split_long_text
from tasks.tokenize.pretokenizer import PretokenizerRule, PretokenizerStyle, empty_bpe
from tests.tokenize.corpora import EOS, PROSE, encoder, variations

GPT2, LLAMA3 = encoder("gpt2"), encoder("llama3")
STYLES = pytest.mark.parametrize("encoder", [GPT2, LLAMA3], ids=["gpt2", "llama3"])
WORDS = st.lists(st.sampled_from([*"ab1,é\n\t猫", " ", "  ", "the", "'s", "Ab"]), max_size=60)


def encode_text(encoder: Encoder, text: str) -> Tokens:
    [ids] = encoder.encode([text])
    assert not isinstance(ids, Exception)
    return ids


@STYLES
@given(text=st.text())
def test_any_text_decodes_to_itself(encoder: Encoder, text: str) -> None:
    ids = encode_text(encoder, text)
    assert encoder.decode(ids) == text
    assert ids[-1] == encoder.eos_id
    assert encoder.eos_id not in ids[:-1]
    assert ids.max() < encoder.vocab_size


@STYLES
@given(data=st.binary(max_size=64))
def test_text_from_arbitrary_bytes_decodes_to_itself(encoder: Encoder, data: bytes) -> None:
    text = data.decode("utf-8", errors="replace")
    assert encoder.decode(encode_text(encoder, text)) == text


@STYLES
def test_every_byte_is_in_the_vocabulary(encoder: Encoder) -> None:
    vocabulary = set(json.loads(encoder._json)["model"]["vocab"])
    assert set(pre_tokenizers.ByteLevel.alphabet()) <= vocabulary


@STYLES
def test_text_that_reads_like_a_special_token_is_encoded_as_text(encoder: Encoder) -> None:
    text = f"before {EOS} after {EOS}"
    ids = encode_text(encoder, text)
    assert (ids == encoder.eos_id).sum() == 1
    assert encoder.decode(ids) == text


@STYLES
@given(words=WORDS)
def test_the_pieces_of_a_long_text_have_the_tokens_of_the_whole(
    encoder: Encoder, words: list[str]
) -> None:
    text = "".join(words)
    pieces = list(split_long_text(text, 3))
    assert "".join(pieces) == text
    whole = encode_text(encoder, text)[:-1].tolist()
    if all(before[-1:].isalpha() and after[:1] == " " for before, after in pairwise(pieces)):
        assert [i for piece in pieces for i in encode_text(encoder, piece)[:-1].tolist()] == whole


@STYLES
@pytest.mark.parametrize(
    "text", ["a", "the cat and ", "猫", "\n"], ids=["word", "prose", "cjk", "line"]
)
def test_a_huge_line_is_encoded_in_bounded_pieces(
    encoder: Encoder, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "CHUNK_CHARACTERS", 100)
    monkeypatch.setattr(encode, "BATCH_CHARACTERS", 250)
    long = text * (5_000 // len(text))
    assert max(map(len, split_long_text(long, encode.CHUNK_CHARACTERS))) <= 200
    batch = [long, "short", long]
    results = encoder.encode(batch)
    assert [encoder.decode(ids) for ids in results if not isinstance(ids, Exception)] == batch


def test_ids_are_the_same_in_any_batch() -> None:
    texts = [*PROSE, "", *variations(20)]
    alone = [encode_text(GPT2, text).tolist() for text in texts]
    batched = [ids.tolist() for ids in GPT2.encode(texts) if not isinstance(ids, Exception)]
    assert batched == alone
    assert GPT2.encode([]) == []


def test_pretokenizers_split_numbers_differently() -> None:
    def words(style: PretokenizerStyle, text: str) -> list[str]:
        splitter = empty_bpe(PretokenizerRule(style)).pre_tokenizer
        assert splitter is not None
        return [word.replace("Ġ", "_") for word, _ in splitter.pre_tokenize_str(text)]

    assert words("gpt2", "in 12345 a") == ["in", "_12345", "_a"]
    assert words("llama3", "in 12345 a") == ["in", "_", "123", "45", "_a"]


def test_training_depends_only_on_the_texts() -> None:
    texts = variations(60)
    one = train_bpe_from_texts(texts, vocab_size=500, special_tokens=[EOS])
    assert train_bpe_from_texts(list(reversed(texts)), vocab_size=500, special_tokens=[EOS]) == one
    # A fresh process has fresh hash seeds.
    code = (
        "import sys; from tasks.tokenize.bpe import train_bpe_from_texts;"
        "from tests.tokenize.corpora import EOS, variations;"
        "sys.stdout.buffer.write(train_bpe_from_texts(variations(60), vocab_size=500, special_tokens=[EOS]))"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert again.stdout == one, again.stderr.decode()[-500:]


def test_a_tokenizer_trained_on_nothing_has_the_bytes_only() -> None:
    bare = Encoder(train_bpe_from_texts([], vocab_size=8192, special_tokens=[EOS]), EOS)
    assert bare.vocab_size == 257
    assert len(encode_text(bare, "é")) == 3


def test_a_large_vocabulary_uses_32_bit_ids() -> None:
    vocab = {f"w{number}": number for number in range(66_000)} | {EOS: 66_000}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="w0"))
    wide = Encoder(tokenizer.to_str().encode(), EOS)
    assert wide.dtype == np.int32
    assert encode_text(wide, "w65999").tolist() == [65_999, 66_000]
    assert not wide.byte_level


def test_a_text_that_cannot_be_encoded_does_not_affect_others() -> None:
    tokenizer = Tokenizer(models.WordLevel({"known": 0, EOS: 1}, unk_token="missing"))
    narrow = Encoder(tokenizer.to_str().encode(), EOS)
    first, second, third = narrow.encode(["known", "unknown", "known"])
    assert isinstance(second, Exception)
    assert not isinstance(first, Exception)
    assert not isinstance(third, Exception)
    assert first.tolist() == third.tolist() == [0, 1]


@pytest.mark.parametrize("data", [b"", b"{}", b"not json"])
def test_a_file_that_is_not_a_tokenizer_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidTokenizerError, match=r"tokenizer\.json"):
        Encoder(data, EOS)


def test_a_tokenizer_without_the_end_of_text_is_refused_and_its_special_tokens_are_listed() -> None:
    with pytest.raises(InvalidTokenizerError, match=r"</s>.*end_of_text.*<\|endoftext\|>"):
        Encoder(train_bpe_from_texts(PROSE, vocab_size=300, special_tokens=[EOS]), "</s>")
