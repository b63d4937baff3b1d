"""A part of ``make fault-injection``: the S3 server dies while a checkpoint is written to it."""

from argparse import Namespace
from itertools import product
from pathlib import Path

import pytest

from benchmarks import fault_injection
from benchmarks.fault_injection import Case, Server
from tests.servers import weed

pytestmark = pytest.mark.e2e

MODE = ("ddp", "fp32", "decoder")


def test_a_server_that_dies_under_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    undisturbed = Case("none", "", "local")
    fault_injection.run(undisturbed, tmp_path / "undisturbed", Server(None))
    assert undisturbed.sha, undisturbed.error_output
    case = Case("server", "shards", "s3")
    server = Server(weed(tmp_path / "weed"))
    try:
        fault_injection.run(case, tmp_path / "case", server)
    finally:
        server.stop()
    assert case.killed
    assert case.is_correct(undisturbed.sha), case


@pytest.mark.parametrize(
    ("case", "sound"),
    [
        (Case("rank-0", "shards", "local", interrupted_step=20, resumed=[0, 10], sha="x"), True),
        (Case("rank-0", "shards", "local", interrupted_step=20, resumed=[0, 20], sha="x"), False),
        (Case("rank-0", "shards", "local", interrupted_step=20, resumed=[0], sha="x"), False),
        (Case("rank-0", "step", "local", resumed=[0, 20], sha="x"), True),
        (Case("server", "step", "s3", resumed=[0], sha="x"), True),
        (Case("server", "step", "s3", resumed=[0], sha="y"), False),
        (Case("server", "step", "s3", resumed=[0], sha=None), False),
        (Case("flow", "step", "local", family="glove", resumed=[0, 9], sha="x"), True),
        (Case("flow", "step", "local", family="glove", resumed=[0, 0], sha="x"), False),
        (Case("worker", "step", "local", family="glove", resumed=[0], sha="x"), True),
        (Case("worker", "step", "local", family="glove", resumed=[0], sha="y"), False),
    ],
)
def test_the_matrix_can_fail(case: Case, *, sound: bool) -> None:
    assert case.is_correct("x") == sound


def test_every_victim_is_killed_at_every_moment_and_a_row_can_be_had_alone() -> None:
    def given(**changes: str | None) -> Namespace:
        plain = {"store": "both", "only": None, "parallel": None, "precision": None, "family": None}
        return Namespace(**{**plain, **changes})

    cases = fault_injection.select_cases(given())
    plain = [case for case in cases if (case.parallel, case.precision, case.family) == MODE]
    pairs = {(case.victim, case.moment) for case in plain}
    assert pairs | {("rank-0", "step")} == set(
        product(fault_injection.VICTIMS, fault_injection.MOMENTS)
    )
    assert {(case.victim, case.store) for case in plain if case.moment == "marker"} == {
        *product(fault_injection.VICTIMS[:-1], ("local", "s3")),
        ("server", "s3"),
    }
    assert {
        (case.parallel, case.precision, case.family) for case in cases if case not in plain
    } == {
        ("fsdp", "fp32", "decoder"),
        ("ddp", "fp16", "decoder"),
        *(
            ("ddp", "fp32", family)
            for family in (
                "rnn",
                "lstm",
                "gru",
                "cnn",
                "encoder",
                "seq2seq",
                "seq2seq-gru",
                "lstm-carried",
                *fault_injection.COUNTED,
            )
        ),
    }
    counted = fault_injection.select_cases(given(family="ngram", store="local"))
    assert [(case.victim, case.moment) for case in counted] == [
        ("flow", "step"),
        ("worker", "step"),
    ]
    (one,) = fault_injection.select_cases(given(only="rank-0,step", store="s3", parallel="fsdp"))
    assert one == Case("rank-0", "step", "s3", "fsdp", "fp32")
