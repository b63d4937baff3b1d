"""Say whether a fine-tuned model is better than the systems that it was tested beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.schemas.metrics import higher_is_better
from infra.statistics.comparison import Answer, correct_holm, judge


@dataclass(frozen=True)
class Verdict:
    """A model beside other systems, by the main metric of its task.

    Attributes:
        answers: by system: whether the model is better. P-values are corrected for the number of systems.
        differences: by system: the model minus it.
    """

    answers: Mapping[str, Answer]
    differences: Mapping[str, float]

    def systems(self, answer: Answer) -> list[str]:
        """Return the systems with this answer."""
        return [name for name, own in self.answers.items() if own == answer]

    @property
    def beats_all(self) -> bool:
        """Whether the model is better than each of the systems."""
        return all(answer == "better" for answer in self.answers.values())


def judge_systems(scores: Mapping[str, Any], names: Sequence[str]) -> Verdict:
    """Judge a model beside some of the systems that it was tested beside.

    Args:
        scores: statistics of the stage `score`.
        names: of the systems; those whose difference is undefined are left out.
    """
    main = str(scores["main_metric"])
    tests = {name: scores["differences"].get(name, {}).get(main) for name in names}
    known = {
        name: test
        for name, test in tests.items()
        if test is not None and test["value"] is not None and test["p_value"] is not None
    }
    corrected = correct_holm([test["p_value"] for test in known.values()])
    return Verdict(
        {
            name: judge(test["value"], p_value, higher_is_better=higher_is_better(main))
            for (name, test), p_value in zip(known.items(), corrected, strict=True)
        },
        {name: float(test["value"]) for name, test in known.items()},
    )
