"""llama.cpp's own HTTP server: ``python serve_llama_cpp.py GGUF PORT SLOTS CONTEXT``, until it is killed.

Set up as Gristmill sets llama.cpp up: one thread, keys and values in fp32.
"""

import signal
import sys

import xllamacpp


def main() -> None:
    """Serve."""
    path, port, slots, context = sys.argv[1:5]
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.n_parallel = int(slots)
    params.n_ctx = int(slots) * int(context)
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    signal.pause()
    del server


if __name__ == "__main__":
    main()
