"""Find the documents that a URL, an id or the beginning of an id names.

Ledgers are read in batches of rows, so memory does not grow with the number of documents.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import PartRef
from infra.dataset.manifest import VERDICTS_SUFFIX
from infra.dataset.step import Steps, steps_with_output
from infra.errors import UserError
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage
from views.documents.texts import iter_tables

K = TypeVar("K")
Match = tuple[K, pa.Table]  # the key of a table, and those of its rows that match

MIN_ID_PREFIX = 4  # characters of an id that may stand for the whole id
MAX_SUGGESTIONS = 5
MAX_MATCHES = 100  # rows kept of one table
HEX_DIGITS = frozenset("0123456789abcdef")
DEFAULT_PORTS = {"http": 80, "https": 443}


class DocumentNotFoundError(UserError):
    """No document has this URL or id, or several ids begin with it; the message suggests others."""


@dataclass(frozen=True, order=True)
class DocumentRef:
    """A document that a query names."""

    id: str
    url: str | None


def find_documents(
    storage: Storage, records: Sequence[RunRecord], query: str, steps: Steps
) -> dict[str, list[DocumentRef]]:
    """Find the documents that a query names (see `search`), by recipe.

    The ledgers of the runs' first stages are searched, which list every document ever fetched, and those of
    the examples of `finetune`, whose URL is FILE:ROW.

    Raises:
        DocumentNotFoundError: if there is none, or several ids begin with the query.
    """
    parts = _ledger_parts(storage, records, steps)

    def tables() -> Iterator[Match[list[str]]]:
        for part, recipes in parts:
            for _, table in iter_tables(part, VERDICTS_SUFFIX, ["id", "url"]):
                yield recipes, table

    found: dict[str, set[DocumentRef]] = {}
    for recipes, rows in search(tables, query):
        for row in rows.to_pylist():
            for recipe in recipes:
                found.setdefault(recipe, set()).add(DocumentRef(row["id"], row["url"]))
    return {recipe: _deduplicate(documents) for recipe, documents in found.items()}


def _ledger_parts(
    storage: Storage, records: Sequence[RunRecord], steps: Steps
) -> list[tuple[PartRef, list[str]]]:
    """Return the parts that list every document, each once, with the recipes whose runs have it."""
    stages = steps_with_output(steps, "documents", "examples")
    recipes: dict[str, list[str]] = {}
    parts: dict[str, list[PartRef]] = {}
    for record in records:
        for entry in record.stages:
            if entry.stage not in stages:
                continue
            if entry.path not in parts:
                data = entry.try_open(storage)
                parts[entry.path] = [] if data is None else data.parts
            recipes.setdefault(entry.path, []).append(record.recipe)
    return [(part, recipes[path]) for path, found in parts.items() for part in found]


def _deduplicate(documents: Iterable[DocumentRef]) -> list[DocumentRef]:
    """Keep one entry per id, preferably one with a URL; stages may record different URLs."""
    best: dict[str, DocumentRef] = {}
    for item in sorted(documents, key=lambda item: (item.id, item.url is None, item.url or "")):
        best.setdefault(item.id, item)
    return list(best.values())


def search(tables: Callable[[], Iterable[Match[K]]], query: str) -> list[Match[K]]:
    """Return the rows that a query names, by its strictest meaning that matches any row.

    Meanings, strictest first: an id; a URL as written; the beginning of an id; a URL that differs
    in spelling only (`loose_url`).

    Args:
        tables: yields keyed tables with the columns ``id`` and ``url``. Called at most twice; one
            table is in memory at a time.
        query: a URL, a document id or the beginning of one.

    Raises:
        DocumentNotFoundError: if no row matches, or several ids begin with the query.
    """
    query = query.strip()
    strict = _strict_filters(query)
    matches: list[list[Match[K]]] = [[] for _ in strict]
    n_tables = n_rows = 0
    for key, table in tables():
        n_tables, n_rows = n_tables + 1, n_rows + table.num_rows
        for meaning, matching in zip(strict, matches, strict=True):
            rows = table.filter(meaning(table))
            if rows.num_rows:
                matching.append((key, rows.slice(0, MAX_MATCHES)))
            if matching:
                break  # looser meanings do not count any more
    best = next((matching for matching in matches if matching), None)
    if best is not None:
        _check_unique_id(query, best)
        return best
    if not n_tables:
        raise DocumentNotFoundError(
            f"no document {query!r}: the latest runs read no document, or their ledgers were deleted"
        )
    if _is_id_prefix(query):
        raise DocumentNotFoundError(_id_not_found(tables, query, n_rows))
    return _search_loosely(tables, query, n_rows)


def _strict_filters(query: str) -> list[Callable[[pa.Table], pa.ChunkedArray]]:
    filters: list[Callable[[pa.Table], pa.ChunkedArray]] = [
        lambda table: pc.equal(table["id"], query),
        lambda table: pc.equal(table["url"], query),
    ]
    if _is_id_prefix(query):
        filters.append(lambda table: pc.starts_with(table["id"], query))
    return filters


def _is_id_prefix(query: str) -> bool:
    return len(query) >= MIN_ID_PREFIX and set(query) <= HEX_DIGITS


def _check_unique_id(query: str, matches: Sequence[Match[K]]) -> None:
    """Refuse a query that several ids begin with."""
    ids = sorted({item for _, rows in matches for item in rows["id"].to_pylist()})
    if len(ids) > 1 and _is_id_prefix(query) and all(item.startswith(query) for item in ids):
        listed = ", ".join(ids[:MAX_SUGGESTIONS]) + (", ..." if len(ids) > MAX_SUGGESTIONS else "")
        raise DocumentNotFoundError(f"{len(ids)} ids begin with {query!r}: {listed}")


def _id_not_found(tables: Callable[[], Iterable[Match[K]]], query: str, n_rows: int) -> str:
    similar: set[str] = set()
    for _, table in tables():
        hit = pc.starts_with(table["id"], query[:MIN_ID_PREFIX])
        similar.update(table.filter(hit)["id"].slice(0, MAX_SUGGESTIONS).to_pylist())
    listed = ", ".join(sorted(similar)[:MAX_SUGGESTIONS])
    hint = f"ids with a similar beginning: {listed}" if similar else "no id has a similar beginning"
    return f"no document {query!r} among {n_rows:,}; {hint}"


def _search_loosely(
    tables: Callable[[], Iterable[Match[K]]], query: str, n_rows: int
) -> list[Match[K]]:
    """Return the rows whose URL differs from the query in spelling only.

    Raises:
        DocumentNotFoundError: if there is none; suggests URLs of the same host.
    """
    wanted = loose_url(query)
    is_url = "." in query or "://" in query
    matches: list[Match[K]] = []
    closest: set[str] = set()
    for key, table in tables():
        same_host = _filter_same_host(table, query)
        if is_url:
            rows = _filter_loosely(same_host, wanted)
            if rows.num_rows:
                matches.append((key, rows.slice(0, MAX_MATCHES)))
        similar = closest.union(_closest_urls(same_host["url"], wanted))
        closest = set(
            heapq.nsmallest(MAX_SUGGESTIONS, similar, key=lambda url: _distance(url, wanted))
        )
    if matches:
        return matches
    if closest:
        listed = ", ".join(sorted(closest, key=lambda url: _distance(url, wanted)))
        raise DocumentNotFoundError(
            f"no document at {query!r} among {n_rows:,}; of the same host: {listed}"
        )
    raise DocumentNotFoundError(
        f"no document at {query!r} among {n_rows:,}, and none of the same host: no run of this "
        "store has asked for it"
    )


def _filter_same_host(table: pa.Table, query: str) -> pa.Table:
    host = loose_url(query).split("/")[0].split("?")[0]
    if not host:
        return table.slice(0, 0)
    hit = pc.match_substring(table["url"], host, ignore_case=True)
    return table.filter(pc.fill_null(hit, fill_value=False))


def _filter_loosely(table: pa.Table, wanted: str) -> pa.Table:
    """Return the rows whose `loose_url` is the wanted one."""
    # Spelling costs a Python call per URL, so URLs are compared as strings first.
    hit = pc.match_substring(table["url"], "%")
    path, _, query = wanted.partition("?")
    path = path[path.find("/") :] if "/" in path else ""
    same = pc.match_substring(table["url"], path, ignore_case=True)
    table = table.filter(pc.or_(hit, pc.and_(same, pc.match_substring(table["url"], query))))
    loose = [loose_url(url) == wanted for url in table["url"].to_pylist()]
    return table.filter(pa.array(loose, pa.bool_()))


def _closest_urls(urls: pa.ChunkedArray, wanted: str) -> list[str]:
    """Return a few URLs that contain most of the beginning of the wanted one."""
    similar = urls
    low, high = 0, len(wanted)
    while low < high:
        length = (low + high + 1) // 2
        matching = urls.filter(pc.match_substring(urls, wanted[:length], ignore_case=True))
        if len(matching) < MAX_SUGGESTIONS:
            high = length - 1
        else:
            low, similar = length, matching
    shown = similar.slice(0, MAX_MATCHES)
    return [str(url) for url in shown.to_pylist()]


def loose_url(url: str) -> str:
    """Return what different spellings of one URL have in common.

    Scheme, default port, fragment, a trailing slash, a leading ``www.``, the case of the host and
    the escaping of characters are left out.
    """
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
    except ValueError:  # a bracket in the host that is no IPv6 address
        return url
    host = (parts.hostname or "").removeprefix("www.")
    try:
        port = parts.port
    except ValueError:
        port = None
    if port is not None and port != DEFAULT_PORTS.get(parts.scheme or "https"):
        host = f"{host}:{port}"
    query = f"?{unquote(parts.query)}" if parts.query else ""
    return f"{host}{unquote(parts.path).rstrip('/')}{query}"


def _distance(url: str, wanted: str) -> tuple[int, str]:
    """Sort key: URLs with a longer beginning in common with the wanted one come first."""
    length = 0
    for a, b in zip(loose_url(url), wanted, strict=False):
        if a != b:
            break
        length += 1
    return -length, url
