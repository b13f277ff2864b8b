"""The HTTP application: vLLM's routes, and under /_simulator those for tests."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, get_args

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.engine_simulator import generative, metrics, pooling
from router.engine_simulator.api_errors import RefusedError
from router.engine_simulator.body import Body, conversation_tokens
from router.engine_simulator.engine import Engine, SleepMode
from router.engine_simulator.faults import FaultError
from router.engine_simulator.inference import Inference, json_body
from router.engine_simulator.tokens import pieces, token_ids

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from router.engine_simulator.generative import Prepared
    from router.engine_simulator.options import Options
    from router.engine_simulator.pooling import Pooled

VERSION = "0.32.0"
"""The vLLM whose behaviour is copied."""


def create_app(engine: Engine, on_faults: Callable[[], Awaitable[None]] | None = None) -> Starlette:
    """The application around `engine`. `on_faults` is called after the faults were changed over HTTP."""
    options = engine.options
    inference = {
        "/v1/chat/completions": Inference(engine, _json(generative.chat, options)),
        "/v1/completions": Inference(engine, _json(generative.completion, options)),
        "/v1/responses": Inference(engine, _json(generative.responses, options)),
        "/v1/messages": Inference(engine, _json(generative.messages, options), anthropic=True),
        "/v1/embeddings": Inference(engine, _json(pooling.embeddings, options)),
        "/rerank": Inference(engine, _json(pooling.rerank, options)),
        "/v1/rerank": Inference(engine, _json(pooling.rerank, options)),
        "/v2/rerank": Inference(engine, _json(pooling.rerank, options)),
        "/v1/audio/transcriptions": Inference(engine, _speech(options)),
    }
    service = _Service(engine, on_faults)
    routes = [
        *(Route(path, endpoint, methods=["POST"]) for path, endpoint in inference.items()),
        Route("/health", service.health, methods=["GET"]),
        Route("/ping", service.health, methods=["GET", "POST"]),
        Route("/version", service.version, methods=["GET"]),
        Route("/v1/models", service.models, methods=["GET"]),
        Route("/metrics", service.metrics, methods=["GET"]),
        Route("/load", service.load, methods=["GET"]),
        Route("/tokenize", service.tokenize, methods=["POST"]),
        Route("/v1/messages/count_tokens", service.count_tokens, methods=["POST"]),
        Route("/_simulator/requests", service.requests, methods=["GET"]),
        Route("/_simulator/state", service.state, methods=["GET"]),
        Route("/_simulator/faults", service.faults, methods=["GET", "PUT", "DELETE"]),
    ]
    if options.sleep_endpoints:
        routes += [
            Route("/sleep", service.sleep, methods=["POST"]),
            Route("/wake_up", service.wake_up, methods=["POST"]),
            Route("/is_sleeping", service.is_sleeping, methods=["GET"]),
        ]
    for route in routes:
        # The framework adds HEAD to every GET; vLLM's does not.
        if route.methods is not None:
            route.methods.discard("HEAD")
    return Starlette(routes=routes, exception_handlers={HTTPException: _detail, RefusedError: _refusal})


def _json(
    prepare: Callable[[Body, Options], Prepared | Pooled], options: Options
) -> Callable[[Request], Awaitable[Prepared | Pooled]]:
    async def read(request: Request) -> Prepared | Pooled:
        return prepare(await json_body(request), options)

    return read


def _speech(options: Options) -> Callable[[Request], Awaitable[Prepared | Pooled]]:
    async def read(request: Request) -> Prepared | Pooled:
        try:
            async with request.form() as form:
                model, file = form.get("model"), form.get("file")
                audio = await file.read() if isinstance(file, UploadFile) else None
        except HTTPException as error:
            raise RefusedError(str(error.detail), kind="Bad Request") from None
        return pooling.transcription(model if isinstance(model, str) else None, audio, options)

    return read


class _Service:
    """Everything that is not inference."""

    def __init__(self, engine: Engine, on_faults: Callable[[], Awaitable[None]] | None) -> None:
        self._engine = engine
        self._on_faults = on_faults

    async def health(self, _: Request) -> Response:
        return Response(status_code=200 if self._engine.healthy else 503)

    async def version(self, _: Request) -> Response:
        return JSONResponse({"version": VERSION})

    async def load(self, _: Request) -> Response:
        return JSONResponse({"server_load": len(self._engine.running)})

    async def metrics(self, _: Request) -> Response:
        return Response(metrics.exposition(self._engine), headers={"content-type": metrics.CONTENT_TYPE})

    async def models(self, _: Request) -> Response:
        options, now = self._engine.options, int(time.time())
        permission = {
            "id": "modelperm-simulated", "object": "model_permission", "created": now, "allow_create_engine": False,
            "allow_sampling": True, "allow_logprobs": True, "allow_search_indices": False, "allow_view": True,
            "allow_fine_tuning": False, "organization": "*", "group": None, "is_blocking": False,
        }  # fmt: skip
        data = [
            {"id": name, "object": "model", "created": now, "owned_by": "vllm", "root": options.model, "parent": None,
             "max_model_len": options.max_model_len, "permission": [permission]}
            for name in options.served_model_names
        ]  # fmt: skip
        return JSONResponse({"object": "list", "data": data})

    async def tokenize(self, request: Request) -> Response:
        body = await json_body(request)
        prompt, strings = body.text("prompt"), body.flag("return_token_strs")
        text = "" if prompt is None else prompt
        count = None
        if prompt is None:
            conversation = body.messages()
            text = " ".join(str(message.get("content") or "") for message in conversation)
            count = conversation_tokens(conversation)
        body.check_model(self._engine.options)
        ids = token_ids(text)
        # What a template adds is in the count; the simulator gives it the token 0.
        ids += [0] * ((count or len(ids)) - len(ids))
        document: dict[str, Any] = {"count": len(ids), "max_model_len": self._engine.options.max_model_len,
                                    "tokens": ids, "token_strs": pieces(text) if strings else None}  # fmt: skip
        return JSONResponse(document)

    async def count_tokens(self, request: Request) -> Response:
        body = await json_body(request)
        total = generative.message_tokens(body)
        body.check_model(self._engine.options)
        return JSONResponse({"input_tokens": total, "context_management": {"original_input_tokens": total}})

    async def sleep(self, request: Request) -> Response:
        level, mode = request.query_params.get("level", "1"), request.query_params.get("mode", "abort")
        if level not in {"0", "1", "2"}:
            raise RefusedError(f"1 validation error:\n  level must be 0, 1 or 2, not {level!r}", kind="Bad Request",
                               param="query.level")  # fmt: skip
        modes: dict[str, SleepMode] = {each: each for each in get_args(SleepMode)}
        if mode not in modes:
            raise RefusedError(f"1 validation error:\n  mode must be 'abort', 'wait' or 'keep', not {mode!r}",
                               kind="Bad Request", param="query.mode")  # fmt: skip
        await self._engine.sleep(modes[mode])
        return JSONResponse({"status": "sleeping", "level": int(level)})

    async def wake_up(self, request: Request) -> Response:
        tags = request.query_params.getlist("tags") or None
        awake = self._engine.wake_up(tags)
        return JSONResponse({"status": "awake" if awake else "sleeping", "tags": tags})

    async def is_sleeping(self, _: Request) -> Response:
        return JSONResponse({"is_sleeping": self._engine.asleep})

    async def requests(self, _: Request) -> Response:
        return JSONResponse({"requests": [record.document() for record in self._engine.records()]})

    async def state(self, _: Request) -> Response:
        engine = self._engine
        return JSONResponse({
            "pid": os.getpid(), "ready_at": engine.ready_at, "running": len(engine.running), "asleep": engine.asleep,
            "dead": engine.dead, "memory_bytes": engine.options.memory, "faults": engine.faults.specs(),
        })  # fmt: skip

    async def faults(self, request: Request) -> Response:
        if request.method != "GET":
            specs = []
            if request.method == "PUT":
                specs = (await json_body(request)).items("faults", required=True) or []
            if not all(isinstance(spec, str) for spec in specs):
                raise RefusedError("faults must be a list of texts such as 'slow-first-token=2'", param="faults")
            try:
                self._engine.set_faults(specs)
            except FaultError as error:
                raise RefusedError(str(error), param="faults") from None
            if self._on_faults is not None:
                await self._on_faults()
        return JSONResponse({"faults": self._engine.faults.specs()})


async def _detail(_: Request, error: Exception) -> Response:
    """Unknown paths and wrong methods, in the form of vLLM's framework."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this kind only
    return JSONResponse({"detail": error.detail}, error.status_code, headers=dict(error.headers or {}))


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # noqa: S101 - registered for this kind only
    return JSONResponse(error.document(), error.status)
