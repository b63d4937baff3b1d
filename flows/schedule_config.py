"""The recipe's sections `schedule`, `retrain` and `budget`: when deployments run, train again, and warn.

No data set depends on them.
"""

import re
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationError

from infra.config import ConfigModel
from infra.sizes import parse_size

# Minute, hour, day of the month, month, day of the week, as in crontab(5).
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_WEEKDAYS = "sun mon tue wed thu fri sat".split()
_ITEM = re.compile(r"(\*|[0-9a-z]+(?:-[0-9a-z]+)?)(?:/([1-9][0-9]*))?")


def _check_cron(text: str) -> str:
    fields = text.split()
    if len(fields) != len(_RANGES):
        raise ValueError(f"{text!r}: five fields are expected, such as '30 2 * * *'")
    for index, (field, (low, high)) in enumerate(zip(fields, _RANGES, strict=True)):
        names = {3: _MONTHS, 4: _WEEKDAYS}.get(index, [])
        numbers = {name: str(number) for number, name in enumerate(names, start=low)}
        for item in field.lower().split(","):
            match = _ITEM.fullmatch(item)
            ends = [numbers.get(end, end) for end in match[1].split("-")] if match else [""]
            given = [int(end) for end in ends if end.isdecimal()]
            if ends != ["*"] and (
                len(given) < len(ends)
                or given != sorted(given)
                or not low <= given[0] <= given[-1] <= high
            ):
                raise ValueError(
                    f"{text!r}: {item!r} is not a number or range from {low} to {high}"
                )
    return text


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"{name!r} is not a time zone such as Europe/Berlin or Etc/UTC") from None
    return name


def _check_size(text: str) -> str:
    try:
        parse_size(text)
    except ValidationError:
        raise ValueError(f"{text!r} is not a size; write it like 500GB") from None
    return text


Cron = Annotated[str, AfterValidator(_check_cron)]
Size = Annotated[str, AfterValidator(_check_size)]


class ScheduleConfig(ConfigModel):
    """When `gristmill deploy` lets the deployments of the recipe run, as cron expressions.

    A deployment without one runs on demand and by events (docs/schedule.md).
    """

    timezone: Annotated[str, AfterValidator(_check_timezone)] = Field(
        "Etc/UTC", description="time zone of all schedules; daylight saving time is followed"
    )
    pipeline: Cron | None = Field(None, description="the whole pipeline")
    refresh: Cron | None = Field(
        None, description="crawl the sites that are due, read changed files"
    )
    corpus: Cron | None = Field(None, description="build the corpus from the newest segments")
    retrain: Cron | None = Field(None, description="train and evaluate, whatever has changed")
    evaluate: Cron | None = Field(None, description="evaluate the newest models again")
    remove: Cron | None = Field(None, description="apply removals that were recorded")
    housekeeping: Cron | None = Field(None, description="delete what is not needed any more")


class RetrainConfig(ConfigModel):
    """When a deployment trains the models again because the data changed."""

    min_new_fraction: float = Field(
        0.1,
        ge=0,
        le=1,
        description=(
            "train again when at least this fraction of the corpus is new since the models were "
            "trained, by documents; 0: after every change, 1: only if all of it is new"
        ),
    )
    on_removal: bool = Field(
        True, description="train again when documents were removed that a model was trained on"
    )


class BudgetConfig(ConfigModel):
    """What a run must not exceed without saying so: it sends an event when it ends (docs/schedule.md).

    It stops no run and deletes nothing.
    """

    max_store_size: Size | None = Field(
        None,
        description="bytes of all files of the store, such as 500GB; the store is listed for it",
    )
    max_corpus_tokens: int | None = Field(
        None, ge=1, description="tokens of the corpus that is trained on, held-out ones included"
    )

    @property
    def max_store_bytes(self) -> int | None:
        """``max_store_size`` in bytes."""
        return None if self.max_store_size is None else parse_size(self.max_store_size)
