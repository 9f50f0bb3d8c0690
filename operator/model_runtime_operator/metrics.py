"""What Prometheus may ask the operator. Names and help texts; nothing else."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_P = "model_runtime_operator"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

RECONCILES = Counter(f"{_P}_reconciles_total", "Reconciles, by what came of them.", ["outcome"])
RECONCILE_SECONDS = Histogram(f"{_P}_reconcile_seconds", "How long one reconcile takes.", buckets=_SECONDS)
QUEUE_DEPTH = Gauge(f"{_P}_queue_depth", "ModelRuntimes that wait to be reconciled.")
QUEUE_SECONDS = Histogram(f"{_P}_queue_seconds", "How long a ModelRuntime waited after it was due.", buckets=_SECONDS)
API_CALLS = Counter(f"{_P}_api_calls_total", "Calls to the API server (watches not counted).", ["method", "code"])
API_RETRIES = Counter(f"{_P}_api_retries_total", "Calls that were repeated after an answer of 429, 5xx or none.")
API_SECONDS = Histogram(f"{_P}_api_seconds", "How long a call to the API server takes.", ["method"], buckets=_SECONDS)
WRITES = Counter(f"{_P}_writes_total", "Objects written, by kind and verb.", ["kind", "verb"])
WATCH_AGE = Gauge(
    f"{_P}_watch_age_seconds",
    "Time since a watch last gave a sign of life (the API server's bookmarks count).",
    ["kind"],
)
WATCH_RESTARTS = Counter(
    f"{_P}_watch_restarts_total", "Watches that ended and were started again, by why.", ["kind", "why"]
)
LEADING = Gauge(f"{_P}_leading", "Whether this replica leads.")
CONTESTED = Gauge(f"{_P}_contested", "ModelRuntimes that are left alone because another operator manages them.")
MODEL_RUNTIMES = Gauge(
    f"{_P}_modelruntimes", "ModelRuntimes in the cache, by the reason of their Ready condition.", ["reason"]
)
