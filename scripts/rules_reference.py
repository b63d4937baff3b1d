"""The reference of quality rules and signals: ``python -m scripts.rules_reference`` writes the page."""

import sys
from collections.abc import Iterator

from infra.schemas.quality_rules import NO_WORD_SPACES, RULES, Rule
from infra.schemas.signals import FAMILIES, SIGNALS, Signal

HEADER = """# Quality rules and signals

This page is written from `infra/schemas/signals.py` and `infra/schemas/quality_rules.py` by `make docs`;
a test keeps them equal. [Annotate](annotate.md) explains the words of the definitions,
[select](select.md) how rules are chosen and their thresholds changed.

A document passes a rule when the condition holds. A rule that it fails is the reason for which it
is dropped.
"""


def render_reference() -> str:
    """The page, in Markdown."""
    return "\n".join([HEADER, *_render_families()]).rstrip() + "\n"


def _render_families() -> Iterator[str]:
    for family, signals in FAMILIES.items():
        rules = RULES.get(family, ())
        yield f"## `{family}`\n"
        for citation in dict.fromkeys(rule.citation for rule in rules):
            yield f"{citation}.\n"
        yield "| rule | condition | what the signal is |"
        yield "|---|---|---|"
        for rule in rules:
            yield _row(f"`{rule.name}`", _condition(rule), SIGNALS[rule.signal])
        judged = {rule.signal for rule in rules}
        for signal in signals:
            if signal.name not in judged:
                yield _row("none", f"`{signal.name}`", signal)
        yield ""


def _row(rule: str, condition: str, signal: Signal) -> str:
    return f"| {rule} | {condition} | {signal.definition} |"


def _condition(rule: Rule) -> str:
    if rule.comparison == "==":
        return f"`{rule.signal}` is {str(rule.threshold).lower()}"
    condition = f"`{rule.signal}` {rule.comparison} {rule.threshold:,g}"
    if rule.languages is not None:
        condition += f" (only {', '.join(rule.languages)})"
    if rule.exempt == NO_WORD_SPACES:
        condition += " (not in languages without spaces between words)"
    elif rule.exempt:
        condition += f" (not {', '.join(rule.exempt)})"
    return condition


if __name__ == "__main__":
    sys.stdout.write(render_reference())
