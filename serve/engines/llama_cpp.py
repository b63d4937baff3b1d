"""The engine of Llama-layout models: llama.cpp in a process of its own.

llama.cpp sees tokens as numbers only. The file that it loads has the model's weights and a vocabulary of
placeholders without an end of text, because llama.cpp says nothing of a token that ends within a character, and
because it is the request that says which tokens end a generation.
"""

import asyncio
import json
import logging
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from infra.compute.processes import die_with_parent
from lm.models.decoder.llama.gguf import write_llama_gguf
from serve.engines.child import module_command, module_environment
from serve.engines.http_stream import StreamError, stream_events
from serve.engines.interface import Engine, EngineError, Generation, Load, TokenScore
from serve.engines.llama_cpp_server import READY
from serve.models import ServedModel
from serve.scratch import ScratchFolder

log = logging.getLogger(__name__)

START_TIMEOUT_S = 300.0
SPARE_TOKENS = 256  # llama.cpp wants room behind the last token
END_TIMEOUT_S = 5.0
LOG_BYTES = 1 << 14  # of the end of its log are kept, to say why it did not start


class LlamaCppEngine:
    """llama.cpp behind the interface of engines.

    What llama.cpp does otherwise, another engine of the same model does: log-probabilities of prompts, which it
    has not, and presence and frequency penalties, for which it also counts the tokens of the prompt.

    Args:
        model: a released folder in the layout of Llama.
        slots: sequences that it generates at once.
        other: that other engine.
    """

    name = "llama.cpp"

    def __init__(self, model: ServedModel, slots: int, other: Engine) -> None:
        self.context_length = model.context_length
        self._model = model
        self._slots = slots
        self._other = other
        self._scratch = ScratchFolder()
        self._socket = str(self._scratch.path / "llama.sock")
        self._process: Process | None = None
        self._serves = False  # the process has loaded the model, and was not seen to die
        self._log = b""
        self._starting = asyncio.Lock()
        self._room = asyncio.Semaphore(slots)
        self._running = self._waiting = 0
        self._cached_tokens = self._prompt_tokens = self._generated_tokens = 0
        self._closed = False

    @classmethod
    async def start(cls, model: ServedModel, *, slots: int, other: Engine) -> "LlamaCppEngine":
        """Write the file for llama.cpp and start it.

        Raises:
            EngineError: if it does not load the model.
        """
        engine = cls(model, slots, other)
        writing = asyncio.ensure_future(asyncio.to_thread(_write_model, model, engine._model_path))
        try:
            await asyncio.shield(writing)
            await engine._ensure_running()
        except BaseException:
            # A thread cannot be cancelled, and its file is deleted now.
            await asyncio.wait([writing])
            await engine.close()
            raise
        return engine

    async def generate(self, generation: Generation) -> AsyncGenerator[TokenScore, None]:
        """Yield tokens; see ``Engine``."""
        sampling = generation.sampling
        if sampling.presence_penalty or sampling.frequency_penalty:
            async with aclosing(self._other.generate(generation)) as scores:
                async for score in scores:
                    yield score
            return
        self._waiting += 1
        try:
            await self._room.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            async with aclosing(self._complete(generation)) as scores:
                async for score in scores:
                    yield score
        finally:
            self._running -= 1
            self._room.release()

    async def score(self, ids: Sequence[int], num_top: int = 0) -> list[TokenScore]:
        """Return the log-probabilities of a prompt; see ``Engine``."""
        return await self._other.score(ids, num_top)

    @property
    def is_ready(self) -> bool:
        """See ``Engine``."""
        return self._is_running and self._other.is_ready

    def load(self) -> Load:
        """Return what it is doing; see ``Engine``."""
        return Load(
            self._running,
            self._waiting,
            self._slots,
            self._cached_tokens,
            self._prompt_tokens,
            self._generated_tokens,
        )

    async def close(self) -> None:
        """End llama.cpp and the other engine."""
        self._closed = True
        await self._end_process()
        await self._other.close()
        await asyncio.to_thread(self._scratch.delete)

    @property
    def _model_path(self) -> Path:
        return self._scratch.path / "model.gguf"

    async def _complete(self, generation: Generation) -> AsyncGenerator[TokenScore, None]:
        await self._ensure_running()
        process = self._process
        assert process is not None
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except OSError as error:
            raise EngineError(f"llama.cpp is gone ({error})") from None
        try:
            body = _completion(generation, self.context_length)
            count = 0
            events = stream_events(reader, writer, "/completion", body, host="llama")
            async with aclosing(events):
                async for event in events:
                    progress = event.get("prompt_progress")
                    if progress is not None:  # such an event has a token that means nothing
                        if progress["processed"] == progress["total"]:
                            self._cached_tokens += progress["cache"]
                            self._prompt_tokens += progress["total"]
                        continue
                    for score in _read_scores(event, generation):
                        count += 1
                        self._generated_tokens += 1
                        yield score
                        if score.id in generation.stop_ids or count == generation.max_new_tokens:
                            return
            raise EngineError("llama.cpp ended a generation before its time")
        except StreamError as error:
            raise EngineError(f"llama.cpp: {error}") from None
        except (OSError, asyncio.IncompleteReadError):
            with suppress(TimeoutError):
                async with asyncio.timeout(END_TIMEOUT_S):
                    await process.wait()  # the next request starts another one
            raise EngineError("llama.cpp ended while it generated") from None
        finally:
            writer.close()  # llama.cpp notices with its next token, and frees the slot

    async def _ensure_running(self) -> None:
        """Start llama.cpp, also after it has died."""
        if self._is_running:
            return
        async with self._starting:
            if self._closed:
                raise EngineError("the engine was closed")
            if not self._is_running:
                await self._start_process()

    @property
    def _is_running(self) -> bool:
        process = self._process
        return self._serves and process is not None and process.returncode is None

    async def _start_process(self) -> None:
        options = {
            "model": str(self._model_path),
            "socket": self._socket,
            "slots": self._slots,
            "context_length": self.context_length + SPARE_TOKENS,
        }
        await asyncio.to_thread(Path(self._socket).unlink, missing_ok=True)  # of one that died
        self._serves, self._log = False, b""
        process = await asyncio.create_subprocess_exec(
            *module_command("serve.engines.llama_cpp_server", json.dumps(options)),
            env=module_environment(),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._process = process
        self._following = following = asyncio.create_task(self._follow(process))
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                async for line in process.stdout:
                    if line.strip() == READY.encode():
                        self._serves = True
                        return
                await following
        except TimeoutError:
            raise EngineError(f"llama.cpp did not start within {START_TIMEOUT_S:g} s") from None
        finally:
            if not self._serves and process.returncode is None:
                process.kill()
        raise EngineError(f"llama.cpp did not start: {self._last_error()}")

    async def _follow(self, process: Process) -> None:
        """Keep the end of what llama.cpp logs until it ends; start another one if it served."""
        assert process.stderr is not None
        while data := await process.stderr.read(LOG_BYTES):
            self._log = (self._log + data)[-LOG_BYTES:]
        await process.wait()
        if self._closed or self._process is not process or not self._serves:
            return
        log.warning(
            "%s: llama.cpp ended (%s); it is started again", self._model.name, process.returncode
        )
        try:
            await self._ensure_running()
        except EngineError as error:
            log.warning("%s: %s; the next request starts it again", self._model.name, error)

    def _last_error(self) -> str:
        lines = [line.strip() for line in self._log.decode(errors="replace").splitlines()]
        errors = [line for line in lines if "rror" in line]
        return errors[-1] if errors else "no message"

    async def _end_process(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                await process.wait()
                return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _write_model(model: ServedModel, path: Path) -> None:
    def add_tokenizer(writer: Any, config: Mapping[str, Any]) -> None:
        from gguf import TokenType

        size = config["vocab_size"]
        # This kind of tokenizer has no tokens with a meaning of their own unless they are named.
        writer.add_tokenizer_model("rwkv")
        writer.add_token_list([f"t{number}" for number in range(size)])
        writer.add_token_types([int(TokenType.NORMAL)] * size)

    length = model.context_length + SPARE_TOKENS
    write_llama_gguf(model.folder, path, model.name, add_tokenizer, length)


def _completion(generation: Generation, context_length: int) -> dict[str, Any]:
    """Return the body of llama.cpp's ``/completion``."""
    sampling = generation.sampling
    samplers = ["penalties"] if sampling.repetition_penalty != 1 else []
    samplers.append("temperature")  # the order of vLLM: temperature, top_k, top_p
    if sampling.temperature:
        samplers += ["top_k"] if sampling.top_k else []
        samplers += ["top_p"] if sampling.top_p < 1 else []
    wants_logprobs = generation.logprobs or generation.num_top > 0
    return {
        "prompt": generation.prompt,
        "n_predict": generation.max_new_tokens,
        "stream": True,
        "return_tokens": True,
        "return_progress": True,
        "cache_prompt": True,
        "samplers": samplers,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": context_length,  # prompt and output
        "logit_bias": [[token, bias] for token, bias in sampling.logit_bias],
        "seed": fold_seed(sampling.seed),
        "n_probs": max(1, generation.num_top) if wants_logprobs else 0,
    }


def fold_seed(seed: int) -> int:
    """Return a seed of 32 bits; the last one of these means to llama.cpp that there is none."""
    return (seed ^ (seed >> 32)) % ((1 << 32) - 1)


def _read_scores(event: Mapping[str, Any], generation: Generation) -> list[TokenScore]:
    """Return the tokens of an event."""
    if event.get("stop"):
        return []
    steps = event.get("completion_probabilities")
    if steps is None:
        return [TokenScore(token, None) for token in event.get("tokens", ())]
    return [
        TokenScore(
            step["id"],
            float(step["logprob"]),
            tuple(
                (item["id"], float(item["logprob"]))
                for item in step["top_logprobs"][: generation.num_top]
            ),
        )
        for step in steps
    ]
