"""The leaderboard: order, groups of seeds, what is missing, chart and scaling laws."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flows.steps import STEPS
from flows.summary import leaderboard_rows
from infra.runs.run_records import ModelRecord, RunRecord
from infra.store.storage import Storage
from tests.views.real_run import RealRun
from views.report.page import render
from views.report.sections.leaderboard import describe_board
from views.report.sections.leaderboard.board import (
    MISSING,
    NO_PROBABILITY,
    NOT_EVALUATED,
    NOT_MEASURED,
    BoardModel,
    BoardRow,
    Leaderboard,
    build_leaderboard,
    rank,
)
from views.report.sections.leaderboard.scaling_law import MIN_SIZES, fit_scaling_law


def model(name: str, bits: float | None, entry: str | None = None, **more: float) -> BoardModel:
    values = {"bits_per_byte": bits, **more} if bits is not None else more
    return BoardModel(name, entry or name, "lstm", {k: v for k, v in values.items() if v})


def cell(board: Leaderboard, row: BoardRow, key: str) -> str:
    return row.cell(next(column for column in board.columns if column.key == key))


def test_the_lowest_bits_per_byte_are_first_and_models_without_a_probability_last() -> None:
    vectors = replace(model("a-vectors", None, parameters=10.0), family="word2vec")
    models = [model("z", 1.5), vectors, model("b", 1.5), model("m", 1.2)]
    for given in (models, models[::-1]):
        board = rank(given)
        assert [row.name for row in board.rows] == ["m", "b", "z", "a-vectors"]
        assert cell(board, board.rows[-1], "bits_per_byte") == NO_PROBABILITY
        assert cell(board, board.rows[0], "parameters") == MISSING


def test_encoders_are_ranked_among_themselves_by_a_column_of_their_own() -> None:
    encoders = [
        model("e", None, pseudo_bits_per_byte=0.5),
        model("d", None, pseudo_bits_per_byte=0.4),
    ]
    board = rank([*encoders, model("z", 1.5)])
    assert [row.name for row in board.rows] == ["z", "d", "e"]
    assert cell(board, board.rows[1], "bits_per_byte") == NO_PROBABILITY
    assert cell(board, board.rows[1], "pseudo_bits_per_byte") == "0.400"
    assert cell(board, board.rows[0], "pseudo_bits_per_byte") == MISSING


def test_seeds_of_an_entry_are_a_row_with_their_mean_and_spread() -> None:
    seeds = [model(f"lstm-seed{i}", bits, "lstm") for i, bits in enumerate((1.2, 1.3, 1.4))]
    board = rank([model("gru", 1.31), *seeds])
    assert [row.name for row in board.rows] == ["lstm", "gru"]
    column = board.columns[0]
    assert board.rows[0].cell(column) == "1.300"
    assert board.rows[0].spread(column) == "± 0.100"
    assert board.rows[1].spread(column) == ""
    unscored = replace(seeds[2], values={})
    [row] = rank([*seeds[:2], unscored]).rows
    assert row.spread(column) == "± 0.071 (2 of 3)"


def test_a_column_that_no_model_has_is_left_out_but_the_first() -> None:
    unscored = BoardModel("x", "x", "lstm", {"parameters": 5.0}, is_evaluated=False)
    board = rank([unscored])
    assert [column.key for column in board.columns] == ["bits_per_byte", "parameters"]
    assert cell(board, board.rows[0], "bits_per_byte") == NOT_EVALUATED


def test_word_vectors_are_ranked_among_themselves_the_highest_first() -> None:
    scores = {"low": 0.2, "high": 0.4}
    vectors = [BoardModel(name, name, "glove", {"similarity": s}) for name, s in scores.items()]
    encoder = BoardModel("bert", "bert", "encoder", {"pseudo_bits_per_byte": 0.9})
    board = rank([*vectors, encoder, model("lstm", 2.0)])
    assert [row.name for row in board.rows] == ["lstm", "bert", "high", "low"]


def test_a_score_of_word_vectors_is_of_all_rows_and_says_how_many_have_vectors() -> None:
    def pairs(value: float | None, scored: int) -> dict[str, Any]:
        return {"spearman": 1.0, "spearman_all": value, "pairs": 20, "scored": scored}

    few = {"spearman": 1.0, "spearman_all": 1.0, "pairs": 353, "scored": 2}
    metrics = {
        "x": {
            "kind": "vectors",
            "similarity": {"a": pairs(0.2, 18), "b": pairs(0.4, 20), "c": pairs(None, 0)},
            "analogies": {"d": {"accuracy_all": None, "questions": 3, "scored": 0}},
        },
        "small": {"kind": "vectors", "similarity": {"a": few}},
    }
    models = [ModelRecord(name, metrics=item) for name, item in metrics.items()]
    record = RunRecord("r", "1", "", 0, "completed", models=models)
    board = build_leaderboard(Storage("memory://board"), record)
    assert board is not None
    large, small = board.rows
    assert large.models[0].values == {"similarity": pytest.approx(0.3)}
    column = next(column for column in board.columns if column.key == "similarity")
    assert large.coverage(column) == "38 of 40"
    assert cell(board, large, "bits_per_byte") == NO_PROBABILITY
    assert (small.name, small.cell(column), small.coverage(column)) == ("small", MISSING, "")


def test_energy_that_is_not_measured_says_so() -> None:
    board = rank([model("a", 1.0, joules=7200.0), model("b", 2.0)])
    assert cell(board, board.rows[0], "joules") == "2 Wh"
    assert cell(board, board.rows[1], "joules") == NOT_MEASURED


def test_the_board_of_a_real_run_has_what_its_data_sets_say(real_run: RealRun) -> None:
    board = build_leaderboard(real_run.storage, real_run.record)
    assert board is not None
    assert {row.name for row in board.rows} == {"tiny", "late", "3-gram", "unigram"}
    scores = [estimate.mean for row in board.rows if (estimate := row.estimate("bits_per_byte"))]
    assert scores == sorted(scores)
    by_name = {row.name: row for row in board.rows}
    stats = real_run.dataset("train", "tiny").stats
    for key in ("parameters", "training_flops", "cpu_seconds"):
        estimate = by_name["tiny"].estimate(key)
        assert estimate is not None
        assert estimate.mean == stats[key] > 0
    assert by_name["tiny"].estimate("seconds") is not None
    # It starts from the weights of tiny, which were not for nothing.
    late = real_run.dataset("train", "late").stats
    assert (by_name["late"].base, by_name["tiny"].base) == ("tiny", "")
    for key in ("tokens", "training_flops", "cpu_seconds"):
        estimate = by_name["late"].estimate(key)
        assert estimate is not None
        assert estimate.mean == pytest.approx(stats[key] + late[key])
    parameters = by_name["late"].estimate("parameters")
    assert parameters is not None
    assert parameters.mean == late["parameters"]
    without = [item for item in real_run.record.models if item.name != "tiny"]
    alone = build_leaderboard(real_run.storage, replace(real_run.record, models=without))
    assert alone is not None
    assert next(row for row in alone.rows if row.name == "late").estimate("training_flops") is None
    assert by_name["3-gram"].is_baseline
    rows = leaderboard_rows(board)
    assert [row["model"] for row in rows] == [row.name for row in board.rows]
    assert len({tuple(row) for row in rows}) == 1  # one set of columns, as Prefect's table needs


def test_power_stated_in_the_recipe_gives_energy(real_run: RealRun) -> None:
    train = [dict(entry) for entry in real_run.record.config["train"]]
    train[0]["run"] = {**train[0]["run"], "watts": 60.0}
    record = replace(real_run.record, config={**real_run.record.config, "train": train})
    board = build_leaderboard(real_run.storage, record)
    assert board is not None
    row = next(row for row in board.rows if row.name == "tiny")
    joules, seconds = row.estimate("joules"), row.estimate("seconds")
    assert joules is not None
    assert seconds is not None
    if "cpu_joules" not in real_run.dataset("train", "tiny").stats:
        assert joules.mean == pytest.approx(60 * seconds.mean)
        assert row.energy_sources == "60 W stated"
    assert "60 W stated" in render(real_run.storage, record, STEPS) or row.energy_sources == "RAPL"


def law(flops: Sequence[float], floor: float, scale: float, exponent: float) -> list[float]:
    return [floor + scale * c**-exponent for c in flops]


def test_a_scaling_law_is_found_again() -> None:
    flops = np.geomspace(1e12, 1e17, 6).tolist()
    fitted = fit_scaling_law(flops, law(flops, 1.1, 3000.0, 0.28))
    assert fitted.floor == pytest.approx(1.1, rel=1e-3)
    assert fitted.exponent == pytest.approx(0.28, rel=1e-3)
    assert math.exp(fitted.log_scale) == pytest.approx(3000.0, rel=1e-2)


def test_noise_and_an_outlier_stay_within_the_band(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("views.report.sections.leaderboard.scaling_law.SAMPLES", 50)
    flops = np.geomspace(1e12, 1e16, 12).tolist()
    noise = np.exp(np.random.default_rng(5).normal(0, 0.005, 12))
    losses = (np.array(law(flops, 1.1, 3000.0, 0.28)) * noise).tolist()
    clean = fit_scaling_law(flops, losses)
    low, high = clean.exponents
    assert low < 0.28 < high
    assert high - low < 0.1
    losses[5] *= 1.3
    robust = fit_scaling_law(flops, losses)
    assert robust.exponent == pytest.approx(0.28, abs=0.02)
    below, above = clean.band(np.array(flops))
    assert (below <= above).all()
    assert fit_scaling_law(flops, losses).samples.tolist() == robust.samples.tolist()


def test_a_law_needs_enough_sizes() -> None:
    with pytest.raises(ValueError, match="3 different"):
        fit_scaling_law([1e9, 2e9, 4e9, 4e9], [2.0, 1.9, 1.8, 1.8])
    with pytest.raises(ValueError, match="positive"):
        fit_scaling_law([1e9, 2e9, 4e9, 0.0], [2.0, 1.9, 1.8, 1.8])


def test_the_chart_has_a_dot_per_model_and_says_how_many_sizes_are_missing() -> None:
    def sized(count: int) -> list[BoardModel]:
        flops = np.geomspace(1e12, 1e15, count).tolist()
        bits = law(flops, 1.1, 3000.0, 0.28)
        pairs = zip(flops, bits, strict=True)
        return [model(f"m{i}", b, training_flops=c) for i, (c, b) in enumerate(pairs)]

    counted = BoardModel("counts", "counts", "ngram", {"bits_per_byte": 1.9})
    few = describe_board(rank([*sized(MIN_SIZES - 1), counted]))
    assert few.chart.count("<circle") == MIN_SIZES - 1
    assert "counts" in few.chart
    assert "lstm lacks 1" in few.missing
    assert few.laws == []
    enough = describe_board(rank(sized(MIN_SIZES)))
    assert enough.missing == ""
    assert "<polygon" in enough.chart
    assert "1.100" in enough.laws[0]
    assert "nan" not in enough.chart
