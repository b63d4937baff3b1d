"""FineWeb's signals of lines (Penedo et al. 2024, https://arxiv.org/abs/2406.17557)."""

from tasks.annotate.signals.families import SignalColumns
from tasks.annotate.signals.text_block import TextBlock, safe_divide


def compute(texts: TextBlock) -> SignalColumns:
    """The family ``fineweb`` of `infra.schemas.signals`."""
    lines = texts.line_counts
    characters_in_lines = lines["characters"] - lines["newlines"]
    return {
        "fineweb_line_punct_fraction": safe_divide(
            lines["nonblank_terminal_lines"], lines["nonblank_lines"]
        ),
        "fineweb_short_line_fraction": safe_divide(
            lines["nonblank_short_lines"], lines["nonblank_lines"]
        ),
        "fineweb_dup_line_char_fraction": safe_divide(
            lines["nonblank_dup_chars"], characters_in_lines
        ),
        "fineweb_newline_word_ratio": safe_divide(lines["newlines"], texts.token_counts["tokens"]),
    }
