"""The recipe's `augment` sections of an entry of `finetune`: rows that its training examples are extended by."""

from pydantic import Field

from infra.config import ConfigModel


class AugmentConfig(ConfigModel):
    """Edited copies of the training examples (EDA, Wei and Zou 2019, arXiv:1901.11196)."""

    copies: int = Field(
        1, ge=1, le=16, description="edited copies of each training example, besides the example"
    )
    delete: float = Field(
        0.1, ge=0, lt=1, description="probability of each word of a copy to be left out"
    )
    swap: float = Field(0.1, ge=0, le=1, description="exchanges of two words, per word of the text")
    insert: float = Field(
        0.0, ge=0, le=1, description="words of other training texts that are put in, per word"
    )


class BackTranslationConfig(ConfigModel):
    """Pairs whose source a model of the other direction writes for a target (Sennrich et al. 2016, 1511.06709)."""

    model: str = Field(
        min_length=1,
        description=(
            "an earlier entry of `finetune`, of the task seq2seq, with the same languages the other way "
            "round; its first model translates the targets of the training examples"
        ),
    )


class Seq2SeqAugmentConfig(ConfigModel):
    """Pairs that the training examples are extended by."""

    back_translation: BackTranslationConfig
