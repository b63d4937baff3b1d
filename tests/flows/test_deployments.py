"""What a second registration of a deployment must not change."""

from uuid import uuid4

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule

from flows.deployments import keep_paused


def test_a_schedule_that_was_paused_on_the_server_stays_paused() -> None:
    cron = CronSchedule(cron="0 2 * * *", timezone="Etc/UTC")
    wanted = [
        DeploymentScheduleCreate(schedule=cron, active=True, slug=slug)
        for slug in ("paused", "running", "new")
    ]
    existing = [
        DeploymentSchedule(
            id=uuid4(), deployment_id=uuid4(), schedule=cron, active=active, slug=slug
        )
        for slug, active in (("paused", False), ("running", True))
    ]
    kept = keep_paused(wanted, existing)
    assert [(item.slug, item.active) for item in kept] == [
        ("paused", False),
        ("running", True),
        ("new", True),
    ]
    assert all(item.schedule == cron for item in kept)
