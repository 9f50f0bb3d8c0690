"""kserve's InferenceGRPCClient (KServe's v2, asyncio) against the runtime."""

from __future__ import annotations

import asyncio
from typing import Any

import checks
import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

ANY = "any"
VALUES = {"FP64": np.array([1.5, -2.0]), "INT64": np.array([1, -2]), "BOOL": np.array([True, False])}


def _client(target: str, **options: Any) -> InferenceGRPCClient:
    return InferenceGRPCClient(target, **options)


def _request(value: int, *, raw: bool = True) -> InferRequest:
    tensor = InferInput("x", [1], "INT64")
    tensor.set_data_from_numpy(np.array([value]), binary_data=raw)
    return InferRequest(model_name=ANY, infer_inputs=[tensor])


def health(moody: str) -> list[bool]:
    async def ask() -> list[bool]:
        async with _client(moody) as client:
            return [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready(ANY)]

    return asyncio.run(ask())


def predictions(moody: str) -> list[list[int]]:
    """Values as raw bytes, and as numbers in `contents`."""

    async def ask() -> list[list[int]]:
        async with _client(moody) as client:
            answers = [await client.infer(_request(21, raw=raw)) for raw in (True, False)]
            return [answer.outputs[0].as_numpy().tolist() for answer in answers]

    return asyncio.run(ask())


def many_at_a_time(moody: str) -> bool:
    async def ask() -> bool:
        async with _client(moody) as client:
            answers = await asyncio.gather(*(client.infer(_request(each)) for each in range(100)))
            return [int(answer.outputs[0].as_numpy()[0]) for answer in answers] == [2 * each for each in range(100)]

    return asyncio.run(ask())


def errors(moody: str) -> dict[str, list[str]]:
    async def refusal(client: InferenceGRPCClient, value: int, timeout: float) -> list[str]:
        try:
            await client.infer(_request(value), timeout=timeout)
        except grpc.RpcError as error:
            return [error.code().name, error.details()]
        return ["OK", ""]

    async def ask() -> dict[str, list[str]]:
        async with _client(moody, retries=2) as client:
            return {"model": await refusal(client, -1, 10), "deadline": await refusal(client, -3, 0.5)}

    return asyncio.run(ask())


checks.run(health, predictions, many_at_a_time, errors)
