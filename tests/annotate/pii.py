"""What the detectors of personal data find in a text."""

import pyarrow as pa

from infra.pii.spans import find_pii


def detect(text: str) -> list[tuple[str, str]]:
    """The kind and the text of each span."""
    (spans,) = find_pii(pa.array([text], pa.large_string())).to_pylist()
    return [(span["kind"], text[span["start"] : span["end"]]) for span in spans]
