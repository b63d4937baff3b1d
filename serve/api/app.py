"""The application: routes, their order, and what runs while it does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api import chat, completions, texts
from serve.api.admission import Admission
from serve.api.endpoint import Endpoint
from serve.api.errors import add_error_handlers
from serve.api.gate import Gate
from serve.api.limits import Limits
from serve.api.metrics import Metrics, ModelLoad
from serve.hub import Deployment, Hub
from serve.models import CLASSIFICATION, TAGGING

PAGE = Path(__file__).parent.parent / "page"
PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
OWN_ROUTES = ("/v1/models", "/health", "/ready", "/metrics", "/openapi.json")
ROUTES = (
    completions.ROUTE,
    chat.ROUTE,
    texts.EMBEDDINGS,
    texts.CLASSIFY,
    texts.FILL_MASK,
    texts.TOKENIZE,
    texts.DETOKENIZE,
    *OWN_ROUTES,
)


def create_app(
    hub: Hub,
    limits: Limits,
    *,
    api_keys: Sequence[str] = (),
    poll_interval_s: float | None = None,
) -> ASGIApp:
    """Return the endpoint of the models of a hub, which is started, unless it was before, and closed with it.

    Args:
        hub: the models.
        limits: of requests.
        api_keys: one of which a request must have; none: all requests pass.
        poll_interval_s: how often to look up what the ids of the models stand for; ``None``: never again.
    """
    admission = Admission(limits.slots, limits.max_queue)
    metrics = Metrics(lambda: _loads(hub), lambda: admission.admitted)
    endpoint = Endpoint(hub, limits, metrics, admission)
    hub.on_swap = metrics.count_swap

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if not hub.is_ready:
            await hub.start()
        watcher = None
        if poll_interval_s is not None:
            watcher = asyncio.create_task(hub.watch(poll_interval_s))
        try:
            yield
        finally:
            if watcher is not None:
                watcher.cancel()
                await asyncio.gather(watcher, return_exceptions=True)  # deletes what it has loaded
            await hub.close()

    # Its pages of documentation load scripts from the network.
    app = FastAPI(
        title="Gristmill",
        version=version("gristmill"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    add_error_handlers(app)
    completions.add_completions(app, endpoint)
    chat.add_chat(app, endpoint)
    texts.add_text_routes(app, endpoint)
    _add_state_routes(app, hub, metrics)
    _add_page(app)
    return Gate(
        app,
        routes=("/", *ROUTES),
        api_keys=api_keys,
        limits=limits,
        count=metrics.count_request,
    )


def _add_state_routes(app: FastAPI, hub: Hub, metrics: Metrics) -> None:
    @app.get("/v1/models", response_class=Response)
    async def list_models() -> Response:
        """List the models and what each can do."""
        return _json({"object": "list", "data": [_describe(item) for item in hub.deployments]})

    @app.get("/health", response_class=Response)
    async def health() -> Response:
        """Say that the process answers."""
        return _json({"status": "ok"})

    @app.get("/ready", response_class=Response)
    async def ready() -> Response:
        """Say whether all models can answer."""
        engines = [engine for item in hub.deployments for engine in item.engines.all]
        is_ready = hub.is_ready and all(engine.is_ready for engine in engines)
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/metrics", response_class=Response)
    async def read_metrics() -> Response:
        """Return the metrics in Prometheus' format."""
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _describe(deployment: Deployment) -> dict[str, Any]:
    model, target, engines = deployment.model, deployment.target, deployment.engines
    can_chat = model.generates and model.chat_template is not None
    routes = [texts.TOKENIZE, texts.DETOKENIZE]
    if model.generates:
        routes.insert(0, completions.ROUTE)
    if can_chat:
        routes.insert(0, chat.ROUTE)
    if engines.text_model is not None:
        abilities = {
            texts.EMBEDDINGS: model.embeds,
            texts.CLASSIFY: model.kind in (CLASSIFICATION, TAGGING),
            texts.FILL_MASK: model.mask_id is not None,
        }
        routes += [route for route, can in abilities.items() if can]
    return {
        "id": deployment.id,
        "object": "model",
        "created": deployment.created,
        "owned_by": "gristmill",
        "gristmill": {
            "kind": model.kind,
            "architecture": model.architecture,
            "version": target.version,
            "alias": target.alias,
            "digest": model.digest,
            "context_length": model.context_length,
            "engine": engines.all[0].name,
            "chat": can_chat,
            "labels": list(model.labels),
            "sources": deployment.sources is not None,
            "sources_error": deployment.sources_error,
            "routes": routes,
        },
    }


def _loads(hub: Hub) -> list[ModelLoad]:
    return [
        ModelLoad(
            item.id,
            engine.name,
            "" if item.target.version is None else str(item.target.version),
            engine.load(),
        )
        for item in hub.deployments
        for engine in item.engines.all
    ]


def _add_page(app: FastAPI) -> None:
    """Serve the page: its HTML at ``/``, the rest below ``/page``."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        body = await asyncio.to_thread((PAGE / "index.html").read_bytes)
        return Response(body, headers=PAGE_HEADERS, media_type="text/html; charset=utf-8")

    app.mount("/page", _PageFiles(directory=PAGE, check_dir=False))


class _PageFiles(StaticFiles):
    """The files of the page, with its headers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in PAGE_HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await super().__call__(scope, receive, send_with_headers)
