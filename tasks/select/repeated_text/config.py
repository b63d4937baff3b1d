"""The recipe's ``select.line_dedup`` and ``select.substring_dedup`` sections."""

from typing import Literal, Self

from pydantic import Field, model_validator

from infra.config import ConfigModel

DEFAULT_MIN_WORDS = 50
DEFAULT_MAX_DUPLICATE_FRACTION = 0.5


class LineDedupConfig(ConfigModel):
    """Lines or paragraphs that occur in many documents are removed from the text.

    The method is CCNet's (Wenzek et al. 2019, arXiv:1911.00359), which compares lines across
    documents and keeps the first; the threshold is Llama 3's (Grattafiori et al. 2024,
    arXiv:2407.21783, 3.1.1), which removes lines that occur more than 6 times.
    """

    unit: Literal["line", "paragraph"] = Field(
        "line",
        description="what is compared: lines (extraction puts each paragraph of a web page on one), or "
        "paragraphs between blank lines, as in books",
    )
    scope: Literal["site", "source", "corpus"] = Field(
        "source",
        description="where occurrences are counted: in the documents of one host, of one source, or "
        "of all sources",
    )
    min_documents: int = Field(
        7, ge=2, description="minimum documents that have a line for it to be removed"
    )
    min_characters: int = Field(
        30,
        ge=1,
        description="minimum characters of a line that is removed; FineWeb calls lines of fewer than "
        "30 short, and any two texts share some",
    )
    keep: Literal["first", "none"] = Field(
        "first", description="whether the first document that has a line keeps it"
    )
    min_words: int = Field(
        DEFAULT_MIN_WORDS,
        ge=1,
        description="minimum words left in a document that lost lines; with fewer it is dropped, "
        "unless others lost a line in its favor (datatrove's min_doc_words)",
    )


class SubstringDedupConfig(ConfigModel):
    """Runs of words that an earlier document has are removed from the text.

    After Lee et al. 2021 (arXiv:2107.06499), who remove runs of 50 tokens or more with a suffix
    array, and RefinedWeb (Penedo et al. 2023, arXiv:2306.01116), which applies it to web pages. Here
    runs are counted in lower-case words and compared by 64-bit rolling hashes.
    """

    min_run_words: int = Field(50, ge=10, description="minimum words of a run that is removed")
    action: Literal["trim", "drop"] = Field(
        "trim",
        description="cut the runs from the text, or drop documents that mostly consist of runs and "
        "leave the others unchanged",
    )
    max_duplicate_fraction: float = Field(
        DEFAULT_MAX_DUPLICATE_FRACTION,
        ge=0,
        le=1,
        description="with drop: maximum fraction of a document's words that such runs may cover",
    )
    min_words: int = Field(
        DEFAULT_MIN_WORDS,
        ge=1,
        description="with trim: minimum words left in a document that lost some; with fewer it is "
        "dropped, unless others lost words in its favor (datatrove's min_doc_words)",
    )

    @model_validator(mode="after")
    def _reject_unused_thresholds(self) -> Self:
        """Reject a setting of the other action: it would silently have no effect."""
        if self.action == "trim" and self.max_duplicate_fraction != DEFAULT_MAX_DUPLICATE_FRACTION:
            raise ValueError("max_duplicate_fraction belongs to action drop")
        if self.action == "drop" and self.min_words != DEFAULT_MIN_WORDS:
            raise ValueError("min_words belongs to action trim")
        return self
