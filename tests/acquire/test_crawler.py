"""The crawler on a real site: every fault has its verdict, and nothing depends on timing."""

import io
import itertools
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastwarc import ArchiveIterator
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

from flows.steps import ACQUIRE
from infra.dataset.dataset import Dataset
from infra.formats.warc import current_warc_date
from infra.removals.match import Removal, parse_removal
from infra.store.storage import Storage
from tasks.acquire import task as acquire
from tasks.acquire.web import spool
from tasks.acquire.web.config import WebSource
from tasks.extract import task as extract
from tasks.extract.config import ExtractConfig
from tasks.extract.sandbox import close_extractors
from tests.acquire.sites import Listener, Reply, Site, context, faulty, html, serve, source, tree
from tests.limits import wait_for
from tests.processes import process_tree
from tests.servers import S3

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A scratch folder of the test's own, and no extraction process left running."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRISTMILL_CACHE", str(folder))
    yield folder
    close_extractors()


def crawl(
    store: Path | str,
    web_source: WebSource,
    reporter: Listener | None = None,
    removals: Sequence[Removal] = (),
) -> Dataset:
    """Acquires into a store."""
    ctx = context(store, reporter)
    given: dict[str, Any] = {"source": web_source, "removals": removals}
    return acquire.build(ctx, acquire.spec(ctx, **given), **given)


def documents(store: Path | str, raw: Dataset, engine: str = "trafilatura") -> Dataset:
    """Extract into a store."""
    ctx = context(store)
    config = ExtractConfig.model_validate({"engine": engine})
    given: dict[str, Any] = {"config": config, "raw": raw, "license": "cc0-1.0"}
    return extract.build(ctx, extract.spec(ctx, **given), **given)


def verdicts(dataset: Dataset, site: Site) -> dict[str, tuple[str, str | None]]:
    """Verdict and reason by path."""
    return {
        row["url"].removeprefix(site.url): (row["verdict"], row["reason"])
        for part in dataset.parts
        for row in part.verdicts().to_pylist()
    }


def evidence(dataset: Dataset, site: Site) -> dict[str, str]:
    """Evidence by path."""
    return {
        row["url"].removeprefix(site.url): row["evidence"]
        for part in dataset.parts
        for row in part.verdicts().to_pylist()
    }


def files(dataset: Dataset, suffix: str) -> list[bytes]:
    """The parts' files with a suffix, in order."""
    return [part.storage.read(part.file(suffix)) for part in dataset.parts]


def wait_for_next_second() -> None:
    """Wait until a WARC record has another date: dates are whole seconds."""
    now = current_warc_date()
    wait_for(lambda: current_warc_date() != now)


def test_every_fault_has_its_verdict(tmp_path: Path) -> None:
    listener = Listener()
    with serve(Site(faulty())) as site:
        web_source = source(site, timeout=5, retries=1, max_page_bytes=2_000_000)
        raw = crawl(tmp_path / "store", web_source, listener)
        verdict_of = verdicts(raw, site)
        paths = Counter(site.paths)
    kept = {path for path, verdict in verdict_of.items() if verdict == ("kept", None)}
    assert kept == {
        "/", "/good/", "/good/child?b=2&a=1", "/target", "/packed", "/packed-child", "/nofollow",
        "/latin1", "/broken-utf8", "/notes.txt", "/empty", "/untyped", "/behind-noindex", "/torn",
    }  # fmt: skip
    assert {path: verdict for path, verdict in verdict_of.items() if path not in kept} == {
        "/moved": ("dropped", "redirect"),
        "/loop": ("dropped", "redirect"),
        "/away": ("dropped", "redirect_off_scope"),
        "/private/a": ("dropped", "robots"),
        "/noindex": ("dropped", "noindex"),
        "/tagged": ("dropped", "noindex"),
        "/image.png": ("dropped", "content_type"),
        "/missing": ("failed", "http_404"),
        "/error": ("failed", "http_500"),
        "/slow": ("failed", "timeout"),
        "/huge": ("failed", "too_large"),
        "/bomb": ("failed", "too_large"),
        "/cut": ("failed", "connection"),
        "/damaged": ("failed", "bad_encoding"),
    }
    assert json.loads(evidence(raw, site)["/torn"]) == {"truncated": "unspecified"}
    # A retry for what a retry may mend, one request for everything else, none for what is closed.
    assert {path for path, times in paths.items() if times > 1} == {"/error", "/slow", "/cut"}
    assert not paths.keys() & {"/private/a", "/hidden"}
    assert {name for name in (tmp_path / "cache" / "spool").rglob("*") if name.is_file()} == set()
    messages = [(progress.completed, progress.message) for progress in listener.received]
    assert (len(paths), "0 in the next level") in messages
    check_archives(raw)

    docs = documents(tmp_path / "store", raw)
    texts = {row["url"].removeprefix(site.url): row for row in docs.table().to_pylist()}
    assert docs.counts.n_in == len(kept)
    assert docs.counts.dropped == {"empty": 1}
    assert texts.keys() == kept - {"/empty"}
    assert "café au lait, déjà vu" in texts["/latin1"]["text"]
    assert "good \ufffd" in texts["/broken-utf8"]["text"]
    assert texts["/notes.txt"]["text"] == "Plain notes.\nSecond line.\n"
    assert texts["/good/"]["title"] == "Good"
    assert texts["/good/"]["language_hint"] == "en"
    assert texts["/good/"]["license"] == "cc0-1.0"
    assert {row["segment"] for row in texts.values()} == {raw.table()["segment"][0].as_py()}


def check_archives(raw: Dataset) -> None:
    """Both readers of WARC accept the parts, digests included, and agree with the index."""
    for part in raw.parts:
        data = part.storage.read(part.file("warc.gz"))
        rows = part.table().to_pylist()
        first = next(iter(ArchiveIterator(io.BytesIO(data))))
        assert str(first.record_type) == "warcinfo"
        # Records whose digests are wrong, or that have none, are left out here.
        fast = list(ArchiveIterator(io.BytesIO(data), verify_digests=True))
        assert [record.stream_pos for record in fast] == [row["offset"] for row in rows]
        reader = WarcioIterator(io.BytesIO(data), check_digests="raise")
        records = []
        for record in reader:
            body = record.content_stream().read()
            if record.rec_type == "response":
                size = reader.get_record_length()
                uri = record.rec_headers.get_header("WARC-Target-URI")
                records.append((uri, size, len(body), int(record.http_headers.get_statuscode())))
        assert records == [
            (row["url"], row["length"], row["payload_bytes"], row["status"]) for row in rows
        ]


@pytest.mark.parametrize("engine", ["trafilatura", "resiliparse"])
def test_two_crawls_of_a_site_give_the_same_bytes(tmp_path: Path, engine: str) -> None:
    pages = tree(70)
    for path, reply in pages.items():  # what differs from one fetch to the next must not show
        pages[path] = Reply(reply.body, headers={"Set-Cookie": f"session={'x' * len(path)}"})
    with serve(Site(pages)) as site:
        one = crawl(tmp_path / "one", source(site, concurrency=1, max_pages=50))
        site.pages = {
            path: Reply(reply.body, headers={"Set-Cookie": f"session={time.time_ns()}"})
            for path, reply in pages.items()
        }
        wait_for_next_second()
        two = crawl(tmp_path / "two", source(site, concurrency=16, max_pages=50))
    assert one.fingerprint == two.fingerprint
    assert one.counts.to_json() == two.counts.to_json()
    assert one.counts.kept == 50
    assert one.counts.dropped.keys() == {"max_pages"}
    columns = [name for name in one.table().column_names if name not in ("offset", "length")]
    assert one.table(columns).equals(two.table(columns))
    assert one.table()["url"].to_pylist() == sorted(one.table()["url"].to_pylist())
    assert [part.verdicts() for part in one.parts] == [part.verdicts() for part in two.parts]
    first, second = (documents(tmp_path / name, raw, engine) for name, raw in
                     (("one", one), ("two", two)))  # fmt: skip
    assert first.counts.kept == 50
    assert files(first, "parquet") == files(second, "parquet")
    assert files(first, "verdicts.parquet") == files(second, "verdicts.parquet")
    assert first.content == second.content


def test_the_same_site_has_the_same_index_bytes(tmp_path: Path) -> None:
    with serve(Site(tree(20))) as site:
        one = crawl(tmp_path / "one", source(site, concurrency=1))
        wait_for_next_second()
        two = crawl(tmp_path / "two", source(site, concurrency=8))
    assert files(one, "parquet") == files(two, "parquet")
    assert files(one, "warc.gz") != files(two, "warc.gz")  # the dates
    assert [len(data) for data in files(one, "warc.gz")] == [
        len(data) for data in files(two, "warc.gz")
    ]


def test_a_killed_crawl_resumes(tmp_path: Path, cache: Path) -> None:
    program = (
        "import json, sys\n"
        "from tests.acquire.sites import context\n"
        "from tasks.acquire.web.config import WebSource\n"
        "from tasks.acquire import task as acquire\n"
        "ctx = context(sys.argv[1])\n"
        "wanted = WebSource.model_validate_json(sys.argv[2])\n"
        "acquire.build(ctx, acquire.spec(ctx, source=wanted), source=wanted)\n"
    )
    with serve(Site(tree(120), delay=0.02)) as site:
        web_source = source(site, concurrency=4)
        command = [
            sys.executable,
            "-c",
            program,
            str(tmp_path / "killed"),
            web_source.model_dump_json(),
        ]
        with process_tree(command) as process:
            wait_for(lambda: len(site.paths) >= 45, process, 0.005)
            process.kill()  # the parent alone: the crawler must follow it
            wait_for(lambda: not process.members())
        assert 45 <= len(site.paths) < 120
        resumed = crawl(tmp_path / "killed", web_source)
        requests = Counter(site.paths)
        again = sum(requests.values()) - len(requests)
        assert len(requests) == 120
        assert max(requests.values()) <= 2
        assert again <= web_source.concurrency, "more was fetched again than was in flight"
        whole = crawl(tmp_path / "whole", web_source)
    assert resumed.counts.kept == 120
    assert files(resumed, "parquet") == files(whole, "parquet")
    assert files(resumed, "verdicts.parquet") == files(whole, "verdicts.parquet")
    assert not spool.spool_root().exists() or not any(spool.spool_root().iterdir())


def test_a_second_run_fetches_nothing(tmp_path: Path) -> None:
    with serve(Site(tree(5))) as site:
        crawl(tmp_path, source(site))
        ctx = context(tmp_path)
        faster = source(site, delay=0.5, concurrency=1, license="cc0-1.0")
        assert ACQUIRE.bind(source=faster).lookup(ctx)[1] is not None
        assert ACQUIRE.bind(source=source(site, recrawl="daily")).lookup(ctx)[1] is None
        assert ACQUIRE.bind(source=source(site, max_pages=3)).lookup(ctx)[1] is None
        assert len(site.paths) == 5


def test_two_runs_at_once_crawl_a_site_once(tmp_path: Path) -> None:
    listeners = Listener(), Listener()
    with serve(Site(tree(5))) as site, ThreadPoolExecutor(2) as pool:
        site.is_open.clear()
        runs = [pool.submit(crawl, tmp_path, source(site), listener) for listener in listeners]
        wait_for(lambda: any("waiting" in p.message for one in listeners for p in one.received))
        site.is_open.set()
        first, second = (run.result() for run in runs)
        assert first.manifest == second.manifest
        assert len(site.paths) == 5
    assert list(spool.spool_root().iterdir()) == []


def test_delays_are_observed_and_a_longer_crawl_delay_applies(tmp_path: Path) -> None:
    pages = tree(6) | {"/robots.txt": Reply(b"User-agent: *\nCrawl-delay: 0.3\n", "text/plain")}
    with serve(Site(pages)) as site:
        crawl(tmp_path, source(site, delay=0.05, concurrency=8))
        times = [moment for moment, path, _ in site.requests if path != "/robots.txt"]
        agents = {headers["User-Agent"] for _, _, headers in site.requests}
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert len(gaps) == 5
    # Lower by half than what is asked for: on a busy machine, requests arrive late, one by one.
    assert statistics.median(gaps) > 0.15
    assert times[-1] - times[0] > 5 * 0.15
    assert agents == {WebSource.model_fields["user_agent"].default}


LONG_RULES = b"# a comment\n" * 20_000 + b"User-agent: *\n"


def test_robots_by_rfc_9309(tmp_path: Path) -> None:
    answers: list[tuple[Reply, tuple[str, str | None]]] = [
        (Reply(status=503), ("dropped", "robots")),
        (Reply(cut=True), ("dropped", "robots")),
        (Reply(b"User-agent: *\nCrawl-delay: 900", "text/plain"), ("dropped", "crawl_delay")),
        (Reply(status=404), ("kept", None)),
        (Reply(status=403), ("kept", None)),
        (Reply(status=301, headers={"Location": "/rules"}), ("dropped", "robots")),
        # Rules may be longer than a page: RFC 9309 reads at least 500 KiB.
        (Reply(LONG_RULES + b"Disallow: /x\n", "text/plain"), ("kept", None)),
        (Reply(LONG_RULES + b"Disallow: /\n", "text/plain"), ("dropped", "robots")),
    ]
    rules = Reply(b"User-agent: gristmill\nDisallow: /\n", "text/plain")
    with ExitStack() as running:
        sites = [
            running.enter_context(
                serve(Site({"/robots.txt": reply, "/rules": rules, "/": html("x")}))
            )
            for reply, _ in answers
        ]
        removals = serve(Site({}))
        with removals as closed:
            pass  # nothing listens on its port any more
        start = [f"{site.url}/" for site in [*sites, closed]]
        raw = crawl(tmp_path, source(sites[0], start_urls=start, retries=0, max_page_bytes=50_000))
    verdict_of = verdicts(raw, sites[0])
    verdict_of[start[0]] = verdict_of.pop("/")
    expected = dict(zip(start, [verdict for _, verdict in answers], strict=False))
    assert verdict_of == expected | {
        start[-1]: ("dropped", "robots")
    }  # unreachable: allows nothing


def test_a_site_goes_to_an_object_store(tmp_path: Path, s3: S3) -> None:
    with serve(Site(tree(6))) as site:
        remote = f"s3://{s3.bucket}/{tmp_path.name}"
        remote_data = crawl(remote, source(site))
        local_data = crawl(tmp_path, source(site))
    assert documents(remote, remote_data).content == documents(tmp_path, local_data).content


def test_two_hosts_are_crawled_concurrently(tmp_path: Path) -> None:
    with serve(Site(tree(7))) as site:
        other = site.url.replace("127.0.0.1", "localhost")
        web_source = source(site, start_urls=[f"{site.url}/", f"{other}/"], delay=0.4)
        raw = crawl(tmp_path, web_source)
        hosts = Counter(headers["Host"].split(":")[0] for _, _, headers in site.requests)
        turns = [headers["Host"] for _, _, headers in site.requests]
    assert raw.counts.kept == 14
    assert hosts == {"127.0.0.1": 8, "localhost": 8}
    longest = max(len(list(run)) for _, run in itertools.groupby(turns))
    assert longest < 8, "the hosts waited for one another"


def test_parts_can_be_read_from_a_store_that_was_moved(tmp_path: Path) -> None:
    with serve(Site(tree(4))) as site:
        raw = crawl(tmp_path / "a", source(site))
    (tmp_path / "a").rename(tmp_path / "b")
    moved = Storage(str(tmp_path / "b")).subdir(*raw.storage.url.split("/")[-2:])
    from infra.dataset.dataset import open_dataset

    assert documents(tmp_path / "b", open_dataset(moved)).counts.kept == 4


def test_removed_urls_are_not_requested(tmp_path: Path) -> None:
    pages = {
        "/": html("start", "/a", "/b", "/moved"),
        "/a": html("a", "/only-from-a"),
        "/b": html("b"),
        "/moved": Reply(status=301, headers={"Location": "/a"}),
        "/only-from-a": html("c"),
    }
    with serve(Site(pages)) as site, serve(Site({"/": html("elsewhere")})) as other:
        away = other.url.replace("127.0.0.1", "localhost")
        site.pages["/"] = html("start", "/a", "/b", "/moved", f"{away}/")
        web_source = source(site, allow=["^http://"])
        removals = [parse_removal("url", f"{site.url}/a#x"), parse_removal("domain", "localhost")]
        raw = crawl(tmp_path / "store", web_source, removals=removals)
        verdict_of = verdicts(raw, site)
        assert verdict_of == {
            "/": ("kept", None),
            "/a": ("dropped", "removed"),
            "/b": ("kept", None),
            "/moved": ("dropped", "redirect"),
            f"{away}/": ("dropped", "removed"),
        }
        assert sorted(site.paths) == ["/", "/b", "/moved"]
        assert other.requests == [], "not even for its robots.txt"
        assert crawl(tmp_path / "store", web_source).fingerprint == raw.fingerprint
        assert len(site.paths) == 3, "removals, or their end, are no reason to fetch again"
