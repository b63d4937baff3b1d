"""The clients of the serving benchmark, on an endpoint whose every step is known."""

from collections.abc import Iterator

import pytest

from benchmarks.serve_clients import Endpoint, LoadResult, complete, disconnect, load
from serve.api.app import create_app
from serve.api.limits import Limits
from serve.hub import Hub
from tests.serve.served import Parrot, model_folder, serving, source, starter


@pytest.fixture(scope="module")
def parrot() -> Parrot:
    return Parrot("ab c", slots=2, step_s=0.01)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, parrot: Parrot) -> Iterator[Endpoint]:
    folder = model_folder(tmp_path_factory.mktemp("models") / "parrot", context=5000)
    hub = Hub([source("parrot", folder)], starter({"parrot": parrot}))
    with serving(create_app(hub, Limits())) as served:
        yield Endpoint("parrot", served.url, "parrot")


def test_a_completion_has_its_text_tokens_and_times(endpoint: Endpoint) -> None:
    answer = complete(endpoint, "x", 8)
    assert (answer.text, answer.tokens) == ("ab cab c", 8)
    assert 0.01 <= answer.first_s < answer.seconds - 7 * 0.01 + 0.005
    assert answer.seconds >= 8 * 0.01


def test_what_a_server_says_of_a_failure_is_the_error(endpoint: Endpoint) -> None:
    with pytest.raises(RuntimeError, match=r"parrot: status 400: .*max_tokens"):
        complete(endpoint, "x", 6000)


def test_clients_at_once_ask_each_prompt_once(endpoint: Endpoint, parrot: Parrot) -> None:
    before = parrot.generated
    result = load(endpoint, ["x", "y", "z", "xy", "yz"], 10, clients=2)
    assert parrot.generated - before == 50
    assert len(result.first_s) == 5
    assert list(result.first_s) == sorted(result.first_s)
    assert 0 < result.rate <= 2 / 0.01


def test_a_client_that_goes_sees_the_slot_freed(endpoint: Endpoint, parrot: Parrot) -> None:
    assert disconnect(endpoint, "x", 4000) < 4000 * 0.01
    assert parrot.running == 0
    with pytest.raises(RuntimeError, match="ended"):
        disconnect(endpoint, "x", 3)


@pytest.mark.parametrize(("percent", "expected"), [(50, 2.0), (99, 4.0), (1, 1.0)])
def test_percentiles_are_of_the_nearest_rank(percent: int, expected: float) -> None:
    assert LoadResult(1.0, [1.0, 2.0, 3.0, 4.0]).percentile(percent) == expected
