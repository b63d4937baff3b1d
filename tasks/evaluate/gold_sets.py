"""Word pairs with the similarity that people gave them, and analogies: files that the recipe names."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from infra.dataset.fingerprint import bytes_sha256
from infra.dataset.ledger import Verdict, failed
from infra.errors import UserError
from infra.store.external_files import read_url
from infra.store.storage import StorageError
from tasks.evaluate.config import WordVectorsConfig

Kind = Literal["similarity", "analogies"]
WORDS = {"similarity": 2, "analogies": 4}
MAX_BAD_FRACTION = 0.05  # of a file's rows; with more it is a file of another form


class GoldSetError(UserError):
    """A file of word pairs or analogies that cannot be read."""


@dataclass(frozen=True)
class GoldSet:
    """A file. Picklable.

    Attributes:
        name: the file's name without its suffix; its URL may hold a secret, and is not kept.
        kind: what its lines are.
        data: its bytes.
    """

    name: str
    kind: Kind
    data: bytes

    @property
    def key(self) -> list[str]:
        """What a result depends on."""
        return [self.name, self.kind, bytes_sha256(self.data)]


@dataclass(frozen=True)
class GoldRow:
    """A line of a file.

    Attributes:
        line: its number, from 1 on.
        words: of a similarity two, of an analogy "a is to b as c is to d" four, of a bad row none.
        score: the similarity; of an analogy ``None``.
        section: of an analogy, the last line before it that begins with a colon.
        error: why a bad row cannot be used.
    """

    line: int
    words: tuple[str, ...] = ()
    score: float | None = None
    section: str | None = None
    error: Verdict | None = None


def load_gold_sets(config: WordVectorsConfig) -> list[GoldSet]:
    """Read the files that the recipe names.

    Raises:
        GoldSetError: if one is missing, cannot be read or has another form, or two have the same name.
    """
    sets: list[GoldSet] = []
    for kind, urls in (("similarity", config.similarity), ("analogies", config.analogies)):
        for number, url in enumerate(urls):
            field = f"evaluate.word_vectors.{kind}.{number}"
            gold = GoldSet(PurePosixPath(urlsplit(url).path).stem, kind, _read(url, field))  # type: ignore[arg-type]
            if any(other.name == gold.name for other in sets):
                raise GoldSetError(f"{field}: {url!r}: another file is named {gold.name!r}, too")
            _check_form(gold, field, url)
            sets.append(gold)
    return sets


def _check_form(gold: GoldSet, field: str, url: str) -> None:
    """Raise ``GoldSetError`` if a file has no rows, or too many that cannot be used."""
    rows = parse_gold_set(gold)
    bad = [row for row in rows if row.error is not None]
    if len(bad) <= MAX_BAD_FRACTION * len(rows) and rows:
        return
    if not rows:
        raise GoldSetError(f"{field}: {url!r} has no rows")
    evidence = (bad[0].error or Verdict()).evidence or {}
    raise GoldSetError(
        f"{field}: {url!r}: {len(bad)} of {len(rows)} rows cannot be used; the first is line "
        f"{bad[0].line}: {evidence['message']}"
    )


def _read(url: str, field: str) -> bytes:
    try:
        return read_url(url)
    except StorageError as error:
        raise GoldSetError(f"{field}: {error}") from None


def parse_gold_set(gold: GoldSet) -> list[GoldRow]:
    """Return the rows of a file: all lines but empty ones, comments (``#``) and titles of sections.

    A similarity is two words and a number, separated by tabs; an analogy is four words, separated by white
    space, as in questions-words.txt.
    """
    rows: list[GoldRow] = []
    section = None
    for number, raw in enumerate(gold.data.split(b"\n"), 1):
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            rows.append(GoldRow(number, error=_bad(gold, number, f"not UTF-8: {error.reason}")))
            continue
        if not text or text.startswith("#"):
            continue
        if gold.kind == "analogies" and text.startswith(":"):
            section = text[1:].strip()
            continue
        rows.append(_parse_row(gold, number, text, section))
    return rows


def _parse_row(gold: GoldSet, number: int, text: str, section: str | None) -> GoldRow:
    if gold.kind == "analogies":
        words = text.split()
        if len(words) != WORDS[gold.kind]:
            return GoldRow(number, error=_bad(gold, number, f"{len(words)} words, not 4"))
        return GoldRow(number, tuple(words), section=section)
    fields: Sequence[str] = [item.strip() for item in text.split("\t")]
    if len(fields) < 3 or not fields[0] or not fields[1]:
        message = f"{len(fields)} fields, not two words and a number separated by tabs"
        return GoldRow(number, error=_bad(gold, number, message))
    try:
        score = float(fields[2])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        return GoldRow(number, error=_bad(gold, number, f"{fields[2]!r} is not a number"))
    return GoldRow(number, (fields[0], fields[1]), score)


def _bad(gold: GoldSet, number: int, message: str) -> Verdict:
    return failed("bad_row", file=gold.name, line=number, message=message)
