"""The bodies of requests. Fields that are not listed are refused, never ignored."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)
from pydantic_core import PydanticCustomError

MAX_STOPS, MAX_TOP, MAX_N, MAX_PROMPTS = 16, 20, 128, 512
MAX_LOGPROBS = 1_000_000  # of one answer, with alternatives: some 50 MB of JSON
MAX_MASKS = 16  # each of them repeats the whole text for each of its tokens

PARAM = "param"  # the key of an error's context that names the field


def _wrong_field(param: str, message: str) -> PydanticCustomError:
    """Return an error about a field that takes the others to see."""
    return PydanticCustomError("wrong_field", "{message}", {PARAM: param, "message": message})


def _check_text(text: str) -> str:
    """Refuse halves of surrogate pairs, which JSON can write and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not a Unicode text: half of a surrogate pair") from None
    return text


Text = Annotated[str, AfterValidator(_check_text)]
TokenId = Annotated[StrictInt, Field(ge=0, lt=1 << 31)]
StopText = Annotated[Text, Field(min_length=1)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
# What a message of a response has and a request need not say; with a value they are refused.
_EMPTY_FIELDS = ("refusal", "tool_calls", "function_call", "audio", "annotations")


class StrictObject(BaseModel):
    """A JSON object with known fields only, in which ``null`` stands for the default."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item is not None}


class Body(StrictObject):
    """A body."""

    model: Text | None = Field(
        None, description="id of `/v1/models`; by default the first one", max_length=500
    )
    user: Text | None = Field(None, description="accepted and not used")


class StreamOptions(StrictObject):
    """`stream_options`."""

    include_usage: StrictBool = Field(False, description="send a last chunk with `usage`")


class GenerationBody(Body):
    """What completions and conversations have in common."""

    temperature: Finite | None = Field(None, ge=0, le=2, description="0: the most likely token")
    top_p: Finite | None = Field(None, gt=0, le=1, description="nucleus sampling")
    top_k: StrictInt | None = Field(
        None, ge=-1, le=1 << 30, description="the most likely tokens; 0 or -1: all"
    )
    presence_penalty: Finite | None = Field(None, ge=-2, le=2)
    frequency_penalty: Finite | None = Field(None, ge=-2, le=2)
    repetition_penalty: Finite | None = Field(
        None, gt=0, le=100, description="of tokens in prompt and output; 1: none"
    )
    logit_bias: dict[str, Annotated[Finite, Field(ge=-100, le=100)]] | None = Field(
        None, description="by token id", max_length=1024
    )
    seed: StrictInt | None = Field(
        None, ge=-(1 << 63), lt=1 << 63, description="the same request gives the same text"
    )
    stop: StopText | list[StopText] | None = Field(
        None, max_length=1000, description=f"up to {MAX_STOPS} texts that end the output"
    )
    n: StrictInt | None = Field(None, ge=1, le=MAX_N, description="outputs per prompt")
    stream: StrictBool | None = Field(None, description="send chunks as server-sent events")
    stream_options: StreamOptions | None = None
    sources: StrictBool = Field(False, description="where the words stand in the training data")

    @property
    def stops(self) -> list[str]:
        """The stop sequences."""
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @model_validator(mode="after")
    def _check_options(self) -> "GenerationBody":
        if self.stream_options is not None and not self.stream:
            raise _wrong_field("stream_options", "stream_options needs stream: true")
        if len(self.stops) > MAX_STOPS:
            raise _wrong_field("stop", f"stop has more than {MAX_STOPS} texts")
        return self


class CompletionBody(GenerationBody):
    """Body of `/v1/completions`."""

    prompt: Text | list[Text] | list[TokenId] | list[list[TokenId]] = Field(
        description="a text, token ids, or a list of either"
    )
    max_tokens: StrictInt | None = Field(
        None, ge=0, lt=1 << 31, description="new tokens, by default 16; 0 only with echo"
    )
    logprobs: StrictInt | None = Field(
        None, ge=0, le=MAX_TOP, description="alternatives reported per token"
    )
    echo: StrictBool = Field(False, description="put the prompt before the output")
    best_of: Literal[1] | None = Field(None, description="only 1: use n")

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, as a list."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [[int(item) for item in self.prompt]]
        return list(self.prompt)  # type: ignore[arg-type]

    @model_validator(mode="after")
    def _check_prompt(self) -> "CompletionBody":
        if not self.prompts or [] in self.prompts:
            raise _wrong_field("prompt", "prompt is empty")
        if len(self.prompts) * (self.n or 1) > MAX_PROMPTS:
            raise _wrong_field("prompt", f"prompt: more than {MAX_PROMPTS} outputs in one request")
        if self.max_tokens == 0 and not self.echo:
            raise _wrong_field("max_tokens", "max_tokens: 0 needs echo: true")
        return self


class TextPart(StrictObject):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class Message(StrictObject):
    """A turn of a conversation; that of a response can be sent back as it is."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: Text | None = Field(None, description="of who speaks; the chat template gets it")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_fields(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: item
            for key, item in value.items()
            if key not in _EMPTY_FIELDS or item not in ("", [], {})
        }

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)

    @property
    def turn(self) -> dict[str, str]:
        """The message as chat templates know it; what OpenAI calls a developer is the system to them."""
        role = "system" if self.role == "developer" else self.role
        turn = {"role": role, "content": self.text}
        return turn if self.name is None else {**turn, "name": self.name}


class ChatBody(GenerationBody):
    """Body of `/v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: StrictInt | None = Field(None, ge=1, lt=1 << 31)
    max_completion_tokens: StrictInt | None = Field(
        None, ge=1, lt=1 << 31, description="new tokens, by default as many as the context holds"
    )
    logprobs: StrictBool | None = None
    top_logprobs: StrictInt | None = Field(None, ge=0, le=MAX_TOP)

    @property
    def limit(self) -> int | None:
        """Most new tokens."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def limit_field(self) -> str:
        """The field that says it, or that can."""
        return "max_completion_tokens" if self.max_tokens is None else "max_tokens"

    @model_validator(mode="after")
    def _check_chat(self) -> "ChatBody":
        if self.top_logprobs is not None and not self.logprobs:
            raise _wrong_field("top_logprobs", "top_logprobs needs logprobs: true")
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise _wrong_field("max_tokens", "max_tokens and max_completion_tokens differ")
        return self


Texts = Text | Annotated[list[Text], Field(min_length=1, max_length=2048)]


class EmbeddingBody(Body):
    """Body of `/v1/embeddings`."""

    input: (
        Texts
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[
            list[Annotated[list[TokenId], Field(min_length=1)]],
            Field(min_length=1, max_length=2048),
        ]
    )
    encoding_format: Literal["float", "base64"] | None = None


class ClassifyBody(Body):
    """Body of `/v1/classify`: the fields of vLLM's `/classify`, and pairs."""

    input: (
        Texts
        | Annotated[
            list[Annotated[list[Text], Field(min_length=2, max_length=2)]],
            Field(min_length=1, max_length=2048),
        ]
    ) = Field(description="a text, texts, or pairs of texts")


class FillMaskBody(Body):
    """Body of `/v1/fill-mask`."""

    input: Text = Field(description="a text with the mask token, or `[MASK]`", min_length=1)
    top_k: StrictInt = Field(5, ge=1, le=100, description="tokens per mask")


class TokenizeBody(Body):
    """Body of `/tokenize`, as vLLM has it."""

    prompt: Text


class DetokenizeBody(Body):
    """Body of `/detokenize`, as vLLM has it."""

    tokens: list[TokenId]


# All fields of all bodies.
FIELDS = frozenset(
    name
    for body in (
        CompletionBody,
        ChatBody,
        EmbeddingBody,
        ClassifyBody,
        FillMaskBody,
        TokenizeBody,
        DetokenizeBody,
    )
    for name in body.model_fields
)
