"""OpenTelemetry spans of predictions, joined to their callers' traces by the W3C context in gRPC metadata.

Needs the extra `tracing`; where spans go is said by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT and so on).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from ..errors import InvalidSetting, PredictionError
from ..outcome import Outcome
from ..protocols import PROTOCOL_BY_PATH
from . import codes
from .observers import End

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


class Tracing:
    """Makes one span for each prediction."""

    def __init__(self) -> None:
        self._provider = _provider()
        self._tracer = self._provider.get_tracer("model_runtime")

    def begin(self, path: str, size: int, context: grpc.ServicerContext) -> End:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        sent = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        service, _, method = path[1:].rpartition("/")
        span = self._tracer.start_span(
            path[1:],
            TraceContextTextMapPropagator().extract(sent),
            trace.SpanKind.SERVER,
            {
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": method,
                "model.protocol": PROTOCOL_BY_PATH[path].name,
            },
        )

        def end(outcome: Outcome) -> None:
            failed = isinstance(outcome.result, PredictionError)
            code = codes.code(outcome.result) if isinstance(outcome.result, PredictionError) else grpc.StatusCode.OK
            span.set_attribute("rpc.grpc.status_code", code.value[0])
            span.set_attribute("model.batch_size", outcome.batch)
            span.set_attribute("model.seconds", outcome.model_seconds)
            if failed:
                span.set_status(trace.StatusCode.ERROR, type(outcome.result).__name__)
            span.end()

        return end

    def stop(self) -> None:
        """Sends what is still to be sent."""
        self._provider.shutdown()


def _provider() -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise InvalidSetting(f"TRACING: expected the extra 'tracing' to be installed, got {error}") from None
    provider = TracerProvider(resource=Resource.create())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
