"""Levels: what is requested never depends on the order in which responses arrive."""

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.dataset.ledger import Verdict, dropped
from tasks.acquire.web.frontier import Frontier
from tasks.acquire.web.scope import Scope

ROOT = "http://h/0"


def url(node: int) -> str:
    return f"http://h/{node}"


def run_crawl(
    graph: Mapping[int, list[int]],
    shuffle: random.Random | None = None,
    moved: Mapping[int, int] | None = None,
    closed: frozenset[str] = frozenset(),
    **limits: int,
) -> tuple[Frontier, list[list[str]]]:
    """Crawl a graph of pages, answers arriving in any order."""
    frontier = Frontier([ROOT], Scope([ROOT]), limits.get("pages", 1000), limits.get("depth"))
    levels = []
    while frontier.num_queued:
        level = frontier.next_level(lambda item: dropped("robots") if item in closed else None)
        levels.append(list(level))
        if shuffle:
            shuffle.shuffle(level)
        for item in level:
            node = int(item.rsplit("/", 1)[1])
            if moved and node in moved:
                frontier.redirect(item, url(moved[node]))
                continue
            links = [url(n) for n in graph.get(node, [])]
            if shuffle:
                shuffle.shuffle(links)
            frontier.record(item, Verdict(), links)
    return frontier, levels


def test_levels_are_sorted_and_complete() -> None:
    _, levels = run_crawl({0: [3, 1, 2], 1: [4, 0], 3: [4, 5]})
    assert levels == [[ROOT], [url(1), url(2), url(3)], [url(4), url(5)]]


def test_the_page_limit_takes_the_first_of_a_level() -> None:
    frontier, levels = run_crawl({0: [3, 1, 2], 1: [9]}, pages=3)
    assert levels[:2] == [[ROOT], [url(1), url(2)]]
    assert frontier.num_requested == 3
    assert {address for address, verdict in frontier.verdicts.items() if verdict.reason == "max_pages"} == {
        url(3), url(9),
    }  # fmt: skip


def test_what_robots_forbids_is_not_counted_against_the_limit() -> None:
    frontier, levels = run_crawl({0: [1, 2, 3]}, pages=3, closed=frozenset({url(1)}))
    assert levels[1] == [url(2), url(3)]
    assert frontier.verdicts[url(1)] == dropped("robots")


def test_depth_counts_links_but_not_redirects() -> None:
    frontier, levels = run_crawl({1: [2], 2: [3]}, moved={0: 1}, depth=1)
    assert levels == [[ROOT], [url(1)], [url(2)]]
    assert frontier.verdicts[ROOT] == dropped("redirect", target=url(1))


def test_redirects_leave_the_scope_only_to_a_start_url() -> None:
    frontier = Frontier([ROOT, "http://other/"], Scope([ROOT], allow=["^http://h/"]), 10)
    frontier.next_level(lambda _: None)
    assert frontier.redirect(ROOT, "http://away/").reason == "redirect_off_scope"
    assert frontier.redirect(ROOT, None).reason == "redirect_off_scope"
    assert frontier.redirect(ROOT, "http://other/").reason == "redirect"
    assert frontier.redirect(ROOT, ROOT).reason == "redirect"
    assert frontier.num_queued == 0


@given(
    graph=st.dictionaries(st.integers(0, 20), st.lists(st.integers(0, 20), max_size=6)),
    moved=st.dictionaries(st.integers(1, 20), st.integers(0, 20), max_size=4),
    seed=st.integers(0, 2**16),
    pages=st.integers(1, 25),
    depth=st.integers(0, 5),
)
def test_arrival_order_does_not_matter(
    graph: dict[int, list[int]], moved: dict[int, int], seed: int, pages: int, depth: int
) -> None:
    plain, levels = run_crawl(graph, moved=moved, pages=pages, depth=depth)
    shuffled, again = run_crawl(graph, random.Random(seed), moved, pages=pages, depth=depth)
    assert levels == again
    assert plain.verdicts == shuffled.verdicts
    requested = [item for level in levels for item in level]
    assert len(requested) == len(set(requested)) == plain.num_requested <= pages
    assert set(requested) <= plain.verdicts.keys()


@pytest.mark.parametrize("pages", [1, 2])
def test_every_discovered_url_has_one_verdict(pages: int) -> None:
    frontier, _ = run_crawl({0: [1, 2, 2, 0]}, pages=pages)
    assert frontier.verdicts.keys() == {ROOT, url(1), url(2)}
