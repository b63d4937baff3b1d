"""The recipe's ``annotate`` section."""

from pydantic import Field

from infra.config import ConfigModel


class AnnotateConfig(ConfigModel):
    """What is written beside the documents.

    The signals have no settings: the limits they are held to are those of ``select``, so that a
    change of a limit costs no new look at the text.
    """

    lid_max_chars: int = Field(
        10_000,
        ge=100,
        description="characters at the beginning of a text by which its language is told; a whole "
        "book tells no more than its first pages, and costs a hundred times as much",
    )
