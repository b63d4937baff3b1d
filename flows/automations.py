"""The automations of the Prefect server, as code: `gristmill deploy` applies them.

Those of a recipe let one deployment start the next one. The others are for all recipes of a server: they
mark lost runs as crashed, start crashed runs again, and send notifications.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.blocks.fields import SecretDict
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from pydantic import SecretStr

from flows.attempts import MAX_STARTS
from flows.deployments import Applied
from flows.events import BUDGET_EXCEEDED, CORPUS_OUTDATED, MODEL_OUTDATED
from infra.errors import UserError

# As PREFECT_FLOWS_HEARTBEAT_FREQUENCY in prefect.yaml, which is the smallest that Prefect allows.
HEARTBEAT_S = 30
# A process that was stopped for a minute, as for a snapshot of its machine, is not lost.
HEARTBEAT_TIMEOUT_S = 4 * HEARTBEAT_S

NOTIFICATION_BLOCK = "gristmill-notifications"

Specification = Mapping[str, str | list[str]]
FLOW_RUN: Specification = {"prefect.resource.id": "prefect.flow-run.*"}
OF_GRISTMILL: Specification = {
    "prefect.resource.role": "tag",
    "prefect.resource.id": "prefect.tag.gristmill",
}


def recipe_automations(recipe: str, deployments: Mapping[str, UUID]) -> list[AutomationCore]:
    """Return the automations of a recipe.

    Args:
        recipe: its name.
        deployments: its deployments by flow.
    """
    return [
        _start_on(recipe, CORPUS_OUTDATED, "corpus", deployments["corpus"]),
        _start_on(recipe, MODEL_OUTDATED, "retrain", deployments["retrain"]),
    ]


def _start_on(recipe: str, event: str, flow: str, deployment: UUID) -> AutomationCore:
    # An event from outside may have no reason, and the parameter `reason` takes 200 characters.
    template = "{{ (event.payload['reason'] or event.event)|string|truncate(200, leeway=0) }}"
    reason = {"__prefect_kind": "jinja", "template": template}
    return AutomationCore(
        name=f"{recipe}: {flow}",
        description=f"Start {flow} when {event} says that it is due.",
        enabled=True,
        trigger=_on(event, {"prefect.resource.id": f"gristmill.recipe.{recipe}"}),
        actions=[
            RunDeployment(
                source="selected", deployment_id=deployment, parameters={"reason": reason}
            )
        ],
        tags=["gristmill", recipe],
    )


def server_automations(
    notification: UUID | None = None, heartbeat_timeout_s: int = HEARTBEAT_TIMEOUT_S
) -> list[AutomationCore]:
    """Return the automations for all recipes of a server.

    Args:
        notification: the block that sends notifications; without one there are none.
        heartbeat_timeout_s: without a heartbeat for so long, a run is lost.
    """
    lost = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.*"},
        match=ResourceSpecification.model_validate(FLOW_RUN),
        match_related=ResourceSpecification.model_validate(OF_GRISTMILL),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=heartbeat_timeout_s),
    )
    crash = ChangeFlowRunState(
        state=StateType.CRASHED,
        name="Crashed",
        message=f"no heartbeat for {heartbeat_timeout_s} s: its process or machine is gone",
    )
    again = ChangeFlowRunState(
        state=StateType.SCHEDULED, name="AwaitingRetry", message="crashed; started again"
    )
    automations = [
        _automation("lost runs", "Mark runs whose process is gone as crashed.", lost, [crash]),
        _automation(
            "crashed runs",
            f"Start a crashed run of a deployment again, {MAX_STARTS} times in all.",
            _on("prefect.flow-run.Crashed", FLOW_RUN, OF_GRISTMILL),
            [again],
        ),
    ]
    if notification is not None:
        # The state of the event: a crashed run may have been started again meanwhile.
        of_run = (
            "{{ flow_run.name }}: {{ event.resource['prefect.state-name'] }}: "
            "{{ event.resource['prefect.state-message'] }}\n{{ flow_run|ui_url }}"
        )
        ended = _on(
            {f"prefect.flow-run.{name}" for name in ("Failed", "Crashed", "TimedOut")},
            FLOW_RUN,
            OF_GRISTMILL,
        )
        late = _on("prefect.flow-run.Late", FLOW_RUN, OF_GRISTMILL)
        exceeded = _on(BUDGET_EXCEEDED, {"prefect.resource.id": "gristmill.recipe.*"})
        of_budget = "{{ event.resource['prefect.resource.name'] }}: {{ event.payload['reason'] }}"
        for name, description, trigger, body in (
            ("failed runs", "Notify when a run has failed or crashed.", ended, of_run),
            ("late runs", "Notify when no worker has started a run in time.", late, of_run),
            ("exceeded budgets", "Notify when a budget is exceeded.", exceeded, of_budget),
        ):
            send = SendNotification(
                block_document_id=notification,
                subject=f"Gristmill: {name.removesuffix('s')}",
                body=body,
            )
            automations.append(_automation(name, description, trigger, [send]))
    return automations


def _automation(
    name: str, description: str, trigger: EventTrigger, actions: list[ActionTypes]
) -> AutomationCore:
    return AutomationCore(
        name=f"gristmill: {name}",
        description=description,
        enabled=True,
        trigger=trigger,
        actions=actions,
        tags=["gristmill"],
    )


def _on(
    events: str | Iterable[str], match: Specification, related: Specification | None = None
) -> EventTrigger:
    """Return a trigger that fires at once for each event."""
    return EventTrigger(
        expect={events} if isinstance(events, str) else set(events),
        match=ResourceSpecification.model_validate(match),
        match_related=ResourceSpecification.model_validate(related or {}),
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )


def save_notification(url: str) -> UUID:
    """Save the block that sends notifications; return its id.

    The URL is stored encrypted, as Prefect stores secrets of blocks.

    Raises:
        UserError: if it is no URL, or of a service that Prefect does not know.
    """
    scheme, colon, _ = url.partition("://")
    if not colon:
        raise UserError(
            "--notify: a URL is expected: of a webhook (https://...), or of Apprise, such as "
            "mailtos://user:password@mail.example.org?to=you@example.org"
        )
    if scheme in ("http", "https"):
        webhook = CustomWebhookNotificationBlock(
            name=NOTIFICATION_BLOCK,
            url="{{ url }}",
            json_data={"text": "{{ subject }}\n{{ body }}"},
            secrets=SecretDict({"url": url}),
        )
        return UUID(str(webhook.save(NOTIFICATION_BLOCK, overwrite=True)))
    # Prefect's only block that takes any of Apprise's URLs.
    service = SlackWebhook(url=SecretStr(url))
    if len(service._apprise_client) == 0:
        raise UserError(f"--notify: this {scheme}:// URL is none that Apprise can use")
    return UUID(str(service.save(NOTIFICATION_BLOCK, overwrite=True)))


def apply_automation(client: SyncPrefectClient, automation: AutomationCore) -> Applied:
    """Create an automation, or update the one of its name if it differs."""
    found = client.read_automations_by_name(automation.name)
    if not found:
        client.create_automation(automation)
        return "created"
    for surplus in found[1:]:
        client.delete_automation(surplus.id)
    if _content(found[0]) == _content(automation):
        return "unchanged"
    paused = automation.model_copy(update={"enabled": found[0].enabled})  # the operator's choice
    client.update_automation(found[0].id, paused)
    return "updated"


def _content(automation: AutomationCore) -> dict[str, Any]:
    """Return what this module decides of an automation."""
    value = automation.model_dump(mode="json")
    value["trigger"].pop("id", None)
    for name in ("expect", "after", "for_each"):
        value["trigger"][name] = sorted(value["trigger"][name])
    return {key: value[key] for key in ("name", "description", "trigger", "actions", "tags")}
