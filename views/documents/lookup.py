"""From an address or an id, or the beginning of one, to the documents it names."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import VERDICTS_SUFFIX
from infra.errors import UserError
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage
from views.documents.texts import open_datasets

FIRST_STAGES = ("acquire", "extract")  # whose ledgers know every id and address
MIN_ID_PREFIX = 4  # characters of an id that may stand for it
MAX_SUGGESTIONS = 5
MAX_MATCHES = 100  # documents of one query
HEX_DIGITS = frozenset("0123456789abcdef")
DEFAULT_PORTS = {"http": 80, "https": 443}


class DocumentNotFoundError(UserError):
    """No document of this address or id; the message names near ones."""


@dataclass(frozen=True, order=True)
class DocumentRef:
    """A document that the query names."""

    id: str
    url: str | None


def loose_url(url: str) -> str:
    """What two spellings of one address have in common.

    Scheme, default port, fragment, a trailing slash, a leading ``www.``, the case of the host and
    the escaping of characters do not count.
    """
    parts = urlsplit(url if "://" in url else f"//{url}")
    host = (parts.hostname or "").removeprefix("www.")
    try:
        port = parts.port
    except ValueError:
        port = None
    if port is not None and port != DEFAULT_PORTS.get(parts.scheme or "https"):
        host = f"{host}:{port}"
    query = f"?{unquote(parts.query)}" if parts.query else ""
    return f"{host}{unquote(parts.path).rstrip('/')}{query}"


def find_documents(
    storage: Storage, records: Sequence[RunRecord], query: str
) -> dict[str, list[DocumentRef]]:
    """The documents that a query names, by recipe.

    Raises:
        UnknownDocument: if there is none, or the beginning of an id fits several documents.
    """
    query = query.strip()
    ledgers = list(_iter_ledgers(storage, records))
    for matches in _match_strategies(query):
        found: dict[str, set[DocumentRef]] = {}
        for recipe, table in ledgers:
            for row in matches(table).slice(0, MAX_MATCHES).to_pylist():
                found.setdefault(recipe, set()).add(DocumentRef(row["id"], row["url"]))
        if found:
            _check_unique_id(query, {item for named in found.values() for item in named})
            return {recipe: _dedupe(named) for recipe, named in found.items()}
    raise DocumentNotFoundError(_not_found_message(query, [table for _, table in ledgers]))


def _dedupe(documents: Iterable[DocumentRef]) -> list[DocumentRef]:
    """One entry per id; stages may disagree about its address, the first with one is taken."""
    best: dict[str, DocumentRef] = {}
    for item in sorted(documents, key=lambda item: (item.id, item.url is None, item.url or "")):
        best.setdefault(item.id, item)
    return list(best.values())


def _check_unique_id(query: str, documents: set[DocumentRef]) -> None:
    """Refuse a beginning that fits the ids of several documents."""
    ids = sorted({item.id for item in documents})
    if len(ids) > 1 and all(item.startswith(query) for item in ids) and _is_id_prefix(query):
        listed = ", ".join(ids[:MAX_SUGGESTIONS]) + (", ..." if len(ids) > MAX_SUGGESTIONS else "")
        raise DocumentNotFoundError(f"{query!r} is the beginning of {len(ids)} ids: {listed}")


def _is_id_prefix(query: str) -> bool:
    return len(query) >= MIN_ID_PREFIX and set(query) <= HEX_DIGITS


def _iter_ledgers(storage: Storage, records: Sequence[RunRecord]) -> Iterator[tuple[str, pa.Table]]:
    """Ids and addresses of every document that the runs met, part by part."""
    for record in records:
        for data in open_datasets(storage, record, *FIRST_STAGES):
            for part in data.parts:
                with part.storage.open(part.file(VERDICTS_SUFFIX)) as stream:
                    yield record.recipe, pq.read_table(stream, columns=["id", "url"])


def _match_strategies(query: str) -> Iterator[Callable[[pa.Table], pa.Table]]:
    """From the strictest meaning of the query to the loosest."""
    yield lambda table: table.filter(pc.equal(table["id"], query))
    yield lambda table: table.filter(pc.equal(table["url"], query))
    if _is_id_prefix(query):
        yield lambda table: table.filter(pc.starts_with(table["id"], query))
    if "." in query or "://" in query:
        yield lambda table: _filter_same_url(table, query)


def _filter_same_url(table: pa.Table, query: str) -> pa.Table:
    wanted = loose_url(query)
    near = _filter_same_host(table, query)
    return near.filter(
        pa.array([loose_url(url) == wanted for url in near["url"].to_pylist()], pa.bool_())
    )


def _filter_same_host(table: pa.Table, query: str) -> pa.Table:
    host = loose_url(query).split("/")[0].split("?")[0]
    if not host:
        return table.slice(0, 0)
    hit = pc.match_substring(table["url"], host, ignore_case=True)
    return table.filter(pc.fill_null(hit, fill_value=False))


def _not_found_message(query: str, tables: Sequence[pa.Table]) -> str:
    if not tables:
        return f"no document {query!r}: the latest runs left no ledger that can be read here"
    total = sum(table.num_rows for table in tables)
    if _is_id_prefix(query):
        near = _sample_ids(tables, lambda table: pc.starts_with(table["id"], query[:MIN_ID_PREFIX]))
        hint = f"ids that begin alike: {', '.join(near)}" if near else "no id begins alike"
        return f"no document {query!r} among {total}; {hint}"
    urls: list[Any] = []
    for table in tables:
        urls += _filter_same_host(table, query)["url"].to_pylist()
    if urls:
        wanted = loose_url(query)
        closest = sorted(
            set(urls), key=lambda url: (-_common_prefix_length(loose_url(url), wanted), url)
        )
        listed = ", ".join(closest[:MAX_SUGGESTIONS])
        return f"no document at {query!r} among {total}; of the same host: {listed}"
    return (
        f"no document at {query!r} among {total}, and none of its host: no run of this store "
        f"has asked for it"
    )


def _sample_ids(tables: Sequence[pa.Table], predicate: Callable[[pa.Table], Any]) -> list[str]:
    found: set[str] = set()
    for table in tables:
        found.update(table.filter(predicate(table))["id"].slice(0, MAX_SUGGESTIONS).to_pylist())
    return sorted(found)[:MAX_SUGGESTIONS]


def _common_prefix_length(one: str, other: str) -> int:
    """Length of the common beginning."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
