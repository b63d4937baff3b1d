"""``gristmill serve``: a released model behind an OpenAI-compatible endpoint and a page."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from cli.common import handle_errors, json_option, print_json, print_message
from cli.interrupts import clean_up_on_interrupt
from infra.errors import UserError

if TYPE_CHECKING:
    from infra.registry.versions import Version
    from infra.store.storage import Storage
    from serve.hub import Hub, ModelSource, Target
    from serve.sources import SourceFinder
    from views.source.removed import RemovedDocuments

KEYS_VARIABLE = "GRISTMILL_API_KEYS"


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("versions", nargs=-1, metavar="[VERSION]...")
@click.option("--storage", help="override the recipe's storage")
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="port to listen on; 0: any free one",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "torch", "llama.cpp"]),
    default="auto",
    show_default=True,
    help="what runs the model; auto: llama.cpp for Llama-layout models if it is installed, else torch",
)
@click.option(
    "--slots",
    default=16,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="outputs that a model generates at once; each needs memory for its context",
)
@click.option(
    "--max-queue",
    default=256,
    show_default=True,
    type=click.IntRange(0),
    help="requests that may wait beside those; more get 429",
)
@click.option(
    "--max-tokens",
    default=4096,
    show_default=True,
    type=click.IntRange(1),
    help="new tokens of one output, at most",
)
@click.option(
    "--max-body",
    default=1 << 20,
    show_default=True,
    type=click.IntRange(1),
    help="bytes of a request, at most; larger ones get 413",
)
@click.option(
    "--timeout",
    "timeout_s",
    default=600.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="seconds after which a request is ended, with 504 or an error event",
)
@click.option(
    "--grace",
    "grace_s",
    default=30,
    show_default=True,
    type=click.IntRange(0),
    help="seconds that running requests have after SIGINT or SIGTERM",
)
@click.option(
    "--poll",
    "poll_interval_s",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="seconds between two looks at the registry, whether an alias names another version",
)
@click.option(
    "--api-key-file",
    metavar="FILE",
    help=f"API keys, one per line; a request needs one of them  [default: those in {KEYS_VARIABLE}]",
)
@click.option(
    "--allow-anonymous",
    is_flag=True,
    help="listen beyond this machine although there is no API key",
)
@json_option
@handle_errors
def serve(
    model: str,
    versions: tuple[str, ...],
    storage: str | None,
    host: str,
    port: int,
    engine: str,
    slots: int,
    max_queue: int,
    max_tokens: int,
    max_body: int,
    timeout_s: float,
    grace_s: int,
    poll_interval_s: float,
    api_key_file: str | None,
    allow_anonymous: bool,
    as_json: bool,
) -> None:
    """Serve released models: OpenAI's API at /v1, a page for the browser at /.

    MODEL is a recipe, or the folder of a released model (a path or a URL). Of a recipe, VERSION names what is
    served: a number of its registry, an alias, MODEL@ALIAS, or MODEL for its champion. Several are served side by
    side; without any, the champion of each of its models is. When an alias moves, the new version is loaded, and
    takes over without a failed request.
    """
    import asyncio

    from serve.api.app import create_app
    from serve.api.limits import Limits
    from serve.api.run import bind, is_loopback, run, socket_url
    from serve.engines.choice import engine_starter
    from serve.engines.interface import EngineError
    from serve.hub import Hub
    from serve.scratch import delete_abandoned

    keys = _read_keys(api_key_file)
    if not (keys or allow_anonymous or is_loopback(host)):
        raise UserError(
            f"--host {host}: other machines reach this address, and there is no API key; give --api-key-file, set "
            f"{KEYS_VARIABLE}, or allow everybody with --allow-anonymous"
        )
    _log_as_json()
    is_recipe = model.endswith((".yaml", ".yml"))
    if versions and not is_recipe:
        raise UserError(f"{model} is no recipe: VERSION belongs to a recipe's registry")
    if storage is not None and not is_recipe:
        raise UserError(f"{model} is no recipe: --storage belongs to a recipe")
    sources = _recipe_models(model, versions, storage) if is_recipe else [_folder_model(model)]
    bound = bind(host, port)
    url = socket_url(bound)
    limits = Limits(timeout_s, max_body, max_tokens, slots, max_queue)

    async def serve_until_stopped() -> bool:
        hub = Hub(sources, engine_starter(engine, slots))
        app = create_app(
            hub, limits, api_keys=keys, poll_interval_s=poll_interval_s if is_recipe else None
        )
        return await run(
            app,
            bound,
            grace_s,
            prepare=hub.start,
            on_start=lambda: _announce(hub, url, as_json=as_json),
        )

    # The threads of a tokenizer would warn of every process that is started later.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    delete_abandoned()
    try:
        with clean_up_on_interrupt():
            has_answered = asyncio.run(serve_until_stopped())
    except EngineError as error:
        raise UserError(f"{model}: {error}") from error
    print_message(
        f"{url} no longer answers" if has_answered else f"{model}: stopped while it was loaded"
    )


def _announce(hub: "Hub", url: str, *, as_json: bool) -> None:
    models = [
        {
            "id": item.id,
            "version": item.target.version,
            "engine": item.engines.all[0].name,
            "digest": item.model.digest,
            "sources": item.sources is not None,
            "sources_error": item.sources_error,
        }
        for item in hub.deployments
    ]
    if as_json:
        print_json({"url": url, "api": f"{url}/v1", "models": models})
        return
    for item in models:
        version = "" if item["version"] is None else f", version {item['version']}"
        print_message(f"{item['id']}{version}: engine {item['engine']}")
    click.echo(f"{url}  (API: {url}/v1; Ctrl-C ends it)")


def _read_keys(path: str | None) -> list[str]:
    """Return the API keys of a file, or of the environment."""
    from pathlib import Path

    if path is None:
        return os.environ.get(KEYS_VARIABLE, "").replace(",", " ").split()
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"--api-key-file {path}: not UTF-8 ({error})") from None
    keys = [line.strip() for line in lines]
    keys = [key for key in keys if key and not key.startswith("#")]
    if not keys:
        raise UserError(f"--api-key-file {path}: it has no key; write one per line")
    return keys


def _log_as_json() -> None:
    """Write what ``serve`` logs to standard error, a JSON object per line."""
    from infra.log_format import JsonFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name, level in (("serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def _folder_model(url: str) -> "ModelSource":
    """Return the model of a folder, under the folder's name."""
    from infra.store.storage import Storage
    from serve.hub import ModelSource, Target

    target = Target(url, Storage(url))
    return ModelSource(url.rstrip("/").rsplit("/", 1)[-1], lambda: target)


def _recipe_models(path: str, versions: Sequence[str], storage: str | None) -> "list[ModelSource]":
    """Return the models of a recipe's registry that are named, or all champions.

    Raises:
        UserError: if one is named that is not there, or two are served under one id.
    """
    from flows.recipe_loader import load_recipe
    from infra.registry.history import CHAMPION, load_history, model_state
    from infra.registry.versions import load_versions
    from infra.store.storage import Storage
    from serve.hub import ModelSource
    from views.models.versions import SEPARATOR, resolve_version

    recipe = load_recipe(path, (), storage)
    store = Storage(recipe.storage)
    if not versions:
        history = load_history(store, recipe.name)
        models = sorted({version.model for version in load_versions(store, recipe.name)})
        versions = [model for model in models if model_state(history, model).champion is not None]
        if not versions:
            raise UserError(
                f"{path}: no model of {recipe.name} is a champion; run it, or name a version of `gristmill models "
                f"list {path}`"
            )
    sources = {}
    for text in versions:
        version = resolve_version(store, recipe.name, text)
        alias = _alias(text)
        name = version.model
        if alias != CHAMPION:
            name += f"{SEPARATOR}{alias or version.number}"
        if name in sources:
            raise UserError(f"{text}: {name} is named twice")
        sources[name] = ModelSource(name, _finder(store, recipe.name, text, alias))
    return list(sources.values())


def _alias(text: str) -> str | None:
    """Return the alias in what a user names, which may be a model alone; ``None`` if it names a number."""
    from infra.registry.history import ALIASES, CHAMPION
    from views.models.versions import SEPARATOR

    if text in ALIASES:
        return text
    name = text.rpartition(SEPARATOR)[2]
    if name.isdecimal():
        return None
    return name if SEPARATOR in text else CHAMPION


def _finder(store: "Storage", recipe: str, text: str, alias: str | None) -> "Callable[[], Target]":
    """Return what looks up the version that is to be served now."""
    from serve.hub import Target
    from views.models.versions import resolve_version
    from views.source.removed import RemovedDocuments

    removed = RemovedDocuments(store, recipe)

    def find() -> Target:
        removed.refresh()
        version = resolve_version(store, recipe, text)
        return Target(
            key=f"{recipe}: {version.model}, version {version.number}",
            folder=store.subdir(*version.export.split("/")),
            version=version.number,
            alias=alias,
            open_sources=lambda: _open_sources(store, version, removed),
        )

    return find


def _open_sources(
    store: "Storage", version: "Version", removed: "RemovedDocuments"
) -> "SourceFinder":
    from flows.steps import STEPS
    from views.source.finder import open_finder

    return open_finder(store, version.export, STEPS, removed)
