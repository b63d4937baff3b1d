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

NUM_BYTES = 256  # the vocabulary holds every byte, so that any text comes back as it was


class TokenizeConfig(ConfigModel):
    """A byte-level BPE trained on the corpus, or an existing one, and the split of the corpus."""

    vocab_size: int = Field(
        default=8192,
        gt=NUM_BYTES,
        le=1 << 20,
        description=(
            "Ids in the vocabulary: 256 bytes, the end of text, and merges. A small corpus may "
            "not have as many merges that occur twice; the vocabulary is then smaller."
        ),
    )
    pretokenizer: PretokenizerStyle = Field(
        default="gpt2",
        description=(
            "How text is cut before merging. gpt2: Radford et al. 2019. llama3: digits in groups "
            "of at most three, line breaks apart (Grattafiori et al. 2024)."
        ),
    )
    digits: Digits = Field(
        default="default",
        description=(
            "Numbers: as the style has them (gpt2: whole; llama3: groups of three from the left), "
            "each digit apart, or in threes from the right (1 234 567)."
        ),
    )
    spaces: Spaces = Field(
        default="merge",
        description=(
            "White space that leads no word: runs of it may merge, as the styles have it, or "
            "each character stays apart."
        ),
    )
    normalization: Normalization = Field(
        default="none",
        description=(
            "none: text comes back byte for byte. nfc: composed characters (Unicode's form C); "
            "text in another form comes back in this one."
        ),
    )
    special_tokens: tuple[str, ...] = Field(
        default=(),
        description=(
            "Further special tokens, with the ids that follow the end of text's. They are never "
            "made of text; they are there for what comes later, such as chat."
        ),
    )
    train_bytes: int | None = Field(
        default=100_000_000,
        gt=0,
        description=(
            "At most this much text of the training split trains the tokenizer; null: all of it."
        ),
    )
    max_distinct_words: int = Field(
        default=10_000_000,
        gt=0,
        description=(
            "At most this many different words train the tokenizer; where there are more, the "
            "rarest are left out. A million takes some 100 MB."
        ),
    )
    validation_fraction: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description=(
            "Share of documents held out. Above 0, a corpus of two or more different documents "
            "always has at least one in each split. 0: nothing is held out."
        ),
    )
    tokenizer: str | None = Field(
        default=None,
        description=(
            "Path or URL of an existing tokenizer.json to use instead of training one; "
            "all settings above but validation then have no effect."
        ),
    )
    end_of_text: str = Field(
        default="<|endoftext|>",
        min_length=1,
        description="The special token after every document. Text that looks like it stays text.",
    )

    @property
    def all_special_tokens(self) -> tuple[str, ...]:
        """The special tokens in the order of their ids."""
        return (self.end_of_text, *self.special_tokens)

    @property
    def pretokenizer_rule(self) -> PretokenizerRule:
        """What cuts text into words."""
        return PretokenizerRule(self.pretokenizer, self.digits, self.spaces)

    @model_validator(mode="after")
    def _check_special_tokens(self) -> Self:
        if len(set(self.all_special_tokens)) < len(self.all_special_tokens):
            raise ValueError("special_tokens and end_of_text must all differ")
        if any(len(token) < 2 for token in self.special_tokens):
            raise ValueError("special_tokens: each must have two characters at least")
        if self.tokenizer is None:
            pieces = self.pretokenizer_rule.pre_tokenizer().pre_tokenize_str
            whole = [token for token in self.all_special_tokens if len(pieces(token)) == 1]
            if whole:
                raise ValueError(
                    f"special_tokens, end_of_text: {whole[0]!r} is one word of text, so that merges "
                    "could make it; put something around it, as in <|word|>"
                )
        if self.vocab_size < NUM_BYTES + len(self.all_special_tokens):
            raise ValueError(
                f"vocab_size {self.vocab_size} has no room for {NUM_BYTES} bytes and "
                f"{len(self.all_special_tokens)} special tokens"
            )
        return self
