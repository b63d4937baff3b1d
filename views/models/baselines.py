"""Say whether a fine-tuned model is better than the systems that it was tested beside."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from infra.schemas.examples import MODEL
from infra.schemas.metrics import higher_is_better
from infra.statistics.comparison import Answer, classify_difference, correct_holm


@dataclass(frozen=True)
class Verdict:
    """A model beside other systems, by the main metric of its task.

    Attributes:
        answers: by system: whether the model is better. P-values are corrected for the number of systems.
        differences: by system: the model minus it; ``None`` if it is undefined, which cannot be told.
    """

    answers: Mapping[str, Answer]
    differences: Mapping[str, float | None]

    def systems(self, answer: Answer) -> list[str]:
        """Return the systems with this answer."""
        return [name for name, own in self.answers.items() if own == answer]

    def among(self, names: Collection[str]) -> "Verdict":
        """Return the verdict on some of the systems, corrected for all of them."""
        return Verdict(
            {name: own for name, own in self.answers.items() if name in names},
            {name: own for name, own in self.differences.items() if name in names},
        )

    @property
    def beats_all(self) -> bool:
        """Whether the model is better than each of the systems."""
        return all(answer == "better" for answer in self.answers.values())


def compare_systems(scores: Mapping[str, Any]) -> Verdict:
    """Judge a model beside all systems that it was tested beside: one family of tests, wherever it is shown.

    Args:
        scores: statistics of the stage `score`.
    """
    main = str(scores["main_metric"])
    tests = {
        name: scores["differences"].get(name, {}).get(main) or {}
        for name in scores["systems"]
        if name != MODEL
    }
    known = {
        name: (float(test["value"]), float(test["p_value"]))
        for name, test in tests.items()
        if test.get("value") is not None and test.get("p_value") is not None
    }
    corrected = correct_holm([p_value for _, p_value in known.values()])
    answers: dict[str, Answer] = dict.fromkeys(tests, "cannot be told")
    for (name, (difference, _)), p_value in zip(known.items(), corrected, strict=True):
        answers[name] = classify_difference(
            difference, p_value, higher_is_better=higher_is_better(main)
        )
    return Verdict(answers, {name: test.get("value") for name, test in tests.items()})
