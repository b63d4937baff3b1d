"""The signals by definition, in plain Python: what the kernels must equal on any text."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import regex

from infra.formats.unicode_tables import CJK_RANGES

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
POLICY = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
Signals = dict[str, float]


def is_cjk(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in CJK_RANGES)


def is_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M" or char == "_"


def is_punctuation(char: str) -> bool:
    return unicodedata.category(char)[0] in "PS"


def is_terminal(char: str) -> bool:
    return regex.fullmatch(r"\p{Sentence_Terminal}", char) is not None


def splits(symbols: str, before: str, after: str) -> bool:
    """Whether symbols between two word characters end the word."""
    first = symbols[0]
    if len(set(symbols)) > 1:
        return False
    if len(symbols) > 1:
        return first in "-–—~."
    both_letters = before.isalpha() and after.isalpha()
    both_digits = unicodedata.category(before) == unicodedata.category(after) == "Nd"
    if first in "-–—~":
        return both_letters or both_digits
    if first == ".":
        lower = before.isalpha() and unicodedata.category(before) != "Lu"
        return lower and unicodedata.category(after) == "Lu"
    if first == ",":
        return both_letters
    if first in "/:<=>":
        return after.isalpha()
    return first == "…"


def tokens(text: str) -> list[str]:
    """Words and symbols of a text, in order."""
    out: list[str] = []
    for chunk in text.split():
        at = 0
        touches_word = False
        while at < len(chunk):
            end, is_a_word = token_end(chunk, at, touches_word)
            out.append(chunk[at:end])
            at, touches_word = end, is_a_word
    return out


def token_end(chunk: str, at: int, touches_word: bool) -> tuple[int, bool]:
    """Where the token that begins at ``at`` ends, and whether it is a word."""
    clinging = set("/\\-+@^~|")
    end = at
    if not is_word(chunk[at]):
        if chunk[at] == ".":
            while end < len(chunk) and chunk[end] == ".":
                end += 1
            return end, False
        if chunk[at] not in clinging or touches_word:
            return at + 1, False
        while end < len(chunk) and chunk[end] in clinging:
            end += 1
        if end == len(chunk) or not is_word(chunk[end]) or is_cjk(chunk[end]):
            return end, False
    if is_cjk(chunk[end]):
        return end + 1, True
    while True:
        while end < len(chunk) and is_word(chunk[end]) and not is_cjk(chunk[end]):
            end += 1
        stop = end
        while stop < len(chunk) and not is_word(chunk[stop]) and not is_cjk(chunk[stop]):
            stop += 1
        goes_on = stop > end and stop < len(chunk) and not is_cjk(chunk[stop])
        if goes_on and not splits(chunk[end:stop], chunk[end - 1], chunk[stop]):
            end = stop
            continue
        if goes_on:
            return end, True
        while end < stop and chunk[end] in clinging:
            end += 1
        return end, True


def duplicates(items: Sequence[str]) -> tuple[int, int]:
    """Items equal to an earlier one, and their characters."""
    repeated = [item for index, item in enumerate(items) if item in set(items[:index])]
    return len(repeated), sum(map(len, repeated))


def top_ngram(words: Sequence[str], n: int) -> int:
    grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not grams:
        return 0
    top, count = Counter(grams).most_common(1)[0]
    return len(top) * count


def duplicated_ngrams(words: Sequence[str], n: int) -> int:
    earlier_grams, total, i = set(), 0, 0
    while i + n <= len(words):
        gram = tuple(words[i : i + n])
        if gram in earlier_grams:
            total += sum(map(len, gram))
            i += n
        else:
            earlier_grams.add(gram)
            i += 1
    return total


def over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def sentences(line: str) -> int:
    count, closed = 0, True
    for i, char in enumerate(line):
        before, after = line[i - 1 : i] if i else "", line[i + 1 : i + 2]
        two_before = line[i - 2 : i - 1] if i > 1 else ""
        if is_terminal(char):
            ends = True
            if char.isascii():
                ends = not (after and is_word(after))
            if char == ".":
                alone = before.isalpha() and not (two_before and is_word(two_before))
                ends = ends and not alone and "." not in (before, after)
            closed = closed or ends
        elif closed and not char.isspace() and not is_punctuation(char):
            count, closed = count + 1, False
    return count


def lower(text: str) -> str:
    """ASCII letters in lower case."""
    return re.sub("[A-Z]", lambda match: match.group().lower(), text)


def c4(text: str) -> Signals:
    lines = text.splitlines()
    kept = terminal_lines = count = terminal_count = 0
    lorem = brace = False
    for raw in lines:
        words = raw.split()
        line = re.sub(r"\[[0-9]*]|\[edit]|\[citation needed]", "", raw.strip())
        terminal = line.endswith((".", "?", "!", '"', "'")) and not line.endswith("...")
        terminal_lines += terminal
        if len(words) < 3 or max(map(len, words)) > 1000:
            continue
        low = lower(line)
        if "lorem ipsum" in low:
            lorem = True
        elif "javascript" in low:
            continue
        elif "{" in line:
            brace = True
        elif not any(phrase in low for phrase in POLICY):
            kept += 1
            count += sentences(low)
            terminal_count += sentences(low) if terminal else 0
    return {
        "c4_kept_line_fraction": over(kept, len(lines)),
        "c4_terminal_line_fraction": over(terminal_lines, len(lines)),
        "c4_sentences": count,
        "c4_terminal_sentences": terminal_count,
        "c4_lorem_ipsum": lorem,
        "c4_curly_brace": brace,
    }


def measure(text: str) -> Signals:
    """All signals of one text."""
    cut = tokens(text)
    words = [t for t in cut if any(is_word(char) and char != "_" for char in t)]
    split = text.splitlines()
    paragraphs = re.split(r"\n{2,}", text.strip())
    runs = re.split(r"\n+", text)
    lines = [line for line in text.split("\n") if line.strip()]
    visible = [line.strip() for line in split]
    ends_in_ellipsis = sum(line.endswith(("...", "…")) for line in visible)
    g, q = "gopher_repetition_", "gopher_quality_"
    return {
        "words": len(words),
        "characters": len(text),
        "bytes": len(text.encode()),
        g + "dup_line_fraction": over(duplicates(runs)[0], len(runs)),
        g + "dup_paragraph_fraction": over(duplicates(paragraphs)[0], len(paragraphs)),
        g + "dup_line_char_fraction": over(duplicates(runs)[1], len(text)),
        g + "dup_paragraph_char_fraction": over(duplicates(paragraphs)[1], len(text)),
        **{g + f"top_{n}gram_char_fraction": over(top_ngram(cut, n), len(text)) for n in (2, 3, 4)},
        **{
            g + f"dup_{n}gram_char_fraction": over(duplicated_ngrams(cut, n), len(text))
            for n in range(5, 11)
        },
        q + "word_count": len(words),
        q + "mean_word_length": over(sum(map(len, words)), len(words)),
        q + "hash_word_ratio": over(text.count("#"), len(cut)),
        q + "ellipsis_word_ratio": over(text.count("...") + text.count("…"), len(cut)),
        q + "bullet_line_fraction": over(
            sum(x.startswith(("•", "-")) for x in visible), len(split)
        ),
        q + "ellipsis_line_fraction": over(ends_in_ellipsis, len(split)),
        q + "alpha_word_fraction": over(sum(any(map(str.isalpha, t)) for t in cut), len(cut)),
        q + "stop_words": len(STOP_WORDS & set(cut)),
        **c4(text),
        "fineweb_line_punct_fraction": over(sum(is_terminal(x[-1]) for x in lines), len(lines)),
        "fineweb_short_line_fraction": over(sum(len(x) <= 30 for x in lines), len(lines)),
        "fineweb_dup_line_char_fraction": over(duplicates(lines)[1], len(text) - text.count("\n")),
        "fineweb_newline_word_ratio": over(text.count("\n"), len(cut)),
    }
