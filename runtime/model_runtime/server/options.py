"""grpcio's options: what bounds a connection before any call of it is looked at."""

from __future__ import annotations

from ..settings import Settings

HANDSHAKE_SECONDS = 10.0  # for TLS and the first frames of HTTP/2
MAX_PENDING = 8_000  # calls whose headers have come, and that have not been looked at
# Bits of grpc_compression_algorithm. Deflate cannot be told from a message.
_IDENTITY, _IDENTITY_AND_GZIP = 0b001, 0b101

Options = list[tuple[str, int]]


def of_port(settings: Settings, *, inflates: bool) -> Options:
    """Of the port for everything. Compressed requests come as they are where the engine `inflates` them, else are refused."""
    age = int(settings.max_connection_age_seconds * 1000)
    return [
        *_bounds(settings, _IDENTITY_AND_GZIP if inflates else _IDENTITY),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_concurrent_streams", settings.max_streams),
        ("grpc.keepalive_time_ms", int(settings.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),  # clients that probe idle connections are welcome
        *([("grpc.max_connection_age_ms", age)] if age else []),
    ]


def of_probes(settings: Settings, *, streams: int) -> Options:
    """Of a port that answers short questions alone."""
    return [
        *_bounds(settings, _IDENTITY),
        ("grpc.max_receive_message_length", 4096),
        ("grpc.max_concurrent_streams", streams),
    ]


def _bounds(settings: Settings, compressions: int) -> Options:
    return [
        ("grpc.so_reuseport", 0),  # two runtimes must never share a port silently
        # The soft and the hard limit: between the two a call would be refused at random.
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        # Above it gRPC ends calls CANCELLED, honest ones as well.
        ("grpc.server.max_pending_requests", MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
        ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_SECONDS * 1000)),
        ("grpc.per_message_decompression", 0),  # the core would inflate before it looks at the size
        ("grpc.compression_enabled_algorithms_bitset", compressions),
    ]
