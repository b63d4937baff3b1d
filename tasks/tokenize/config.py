"""The recipe's `tokenize` section."""

from typing import Self

from pydantic import Field, model_validator

from infra.config import ConfigModel
from tasks.tokenize.pretokenizer import (
    Digits,
    Normalization,
    PretokenizerRule,
    PretokenizerStyle,
    Spaces,
)

NUM_BYTES = 256  # every byte is in the vocabulary, so any text can be encoded and decoded exactly


class CanariesConfig(ConfigModel):
    """Made-up secrets to plant in training documents (Carlini et al. 2019, arXiv:1802.08232)."""

    repetitions: tuple[int, ...] = Field(
        default=(1, 4, 16),
        min_length=1,
        description="How often canaries are planted, each time in another document if there are enough.",
    )
    per_group: int = Field(
        default=4,
        ge=1,
        le=1000,
        description="Canaries with each number of repetitions, and as many that are not planted.",
    )

    @model_validator(mode="after")
    def _check_repetitions(self) -> Self:
        if min(self.repetitions) < 1 or max(self.repetitions) > 100_000:
            raise ValueError("repetitions: numbers from 1 to 100,000")
        return self


class TokenizeConfig(ConfigModel):
    """The tokenizer (a byte-level BPE to train, or an existing one) and the held-out split."""

    vocab_size: int = Field(
        default=8192,
        gt=NUM_BYTES,
        le=1 << 20,
        description=(
            "Number of token ids: 256 bytes, the special tokens, and merges. A small corpus may "
            "have fewer pairs that occur twice; the vocabulary is then smaller."
        ),
    )
    pretokenizer: PretokenizerStyle = Field(
        default="gpt2",
        description=(
            "How text is split into words before merging. gpt2: Radford et al. 2019. llama3: "
            "digits in groups of at most three, line breaks separate (Grattafiori et al. 2024)."
        ),
    )
    digits: Digits = Field(
        default="default",
        description=(
            "How numbers are split. default: as the pretokenizer does (gpt2: not at all; llama3: "
            "groups of three from the left). individual: every digit on its own. "
            "groups_of_three: groups of three from the right (1 234 567)."
        ),
    )
    spaces: Spaces = Field(
        default="merge",
        description=(
            "White space that does not belong to a following word. merge: a run of it is one word, "
            "as in gpt2 and llama3. split: each white-space character is a word of its own."
        ),
    )
    normalization: Normalization = Field(
        default="none",
        description=(
            "none: text decodes to the original bytes. nfc: text is first put into Unicode's "
            "composed form C, and decodes to that form."
        ),
    )
    special_tokens: tuple[str, ...] = Field(
        default=(),
        description=(
            "Additional special tokens; their ids follow end_of_text's. Text never encodes to "
            "them; they are reserved for later use, such as chat roles."
        ),
    )
    train_bytes: int | None = Field(
        default=100_000_000,
        gt=0,
        description=(
            "Maximum bytes of training-split text that the tokenizer is trained on; null: all of it."
        ),
    )
    max_distinct_words: int = Field(
        default=10_000_000,
        gt=0,
        description=(
            "Maximum number of distinct words that the tokenizer is trained on; if there are "
            "more, the rarest are left out. A million words take about 100 MB of memory."
        ),
    )
    validation_fraction: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description=(
            "Fraction of documents to hold out for validation. Above 0, a corpus of two or more "
            "different documents has at least one in each split. 0: nothing is held out."
        ),
    )
    tokenizer: str | None = Field(
        default=None,
        description=(
            "Path or URL of an existing tokenizer.json to use instead of training one; "
            "all keys above except validation_fraction then have no effect."
        ),
    )
    end_of_text: str = Field(
        default="<|endoftext|>",
        min_length=1,
        description=(
            "The special token after every document. Text that reads like it is encoded as text."
        ),
    )

    canaries: CanariesConfig | None = Field(
        default=None,
        description=(
            "Plants made-up secrets in training documents, so that evaluate.memorization can measure "
            "their exposure; null: none. Models that are released should be trained without."
        ),
    )

    @property
    def all_special_tokens(self) -> tuple[str, ...]:
        """The special tokens in the order of their ids."""
        return (self.end_of_text, *self.special_tokens)

    @property
    def pretokenizer_rule(self) -> PretokenizerRule:
        """The rule that splits text into words."""
        return PretokenizerRule(self.pretokenizer, self.digits, self.spaces)

    @model_validator(mode="after")
    def _check_special_tokens(self) -> Self:
        if len(set(self.all_special_tokens)) < len(self.all_special_tokens):
            raise ValueError("special_tokens and end_of_text must all differ")
        if any(len(token) < 2 for token in self.special_tokens):
            raise ValueError("special_tokens: each must have at least two characters")
        if self.tokenizer is None:
            split = self.pretokenizer_rule.pre_tokenizer().pre_tokenize_str
            ordinary = [token for token in self.all_special_tokens if len(split(token)) == 1]
            if ordinary:
                raise ValueError(
                    f"special_tokens, end_of_text: {ordinary[0]!r} is an ordinary word, which merges "
                    "could also produce; enclose it, for example <|word|>"
                )
        if self.vocab_size < NUM_BYTES + len(self.all_special_tokens):
            raise ValueError(
                f"vocab_size {self.vocab_size} is smaller than {NUM_BYTES} bytes and "
                f"{len(self.all_special_tokens)} special tokens together"
            )
        return self
