"""How a report names a model that it does not explain."""

from views.report.page import _environment
from views.report.sections.interpret import Interpretation


def test_a_model_that_is_too_large_is_named_with_its_size() -> None:
    large = Interpretation("big", None, None, "", "", None, (), (), None, (), (), (), 1_300_000_000)
    template = _environment().get_template("sections/interpret/section.html")
    html = template.render(data=[large])
    assert 'data-too-large="big"' in html
    assert "1,300,000,000 parameters" in html
    assert "<details" not in html
    assert "<svg" not in html
