"""The recipe's ``annotate`` section."""

from pydantic import Field

from infra.config import ConfigModel


class AnnotateConfig(ConfigModel):
    """How documents are annotated.

    The signals have no settings: their thresholds belong to ``select``, so that a threshold can be
    changed without reading the text again.
    """

    lid_max_chars: int = Field(
        10_000,
        ge=100,
        description="characters at the beginning of a text from which its language is detected; a "
        "whole book gives no better result than its first pages and costs a hundred times as much",
    )
