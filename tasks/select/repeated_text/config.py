"""The recipe's ``select.line_dedup`` and ``select.substring_dedup`` sections."""

from typing import Literal, Self

from pydantic import Field, model_validator

from infra.config import ConfigModel

DEFAULT_MIN_WORDS = 50
DEFAULT_MAX_DUPLICATE_FRACTION = 0.5


class LineDedupConfig(ConfigModel):
    """Lines or paragraphs that occur in many documents are removed from the text.

    The way is CCNet's (Wenzek et al. 2019, arXiv:1911.00359), which compares lines across
    documents and keeps the first; how often is Llama 3's (Grattafiori et al. 2024,
    arXiv:2407.21783, 3.1.1), which removes lines that occur more than 6 times.
    """

    unit: Literal["line", "paragraph"] = Field(
        "line",
        description="what is compared: lines, which is what paragraphs of web pages become, or "
        "paragraphs between blank lines, as in books",
    )
    scope: Literal["site", "source", "corpus"] = Field(
        "source",
        description="where occurrences are counted: in documents of one host, of one source, or of "
        "all together",
    )
    min_documents: int = Field(
        7, ge=2, description="documents that must have a line for it to be removed"
    )
    min_characters: int = Field(
        30,
        ge=1,
        description="characters of the shortest line that is removed; FineWeb calls lines of "
        "fewer than 30 short, and any two texts have some in common",
    )
    keep: Literal["first", "none"] = Field(
        "first", description="whether the first document that has a line keeps it"
    )
    min_words: int = Field(
        DEFAULT_MIN_WORDS,
        ge=1,
        description="words that must be left of a document that lost lines; with fewer it is "
        "dropped, unless it keeps a line for others (datatrove's min_doc_words)",
    )


class SubstringDedupConfig(ConfigModel):
    """Runs of words that an earlier document has are removed from the text.

    After Lee et al. 2021 (arXiv:2107.06499), who take runs of 50 tokens or more out with a suffix
    array, and RefinedWeb (Penedo et al. 2023, arXiv:2306.01116), which does so to web pages. Here
    words are counted, in lower case, and runs are compared by rolling hashes of 64 bits.
    """

    min_run_words: int = Field(50, ge=10, description="words of the shortest run that is removed")
    action: Literal["trim", "drop"] = Field(
        "trim",
        description="take the runs out of the text, or drop documents that consist of them and "
        "leave the others whole",
    )
    max_duplicate_fraction: float = Field(
        DEFAULT_MAX_DUPLICATE_FRACTION,
        ge=0,
        le=1,
        description="with drop: greatest share of a document's words that such runs may cover",
    )
    min_words: int = Field(
        DEFAULT_MIN_WORDS,
        ge=1,
        description="with trim: words that must be left of a document that lost some; with fewer "
        "it is dropped, unless it keeps words for others (datatrove's min_doc_words)",
    )

    @model_validator(mode="after")
    def _reject_unused_thresholds(self) -> Self:
        """A limit of the other action would silently do nothing."""
        if self.action == "trim" and self.max_duplicate_fraction != DEFAULT_MAX_DUPLICATE_FRACTION:
            raise ValueError("max_duplicate_fraction belongs to action drop")
        if self.action == "drop" and self.min_words != DEFAULT_MIN_WORDS:
            raise ValueError("min_words belongs to action trim")
        return self
