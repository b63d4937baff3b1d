"""Read suites: their YAML files, and their items, with a verdict on each bad row."""

import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from infra.dataset.fingerprint import hash_to_unit, json_sha256
from infra.dataset.ledger import Verdict, failed
from infra.errors import UserError
from infra.formats.jsonl import InvalidRowError, parse_line
from infra.store.external_files import read_url
from infra.store.storage import StorageError, is_remote
from tasks.suites.config import NAME_PATTERN, SuiteConfig, SuiteType

MAX_BAD_FRACTION = 0.05  # of a file's rows; with more it is a file of another form
# The keys of an item beside `id`, `domain` and `cluster`: name -> its type.
KEYS: Mapping[SuiteType, Mapping[str, str]] = {
    "multiple_choice": {"context": "text", "choices": "texts", "gold": "index"},
    "cloze": {"context": "text", "gold": "text"},
    "exact_match": {"context": "text", "gold": "answers"},
    "generate": {"context": "text", "gold": "answers"},
    "perplexity": {"text": "text"},
    "minimal_pairs": {"good": "text", "bad": "text"},
    "counterfactual_pairs": {"first": "text", "second": "text", "continuation": "text"},
    "flagged_words": {"prompt": "text"},
}
OPTIONAL_KEYS = frozenset({"id", "domain", "cluster"})
MAY_BE_EMPTY = frozenset({"context"})


class SuiteError(UserError):
    """A suite that cannot be used; the message names the file."""


@dataclass(frozen=True)
class SuiteItem:
    """An item. Picklable.

    Attributes:
        id: unique in its suite.
        domain: of which a metric of its own is reported; ``None``: none.
        cluster: items that share a document have the same.
        context: what is read before an answer; of ``perplexity`` and ``minimal_pairs`` empty.
        choices: what may follow it, or the texts that are scored: of ``perplexity`` one, of
            ``minimal_pairs`` the good and the bad one, of ``flagged_words`` an empty one, else the
            accepted answers.
        gold: index of the right one.
        other_context: of ``counterfactual_pairs`` the second context, which the same text may follow.
        prefix: read before the context, such as solved items that the item comes with.
        contexts: of ``multiple_choice`` the context of each choice, after ``context``; empty: they have the same.
    """

    id: str
    domain: str | None
    cluster: str
    context: str
    choices: tuple[str, ...]
    gold: int = 0
    other_context: str | None = None
    prefix: str = ""
    contexts: tuple[str, ...] = ()

    @property
    def answer(self) -> str:
        """The right continuation, or the good text."""
        return self.choices[self.gold]

    def to_json(self) -> list[Any]:
        """Return what its score depends on."""
        choices = list(self.choices)
        other: list[Any] = [] if self.other_context is None else [self.other_context]
        if self.prefix or self.contexts:
            other += [self.prefix, list(self.contexts)]
        return [self.id, self.domain, self.cluster, self.context, choices, self.gold, *other]


@dataclass(frozen=True)
class Suite:
    """A suite that was read.

    Attributes:
        config: its YAML file.
        items: those that are scored, in the order of the file.
        bad_rows: rows that cannot be used: id for the ledger, and why.
        shots: solved items to draw from.
        prefix_shots: number of solved items that the prefix of each item has.
    """

    config: SuiteConfig
    items: Sequence[SuiteItem]
    bad_rows: Sequence[tuple[str, Verdict]]
    shots: Sequence[SuiteItem]
    prefix_shots: int = 0

    @property
    def name(self) -> str:
        """Its name."""
        return self.config.name

    @property
    def num_fewshot(self) -> int:
        """Number of solved items before each item."""
        return self.config.num_fewshot or self.prefix_shots

    @cached_property
    def key(self) -> str:
        """Digest of what its results depend on: where its files stand is not part of it."""
        settings = self.config.to_json()
        for name in ("items", "fewshot_items", "license", "source", "max_items"):
            del settings[name]
        shots = [item.to_json() for item in self.shots]
        bad = [[name, verdict.evidence] for name, verdict in self.bad_rows]
        return json_sha256([settings, [item.to_json() for item in self.items], shots, bad])


def load_suite(url: str, field: str) -> Suite:
    """Read a suite; ``field`` names it in messages. Raises ``SuiteError``."""
    config = _load_config(url, field)
    own = _resolve(url, config.items)
    data = _read(own, f"{field}: {url!r}: items")
    if isinstance(config.flagged_words, str):
        file = _resolve(url, config.flagged_words)
        config = config.model_copy(
            update={"flagged_words": _read_words(file, f"{field}: {url!r}: flagged_words")}
        )
    other, shots = None, None
    if config.fewshot_items is not None:
        other = _resolve(url, config.fewshot_items)
        shots = _read(other, f"{field}: {url!r}: fewshot_items")
    return _parse_suite(config, data, shots, (f"{field}: {url!r}", own, other))


# Plan and run ask for the same suites once per model; the files are read each time, in case they change.
@lru_cache(maxsize=32)
def _parse_suite(
    config: SuiteConfig, data: bytes, shot_data: bytes | None, names: tuple[str, str, str | None]
) -> Suite:
    """Make a suite of its files; ``names`` are the suite's and theirs, for messages."""
    title, file, shot_file = names
    rows = parse_items(data, config, PurePosixPath(urlsplit(file).path).name)
    bad = [(name, row) for name, row in rows if isinstance(row, Verdict)]
    items = [row for _, row in rows if isinstance(row, SuiteItem)]
    if not rows or len(bad) > MAX_BAD_FRACTION * len(rows):
        raise SuiteError(f"{title}: {file!r}: {_describe_bad(bad, len(rows))}")
    shots = items
    if shot_data is not None and shot_file is not None:
        read = parse_items(shot_data, config, shot_file)
        shots = [row for _, row in read if isinstance(row, SuiteItem)]
        wrong = [(name, row) for name, row in read if isinstance(row, Verdict)]
        if wrong or not read:
            raise SuiteError(f"{title}: {shot_file!r}: {_describe_bad(wrong, len(read))}")
    others = len(shots) - (shots is items)
    if config.num_fewshot > others:
        raise SuiteError(
            f"{title}: num_fewshot: {config.num_fewshot} solved items are asked for, but there are "
            f"{others} to draw from"
        )
    return Suite(config, draw_items(config, items), bad, shots if config.num_fewshot else ())


def draw_items(config: SuiteConfig, items: Sequence[SuiteItem]) -> Sequence[SuiteItem]:
    """Return ``max_items`` items, drawn by id, in the order of the file."""
    if config.max_items is None or config.max_items >= len(items):
        return items
    order = sorted(items, key=lambda item: (hash_to_unit(0, config.name, item.id), item.id))
    chosen = {item.id for item in order[: config.max_items]}
    return [item for item in items if item.id in chosen]


def _describe_bad(bad: Sequence[tuple[str, Verdict]], total: int) -> str:
    if not total:
        return "it has no rows"
    evidence = bad[0][1].evidence or {}
    return (
        f"{len(bad)} of {total} rows cannot be used; the first is line {evidence['line']}: "
        f"{evidence['message']}"
    )


def _load_config(url: str, field: str) -> SuiteConfig:
    try:
        value = yaml.safe_load(_read(url, field))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}"
        problem = getattr(error, "problem", None) or "cannot be read"
        raise SuiteError(f"{field}: {url!r} is not YAML: {problem}{where}") from None
    except UnicodeDecodeError:
        raise SuiteError(f"{field}: {url!r} is not UTF-8 text") from None
    if not isinstance(value, dict):
        raise SuiteError(f"{field}: {url!r} is no suite: a mapping with name, type and items")
    try:
        return SuiteConfig.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise SuiteError(f"{field}: {url!r}: {key + ': ' if key else ''}{message}") from None


def _read_words(url: str, field: str) -> tuple[str, ...]:
    """Return the words of a file: one on each line, except empty lines and those that begin with #."""
    try:
        lines = [line.strip() for line in _read(url, field).decode().splitlines()]
    except UnicodeDecodeError:
        raise SuiteError(f"{field}: {url!r} is not UTF-8 text") from None
    words = tuple(line for line in lines if line and not line.startswith("#"))
    if not words:
        raise SuiteError(f"{field}: {url!r} has no words, one on each line")
    return words


def _resolve(base: str, url: str) -> str:
    """Return a file that a suite's YAML file names, relative to its folder."""
    if is_remote(url) or Path(url).is_absolute():
        return url
    return f"{base.rpartition('/')[0]}/{url}" if "/" in base else url


def _read(url: str, field: str) -> bytes:
    try:
        data = read_url(url)
    except StorageError as error:
        raise SuiteError(f"{field}: {error}") from None
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise SuiteError(f"{field}: {url!r} is a damaged gzip file: {error}") from None


def parse_items(
    data: bytes, config: SuiteConfig, file: str
) -> list[tuple[str, SuiteItem | Verdict]]:
    """Return the id of each row, and its item or why it cannot be used; empty lines are left out."""
    rows: list[tuple[str, SuiteItem | Verdict]] = []
    seen: set[str] = set()
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            item = _parse_item(parse_line(line.removeprefix(b"\xef\xbb\xbf")), config, number)
            if item.id in seen:
                raise InvalidRowError("bad_row", f"another row has the id {item.id!r}, too")
        except InvalidRowError as error:
            verdict = failed("bad_row", file=file, line=number, message=str(error))
            rows.append((f"{config.name}:line {number}", verdict))
            continue
        seen.add(item.id)
        rows.append((f"{config.name}:{item.id}", item))
    return rows


def _parse_item(row: dict[str, Any], config: SuiteConfig, number: int) -> SuiteItem:
    keys = KEYS[config.type]
    for name in row:
        if name not in keys and name not in OPTIONAL_KEYS:
            known = ", ".join([*sorted(OPTIONAL_KEYS), *keys])
            raise InvalidRowError("bad_row", f"unknown key {name!r}; keys: {known}")
    values: dict[str, Any] = {}
    for name, kind in keys.items():
        if name not in row:
            raise InvalidRowError("bad_row", f"it has no {name!r}")
        values[name] = _parse_value(name, kind, row[name])
    choices = _choices(config.type, values)
    gold = values["gold"] if config.type == "multiple_choice" else 0
    if gold >= len(choices):
        raise InvalidRowError("bad_row", f"gold: there is no choice {gold}, they count from 0")
    name = str(row.get("id", number))
    domain, cluster = row.get("domain"), row.get("cluster", name)
    if domain is not None and (not isinstance(domain, str) or not re.match(NAME_PATTERN, domain)):
        raise InvalidRowError("bad_row", "domain: not a name of letters, digits, - and _")
    context = next((values[key] for key in ("context", "first", "prompt") if key in values), "")
    return SuiteItem(name, domain, str(cluster), context, choices, gold, values.get("second"))


def _choices(kind: SuiteType, values: Mapping[str, Any]) -> tuple[str, ...]:
    if kind == "multiple_choice":
        return tuple(values["choices"])
    if kind == "minimal_pairs":
        return values["good"], values["bad"]
    if kind == "counterfactual_pairs":
        return (values["continuation"],)
    if kind == "perplexity":
        return (values["text"],)
    if kind == "flagged_words":
        return ("",)
    return (values["gold"],) if isinstance(values["gold"], str) else tuple(values["gold"])


def _parse_value(name: str, kind: str, value: Any) -> Any:
    if kind == "index":
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InvalidRowError("bad_row", f"{name}: not the number of a choice, from 0 on")
        return value
    texts = value if kind == "texts" or (kind == "answers" and isinstance(value, list)) else [value]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidRowError(
            "bad_row", f"{name}: not {'a list of texts' if kind == 'texts' else 'a text'}"
        )
    if (kind == "texts" and len(texts) < 2) or not texts:
        raise InvalidRowError("bad_row", f"{name}: too few")
    for text in texts:
        if not text and name not in MAY_BE_EMPTY:
            raise InvalidRowError("bad_row", f"{name}: an empty text")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRowError("bad_row", f"{name}: half a surrogate pair") from None
    return value
