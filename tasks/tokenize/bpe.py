"""Training a byte-level BPE with Hugging Face `tokenizers`.

The result depends on how often each word occurs in the sample and on nothing else: not on the
order of texts, not on threads. Pairs that occur equally often are merged in the order of their
ids, and ids are given out in a fixed order (first the special tokens, then bytes, then merges).
"""

from collections.abc import Iterable, Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tasks.tokenize.encode import chunks

MIN_FREQUENCY = 2  # a pair seen once says nothing about other text

# Grattafiori et al. 2024, "The Llama 3 Herd of Models"; the pattern of its released tokenizer.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def untrained(style: str) -> Tokenizer:
    """A byte-level BPE without merges.

    Args:
        style: ``gpt2`` or ``llama3``: how text is cut into words, within which merges stay.
    """
    tokenizer = Tokenizer(models.BPE())
    if style == "llama3":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train(texts: Iterable[str], *, vocab_size: int, style: str, end_of_text: str) -> bytes:
    """A trained tokenizer as the bytes of its ``tokenizer.json``.

    Args:
        texts: the sample, in any order.
        vocab_size: ids at most.
        style: see ``untrained``.
        end_of_text: the special token that closes a document; its id is 0.
    """
    tokenizer = untrained(style)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[end_of_text],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_pieces(texts), trainer)
    return tokenizer.to_str(pretty=True).encode()


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from chunks(text)
