"""Who is measured: each server's name, its environment (pinned in peers/*.txt), its command, and the wire it speaks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from environments import environment

from . import native
from .process import free_port
from .wires import Json, OpenInference, Predict, Row, Seldon, Wire, row_stubs
from .work import Work

PEERS = Path(__file__).parent.parent / "peers"
PYTHON = "3.11"
BASELINE = "lean"

Command = tuple[list[str], Mapping[str, str]]


@dataclass(frozen=True)
class Contender:
    """`start(work, model_dir, port, folder)` says the command and its environment."""

    name: str
    wire: Wire
    start: Callable[[Work, Path, int, Path], Command]
    note: str
    is_native: bool = False

    def can(self, work: Work) -> bool:
        if self.is_native and "identity" not in work.name and work.peers is None:
            return False
        return self.name in work.peers if work.peers is not None else True


def python(pins: str) -> str:
    """The interpreter of the environment that peers/PINS.txt describes, made first where it is not there."""
    lines = [line for line in (PEERS / f"{pins}.txt").read_text().splitlines() if line and not line.startswith("#")]
    return str(environment(PYTHON, *lines))


def _ours(isolation: str, batch: int = 1) -> Callable[[Work, Path, int, Path], Command]:
    def start(work: Work, model: Path, port: int, folder: Path) -> Command:
        settings = {
            "MODEL_DIR": str(model),
            "APP_PORT": str(port),
            "LOG_LEVEL": "warning",
            "MODEL_ISOLATION": isolation,
            "BATCH_MAX_SIZE": str(batch),
        }
        return [sys.executable, "-m", "model_runtime"], settings

    return start


def _script(name: str) -> Callable[[Work, Path, int, Path], Command]:
    def start(work: Work, model: Path, port: int, folder: Path) -> Command:
        return [sys.executable, str(PEERS / f"{name}.py"), str(model), str(port)], {}

    return start


def _echo(work: Work, model: Path, port: int, folder: Path) -> Command:
    return [str(native.program("echo")), str(port)], {"GOMAXPROCS": "1"}


def _pytriton(work: Work, model: Path, port: int, folder: Path) -> Command:
    inputs, outputs = work.inputs[0]["x"], work.expected[0]
    kinds = [f"{kind}:{value.shape[1]}" for kind, value in zip(work.dtypes, (inputs, outputs), strict=True)]
    ports = [str(free_port()), str(free_port())]
    own = python("pytriton")
    show = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    library = subprocess.run([own, "-c", show], capture_output=True, text=True, check=True).stdout.strip()
    # Its backend is linked to libpython, and would take another Python's of the same version from the system.
    command = [own, str(PEERS / "pytriton_model.py"), str(model), str(port), *kinds, *ports]
    return command, {"LD_LIBRARY_PATH": library}


def _kserve(work: Work, model: Path, port: int, folder: Path) -> Command:
    limits = [f"--grpc_max_{way}_message_length=-1" for way in ("receive", "send")]  # 8 MiB else
    return [python("kserve"), str(PEERS / "kserve_model.py"), str(model), str(port), str(free_port()), *limits], {}


def _mlserver(work: Work, model: Path, port: int, folder: Path) -> Command:
    ports = {"grpc_port": port, "http_port": free_port(), "metrics_port": free_port()}
    # Its pool of workers does not start with today's uvloop, so the model runs in the server, as a lone model may.
    settings = {"host": "127.0.0.1", **ports, "debug": False, "parallel_workers": 0}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(
        json.dumps({"name": "model", "implementation": "mlserver_model.Served"})
    )
    environment = {"PYTHONPATH": str(PEERS), "MODEL_FILES": str(model / "files" / "src")}
    return [str(Path(python("mlserver")).parent / "mlserver"), "start", str(folder)], environment


def _http(pins: str, *command: str) -> Callable[[Work, Path, int, Path], Command]:
    def start(work: Work, model: Path, port: int, folder: Path) -> Command:
        dtype = work.inputs[0]["x"].dtype.name
        filled = [part.format(model=model, port=port, dtype=dtype, peers=PEERS) for part in command]
        variables = {"PYTHONPATH": str(PEERS), "MODEL_FILES": str(model / "files" / "src"), "MODEL_DTYPE": dtype}
        return [str(Path(python(pins)).parent / filled[0]), *filled[1:]], variables | {"BENTOML_DO_NOT_TRACK": "1"}

    return start


def _seldon(work: Work, model: Path, port: int, folder: Path) -> Command:
    dtype = work.inputs[0]["x"].dtype.name
    variables = {
        "PYTHONPATH": str(PEERS),
        "MODEL_FILES": str(model / "files" / "src"),
        "MODEL_DTYPE": dtype,
        "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(port),
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(free_port()),
        "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": str(free_port()),
        "GRPC_WORKERS": "1",
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
    }
    program = str(Path(python("seldon")).parent / "seldon-core-microservice")
    return [program, "seldon_model.Served", "--service-type", "MODEL"], variables


def _ray(work: Work, model: Path, port: int, folder: Path) -> Command:
    row_stubs(folder)
    variables = {"PYTHONPATH": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    return [python("ray"), str(PEERS / "ray_model.py"), str(model), str(port), str(free_port())], variables


_LITSERVE = ("python", "{peers}/litserve_model.py", "{model}", "{port}", "{dtype}")
_BENTOML = (
    "bentoml",
    "serve",
    "bentoml_service:Served",
    "--working-dir",
    "{peers}",
    "--host",
    "127.0.0.1",
    "--port",
    "{port}",
)
CONTENDERS = (
    Contender("lean", Predict(), _script("lean"), "grpcio, protobuf, 10 threads, model in process: the baseline"),
    Contender(
        "hydrosphere", Predict(), _script("hydrosphere"), "Hydrosphere's own code's shape: lean, messages as text"
    ),
    Contender("ours", Predict(), _ours("process"), "this project: model in its own process, contract checked"),
    Contender(
        "ours batching", Predict(), _ours("process", 64), "this project, batching asked for: rows are independent"
    ),
    Contender("ours in process", Predict(), _ours("none"), "this project with MODEL_ISOLATION=none"),
    Contender("native", Predict(), _echo, "grpc-go, typed decoding, no Python: the limit", is_native=True),
    Contender("pytriton", OpenInference(raw=True), _pytriton, "NVIDIA's tritonserver, dynamic batching, raw tensors"),
    Contender("kserve", OpenInference(raw=False), _kserve, "KServe's Python server, typed contents"),
    Contender("mlserver", OpenInference(raw=False), _mlserver, "MLServer without its worker pool, typed contents"),
    Contender("seldon", Seldon(), _seldon, "Seldon's Python wrapper, gRPC"),
    Contender("litserve", Json(), _http("litserve", *_LITSERVE), "LitServe, HTTP and JSON"),
    Contender("bentoml", Json(), _http("bentoml", *_BENTOML), "BentoML, HTTP and JSON"),
    Contender("ray", Row(), _ray, "Ray Serve's gRPC proxy"),
)
