"""Cron expressions and time zones of a recipe."""

import pytest
from prefect.client.schemas.schedules import CronSchedule
from pydantic import ValidationError

from flows.schedule_config import ScheduleConfig


@pytest.mark.parametrize(
    "cron",
    ["0 2 * * *", "*/15 * * * *", "30 1-5/2 1,15 jan-Mar MON-fri", "0 0 * * 7", "0-59/5 0 31 12 0"],
)
def test_a_cron_expression_that_prefect_knows_is_accepted(cron: str) -> None:
    assert ScheduleConfig.model_validate({"refresh": cron}).refresh == cron
    assert CronSchedule(cron=cron).cron == cron


@pytest.mark.parametrize(
    "cron",
    ["", "@daily", "0 2 * *", "60 2 * * *", "0 24 * * *", "0 2 0 * *", "0 2 * 13 *", "0 2 * * 8",
     "0 5-2 * * *", "0 2 * * mo", "0 2 */0 * *", "0 2 mon * *", "0 2- * * *", "0 -2 * * *"],
)  # fmt: skip
def test_a_wrong_cron_expression_names_its_field(cron: str) -> None:
    with pytest.raises(ValidationError) as error:
        ScheduleConfig.model_validate({"retrain": cron})
    assert [item["loc"] for item in error.value.errors()] == [("retrain",)]


@pytest.mark.parametrize("zone", ["", "CEST+2", "Europe/Atlantis", "../etc/passwd", "Europe"])
def test_an_unknown_time_zone_is_an_error(zone: str) -> None:
    with pytest.raises(ValidationError) as error:
        ScheduleConfig.model_validate({"timezone": zone})
    assert [item["loc"] for item in error.value.errors()] == [("timezone",)]
