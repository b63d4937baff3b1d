"""What an operator has taken out: documents by id, address, domain or licence.

Pure: which rows a list of removals takes, and what the list means for a fingerprint. Where removals
are recorded is ``infra.removals.log``'s business.
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

from infra.dataset.dataset import TABLE, PartRef
from infra.dataset.fingerprint import digest
from infra.errors import UserError
from infra.formats.urls import canonical, host, hostname

ID, URL, DOMAIN, LICENSE = "id", "url", "domain", "license"
KINDS = (ID, URL, DOMAIN, LICENSE)  # from the narrowest to the widest
COLUMNS = ("id", "url", "license")  # of documents; those that a table lacks match nothing
REASON = "removed"  # in the ledger
PREFIX = "removals:"  # of the entry in a data set's ``raw``

# Addresses that are their own canonical form, which is nearly all of them; the others cost a call.
_FIRST, _REST = r"A-Za-z0-9\-_~!$&'()*+,;=:@", r"A-Za-z0-9\-._~!$&'()*+,;=:@"
_PLAIN = (
    r"^https?://[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
    rf"(?:/(?:[{_FIRST}][{_REST}]*)?)+(?:\?[{_REST}/?]+)?$"
)
_HOST = r"^https?://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]+)?/"
_ID = re.compile(r"[0-9a-f]{32}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S")

Found = npt.NDArray[np.int32]


class BadRemoval(UserError):
    """A value that names nothing that could be removed; the message says what is expected."""


@dataclass(frozen=True)
class Removal:
    """What is taken out. Made by `removal`, which brings the value into its one spelling.

    Attributes:
        kind: one of ``KINDS``.
        value: a document's id; a canonical URL; a domain, which stands for its subdomains too; a
            licence as the documents' ``license`` column has it.
    """

    kind: str
    value: str

    def facts(self) -> dict[str, str]:
        """As evidence in the ledger and as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


def removal(kind: str, value: str) -> Removal:
    """A removal with its value checked and in its one spelling.

    Raises:
        BadRemoval: if the value cannot be of this kind.
    """
    if not value.strip():
        raise BadRemoval(f"--{kind}: a value is expected")
    return Removal(kind, _CHECKS[kind](value))


def _check_id(value: str) -> str:
    name = value.strip().lower()
    if not _ID.fullmatch(name):
        raise BadRemoval(
            f"--id {value}: 32 hexadecimal digits are expected; `why` prints a whole id"
        )
    return name


def _check_url(value: str) -> str:
    url = value.strip()
    web = canonical(url)
    if web is not None:
        return web
    if not _SCHEME.match(url) or url.lower().startswith(("http:", "https:")):
        raise BadRemoval(
            f"--url {value}: not a URL; one is expected as the documents have it, with its "
            "scheme, such as https://example.org/page"
        )
    return url  # such as a book's: compared as written


def _check_domain(value: str) -> str:
    name = value.strip()
    domain = hostname(name.removeprefix("[").removesuffix("]"))
    if domain is None or not all(domain.removeprefix("[").split(".")):
        named = host(name) or host(f"//{name}")
        hint = f"; --domain {named}?" if named and named != name else ""
        raise BadRemoval(
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


def ordered(removals: Iterable[Removal]) -> tuple[Removal, ...]:
    """Each removal once, the narrowest kind first: the order that no history has a say in."""
    return tuple(sorted(set(removals), key=lambda item: (KINDS.index(item.kind), item.value)))


def raw(removals: Sequence[Removal]) -> tuple[str, ...]:
    """What removals add to the ``raw`` of a ``Spec``: nothing if there are none.

    The digest stands in ``raw``, which names a data set, and not in its configuration, which also
    names each unit of work: a unit whose documents stay must keep its name.
    """
    if not removals:
        return ()
    return (PREFIX + digest([item.facts() for item in ordered(removals)]),)


def removed(table: pa.Table, removals: Sequence[Removal]) -> Found:
    """Which removal takes each document.

    Args:
        table: n documents with the columns of ``COLUMNS``, or some of them.
        removals: from `removal`.

    Returns:
        int32[n]: the removal's place in `removals`, -1 for a document that stays. Where several
        hold, the narrowest kind counts, and of domains the longest.
    """
    found = np.full(table.num_rows, -1, np.int32)
    if not removals:
        return found
    places: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for place, item in enumerate(removals):
        places[item.kind].setdefault(item.value, place)
    _same(found, table, "license", places[LICENSE])
    if "url" in table.column_names and (places[URL] or places[DOMAIN]):
        urls = canonical_column(_array(table, "url"))
        if places[DOMAIN]:
            _put(found, _by_domain(urls, places[DOMAIN]))
        if places[URL]:
            _put(found, _lookup(urls, places[URL]))
    _same(found, table, "id", places[ID])
    return found


def removed_of(part: PartRef, removals: Sequence[Removal]) -> Found:
    """`removed` for a part of the documents; only the columns it needs are read."""
    if not removals:
        return np.full(part.rows, -1, np.int32)
    with part.open(TABLE) as stream:
        file = pq.ParquetFile(stream)
        names = [name for name in COLUMNS if name in file.schema_arrow.names]
        return removed(file.read(columns=names), removals)


def _array(table: pa.Table, name: str) -> "pa.Array[Any]":
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # of an empty column
        return pa.array([], column.type)
    return column if not pa.types.is_null(column.type) else column.cast(pa.string())


def _same(found: Found, table: pa.Table, column: str, places: dict[str, int]) -> None:
    if places and column in table.column_names:
        _put(found, _lookup(_array(table, column), places))


def _put(found: Found, others: Found) -> None:
    np.copyto(found, others, where=others >= 0)


def _lookup(values: "pa.Array[Any]", places: dict[str, int]) -> Found:
    """The place of each value; -1 if it has none."""
    index = pc.index_in(values, value_set=pa.array(list(places), values.type))
    at = pc.fill_null(index, -1).to_numpy(zero_copy_only=False)
    table = np.array([*places.values(), -1], np.int32)  # -1 finds the last entry
    chosen: Found = table[at]
    return chosen


def canonical_column(urls: "pa.Array[Any]") -> "pa.Array[Any]":
    """Addresses in the spelling that ``infra.formats.urls.canonical`` gives, others as they are."""
    plain = pc.match_substring_regex(urls, _PLAIN)
    odd = pc.fill_null(pc.invert(plain), fill_value=False)
    if not pc.any(odd, min_count=0).as_py():
        return urls
    mended = [canonical(url) or url for url in urls.filter(odd).to_pylist()]
    return pc.replace_with_mask(urls, odd, pa.array(mended, urls.type))


def _by_domain(urls: "pa.Array[Any]", places: dict[str, int]) -> Found:
    """The place of the longest domain that each address lies in."""
    hosts = pc.struct_field(pc.extract_regex(urls, _HOST), "host")
    odd = pc.and_(pc.is_valid(urls), pc.is_null(hosts))
    if pc.any(odd, min_count=0).as_py():
        mended = [host(url) for url in urls.filter(odd).to_pylist()]
        hosts = pc.replace_with_mask(hosts, odd, pa.array(mended, hosts.type))
    names = hosts.dictionary_encode()
    of_name = [_longest(str(name), places) for name in names.dictionary.to_pylist()]
    table = np.array([*of_name, -1], np.int32)
    at = pc.fill_null(names.indices, -1).to_numpy(zero_copy_only=False)
    chosen: Found = table[at]
    return chosen


def _longest(host: str, places: dict[str, int]) -> int:
    name = host.removesuffix(".")
    while True:
        if name in places:
            return places[name]
        _, dot, name = name.partition(".")
        if not dot:
            return -1
