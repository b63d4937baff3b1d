"""The entry of the recipe's `train` list for word2vec."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from infra.config import ConfigModel
from lm.config.entry import SeededEntry
from lm.models.embedding.sections import EmbeddingSection

SKIPGRAM_LR, CBOW_LR = 0.025, 0.05  # word2vec.c


class Word2vecConfig(EmbeddingSection):
    """What is predicted from what, and whether words are made of character n-grams."""

    algorithm: Literal["skipgram", "cbow"] = Field(
        "skipgram",
        description=(
            "skipgram: each neighbor predicts the word; better for small corpora and rare words. cbow: "
            "the mean of all neighbors predicts it; three to five times as fast (Mikolov et al. 2013, "
            "arXiv:1301.3781)"
        ),
    )
    window: int = Field(
        5,
        ge=1,
        le=1000,
        description="maximum distance of neighbors; each word draws one from 1 to it (word2vec.c: 5)",
    )
    min_n: int = Field(
        3, ge=1, description="characters of the shortest n-grams of a word (fastText: 3)"
    )
    max_n: int = Field(
        0,
        ge=0,
        le=20,
        description=(
            "characters of the longest n-grams, of which vectors of words are composed, so that unseen words "
            "have one, too (fastText: 6); 0: none"
        ),
    )
    buckets: int = Field(
        200_000,
        ge=1,
        le=1 << 26,
        description="vectors that the n-grams share, chosen by a hash (fastText: 2,000,000)",
    )

    @model_validator(mode="after")
    def _check_ngrams(self) -> Self:
        if self.max_n and self.max_n < self.min_n:
            raise ValueError(f"max_n: {self.max_n} is less than min_n, {self.min_n}")
        if self.max_n and self.unit == "token":
            raise ValueError("max_n: tokens are parts of words already; n-grams need unit: word")
        return self


class Word2vecOptim(ConfigModel):
    """The loss, what of the text is left out, and the learning rate."""

    loss: Literal["negative_sampling", "hierarchical_softmax"] = Field(
        "negative_sampling",
        description=(
            "negative_sampling: tell the word from random ones; hierarchical_softmax: take its turns in a "
            "Huffman tree of all words (Mikolov et al. 2013, arXiv:1310.4546)"
        ),
    )
    negatives: int = Field(
        5,
        ge=1,
        le=1000,
        description="random words per pair (word2vec.c: 5; 5 to 20 for small corpora)",
    )
    negative_exponent: float = Field(
        0.75,
        ge=-10,
        le=10,
        description="random words are drawn in proportion to their count to this power (arXiv:1310.4546)",
    )
    subsample: float = Field(
        1e-3,
        ge=0,
        description=(
            "a word of relative frequency f is read with the probability sqrt(t / f) + t / f, where t is this "
            "(word2vec.c: 0.001); 0: always"
        ),
    )
    lr: float | None = Field(
        None,
        gt=0,
        description="initial learning rate; default: 0.025 for skipgram, 0.05 for cbow (word2vec.c)",
    )
    min_lr: float = Field(
        1e-4, ge=0, description="learning rate at the end, to which it decreases linearly (gensim)"
    )
    epochs: int = Field(5, ge=1, description="passes over the text (word2vec.c: 5)")
    replicas: int = Field(
        1,
        ge=1,
        le=256,
        description=(
            "workers that train at the same time, each on its own piece of the text; then what they have "
            "changed is added up (Adasum). It decides the result, the number of workers does not"
        ),
    )


class Word2vecEntry(SeededEntry):
    """Word vectors from which the neighbors of a word can be predicted (Mikolov et al. 2013).

    They give no probability to a text.
    """

    family: Literal["word2vec"] = Field(description="the family of the model")
    model: Word2vecConfig = Field(default_factory=lambda: Word2vecConfig.model_validate({}))
    optim: Word2vecOptim = Field(default_factory=lambda: Word2vecOptim.model_validate({}))

    gives_probability: ClassVar[bool] = False

    @model_validator(mode="after")
    def _check_lr(self) -> Self:
        if self.lr < self.optim.min_lr:
            raise ValueError(f"optim.lr {self.lr:g} is below optim.min_lr {self.optim.min_lr:g}")
        return self

    @property
    def lr(self) -> float:
        """The initial learning rate."""
        default = SKIPGRAM_LR if self.model.algorithm == "skipgram" else CBOW_LR
        return self.optim.lr or default
