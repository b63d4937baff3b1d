"""Run llama.cpp's server on a Unix socket: ``python -m serve.engines.llama_cpp_server``.

A process of its own: an error in its C++ code ends this process and not the endpoint. It ends with its parent.
"""

import json
import os
import sys
from typing import Any

from infra.compute.processes import die_with_parent

PROMPT_CACHE_MIB = 128  # of prompts whose slot another one has taken; llama.cpp's default is 8 GiB
READY = "llama.cpp is ready"


def serve(options: dict[str, Any]) -> None:
    """Serve until the standard input ends.

    Args:
        options: ``model`` (the GGUF file), ``socket`` (a path that ends in ``.sock``), ``slots`` and
            ``context_length`` of each.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options["model"]
    params.hostnames = [options["socket"]]
    params.n_parallel = options["slots"]
    params.n_ctx = options["slots"] * options["context_length"]
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    # Keys and values in fp32, as transformers have them: in 16 bits they cost some thousandths.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.warmup = False
    server = xllamacpp.Server(params)
    print(READY, flush=True)  # noqa: T201 - the parent waits for it
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, sys.stdout.fileno())  # nobody reads what llama.cpp may print from here on
    sys.stdin.buffer.read()
    del server


if __name__ == "__main__":
    die_with_parent()
    serve(json.loads(sys.argv[1]))
