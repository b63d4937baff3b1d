"""A part of ``make kill-matrix``: the S3 server dies while a checkpoint is written to it."""

from pathlib import Path

import pytest

from benchmarks import kill_matrix
from benchmarks.kill_matrix import Case, Server
from tests.servers import weed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_server_that_dies_under_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    undisturbed = Case("none", "", "local")
    kill_matrix.run(undisturbed, tmp_path / "undisturbed", Server(None))
    assert undisturbed.sha, undisturbed.said
    case = Case("server", "shards", "s3")
    server = Server(weed(tmp_path / "weed"))
    try:
        kill_matrix.run(case, tmp_path / "case", server)
    finally:
        server.stop()
    assert case.struck
    assert case.sound(undisturbed.sha), case


@pytest.mark.parametrize(
    ("case", "sound"),
    [
        (Case("rank", "shards", "local", cut=20, resumed=[0, 10], sha="x"), True),
        (Case("rank", "shards", "local", cut=20, resumed=[0, 20], sha="x"), False),
        (Case("rank", "shards", "local", cut=20, resumed=[0], sha="x"), False),
        (Case("rank", "step", "local", resumed=[0, 20], sha="x"), True),
        (Case("server", "step", "s3", resumed=[0], sha="x"), True),
        (Case("server", "step", "s3", resumed=[0], sha="y"), False),
        (Case("server", "step", "s3", resumed=[0], sha=None), False),
    ],
)
def test_the_matrix_can_fail(case: Case, *, sound: bool) -> None:
    assert case.sound("x") == sound
