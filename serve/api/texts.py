"""Routes of models that say something of texts: vectors, labels, masks, tokens."""

import asyncio
import base64
import secrets
import time
from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from serve.api.encoding import check_length, encode
from serve.api.endpoint import Endpoint, check_ids, require_text_model
from serve.api.errors import ApiError
from serve.api.live import LiveResponse
from serve.api.record import RECORD, RequestRecord
from serve.api.schemas import (
    MAX_MASKS,
    ClassifyBody,
    DetokenizeBody,
    EmbeddingBody,
    FillMaskBody,
    TokenizeBody,
)
from serve.hub import Deployment
from serve.models import CLASSIFICATION, TAGGING, ServedModel

EMBEDDINGS, CLASSIFY, FILL_MASK = "/v1/embeddings", "/v1/classify", "/v1/fill-mask"
TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"
MASK = "[MASK]"  # how a request may write the mask, whatever its token is


def add_text_routes(app: FastAPI, endpoint: Endpoint) -> None:
    """Add the routes."""
    timeout_s = endpoint.limits.timeout_s

    @app.post(EMBEDDINGS, response_class=Response)
    async def embeddings(body: EmbeddingBody, request: Request) -> Response:
        """Return vectors of length 1 for texts."""
        record = request.scope[RECORD]
        return LiveResponse(lambda: _embed(endpoint, body, record), timeout_s)

    @app.post(CLASSIFY, response_class=Response)
    async def classify(body: ClassifyBody, request: Request) -> Response:
        """Return the probabilities of labels."""
        record = request.scope[RECORD]
        return LiveResponse(lambda: _classify(endpoint, body, record), timeout_s)

    @app.post(FILL_MASK, response_class=Response)
    async def fill_mask(body: FillMaskBody, request: Request) -> Response:
        """Return the likely tokens in the place of each mask."""
        record = request.scope[RECORD]
        return LiveResponse(lambda: _fill_mask(endpoint, body, record), timeout_s)

    @app.post(TOKENIZE, response_class=Response)
    async def tokenize(body: TokenizeBody, request: Request) -> Response:
        """Return the token ids of a text."""
        async with endpoint.serve(body.model, request.scope[RECORD]) as deployment:
            model = deployment.model
            ids = await asyncio.to_thread(model.tokenize, body.prompt)
            value = {"count": len(ids), "max_model_len": model.context_length, "tokens": ids}
            return _json(value)

    @app.post(DETOKENIZE, response_class=Response)
    async def detokenize(body: DetokenizeBody, request: Request) -> Response:
        """Return the text of token ids."""
        async with endpoint.serve(body.model, request.scope[RECORD]) as deployment:
            model = deployment.model
            check_ids(body.tokens, model, "tokens")
            text = await asyncio.to_thread(model.detokenize, body.tokens)
            return _json({"prompt": text})


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


async def _embed(endpoint: Endpoint, body: EmbeddingBody, record: RequestRecord) -> bytes:
    async with endpoint.serve(body.model, record) as deployment:
        model = deployment.model
        embedder = require_text_model(deployment, can=model.embeds, what="has no vectors")
        texts = await _read_texts(body, model)
        _check_lengths(texts, model, record)
        vectors = await embedder.embed(texts)
        as_text = body.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if as_text
                else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ]
        tokens = {"prompt_tokens": record.prompt_tokens, "total_tokens": record.prompt_tokens}
        answer = {"object": "list", "data": data, "model": deployment.id, "usage": tokens}
        return orjson.dumps(answer)


async def _read_texts(body: EmbeddingBody, model: ServedModel) -> list[list[int]]:
    if isinstance(body.input, str) or isinstance(body.input[0], int):
        items: list[Any] = [body.input]
    else:
        items = list(body.input)
    if isinstance(items[0], str):
        return await encode(items, model, "input", lambda: list(map(model.encode_text, items)))
    for item in items:
        check_ids(item, model, "input")
    return items


def _check_lengths(texts: list[list[int]], model: ServedModel, record: RequestRecord) -> None:
    record.prompt_tokens = sum(map(len, texts))
    check_length(max(map(len, texts)), model, "input")


async def _classify(endpoint: Endpoint, body: ClassifyBody, record: RequestRecord) -> bytes:
    async with endpoint.serve(body.model, record) as deployment:
        model = deployment.model
        can = model.kind in (CLASSIFICATION, TAGGING)
        classifier = require_text_model(deployment, can=can, what="has no labels")
        given: list[Any] = [body.input] if isinstance(body.input, str) else list(body.input)
        if model.kind == TAGGING:
            data = [await _tag(deployment, item, record) for item in given]
        else:
            pairs = [(item,) if isinstance(item, str) else tuple(item) for item in given]
            texts = await encode(
                (text for pair in pairs for text in pair),
                model,
                "input",
                lambda: [model.encode_text(*pair) for pair in pairs],
            )
            _check_lengths(texts, model, record)
            probabilities = (await classifier.classify(texts)).tolist()
            data = [_label(model, row) for row in probabilities]
        answer = {
            "id": f"classify-{secrets.token_hex(12)}",
            "object": "list",
            "created": int(time.time()),
            "model": deployment.id,
            "data": [{"index": index, **item} for index, item in enumerate(data)],
            "usage": {
                "prompt_tokens": record.prompt_tokens,
                "total_tokens": record.prompt_tokens,
            },
        }
        return orjson.dumps(answer)


def _label(model: ServedModel, row: list[float]) -> dict[str, Any]:
    probs = dict(zip(model.labels, row, strict=True))
    best = max(probs, key=lambda label: probs[label])
    value: dict[str, Any] = {"label": best, "probs": probs, "num_classes": len(row)}
    if model.multi_label:
        value["labels"] = [label for label, probability in probs.items() if probability >= 0.5]
    return value


async def _tag(deployment: Deployment, text: Any, record: RequestRecord) -> dict[str, Any]:
    """Return the label of each token of a text, with its characters."""
    model = deployment.model
    if not isinstance(text, str):
        raise ApiError(400, "input: a tagger reads texts, no pairs", param="input")
    encoding, ids = await encode(
        (text,),
        model,
        "input",
        lambda: (model.tokenizer.encode_batch([text])[0], model.encode_text(text)),
    )
    before = record.prompt_tokens or 0
    _check_lengths([ids], model, record)
    record.prompt_tokens = before + len(ids)
    tagger = require_text_model(deployment, can=True, what="has no labels")
    rows = (await tagger.tag(ids)).tolist()
    first = next(
        start for start in range(len(ids)) if ids[start : start + len(encoding.ids)] == encoding.ids
    )
    tokens = []
    for (start, end), row in zip(encoding.offsets, rows[first:], strict=False):
        if start < end:
            best = max(range(len(row)), key=row.__getitem__)
            label = {"label": model.labels[best], "score": row[best]}
            tokens.append({"start": start, "end": end, "text": text[start:end], **label})
    return {"tokens": tokens}


async def _fill_mask(endpoint: Endpoint, body: FillMaskBody, record: RequestRecord) -> bytes:
    async with endpoint.serve(body.model, record) as deployment:
        model = deployment.model
        can = model.mask_id is not None
        filler = require_text_model(deployment, can=can, what="fills no masks")
        assert model.mask_id is not None
        mask = str(model.tokenizer.id_to_token(model.mask_id))
        text = body.input.replace(MASK, mask)
        ids = await encode((text,), model, "input", lambda: model.encode_text(text))
        if model.mask_id not in ids:
            message = f"input: the text has no mask; write {mask} or {MASK}"
            raise ApiError(400, message, param="input", code="no_mask")
        if (masks := ids.count(model.mask_id)) > MAX_MASKS:
            raise ApiError(400, f"input: {masks} masks; at most {MAX_MASKS}", param="input")
        _check_lengths([ids], model, record)
        predictions = await filler.fill_mask(ids, body.top_k)
        parts = text.split(mask)
        data = []
        for number, tokens in enumerate(predictions):
            before, after = mask.join(parts[: number + 1]), mask.join(parts[number + 1 :])
            words = [model.tokenizer.decode([token]) for token, _ in tokens]
            data.append(
                [
                    {
                        "token": token,
                        "token_str": word,
                        "score": probability,
                        "sequence": before + word + after,
                    }
                    for word, (token, probability) in zip(words, tokens, strict=True)
                ]
            )
        return orjson.dumps({"object": "list", "model": deployment.id, "data": data})
