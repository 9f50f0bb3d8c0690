"""grpcio alone: lean's server, whose answer to each request is made once and given again. What no Python handler can go below."""

from __future__ import annotations

import importlib
import sys
from functools import cache

import grpc
import lean


def main(model_dir: str, port: str) -> None:
    sys.path[:0] = [f"{model_dir}/files/src", f"{model_dir}/lib"]
    function = importlib.import_module("func_main").predict

    @cache
    def answer(request: bytes) -> bytes:
        return bytes(lean.answer(function, lean.Request.FromString(request)).SerializeToString())

    lean.serve(port, grpc.unary_unary_rpc_method_handler(lambda request, _context: answer(request)))


if __name__ == "__main__":
    main(*sys.argv[1:])
