"""The runtime's settings: the environment, read once and checked here and nowhere else.

Each setting is a field of `Settings`; its metadata gives the environment variable and the sentence that `--help` and the docs
print. A value that cannot be used is refused with the variable's name, what was expected and what came.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .contract import DEFAULT_MODEL_DIR, DEFAULT_PORT
from .errors import InvalidSetting

MIB = 1 << 20
QUIET = {"GRPC_VERBOSITY": "NONE"}  # for the server alone: a model's own gRPC logs as it would anywhere

# The settings that a model may want to follow as well begin so; the others are the server's own.
SHARED_WITH_MODEL = ("MODEL_", "BATCH_", "WARMUP", "LOG_")
# What sends traces and reaches package indexes, which may hold credentials.
WITHHELD_FROM_MODEL = frozenset(
    {
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
    }
)


def _setting(variable: str, default: Any, parse: Callable[[str], Any], help: str) -> Any:
    return dataclasses.field(default=default, metadata={"variable": variable, "parse": parse, "help": help})


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text) if text.lstrip("-").isdecimal() else None
        if value is None or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return value

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"expected seconds from {low:g} to {high:g}")
        return value

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"expected {' or '.join(choices)}")
        return text.lower()

    return parse


def _switch(text: str) -> bool:
    return _one_of("true", "false")(text) == "true"


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError("expected a file that exists")
    return path


port = _integer(1, 65535)  # grpcio would bind 99999 as 34463, silently


@dataclass(frozen=True)
class Settings:
    """Everything that can be set about a runtime. Times are in seconds, sizes in bytes."""

    app_port: int = _setting("APP_PORT", DEFAULT_PORT, port, "The port to listen on.")
    model_dir: Path = _setting(
        "MODEL_DIR", Path(DEFAULT_MODEL_DIR), Path, "The model directory: contract.protobin and files/src/func_main.py."
    )
    host: str = _setting("APP_HOST", "[::]", str, "The address to listen on; [::] is every address of IPv6 and IPv4.")

    isolation: str = _setting(
        "MODEL_ISOLATION",
        "process",
        _one_of("process", "none"),
        "Whether the model runs in its own processes and environment (process), or inside the server (none).",
    )
    model_python: Path | None = _setting(
        "MODEL_PYTHON",
        None,
        _file,
        "The Python (3.8 or newer, with numpy) that runs the model. Default: venv/bin/python of the model directory, else the"
        " server's own.",
    )
    model_processes: int = _setting("MODEL_PROCESSES", 1, _integer(1, 256), "The number of model processes.")
    model_timeout: float = _setting(
        "MODEL_TIMEOUT",
        60.0,  # what Hydrosphere's gateway waits
        _seconds(0, 86400),
        "The longest that a call may take in the model. Then the call fails, and its model process is restarted. 0 disables it.",
    )
    model_load_timeout: float = _setting(
        "MODEL_LOAD_TIMEOUT",
        600.0,
        _seconds(1, 86400),
        "The longest that a model process may take to load. Then it is restarted.",
    )
    warmup: bool = _setting(
        "WARMUP",
        True,
        _switch,
        "Whether the model must answer a prediction before it serves: those of warmup.json beside it, or one made up.",
    )
    batch_max_size: int = _setting(
        "BATCH_MAX_SIZE",
        0,
        _integer(0, 255),
        "How many waiting requests may share one call of the model. Only for models whose rows are independent of each other."
        " 1 disables batching; 0: as the model's code asks (`batch_max_size`), else disabled.",
    )

    convention: str = _setting(
        "MODEL_CONVENTION",
        "auto",
        _one_of("auto", "numpy", "messages"),
        "How the model's function is called: with numpy values, returning a dict (numpy); with TensorProto, returning"
        " PredictResponse (messages); or as its code suggests (auto).",
    )
    model_threads: int = _setting(
        "MODEL_THREADS",
        1,
        _integer(1, 1024),
        "How many calls of the model's function may run concurrently in one model process.",
    )
    error_details: bool = _setting(
        "MODEL_ERROR_DETAILS",
        True,
        _switch,
        "Whether clients see the text of the model's exceptions (true), or only that the model failed (false). Logs always have"
        " the text.",
    )
    load_failure_seconds: float = _setting(
        "LOAD_FAILURE_SECONDS",
        5.0,  # Hydrosphere's manager asks every 2 s and shows the message it is given
        _seconds(0, 3600),
        "How long a model that cannot be loaded is reported as NOT_SERVING, with the reason in Status, before the program exits.",
    )

    max_queue: int = _setting(
        "MAX_QUEUE",
        1000,
        _integer(1, 1_000_000),
        "The most predictions in flight, those that wait for the model included. Further ones are refused with"
        " RESOURCE_EXHAUSTED.",
    )
    max_queue_bytes: int = _setting(
        "MAX_QUEUE_BYTES",
        1024 * MIB,
        _integer(1024, 2**40),
        "The most bytes of requests in flight. Further ones are refused with RESOURCE_EXHAUSTED.",
    )
    max_message_bytes: int = _setting(
        "MAX_MESSAGE_BYTES",
        512 * MIB,
        _integer(1024, 2**31 - 1),
        "The largest request, and the largest answer, in bytes.",
    )
    max_metadata_bytes: int = _setting(
        "MAX_METADATA_BYTES",
        16384,
        _integer(1024, 2**20),
        "The metadata of a call, in bytes as HTTP/2 counts them: 32 more for each entry than its name and value have.",
    )
    max_connections: int = _setting(
        "MAX_CONNECTIONS", 10_000, _integer(1, 1_000_000), "Connections at a time; one more is closed at once."
    )
    max_streams: int = _setting(
        "MAX_STREAMS", 256, _integer(1, 2**31 - 1), "Open calls on one connection; clients wait with more."
    )
    transfer_timeout: float = _setting(
        "TRANSFER_TIMEOUT",
        60.0,
        _seconds(0, 86400),
        "How long a request may take to arrive, and an answer to be read, before the call is ended. 0: no limit.",
    )
    keepalive_seconds: float = _setting(
        "KEEPALIVE_SECONDS", 60.0, _seconds(1, 86400), "How long a connection may be idle before it is probed."
    )
    max_connection_age_seconds: float = _setting(
        "MAX_CONNECTION_AGE_SECONDS",
        30.0,  # gRPC's clients ask for addresses no more often
        _seconds(0, 31536000),
        "The age at which a client is asked to reconnect (GOAWAY), plus or minus 10 %, so that it finds new replicas and leaves"
        " those that stop. No call is lost. 0 disables it.",
    )
    drain_delay_seconds: float = _setting(
        "DRAIN_DELAY_SECONDS",
        3.0,  # kube-proxy needs about that long to drop an endpoint
        _seconds(0, 3600),
        "How long the runtime goes on answering after SIGTERM, with health NOT_SERVING, while endpoints propagate.",
    )
    drain_limit_seconds: float = _setting(
        "DRAIN_LIMIT_SECONDS",
        0.0,  # Docker kills after 10 s; the operator gives pods more
        _seconds(0, 3600),
        "How long connected clients may stay after SIGTERM. Longer than MAX_CONNECTION_AGE_SECONDS, no call is lost.",
    )
    grace_seconds: float = _setting(
        "GRACE_SECONDS", 25.0, _seconds(0, 3600), "How long calls in flight may take to finish when the runtime stops."
    )

    tls_cert_file: Path | None = _setting(
        "TLS_CERT_FILE", None, _file, "The server's certificate chain (PEM). Turns TLS on."
    )
    tls_key_file: Path | None = _setting("TLS_KEY_FILE", None, _file, "The private key of TLS_CERT_FILE (PEM).")
    tls_client_ca_file: Path | None = _setting(
        "TLS_CLIENT_CA_FILE", None, _file, "The certificate authorities of clients (PEM). Turns mutual TLS on."
    )

    health_port: int = _setting(
        "HEALTH_PORT",
        0,
        _integer(0, 65535),
        "A second port on which health, and nothing else, is answered without TLS, for probes that cannot speak it. 0: none.",
    )
    metrics_port: int = _setting(
        "METRICS_PORT", 0, _integer(0, 65535), "The port of /metrics for Prometheus, over HTTP. 0 disables it."
    )
    tracing: bool = _setting(
        "TRACING",
        False,
        _switch,
        "Whether predictions are traced with OpenTelemetry. It needs the extra 'tracing', and is configured by OTEL_* variables.",
    )

    log_level: str = _setting(
        "LOG_LEVEL", "info", _one_of("debug", "info", "warning", "error"), "The least severe level that is logged."
    )
    log_format: str = _setting("LOG_FORMAT", "text", _one_of("text", "json"), "The form of log lines.")
    termination_log: Path = _setting(
        "TERMINATION_LOG",
        Path("/dev/termination-log"),
        Path,
        "The file in which the reason of a failed start is left for Kubernetes. Only written if it exists.",
    )

    def __post_init__(self) -> None:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            missing = "TLS_KEY_FILE" if self.tls_key_file is None else "TLS_CERT_FILE"
            raise InvalidSetting(f"{missing}: expected a file, got nothing (certificate and key go together)")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise InvalidSetting(
                "TLS_CERT_FILE: expected a file, got nothing (TLS_CLIENT_CA_FILE needs the server's certificate)"
            )
        used = {self.app_port: "APP_PORT"}
        for variable, number in (("HEALTH_PORT", self.health_port), ("METRICS_PORT", self.metrics_port)):
            if number and number in used:
                raise InvalidSetting(f"{variable}: expected another port than {used[number]}, got {number} for both")
            used[number] = variable


def from_environment(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """The settings that the environment asks for, with `overrides` (already typed) on top. Raises InvalidSetting."""
    variables = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for setting in dataclasses.fields(Settings):
        text = variables.get(setting.metadata["variable"], "").strip()
        if text and setting.name not in overrides:
            values[setting.name] = _parse(setting, text)
    return Settings(**{**values, **overrides})


def _parse(setting: dataclasses.Field[Any], text: str) -> Any:
    try:
        return setting.metadata["parse"](text)
    except ValueError as error:
        raise InvalidSetting(f"{setting.metadata['variable']}: {error}, got {text!r}") from None


def problem(variable: str, text: str) -> str:
    """Returns what a setting's variable expects instead of `text`; nothing where it would be accepted."""
    [setting] = [each for each in dataclasses.fields(Settings) if each.metadata["variable"] == variable]
    try:
        setting.metadata["parse"](text)
    except ValueError as error:
        return str(error)
    return ""


def termination_log() -> Path:
    """Where the reason of a failed start belongs, also where other settings cannot be used."""
    return Path(os.environ.get("TERMINATION_LOG") or Settings().termination_log)


def export(variables: Mapping[str, str]) -> None:
    """Adds a ModelRuntime's settings and `env` to this process's environment. What is set already stays."""
    for name, text in variables.items():
        os.environ.setdefault(name, text)


def silence_grpc() -> None:
    """Keeps gRPC's core from writing its own lines to stderr, one for each failed handshake, unless GRPC_VERBOSITY says more."""
    for name, text in QUIET.items():
        os.environ.setdefault(name, text)


def model_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the environment of a model process: without the server's own settings and the credentials of its other steps."""
    variables = os.environ if environment is None else environment
    settings = {setting.metadata["variable"] for setting in dataclasses.fields(Settings)}
    withheld = {name for name in settings if not name.startswith(SHARED_WITH_MODEL)} | WITHHELD_FROM_MODEL
    return {name: value for name, value in variables.items() if name not in withheld and QUIET.get(name) != value}


def table() -> list[tuple[str, str, str]]:
    """Variable, default and meaning of each setting, for `--help` and the docs."""
    return [
        (
            setting.metadata["variable"],
            "" if setting.default is None else _text(setting.default),
            setting.metadata["help"],
        )
        for setting in dataclasses.fields(Settings)
    ]


def _text(default: Any) -> str:
    return (
        str(default).lower()
        if isinstance(default, bool)
        else f"{default:g}"
        if isinstance(default, float)
        else str(default)
    )
