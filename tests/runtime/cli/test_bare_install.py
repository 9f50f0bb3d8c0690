"""The wheel without its extras: every way in names the extra to install, in one line and with a documented exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from environments import ROOT, environment, uv

from model_runtime import extras
from model_runtime.server import program

RUNTIME, OPERATOR = "pip install 'model-runtime[runtime]'", "pip install 'model-runtime[operator]'"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv(), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)], check=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin/ of an environment that has the wheel and nothing else."""
    home = tmp_path_factory.mktemp("bare")
    base = environment("3.11")
    subprocess.run([uv(), "venv", "--quiet", "--allow-existing", "--python", str(base), str(home)], check=True)
    subprocess.run(
        [uv(), "pip", "install", "--quiet", "--python", str(home / "bin" / "python"), str(wheel)], check=True
    )
    return home / "bin"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, cwd=cwd)


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        (["model-runtime"], "click", RUNTIME),
        (["model-runtime", "--help"], "click", RUNTIME),
        (["model-runtime", "predict", "localhost:9090"], "click", RUNTIME),
        (["python", "-m", "model_runtime"], "grpc", RUNTIME),
        (["python", "-m", "model_runtime", "--version"], "click", RUNTIME),
        (["python", "-m", "model_runtime_operator"], "kopf", OPERATOR),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_program_names_the_extra(bare: Path, tmp_path: Path, command: list[str], package: str, extra: str) -> None:
    done = run(bare / command[0], *command[1:], cwd=tmp_path)

    assert done.returncode == extras.EXIT_STATUS
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"{'model-runtime-operator' if extra is OPERATOR else 'model-runtime'}: "
        f"the package {package!r} is not installed; install it with: {extra}"
    ]


@pytest.mark.parametrize("name", ["Client", "RuntimeManager", "serve"])
def test_an_import_names_the_extra(bare: Path, tmp_path: Path, name: str) -> None:
    done = run(bare / "python", "-c", f"import model_runtime; model_runtime.{name}", cwd=tmp_path)

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: the package '")
    assert last.endswith(f"' is not installed; install it with: {RUNTIME}")


def test_what_needs_no_package_can_be_imported(bare: Path, tmp_path: Path) -> None:
    code = "import model_runtime, model_runtime_operator; print(model_runtime.InvalidRequest.__name__)"

    assert run(bare / "python", "-c", code, cwd=tmp_path).stdout == "InvalidRequest\n"


def test_one_package_that_is_missing_among_others_is_named(bare: Path, wheel: Path, tmp_path: Path) -> None:
    """An extra that was installed in part: click is there, the next package is not."""
    home = tmp_path / "part"
    subprocess.run([uv(), "venv", "--quiet", "--python", str(bare / "python"), str(home)], check=True)
    python = home / "bin" / "python"
    subprocess.run([uv(), "pip", "install", "--quiet", "--python", str(python), str(wheel), "click"], check=True)

    done = run(home / "bin" / "model-runtime", "--help", cwd=tmp_path)

    assert done.returncode == extras.EXIT_STATUS
    assert done.stderr.endswith(f"is not installed; install it with: {RUNTIME}\n")


def test_a_module_of_ours_that_is_missing_is_no_question_of_extras() -> None:
    error = ModuleNotFoundError("No module named 'model_runtime.gone'", name="model_runtime.gone")

    assert extras.explained(error, "runtime") is error


def test_the_exit_status_is_documented() -> None:
    assert "model-runtime[runtime]" in program.EXIT_MEANINGS[extras.EXIT_STATUS]


def test_the_version_is_the_wheels(wheel: Path) -> None:
    done = run(sys.executable, "-m", "model_runtime", "--version", cwd=ROOT)

    assert done.stdout.strip() == f"model-runtime, version {wheel.name.split('-')[1]}"
