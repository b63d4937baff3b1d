"""Waves: what is asked for never depends on the order in which answers arrive."""

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.acquire.http_verdict import FetchVerdict, dropped_verdict
from tasks.acquire.web.frontier import Frontier
from tasks.acquire.web.scope import Scope

ROOT = "http://h/0"


def url(node: int) -> str:
    return f"http://h/{node}"


def walk(
    graph: Mapping[int, list[int]],
    shuffle: random.Random | None = None,
    moved: Mapping[int, int] | None = None,
    closed: frozenset[str] = frozenset(),
    **limits: int,
) -> tuple[Frontier, list[list[str]]]:
    """Crawl a graph of pages, answers arriving in any order."""
    frontier = Frontier([ROOT], Scope([ROOT]), limits.get("pages", 1000), limits.get("depth"))
    waves = []
    while frontier.num_queued:
        wave = frontier.next_level(
            lambda item: dropped_verdict("robots") if item in closed else None
        )
        waves.append(list(wave))
        if shuffle:
            shuffle.shuffle(wave)
        for item in wave:
            node = int(item.rsplit("/", 1)[1])
            if moved and node in moved:
                frontier.redirect(item, url(moved[node]))
                continue
            found = [url(n) for n in graph.get(node, [])]
            if shuffle:
                shuffle.shuffle(found)
            frontier.record(item, FetchVerdict(), found)
    return frontier, waves


def test_waves_are_sorted_and_whole() -> None:
    _, waves = walk({0: [3, 1, 2], 1: [4, 0], 3: [4, 5]})
    assert waves == [[ROOT], [url(1), url(2), url(3)], [url(4), url(5)]]


def test_the_page_limit_takes_the_first_of_a_wave() -> None:
    frontier, waves = walk({0: [3, 1, 2], 1: [9]}, pages=3)
    assert waves[:2] == [[ROOT], [url(1), url(2)]]
    assert frontier.num_requested == 3
    assert {address for address, fate in frontier.verdicts.items() if fate.reason == "max_pages"} == {
        url(3), url(9),
    }  # fmt: skip


def test_what_robots_forbids_is_not_counted_against_the_limit() -> None:
    frontier, waves = walk({0: [1, 2, 3]}, pages=3, closed=frozenset({url(1)}))
    assert waves[1] == [url(2), url(3)]
    assert frontier.verdicts[url(1)] == dropped_verdict("robots")


def test_depth_counts_links_but_not_redirects() -> None:
    frontier, waves = walk({1: [2], 2: [3]}, moved={0: 1}, depth=1)
    assert waves == [[ROOT], [url(1)], [url(2)]]
    assert frontier.verdicts[ROOT] == dropped_verdict("redirect", target=url(1))


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
def test_arrival_order_has_no_say(
    graph: dict[int, list[int]], moved: dict[int, int], seed: int, pages: int, depth: int
) -> None:
    plain, waves = walk(graph, moved=moved, pages=pages, depth=depth)
    shuffled, again = walk(graph, random.Random(seed), moved, pages=pages, depth=depth)
    assert waves == again
    assert plain.verdicts == shuffled.verdicts
    asked = [item for wave in waves for item in wave]
    assert len(asked) == len(set(asked)) == plain.num_requested <= pages
    assert set(asked) <= plain.verdicts.keys()


@pytest.mark.parametrize("pages", [1, 2])
def test_every_address_found_has_one_fate(pages: int) -> None:
    frontier, _ = walk({0: [1, 2, 2, 0]}, pages=pages)
    assert frontier.verdicts.keys() == {ROOT, url(1), url(2)}
