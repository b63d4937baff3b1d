"""The part of the recipe's `train.model` that families of word vectors share."""

from typing import Literal

from pydantic import Field

from infra.config import ConfigModel


class EmbeddingSection(ConfigModel):
    """Which words get a vector, of what size, and how far words count as neighbors."""

    unit: Literal["word", "token"] = Field(
        "word",
        description=(
            "what gets a vector. word: runs of letters, digits and marks of the text, with inner "
            "apostrophes; token: the tokenizer's tokens, for languages without spaces"
        ),
    )
    lowercase: bool = Field(True, description="whether words are put into lower case")
    min_count: int = Field(
        5,
        ge=1,
        description="rarer words are left out (word2vec.c: 5), as if they were not in the text",
    )
    max_words: int = Field(
        1_000_000,
        ge=2,
        description="maximum number of words; if there are more, the rarest are left out",
    )
    vector_size: int = Field(
        100,
        ge=1,
        le=4096,
        description="numbers of a vector (word2vec.c: 100; also called dimension)",
    )
