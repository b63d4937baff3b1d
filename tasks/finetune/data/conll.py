"""Sentences with a word and its columns per line, as the CoNLL shared tasks have them."""

import re
from collections.abc import Iterator, Sequence

from tasks.finetune.data.records import Rejection, Record

# "# text = ..." and "# newdoc" of CoNLL-U, "#begin document" of CoNLL-2012. Other lines that begin with "#"
# are words: CoNLL-2003 has the token "#".
_COMMENT = re.compile(r"#\s*(\S+\s*=|newdoc\b|newpar\b|begin document|end document)")
_DOCUMENT_START = "-DOCSTART-"

# Columns of CoNLL-2012: the word, and the first of the predicates' columns; the last is coreference.
_WORD_2012, _PREDICATES_2012 = 3, 11
_ROLE = re.compile(r"\(([^()*]+)|(\*)|(\))")

Line = tuple[int, list[str]]


def read_conll(data: bytes, name: str, *, words: int, tags: int) -> Iterator[Record | Rejection]:
    """Read a column of words and a column of tags; an empty line ends a sentence.

    Args:
        data: the file.
        name: of the file; not used.
        words: the column of the words, from 0; a negative number counts from the last.
        tags: the column of the tags.

    Yields:
        Records with ``words`` and ``tags``, per sentence.
    """
    del name
    for sentence in _iter_sentences(data):
        first, width = sentence[0][0], len(sentence[0][1])
        odd = next((line for line, fields in sentence if len(fields) != width), None)
        if odd is not None:
            message = f"line {odd} has another number of columns than line {first}"
            yield Rejection(first, "bad_row", message)
        elif not all(-width <= column < width for column in (words, tags)) or width < 2:
            message = f"line {first} has {width} columns; words and tags are {words} and {tags}"
            yield Rejection(first, "missing_column", message)
        else:
            columns = {"words": words, "tags": tags}
            yield Record(
                first,
                {key: [fields[i] for _, fields in sentence] for key, i in columns.items()},
            )


def read_conll2012(data: bytes, name: str) -> Iterator[Record | Rejection]:
    """Read semantic roles from CoNLL-2012 columns: an example per predicate.

    A sentence without a predicate has no example.

    Yields:
        Records with ``words``, ``tags`` (BIO, ``B-V`` at the predicate) and ``predicate``.
    """
    del name
    for sentence in _iter_sentences(data):
        first, width = sentence[0][0], len(sentence[0][1])
        if any(len(fields) != width for _, fields in sentence) or width <= _PREDICATES_2012:
            yield Rejection(first, "bad_row", f"the sentence of line {first} has uneven columns")
            continue
        words = [fields[_WORD_2012] for _, fields in sentence]
        for column in range(_PREDICATES_2012, width - 1):
            tags = bracketed_to_bio([fields[column] for _, fields in sentence])
            if tags is None or tags.count("B-V") != 1:
                message = f"column {column} of the sentence of line {first} has no roles of one verb"
                yield Rejection(first, "bad_tags", message)
                continue
            predicate = tags.index("B-V")
            values = {"words": words, "tags": tags, "predicate": predicate}
            yield Record(sentence[predicate][0], values)


def bracketed_to_bio(cells: Sequence[str]) -> list[str] | None:
    """Convert ``(ARG0*``, ``*``, ``*)`` to BIO tags; ``None`` if brackets do not match or are nested."""
    tags: list[str] = []
    role = None
    for cell in cells:
        opened = False
        tag = None
        for match in _ROLE.finditer(cell):
            if match[1]:
                if role is not None:
                    return None
                role, opened = match[1], True
            elif match[2]:
                tag = "O" if role is None else f"{'B' if opened else 'I'}-{role}"
            elif role is None:
                return None
            else:
                role = None
        if tag is None or _ROLE.sub("", cell):
            return None
        tags.append(tag)
    return tags if role is None else None


def _iter_sentences(data: bytes) -> Iterator[list[Line]]:
    """Yield the lines of each sentence, with their numbers from 1, split into fields.

    Bytes that are not UTF-8 become surrogates, which fail with their sentence.
    """
    text = data.decode("utf-8-sig", "surrogateescape")
    sentence: list[Line] = []
    for number, raw in enumerate(text.split("\n"), 1):
        stripped = raw.strip()
        if not stripped or stripped.startswith(_DOCUMENT_START):
            if sentence:
                yield sentence
            sentence = []
        elif not _COMMENT.match(stripped):
            # With tabs, a field may hold spaces.
            fields = stripped.split("\t") if "\t" in stripped else stripped.split()
            sentence.append((number, fields))
    if sentence:
        yield sentence
