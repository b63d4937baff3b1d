"""What the endpoint asks of whoever knows where the words of a text come from.

The endpoint has no store and no index: ``gristmill serve`` gives it a finder per model, or says why there is none.
"""

from collections.abc import Mapping
from typing import Any, Protocol


class SourceTracker(Protocol):
    """Follows one text as it grows. Its calls come one after the other."""

    def update(self, text: str, *, final: bool = False) -> Mapping[str, Any] | None:
        """Look up the text so far.

        Takes up to 200 ms of CPU, so it belongs on a thread.

        Args:
            text: begins with what was given before.
            final: nothing will be added to it, and there is an answer in any case.

        Returns:
            ``None`` if no passage changed since the call before. Otherwise JSON values: ``first``, the number of
            passages that stay as they were, from the first one on; ``passages``, which replace all others;
            ``longest``, the tokens of the longest run, even if it is too short to be a passage;
            ``min_tokens``, the least tokens of a passage. A passage is a run of the text that stands word for word in the training data: ``start`` and ``end`` (characters of
            the text), ``text``, ``num_tokens``, ``count`` (how often it occurs) and ``places``, the first of
            these. A place has ``id``, ``url``, ``source`` and
            ``license`` of its document (each a string or ``None``), ``offset`` (the passage's first token,
            counted from the document's) and ``steps``: by model, the training steps that read it.
        """


class SourceFinder(Protocol):
    """Knows the training documents of one model. Safe to use from several threads."""

    def track(self) -> SourceTracker:
        """Return a tracker for a new text."""
