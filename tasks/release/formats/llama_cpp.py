"""Ask llama.cpp what it makes of a GGUF file: ``python -m tasks.release.formats.llama_cpp``, JSON in, JSON out.

A process of its own: an error in its C++ code ends this process, and not the run.
"""

import json
import sys
from typing import Any
from urllib.request import Request, urlopen

TIMEOUT_S = 300.0


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Encode texts, and predict the token after each prompt.

    Args:
        question: ``model`` (the file), ``texts``, ``prompts`` (lists of ids), and ``plain`` (the id of a
            token of whole characters).

    Returns:
        ``ids`` per text, and ``logprobs`` of the whole vocabulary per prompt.
    """
    import xllamacpp

    longest = max((len(prompt) for prompt in question["prompts"]), default=1)
    params = xllamacpp.CommonParams()
    params.model.path = question["model"]
    params.n_ctx = max(256, longest + 8)
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    # Keys and values in fp32, as transformers have them: in 16 bits they cost some thousandths.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.warmup = False
    params.port = 0
    server = xllamacpp.Server(params)
    url = server.listening_address
    size = _vocab_size(url)
    ids = [
        _post(url, "/tokenize", {"content": text, "add_special": False, "parse_special": True})[
            "tokens"
        ]
        for text in question["texts"]
    ]
    logprobs = [_predict(url, prompt, size, question["plain"]) for prompt in question["prompts"]]
    return {"ids": ids, "logprobs": logprobs}


def _predict(url: str, prompt: list[int], size: int, plain: int) -> list[float]:
    # It says nothing of a token that ends within a character, so one of whole characters is chosen. The
    # log-probabilities are those before the bias.
    choice = {"logit_bias": [[plain, 1000.0]], "temperature": 0}
    request = {"prompt": prompt, "n_predict": 1, "n_probs": size, "cache_prompt": False, **choice}
    value = _post(url, "/completion", request)
    [step] = value["completion_probabilities"]
    by_id = {item["id"]: float(item["logprob"]) for item in step["top_logprobs"]}
    return [by_id[number] for number in range(size)]


def _vocab_size(url: str) -> int:
    with urlopen(f"{url}/v1/models", timeout=TIMEOUT_S) as response:  # noqa: S310 - our own server
        return int(json.load(response)["data"][0]["meta"]["n_vocab"])


def _post(url: str, path: str, value: dict[str, Any]) -> Any:
    request = Request(  # noqa: S310 - our own server
        f"{url}{path}", json.dumps(value).encode(), {"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - our own server
        return json.load(response)


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))), flush=True)  # noqa: T201 - its answer
