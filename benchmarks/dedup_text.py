"""Real text for the deduplication benchmarks: RFCs, manuals and books out of Debian packages.

    python benchmarks/dedup_text.py [--input PATH ...]

The packages are fetched with apt from the mirror that this machine is set up with, into private
lists (nothing is installed), read without being unpacked, and written as Parquet into the cache:
some 350 MB of text, of which any beginning is a fair sample, since documents are in the order of
a hash of their names. On a machine without apt, ``--input`` takes text and HTML files, or folders
of them, instead. The texts stay in the cache: RFCs, for one, may not be redistributed modified.
"""

import argparse
import gzip
import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from resiliparse.extract.html2text import extract_plain_text

from infra.store.cache_dir import cache_root

SUITE, COMPONENTS = "bookworm", ("main", "non-free")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Package -> (kind, what to take of it, as a regular expression on the path).
RFC = ("rfc", r"/doc/RFC/(?!links/).*/rfc\d+\.txt\.gz$")
PACKAGES: dict[str, tuple[str, str]] = {
    "doc-rfc-experimental": RFC,
    "doc-rfc-fyi-bcp": RFC,
    "doc-rfc-informational": RFC,
    "doc-rfc-misc": RFC,
    "doc-rfc-old-std": RFC,
    "doc-rfc-others": RFC,
    "doc-rfc-std": RFC,
    "debian-handbook": ("manual", r"/html/en-US/.*\.html$"),
    "linux-doc-6.1": ("manual", r"/html/.*\.html$"),
    "postgresql-doc-15": ("manual", r"/html/.*\.html$"),
    "python3.11-doc": ("manual", r"/html/.*\.html$"),
    "golang-github-colinmarc-hdfs-dev": ("book", r"/testdata/mobydick\.txt$"),
    "golang-github-pierrec-lz4-dev": (
        "book",
        r"/testdata/(pg1661|Mark\.Twain-Tom\.Sawyer)\.txt$",
    ),
    "liblingua-stem-perl": ("book", r"/examples/(collected_works_poe|huckfinn)\.txt$"),
}
VERSION = 1  # of the corpus; another one is made afresh
FILES = 16
SCHEMA = pa.schema(
    [("id", pa.string()), ("url", pa.string()), ("kind", pa.string()), ("text", pa.large_string())]
)


class TextUnavailableError(Exception):
    """The text is not available; the message says why."""


@dataclass(frozen=True)
class Document:
    """A real document; its URL names the package and the file."""

    url: str
    kind: str
    text: str


def bench_root() -> Path:
    """Where benchmarks keep what they fetch and make."""
    return cache_root() / "bench" / "dedup"


def corpus(paths: Sequence[Path] = ()) -> Path:
    """The folder of the corpus' Parquet files, made if need be.

    Args:
        paths: text and HTML files, or folders of them, instead of Debian's packages.

    Raises:
        TextUnavailableError: the packages cannot be fetched, or ``paths`` contain no text.
    """
    named = json.dumps([VERSION, sorted(PACKAGES), [str(path.resolve()) for path in paths]])
    folder = bench_root() / f"text-{hashlib.sha256(named.encode()).hexdigest()[:12]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".text.") as made:
            work = Path(made)
            found = _local(paths) if paths else _debian(_fetch(work))
            _write(found, work / "documents")
            (work / "documents").rename(folder)
    return folder


def read(folder: Path, megabytes: float | None = None) -> pa.Table:
    """The corpus' documents in its order, up to a size in UTF-8."""
    files = sorted(folder.glob("*.parquet"))
    if megabytes is None:
        return pa.concat_tables(pq.read_table(file) for file in files)
    tables: list[pa.Table] = []
    left = megabytes * 1e6
    for file in files:
        table = pq.read_table(file)
        sizes = list(itertools.accumulate(len(str(text).encode()) for text in table["text"]))
        rows = sum(1 for size in sizes if size <= left)
        tables.append(table.slice(0, rows))
        if rows < table.num_rows:
            break
        left -= sizes[-1] if sizes else 0
    return pa.concat_tables(tables)


def size(table: pa.Table) -> int:
    """Bytes of text in UTF-8."""
    return sum(chunk.nbytes - 8 * (len(chunk) + 1) for chunk in _compact(table["text"]).chunks)


def _compact(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """The column without the bytes that its slices do not show."""
    return pa.chunked_array([pa.concat_arrays([chunk]) for chunk in column.chunks], column.type)


def _fetch(work: Path) -> Path:
    """Download the packages; gives the folder they are in."""
    packages = bench_root() / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    if all(_package(packages, name) for name in PACKAGES):
        return packages
    if not shutil.which("apt-get"):
        raise TextUnavailableError("apt-get is not installed; name your own files with --input")
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    (work / "sources.list").write_text(f"deb {signed}{_mirror()} {SUITE} {' '.join(COMPONENTS)}\n")
    (work / "lists" / "partial").mkdir(parents=True)
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::Lists": work / "lists",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
    print("fetching Debian packages (some 370 MB)", file=sys.stderr)
    for command in ([*apt, "update"], [*apt, "download", *PACKAGES]):
        done = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TextUnavailableError(f"{' '.join(command[-2:])}: {done.stderr.strip()[-400:]}")
    return packages


def _package(folder: Path, name: str) -> Path | None:
    return next(iter(sorted(folder.glob(f"{name}_*.deb"))), None)


def _mirror() -> str:
    """The Debian mirror that apt is set up with."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    for site in targets:
        if PurePosixPath(site).name == "debian":
            return site
    raise TextUnavailableError("apt knows no Debian mirror; name your own files with --input")


def _debian(packages: Path) -> Iterator[Document]:
    """The documents of the packages; an RFC that several of them hold is taken once."""
    identities: set[str] = set()
    for name, (kind, pattern) in sorted(PACKAGES.items()):
        wanted = re.compile(pattern)
        archive = _package(packages, name)
        command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE) as unpacked,
            tarfile.open(fileobj=unpacked.stdout, mode="r|") as tar,
        ):
            for entry in tar:
                file = tar.extractfile(entry) if entry.isfile() else None
                if file is None or not wanted.search(entry.name):
                    continue
                identity = PurePosixPath(entry.name).name if kind == "rfc" else entry.name
                if identity not in identities:
                    identities.add(identity)
                    text = _text(entry.name, file.read())
                    yield Document(f"debian:{name}{entry.name.lstrip('.')}", kind, text)


def _local(paths: Sequence[Path]) -> Iterator[Document]:
    for path in paths:
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and re.search(r"\.(txt|md|rst|html?)(\.gz)?$", file.name):
                yield Document(f"file:{file}", "file", _text(file.name, file.read_bytes()))


def _text(name: str, content: bytes) -> str:
    if name.endswith(".gz"):
        content, name = gzip.decompress(content), name.removesuffix(".gz")
    text = content.decode("utf-8", errors="replace")
    if name.endswith((".html", ".htm")):
        return str(extract_plain_text(text, main_content=True))
    return text


def _write(documents: Iterable[Document], folder: Path) -> None:
    found = sorted(
        (document for document in documents if document.text.strip()),
        key=lambda document: hashlib.sha256(document.url.encode()).digest(),
    )
    if not found:
        raise TextUnavailableError("the packages contain no text")
    folder.mkdir()
    for number in range(FILES):
        rows = found[len(found) * number // FILES : len(found) * (number + 1) // FILES]
        columns = [
            [hashlib.sha256(row.url.encode()).hexdigest()[:16] for row in rows],
            [row.url for row in rows],
            [row.kind for row in rows],
            [row.text for row in rows],
        ]
        table = pa.table(columns, schema=SCHEMA)
        pq.write_table(table, folder / f"{number:02}.parquet", compression="zstd")


def main() -> None:
    """Make the corpus and say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--input", nargs="*", type=Path, default=[])
    options = parser.parse_args()
    try:
        folder = corpus(options.input)
    except TextUnavailableError as error:
        sys.exit(f"error: {error}")
    table = read(folder)
    print(f"{folder}: {table.num_rows:,} documents, {size(table) / 1e6:.1f} MB of text")
    for kind in sorted(set(table["kind"].to_pylist())):
        rows = table.filter(pc.equal(table["kind"], kind))
        print(f"{kind:8} {rows.num_rows:6,} documents {size(rows) / 1e6:8.1f} MB")


if __name__ == "__main__":
    main()
