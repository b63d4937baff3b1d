"""Match documents with removals by id, URL, domain or license.

Pure functions: which rows a list of removals matches, and what the list adds to a fingerprint.
``infra.removals.log`` records removals.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.manifest import TABLE_SUFFIX
from infra.errors import UserError
from infra.formats.urls import canonicalize_url, normalize_host, url_host

ID, URL, DOMAIN, LICENSE = "id", "url", "domain", "license"
KINDS = (ID, URL, DOMAIN, LICENSE)  # from the narrowest to the widest
MATCH_COLUMNS = (
    "id",
    "url",
    "license",
)  # of documents; a column that a table lacks matches nothing
REMOVED = "removed"  # reason in the ledger
REMOVALS_PREFIX = "removals:"  # of the entry in a data set's ``fingerprint_input``

# URLs in canonical form, which nearly all are; the others cost a Python call each.
_FIRST, _REST = r"A-Za-z0-9\-_~!$&'()*+,;=:@", r"A-Za-z0-9\-._~!$&'()*+,;=:@"
_CANONICAL_URL = (
    r"^https?://[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
    rf"(?:/(?:[{_FIRST}][{_REST}]*)?)+(?:\?[{_REST}/?]+)?$"
)
_HOST = r"^https?://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]+)?/"
_ID = re.compile(r"[0-9a-f]{32}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S")

Matches = npt.NDArray[np.int32]


class InvalidRemovalError(UserError):
    """A value that is not a valid removal; the message says what is expected."""


@dataclass(frozen=True)
class Removal:
    """Documents to remove. Made by `parse_removal`, which normalizes the value.

    Attributes:
        kind: one of ``KINDS``.
        value: a document's id; a canonical URL; a domain, which includes its subdomains; a license
            as in the documents' ``license`` column.
    """

    kind: str
    value: str

    def to_json(self) -> dict[str, str]:
        """Return plain JSON values, also used as evidence in the ledger."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


def parse_removal(kind: str, value: str) -> Removal:
    """Check and normalize the value of a removal.

    Raises:
        InvalidRemovalError: if the value is not valid for this kind.
    """
    if not value.strip():
        raise InvalidRemovalError(f"--{kind}: a value is expected")
    return Removal(kind, _CHECKS[kind](value))


def _check_id(value: str) -> str:
    name = value.strip().lower()
    if not _ID.fullmatch(name):
        raise InvalidRemovalError(
            f"--id {value}: 32 hexadecimal digits are expected; `why` prints a whole id"
        )
    return name


def _check_url(value: str) -> str:
    url = value.strip()
    web = canonicalize_url(url)
    if web is not None:
        return web
    if not _SCHEME.match(url) or url.lower().startswith(("http:", "https:")):
        raise InvalidRemovalError(
            f"--url {value}: not a URL; one is expected as the documents have it, with its "
            "scheme, such as https://example.org/page"
        )
    return url  # such as a book's: compared as written


def _check_domain(value: str) -> str:
    name = value.strip()
    domain = normalize_host(name.removeprefix("[").removesuffix("]"))
    if domain is None or not all(domain.removeprefix("[").split(".")):
        named = url_host(name) or url_host(f"//{name}")
        hint = f"; --domain {named}?" if named and named != name else ""
        raise InvalidRemovalError(
            f"--domain {value}: a domain such as example.org is expected, without scheme, port "
            f"and path; its subdomains are covered{hint}"
        )
    return domain


_CHECKS: dict[str, Callable[[str], str]] = {
    ID: _check_id,
    URL: _check_url,
    DOMAIN: _check_domain,
    LICENSE: str,
}


def sort_removals(removals: Iterable[Removal]) -> tuple[Removal, ...]:
    """Sort distinct removals, the narrowest kind first; the order of recording does not matter."""
    return tuple(sorted(set(removals), key=lambda item: (KINDS.index(item.kind), item.value)))


def fingerprint_input(removals: Sequence[Removal]) -> tuple[str, ...]:
    """Return what removals add to the external inputs of a ``DatasetSpec``; empty without removals.

    The digest is an external input, which is in the fingerprint of a data set, and not in its
    configuration, which is also in the key of each unit of work: a unit without removed documents
    must keep its key.
    """
    if not removals:
        return ()
    return (REMOVALS_PREFIX + json_sha256([item.to_json() for item in sort_removals(removals)]),)


def match_table(table: pa.Table, removals: Sequence[Removal]) -> Matches:
    """Find the removal that matches each document.

    Args:
        table: n documents with the columns of ``MATCH_COLUMNS``, or some of them.
        removals: from `parse_removal`.

    Returns:
        int32[n]: index of the removal in `removals`, -1 for a document that none matches. If
        several match, the narrowest kind counts, and of domains the longest.
    """
    matches = np.full(table.num_rows, -1, np.int32)
    if not removals:
        return matches
    indices: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for index, item in enumerate(removals):
        indices[item.kind].setdefault(item.value, index)
    _match_column(matches, table, "license", indices[LICENSE])
    if "url" in table.column_names and (indices[URL] or indices[DOMAIN]):
        urls = canonicalize_column(_column_array(table, "url"))
        if indices[DOMAIN]:
            _overwrite_matches(matches, _match_domains(urls, indices[DOMAIN]))
        if indices[URL]:
            _overwrite_matches(matches, _lookup_indices(urls, indices[URL]))
    _match_column(matches, table, "id", indices[ID])
    return matches


def match_part(part: PartRef, removals: Sequence[Removal]) -> Matches:
    """Match a part of the documents as `match_table` does; only the needed columns are read."""
    if not removals:
        return np.full(part.num_rows, -1, np.int32)
    with part.open(TABLE_SUFFIX) as stream:
        file = pq.ParquetFile(stream)
        names = [name for name in MATCH_COLUMNS if name in file.schema_arrow.names]
        return match_table(file.read(columns=names), removals)


def match_ids(part: PartRef, removals: Sequence[Removal]) -> list[tuple[str, Removal]]:
    """Return the ids of a part's removed documents, each with the removal that matches it."""
    matches = match_part(part, removals)
    rows = np.flatnonzero(matches >= 0)
    if not len(rows):
        return []
    ids = part.table(["id"])["id"].take(pa.array(rows)).to_pylist()
    return [(name, removals[index]) for name, index in zip(ids, matches[rows], strict=True)]


def _column_array(table: pa.Table, name: str) -> "pa.Array[Any]":
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # of an empty column
        return pa.array([], column.type)
    return column if not pa.types.is_null(column.type) else column.cast(pa.string())


def _match_column(matches: Matches, table: pa.Table, column: str, indices: dict[str, int]) -> None:
    if indices and column in table.column_names:
        _overwrite_matches(matches, _lookup_indices(_column_array(table, column), indices))


def _overwrite_matches(matches: Matches, others: Matches) -> None:
    np.copyto(matches, others, where=others >= 0)


def _lookup_indices(values: "pa.Array[Any]", indices: dict[str, int]) -> Matches:
    """Return the index of each value; -1 if it has none."""
    index = pc.index_in(values, value_set=pa.array(list(indices), values.type))
    at = pc.fill_null(index, -1).to_numpy(zero_copy_only=False)
    table = np.array([*indices.values(), -1], np.int32)  # -1 finds the last entry
    chosen: Matches = table[at]
    return chosen


def canonicalize_column(urls: "pa.Array[Any]") -> "pa.Array[Any]":
    """Canonicalize a column of URLs; values that are not web URLs are left unchanged."""
    plain = pc.match_substring_regex(urls, _CANONICAL_URL)
    odd = pc.fill_null(pc.invert(plain), fill_value=False)
    if not pc.any(odd, min_count=0).as_py():
        return urls
    canonical = [canonicalize_url(url) or url for url in urls.filter(odd).to_pylist()]
    return pc.replace_with_mask(urls, odd, pa.array(canonical, urls.type))


def _match_domains(urls: "pa.Array[Any]", indices: dict[str, int]) -> Matches:
    """Return the index of the longest domain that contains each URL."""
    hosts = pc.struct_field(pc.extract_regex(urls, _HOST), "host")
    odd = pc.and_(pc.is_valid(urls), pc.is_null(hosts))
    if pc.any(odd, min_count=0).as_py():
        parsed = [url_host(url) for url in urls.filter(odd).to_pylist()]
        hosts = pc.replace_with_mask(hosts, odd, pa.array(parsed, hosts.type))
    names = hosts.dictionary_encode()
    by_name = [_longest_domain(str(name), indices) for name in names.dictionary.to_pylist()]
    table = np.array([*by_name, -1], np.int32)
    at = pc.fill_null(names.indices, -1).to_numpy(zero_copy_only=False)
    chosen: Matches = table[at]
    return chosen


def _longest_domain(host: str, indices: dict[str, int]) -> int:
    name = host.removesuffix(".")
    while True:
        if name in indices:
            return indices[name]
        _, dot, name = name.partition(".")
        if not dot:
            return -1
