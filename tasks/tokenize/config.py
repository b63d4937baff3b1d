"""The recipe's `tokenize` section."""

from typing import Literal

from pydantic import Field

from infra.config import Section

BYTES = 256  # the vocabulary holds every byte, so that any text comes back as it was


class TokenizeConfig(Section):
    """A byte-level BPE trained on the corpus, or an existing one, and the split of the corpus."""

    vocab_size: int = Field(
        default=8192,
        gt=BYTES,
        le=1 << 20,
        description=(
            "Ids in the vocabulary: 256 bytes, the end of text, and merges. A small corpus may "
            "not have as many merges that occur twice; the vocabulary is then smaller."
        ),
    )
    style: Literal["gpt2", "llama3"] = Field(
        default="gpt2",
        description=(
            "How text is cut before merging. gpt2: Radford et al. 2019. llama3: digits in groups "
            "of at most three, line breaks apart (Grattafiori et al. 2024)."
        ),
    )
    sample_bytes: int = Field(
        default=100_000_000,
        gt=0,
        description="At most this much text of the training split trains the tokenizer.",
    )
    validation: float = Field(
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
            "vocab_size, style and sample_bytes then have no effect."
        ),
    )
    end_of_text: str = Field(
        default="<|endoftext|>",
        min_length=1,
        description="The special token after every document. Text that looks like it stays text.",
    )
