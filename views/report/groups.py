"""Rows of the tables by language and by source, as the template ``templates/groups.html`` shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

MAX_ROWS = 15  # of a table; the smallest groups beyond are summed

# English, by ISO 639-1 code.
LANGUAGE_NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech",
    "da": "Danish", "de": "German", "el": "Greek", "en": "English", "eo": "Esperanto",
    "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian",
    "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ko": "Korean", "la": "Latin",
    "lt": "Lithuanian", "lv": "Latvian", "ms": "Malay", "nl": "Dutch", "no": "Norwegian",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak",
    "sl": "Slovenian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil",
    "te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian",
    "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def group_rows(
    groups: Mapping[str, Mapping[str, Any]], weight: str, names: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return a row per group with its name, the largest first; the last row may sum the others.

    Args:
        groups: by code or name, what a row shows: documents and words; also tokens, bytes and their
            rates if the corpus was tokenized.
        weight: the number that groups are sorted by.
        names: display names, where they differ.
    """
    ordered = sorted(groups.items(), key=lambda item: (-item[1][weight], item[0]))
    n_shown = len(ordered) if len(ordered) <= MAX_ROWS else MAX_ROWS - 1
    rows = [{"name": names.get(key, key), **group} for key, group in ordered[:n_shown]]
    rest = [group for _, group in ordered[n_shown:]]
    if rest:
        rows.append({"name": f"{len(rest)} others", **_sum_groups(rest)})
    return rows


def _sum_groups(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total = {
        key: sum(group[key] for group in groups)
        for key in ("documents", "words", "tokens", "bytes")
        if key in groups[0]
    }
    if "tokens" not in total:
        return total
    # Every document has an end-of-text token, which stands for no bytes and is in no word.
    tokens = total["tokens"] - total["documents"]
    return {
        **total,
        "bytes_per_token": total["bytes"] / tokens if tokens else None,
        "tokens_per_word": tokens / total["words"] if total["words"] else None,
    }
