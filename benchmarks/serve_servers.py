"""The model of the serving benchmark, and the servers of it that are compared."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
from safetensors.torch import load_file

from benchmarks.bench_tokenize import EOS, texts
from benchmarks.serve_clients import Endpoint
from benchmarks.train_peers import SCRIPTS, peer_interpreter
from lm.models.heads.config import describe
from lm.models.registry import build_model
from lm.train.pretraining import save_reference_logits
from tasks.release.export import TrainedModel, export
from tasks.release.formats.gguf import write_gguf
from tasks.tokenize.bpe import train_bpe_from_texts
from tests.limits import wait_for
from tests.lm.corpora import tiny
from tests.processes import TreeProcess, process_tree
from tests.serve.llama_slots import find_llama_cpp
from tests.servers import free_port, server

GRISTMILL = Path(sys.executable).with_name("gristmill")
TRANSFORMERS_SERVE = ("transformers[serving]==5.23.0",)
VOCABULARY, CONTEXT, SLOTS, EOS_ID = 4096, 512, 16, 0
LAYERS, HIDDEN_SIZE, HEAD_SIZE = 6, 256, 64
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # of every process


def write_model(folder: Path, layers: int = LAYERS, hidden_size: int = HIDDEN_SIZE) -> Path:
    """Write a released folder of random weights with a GGUF file; return it."""
    heads = hidden_size // HEAD_SIZE
    tokenizer = train_bpe_from_texts(texts(2.0), vocab_size=VOCABULARY, special_tokens=[EOS])
    torch.manual_seed(1)
    section = tiny(
        num_layers=layers,
        hidden_size=hidden_size,
        num_heads=heads,
        num_kv_heads=heads,
        context_length=CONTEXT,
    ).model
    model = build_model(section.resolve(VOCABULARY))
    with torch.no_grad():
        for weight in model.parameters():  # so that tokens differ from step to step
            weight.add_(torch.randn_like(weight) * 0.02)
            if weight.shape[0] == VOCABULARY:
                weight[EOS_ID] = 0.0  # never the most likely token: no completion ends early
    save_reference_logits(model, folder / "logits")
    trained = TrainedModel(
        describe(model.config, None),
        model.saved_weights(),
        load_file(folder / "logits"),
        tokenizer,
        EOS_ID,
    )
    export(trained, folder / "model")
    write_gguf(folder / "model", "model", "gpt-2")
    return folder / "model"


@contextmanager
def gristmill(model: Path, engine: str) -> Iterator[Endpoint]:
    """Serve with one of our engines."""
    port = free_port()
    options = ["--port", str(port), "--engine", engine, "--slots", str(SLOTS)]
    command = [str(GRISTMILL), "serve", str(model), *options]
    with _serve(command, port, "/ready", model) as (url, process):
        own = find_llama_cpp(process.pid) if engine == "llama.cpp" else None
        yield Endpoint(f"gristmill, {engine}", url, model.name, process.pid, own)


@contextmanager
def llama_cpp(model: Path) -> Iterator[Endpoint]:
    """Serve with llama.cpp's own server."""
    port = free_port()
    script = SCRIPTS / "serve_llama_cpp.py"
    sizes = [str(model / "model.gguf"), str(port), str(SLOTS), str(CONTEXT)]
    with _serve([sys.executable, str(script), *sizes], port, "/health", model) as (url, process):
        yield Endpoint("llama.cpp's server", url, model.name, process.pid)


@contextmanager
def transformers_serve(model: Path) -> Iterator[Endpoint]:
    """Serve with ``transformers serve``. Raises ``NotMeasured`` if it cannot be installed."""
    python = peer_interpreter(TRANSFORMERS_SERVE)
    port = free_port()
    command = [str(python), "-m", "transformers.cli.transformers", "serve", str(model)]
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    hub = model.parent / "hub"
    (hub / "hub").mkdir(parents=True, exist_ok=True)  # it fails without one
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(hub)}
    with _serve([*command, *options], port, "/health", model, offline) as (url, process):
        yield Endpoint("transformers serve", url, str(model), process.pid)


@contextmanager
def _serve(
    command: list[str],
    port: int,
    ready: str,
    model: Path,
    env: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, TreeProcess]]:
    url = f"http://127.0.0.1:{port}"
    log = model.parent / f"{port}.log"
    with server(command, log, f"{url}{ready}", {**THREADS, **(env or {})}) as process:
        # Some answer before they have loaded the model.
        wait_for(lambda: httpx.get(f"{url}{ready}").status_code == 200, process)
        yield url, process


class Generate:
    """transformers' ``generate`` in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def __call__(self, ids: list[int], tokens: int) -> tuple[list[int], float, float]:
        """Return the new ids, and the seconds and CPU seconds that they took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"ids": ids, "tokens": tokens}).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer["ids"], answer["seconds"], answer["cpu_s"]


@contextmanager
def generate(model: Path) -> Iterator[Generate]:
    """Start transformers on the model."""
    command = [sys.executable, str(SCRIPTS / "serve_generate.py"), str(model)]
    env = {**os.environ, **THREADS, "HF_HUB_OFFLINE": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with process_tree(command, env, **pipes) as process:
        yield Generate(process)
