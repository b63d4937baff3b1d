"""What the endpoint asks of whoever knows where words come from."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Passages = Sequence[Mapping[str, Any]]


class TextSourceFinder(Protocol):
    """Follows one text while it is written."""

    def find(self, text: str) -> Passages:
        """Return the passages of a text that stand in the training data, in its order, as JSON values.

        ``start`` and ``end`` are characters of the text; ``places`` are documents.

        Args:
            text: begins with the text of the call before. Calls for one text come one after the other,
                in worker threads.
        """


class SourceFinder(Protocol):
    """Finds passages of texts in the training data of one model."""

    def start(self) -> TextSourceFinder:
        """Begin a text."""
