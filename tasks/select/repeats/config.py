"""The recipe's ``select.lines`` section."""

from typing import Literal

from pydantic import Field

from infra.config import Section

FEW_WORDS = 50


class Lines(Section):
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
    scope: Literal["source", "corpus"] = Field(
        "source", description="where occurrences are counted: in one source, or in all together"
    )
    documents: int = Field(
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
        FEW_WORDS,
        ge=1,
        description="words that must be left of a document that lost lines; with fewer it is "
        "dropped, unless it keeps a line for others (datatrove's min_doc_words)",
    )
