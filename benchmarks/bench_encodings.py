"""Guessing the encoding of books: right texts by language, beside other detectors.

    python -m benchmarks.bench_encodings

Passages in forty languages (`tests/infra/book_texts.py`) in every encoding that books in them come
in, as a sentence (150 characters), a page and a chapter. A guess is right if it gives the text as it
was written. Ours may also refuse (`bad_encoding`), which is not wrong. Then the same passages as web pages
that declare no encoding.
"""

import time
from collections import Counter
from collections.abc import Callable

import chardet
import charset_normalizer
from resiliparse.parse.encoding import detect_encoding

from infra.formats.charset import TextDecodeError, decode_page, decode_text
from tests.infra.book_texts import encoded_texts

SENTENCE_CHARS = 150
CHAPTER_PASSAGES = 12
PAGE_PASSAGES = (3, 12, 48)  # of web pages: about 1, 5 and 19 KB


def decode_ours(data: bytes) -> str | None:
    """The text, or ``None`` if it is refused."""
    try:
        return decode_text(data)[0]
    except TextDecodeError:
        return None


def decode_with_chardet(data: bytes) -> str | None:
    """The text as chardet alone guesses it."""
    return decode_named(data, chardet.detect(data)["encoding"])


def decode_with_charset_normalizer(data: bytes) -> str | None:
    """The text as charset-normalizer guesses it."""
    best = charset_normalizer.from_bytes(data).best()
    return decode_named(data, best.encoding if best else None)


def decode_with_uchardet(data: bytes) -> str | None:
    """The text as uchardet guesses it (resiliparse)."""
    return decode_named(data, detect_encoding(data, html5_compatible=False))


def decode_named(data: bytes, name: str | None) -> str | None:
    """The text, or ``None`` if the encoding is unknown or does not fit."""
    try:
        return data.decode(name) if name else None
    except (LookupError, UnicodeDecodeError):
        return None


CONTENDERS: dict[str, Callable[[bytes], str | None]] = {
    "gristmill": decode_ours,
    "chardet": decode_with_chardet,
    "charset-normalizer": decode_with_charset_normalizer,
    "uchardet": decode_with_uchardet,
}


def main() -> None:
    """Print right guesses by length of text, then the languages with wrong ones."""
    right: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    seconds = dict.fromkeys(CONTENDERS, 0.0)
    tested: Counter[str] = Counter()
    for language, encoding, passage in encoded_texts():
        lengths = {
            "sentence": passage[:SENTENCE_CHARS],
            "page": passage,
            "chapter": "\n\n".join([passage] * CHAPTER_PASSAGES),
        }
        for length, text in lengths.items():
            data = text.encode(encoding)
            tested[length] += 1
            for name, decode in CONTENDERS.items():
                start = time.process_time()
                decoded = decode(data)
                seconds[name] += time.process_time() - start
                if decoded == text:
                    right[name, length] += 1
                else:
                    wrong[name, language] += 1
    print("| detector | " + " | ".join(f"{n} (of {tested[n]})" for n in tested) + " | CPU s |")
    print("|---|" + "---|" * (len(tested) + 1))
    for name in CONTENDERS:
        counts = " | ".join(str(right[name, length]) for length in tested)
        print(f"| {name} | {counts} | {seconds[name]:.1f} |")
    for name in CONTENDERS:
        languages = sorted(
            (language, count) for (who, language), count in wrong.items() if who == name
        )
        print(f"{name}, wrong: " + ", ".join(f"{code} {count}" for code, count in languages))
    for passages in PAGE_PASSAGES:
        measure_pages(passages)


def measure_pages(passages: int) -> None:
    """Print how many web pages of some passages are read right, and the CPU time of one."""
    num_right, num_bytes, seconds = 0, 0, 0.0
    texts = encoded_texts()
    for _, encoding, passage in texts:
        body = "\n\n".join([passage] * passages).encode(encoding).replace(b"\n\n", b"</p><p>")
        page = b"<html><title>x</title><body><p>" + body + b"</p></body></html>"
        start = time.process_time()
        text = decode_page(page, None).text
        seconds += time.process_time() - start
        num_bytes += len(page)
        num_right += passage.split("\n\n")[0] in text
    print(
        f"undeclared pages of {num_bytes // len(texts)} bytes: {num_right} of {len(texts)} right, "
        f"{1000 * seconds / len(texts):.1f} ms"
    )


if __name__ == "__main__":
    main()
