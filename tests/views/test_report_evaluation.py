"""What the report shows of canaries, of personal data that models repeat, of gaps, and of formats."""

from typing import Any

from infra.schemas.metrics import METRICS
from tests.views.real_run import RealRun
from views.report.page import _environment
from views.report.sections.memorization import CanaryRow, Memorization, MemorizationRow
from views.report.sections.models import (
    Models,
    ReportModel,
    build_evaluation_table,
    load_models,
)
from views.report.sections.suites import MetricRow, SuiteResults


def metric(name: str, value: float) -> dict[str, Any]:
    row = {"name": name, "value": value, "low": value - 0.5, "high": value + 0.5, "n": 4}
    return dict(zip(METRICS.names, [*row.values(), False], strict=True))


def render(section: str, data: Any) -> str:
    return _environment().get_template(f"sections/{section}/section.html").render(data=data)


def test_canaries_and_personal_data_are_shown_and_the_latter_masked() -> None:
    repeated = {
        "kind": "email",
        "masked": "a***@*******.***",
        "document": "0" * 32,
        "url": "https://example.org/1",
        "occurrences": 3,
    }
    row = MemorizationRow("trained", 50, [metric("x", 0.25)], [metric("y", 0.75)])
    canaries = [CanaryRow(number, [metric("e", value)]) for number, value in ((0, 1.5), (16, 9.25))]
    page = render(
        "memorization",
        Memorization(["tiny"], [row], [0.5], 50, 0.9, canaries, 9.966, [("tiny", repeated)]),
    )
    assert "25.0 %" in page
    assert "75.0 %" in page
    assert "90.0 % of its tokens" in page
    assert page.count("data-canaries=") == 2
    assert "9.25" in page
    assert "10.0 is the largest" in page
    assert f'<tr data-document="{"0" * 32}" data-url="https://example.org/1">' in page
    assert "a***@*******.***" in page
    plain = render("memorization", Memorization(["tiny"], [row], [0.5], 50, 0.9, [], 9.966, []))
    assert "canaries" not in plain
    assert "Personal data" not in plain


def test_gaps_and_flagged_words_are_explained_where_they_are_shown() -> None:
    def page(*metrics: str) -> str:
        rows = [MetricRow("s", name, [metric(name, -0.5)], ()) for name in metrics]
        return render("suites", SuiteResults(["tiny"], [], rows, [], [], [], []))

    assert "prejudice" in page("gap", "absolute_gap")
    assert "-0.5" in page("gap").replace("−", "-")
    assert "Flagged is" in page("flagged")
    assert "prejudice" not in page("accuracy") + page("flagged")


def test_bits_per_byte_of_all_held_out_text_have_an_interval(real_run: RealRun) -> None:
    models = load_models(real_run.storage, real_run.record)
    first, *rest = build_evaluation_table(models)
    for model, cell in zip(models, first.cells, strict=True):
        assert cell.interval is not None
        assert cell.value == model.bits_per_byte
        assert cell.interval[0] < model.metrics["bits_per_byte"] < cell.interval[1]
    assert [cell.interval for row in rest for cell in row.cells if cell.interval] == []
    page = render("models", Models(models, [], [first], [], []))
    for cell in first.cells:
        assert "{:.3f} to {:.3f}".format(*(cell.interval or ())) in page


def test_the_loss_of_int8_is_shown_beside_fp32() -> None:
    int8 = {
        "bits_per_byte": 1.2345,
        "bits_per_byte_fp32": 1.2,
        "loss": 0.0345,
        "loss_low": 0.03,
        "loss_high": 0.04,
        "documents": 50,
        "bytes": 300_000,
        "bytes_fp32": 900_000,
    }
    formats = {"onnx": {"largest_logprob_difference": 3e-6}, "int8": int8}
    page = render("models", Models([ReportModel("tiny", 0, formats=formats)], [], [], [], []))
    assert page.count("data-format=") == 2
    for text in ("3e-06", "1.2345", "1.2000", "+0.0345", "+0.0300 to +0.0400"):
        assert text in page
    assert "Released formats" not in render("models", Models([ReportModel("a", 0)], [], [], [], []))
