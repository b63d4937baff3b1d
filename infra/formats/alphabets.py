"""Whether the letters of a text belong to one language: a check on a guessed 8-bit encoding.

A text decoded with the wrong table still consists of characters, but they are letters that no single
language uses together, signs inside words, or capitals after small letters.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

# Characters of a text that are looked at, and those in which words are looked up.
_SAMPLE_CHARS, _WORD_CHARS = 1 << 16, 1 << 13

# With at most this fraction of letters beyond ASCII, a text may hold names and loanwords of any
# Western language, as English does.
_MAX_LOANWORD_FRACTION = 0.02

# Letters beyond a to z (CLDR's exemplar characters, main and common auxiliary ones).
_LATIN = {
    "af": "áäéèêëíîïóôöúûü", "az": "çəğıöşüİ", "br": "âêîñôùûü", "ca": "àçéèíïóòúü",
    "cs": "áčďéěíňóřšťúůýž", "cy": "âêîôûŵŷäëïöüÿáéíóúẃýàèìòùẁỳ", "da": "æøåéèêóôàüä",
    "de": "äöüßéàè", "eo": "ĉĝĥĵŝŭ", "es": "áéíñóúüï", "et": "äõöüšž", "eu": "çñü", "fi": "äöåšž",
    "fo": "áðíóúýæø", "fr": "àâæçéèêëîïôœùûüÿ", "ga": "áéíóúḃċḋḟġṁṗṡṫ", "gd": "àèìòùáéó",
    "gl": "áéíóúüñï", "hr": "čćđšž", "hsb": "ćčěłńóřšžźŕ", "hu": "áéíóöőúüű",
    "is": "áéíóúýðþæö", "it": "àèéìíîòóùú", "la": "āăēĕīĭōŏūŭȳæœë", "lb": "äëéêèöüàâô",
    "lt": "ąčęėįšųūž", "lv": "āčēģīķļņōŗšūž", "mi": "āēīōū", "mt": "ċġħżàèéìíîòùâ",
    "nl": "áàâäçéèêëíïóôöúûüĳ", "oc": "àáçèéíïòóúüñ", "pl": "ąćęłńóśźż", "pt": "áàâãçéêíóôõúüèò",
    "ro": "ăâîşţșț", "se": "áčđŋšŧž", "sk": "áäčďéíĺľňóôŕšťúýž", "sq": "çë", "sv": "åäöéàü",
    "tr": "çğıöşüâîûİ",
    "vi": "àáảãạăằắẳẵặâầấẩẫậđèéẻẽẹêềếểễệìíỉĩịòóỏõọôồốổỗộơờớởỡợùúủũụưừứửữựỳýỷỹỵ\u0300\u0301\u0303\u0309\u0323",
}  # fmt: skip
_RUSSIAN = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
_CYRILLIC = {
    "kk": _RUSSIAN + "ёәғқңөұүһі", "be": _RUSSIAN.replace("и", "") + "ёіў’", "bg": _RUSSIAN.replace("ы", "").replace("э", "") + "ѝ",
    "mk": "абвгдѓежзѕијклљмнњопрстќуфхцчџшѐѝ", "ru": _RUSSIAN + "ё",
    "sr": "абвгдђежзијклљмнњопрстћуфхцчџш", "uk": _RUSSIAN + "ґєії",
    "ba": _RUSSIAN + "ёғҙҡңөҫүһә", "tg": _RUSSIAN + "ёғӣқӯҳҷ", "tt": _RUSSIAN + "ёәөүҗңһ", "uz": _RUSSIAN + "ёўқғҳ",
}  # fmt: skip
_LATIN_ALPHABETS = {language: frozenset(letters) for language, letters in _LATIN.items()}
_CYRILLIC_ALPHABETS = [frozenset(letters) for letters in _CYRILLIC.values()]
_WESTERN_LETTERS = frozenset(map(chr, (*range(0xDF, 0xF7), *range(0xF8, 0x100)))) | set("œšž")

# Scripts whose letters are taken as a whole.
_SCRIPTS = {
    "ar": re.compile("[\u0600-\u06ff\ufb50-\ufdff\ufe70-\ufeff\u200c\u200d]"),
    "el": re.compile("[\u0370-\u03ff\u1f00-\u1fff]"),
    "he": re.compile("[\u0590-\u05ff]"),
    "hy": re.compile("[\u0530-\u058f]"),
    "ja": re.compile(
        "[\u3005-\u3007\u3040-\u30ff\uff66-\uff9f\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ffff]"
    ),
    "ka": re.compile("[\u10a0-\u10ff]"),
    "ko": re.compile("[\u3130-\u318f\uac00-\ud7a3\u4e00-\u9fff]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
    "zh": re.compile("[\u3005-\u3007\u3400-\u9fff\U00020000-\U0003ffff]"),
}

# With a smaller fraction of letters beyond ASCII, a text is not in one of these scripts: a few pairs
# of bytes in a Western text can be read as Chinese characters. With a larger one (Vietnamese has
# the largest), it is not in a language with Latin letters.
_MIN_SCRIPT_FRACTION, _MAX_LATIN_FRACTION = 0.1, 0.5

# Fewer letters say nothing about their fraction.
_FEW_LETTERS = 20

# Words without accents that show a language whose frequent letter (Albanian's "ë") is a letter of
# other languages in other tables.
_FUNCTION_WORDS = {
    "eu": frozenset("eta ez da ere bat zen zuen dira dute izan".split()),
    "sq": frozenset("dhe nga se por edhe kur ishte me".split()),
}
_MIN_FUNCTION_WORDS = 0.04

# Signs that may stand between two letters.
_INSIDE_WORDS = frozenset("\xa0\xad·’‐‑–—…‧\u200b\u200c\u200d")
# Corners and crossings of a frame without another part of one beside them.
_LONE_CORNER = re.compile("[\u250c-\u254b\u2552-\u256c](?<![\u2500-\u259f].)(?![\u2500-\u259f])")
# A letter of another script beside one of a to z.
_MIXED_SCRIPTS = re.compile(
    "[\u0370-\u06ff\u3040-\u9fff\uac00-\ud7a3](?:(?<=[A-Za-z].)|(?=[A-Za-z]))"
)
_LETTER_BEFORE = "(?<=[A-Za-z\u00c0-\u058f].)"
_LETTER_AFTER = "(?=[A-Za-z\u00c0-\u058f])"
_NO_LETTER_BEFORE = _LETTER_BEFORE.replace("?<=", "?<!")
_SMALL_BEFORE = "(?<=[a-z\u00df-\u00ff\u03ac-\u03ce\u0430-\u045f].)"


def letter_fit(text: str) -> float:
    """The fraction of the characters beyond ASCII that fit the language that fits best.

    Counted are letters, and signs that stand where a letter should: inside a word, for signs such as
    ``³`` and ``¤`` behind a letter, for accents beside one. A text without any of them fits.
    """
    sample = text[:_SAMPLE_CHARS]
    chars = Counter(sample)
    num_ascii = sum(count for char, count in chars.items() if char.isascii() and char.isalpha())
    others = {char: count for char, count in chars.items() if not char.isascii()}
    letters = _count_letters(others)
    total = letters.total() + _count_misplaced_signs(sample, others)
    if not total:
        return 1.0
    fraction = letters.total() / (num_ascii + letters.total() or 1)
    best = max(
        sum(count for char, count in letters.items() if char in alphabet)
        for alphabet in _plausible_alphabets(sample, fraction, letters.total())
    )
    if fraction >= _MIN_SCRIPT_FRACTION:
        for script in _SCRIPTS.values():
            best = max(best, sum(count for char, count in letters.items() if script.match(char)))
    misplaced = _count(sample, filter(str.isupper, others), _SMALL_BEFORE, "")
    misplaced += _count(sample, filter(str.islower, others), "", "(?=[A-Z])")
    misplaced += _count(sample, letters, _NO_LETTER_BEFORE, "(?=[0-9])")
    misplaced += len(_MIXED_SCRIPTS.findall(sample))
    return max(best - misplaced, 0) / total


def _count_letters(chars: Mapping[str, int]) -> Counter[str]:
    """Small letters and combining marks; capitals count as their small letters."""
    letters: Counter[str] = Counter()
    for char, count in chars.items():
        if unicodedata.category(char)[0] in "LM" and char not in "ªº":
            small = char.lower()
            letters[small if len(small) == 1 else char] += count
    return letters


def _count_misplaced_signs(text: str, chars: Mapping[str, int]) -> int:
    by_category: dict[str, list[str]] = {}
    for char in chars:
        category = "Co" if char == "\ufffd" else unicodedata.category(char)
        by_category.setdefault(category, []).append(char)
    accents = by_category.pop("Sk", [])
    behind = [c for name in ("No", "Sc", "Sm", "So") for c in by_category.pop(name, [])]
    no_text = [c for name in ("Cc", "Cn", "Co") for c in by_category.pop(name, [])]
    inside = [
        char
        for name, group in by_category.items()
        for char in group
        if name[0] not in "LM" and char not in _INSIDE_WORDS
    ]
    return (
        sum(chars[char] for char in no_text)
        + len(_LONE_CORNER.findall(text))
        + _count(text, [*behind, *accents], _LETTER_BEFORE, "")
        + _count(text, accents, _NO_LETTER_BEFORE, _LETTER_AFTER)
        + _count(text, inside, _LETTER_BEFORE, _LETTER_AFTER)
    )


def _plausible_alphabets(text: str, fraction: float, num_letters: int) -> list[frozenset[str]]:
    """The alphabets that a text with a fraction of letters beyond ASCII may be in."""
    language = _find_language(text[:_WORD_CHARS])
    alphabets = list(_CYRILLIC_ALPHABETS)
    if language:
        alphabets.append(_LATIN_ALPHABETS[language])
    elif fraction <= _MAX_LATIN_FRACTION or num_letters < _FEW_LETTERS:
        alphabets.extend(_LATIN_ALPHABETS.values())
    if fraction <= _MAX_LOANWORD_FRACTION and not language:
        alphabets.append(_WESTERN_LETTERS)
    return alphabets


def _find_language(text: str) -> str | None:
    words = Counter(re.findall(r"(?<![^\s])[a-z]+(?=[\s.,;])", text))
    num_words = len(text.split())
    for language, function_words in _FUNCTION_WORDS.items():
        num_known = sum(words[word] for word in function_words)
        if len(function_words & words.keys()) > 1 and num_known > _MIN_FUNCTION_WORDS * num_words:
            return language
    return None


def _count(text: str, chars: Iterable[str], before: str, after: str) -> int:
    """How often one of the characters stands between what two patterns match."""
    listed = re.escape("".join(chars))
    if not listed:
        return 0
    # The character stands first, because the search for one is fast.
    return len(re.findall(f"[{listed}]{before}{after}", text))
