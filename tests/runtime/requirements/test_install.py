"""`model-runtime install`, with real pip and uv: requirements mean what pip says that they mean, and nothing of them leaks."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from environments import environment, uv
from packages import indexing, sha256, source, wheel

from model_runtime.cli.install import install as command

Install = Callable[..., "Done"]
QUIET = ("PIP_FIND_LINKS", "PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX")
OFFLINE = {"PIP_NO_INDEX": "1", "UV_NO_INDEX": "1"}


class Done:
    """A finished `install`."""

    def __init__(self, model: Path, status: int, log: str, message: str) -> None:
        self.model, self.status, self.log, self.message = model, status, log, message

    @property
    def installed(self) -> dict[str, str]:
        installed: dict[str, str] = json.loads((self.model / "lib.lock").read_text())["installed"]
        return installed

    def value(self, name: str) -> str:
        """What the installed module holds."""
        scope: dict[str, str] = {}
        exec((self.model / "lib" / f"{name}.py").read_text(), scope)
        return scope["VALUE"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model" / "files" / "src").mkdir(parents=True)
    return tmp_path / "model"


def installing(tool: str, model: Path, tmp_path: Path) -> Install:
    path = str(Path(uv()).parent) if tool == "uv" else ""
    path = os.pathsep.join([path, "/usr/bin", "/bin"])

    def run(*arguments: object, cwd: Path | None = None, **variables: str) -> Done:
        log = tmp_path / "termination-log"
        log.write_text("")
        without = dict.fromkeys(QUIET)
        own = {"PATH": path, "TERMINATION_LOG": str(log), "HOME": str(tmp_path / "home")}
        before = os.getcwd()
        os.chdir(cwd or tmp_path)
        try:
            done = CliRunner().invoke(command, [str(model), *map(str, arguments)], env={**without, **own, **variables})
        finally:
            os.chdir(before)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert "Traceback" not in done.output
        assert not [path for path in model.iterdir() if path.name.startswith(".lib-")]
        return Done(model, done.exit_code, done.output, log.read_text())

    return run


@pytest.fixture
def install(model: Path, tmp_path: Path) -> Install:
    """By pip, as in the image."""
    return installing("pip", model, tmp_path)


@pytest.fixture(params=["pip", "uv"])
def install_by_both(request: pytest.FixtureRequest, model: Path, tmp_path: Path) -> Install:
    return installing(request.param, model, tmp_path)


def write(file: Path, text: str, encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode(encoding))
    return file


# As pip reads them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("./wheels/one-1.0-py3-none-any.whl", {"one": "1.0"}),
        ("wheels/one-1.0-py3-none-any.whl", {"one": "1.0"}),
        ("--no-index\n--find-links wheels\none", {"one": "2.0"}),
        ("--no-index\n-f ./wheels\none<2", {"one": "1.0"}),
        ("--no-index\n--find-links=wheels\n-c constraints.txt\none", {"one": "1.0"}),
        ("--no-index\n-fwheels\n-r more/base.txt", {"two": "1.0"}),
        ("--no-index\n-f wheels\n--requirement more/nested.txt", {"two": "1.0", "one": "1.0"}),
        ("-e ./package", {"here": "1.0"}),
        ("-e package", {"here": "1.0"}),
        ("--editable=./package", {"here": "1.0"}),
        ("./package", {"here": "1.0"}),
        ("--no-index\n-f wheels\n# a comment \\\none \\\n  == 1.0  # another", {"one": "1.0"}),
        ('--no-index\n-f wheels\none; python_version < "3"\ntwo', {"two": "1.0"}),
        ("one @ file://{files}/wheels/one-1.0-py3-none-any.whl", {"one": "1.0"}),
        ("--no-index\n-f wheels\none==${{VERSION}}", {"one": "1.0"}),
    ],
)
def test_paths_and_options_mean_what_they_mean_to_pip(
    text: str, expected: dict[str, str], install_by_both: Install, model: Path, tmp_path: Path
) -> None:
    files = model / "files"
    for name, version in (("one", "1.0"), ("one", "2.0"), ("two", "1.0")):
        wheel(files / "wheels", name, version)
    source(files / "package", "here")
    write(files / "constraints.txt", "one==1.0\n")
    write(files / "more" / "base.txt", "two\n")
    write(files / "more" / "nested.txt", "-r base.txt\n-c ../constraints.txt\none\n")
    write(files / "requirements.txt", text.format(files=files))
    before = sorted(path.relative_to(files) for path in files.rglob("*"))

    done = install_by_both(VERSION="1.0")

    assert done.status == 0, done.log
    assert done.installed == expected
    assert sorted(path.relative_to(files) for path in files.rglob("*")) == before


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-8"])
def test_files_of_other_systems_are_read(encoding: str, install_by_both: Install, model: Path) -> None:
    """PowerShell's `>` writes UTF-16."""
    wheel(model / "files" / "wheels", "one")
    write(model / "files" / "base.txt", "one # schön\r\n", encoding)
    write(model / "files" / "requirements.txt", "--no-index\r\n--find-links wheels\r\n-r base.txt\r\n", encoding)

    done = install_by_both()

    assert (done.status, done.installed) == (0, {"one": "1.0"}), done.log


@pytest.mark.parametrize("data", [b"o\0n\0e\0", b"one\0", bytes(range(128, 256))])
def test_what_is_no_text_is_named(data: bytes, install: Install, model: Path) -> None:
    (model / "files" / "requirements.txt").write_bytes(data)

    done = install(LC_ALL="C.UTF-8")

    assert done.status == 6
    assert done.message.startswith(f"RequirementsFailed: {model}/files/requirements.txt: expected text in UTF-8")


@pytest.mark.parametrize("text", ["-r missing.txt", "-c missing.txt", "-r .", "--requirement=sub/missing.txt"])
def test_a_file_that_is_not_there_is_named(text: str, install: Install, model: Path) -> None:
    write(model / "files" / "requirements.txt", text)

    done = install()

    assert done.status == 6
    assert f"{model}/files" in done.message
    assert "expected a file of requirements" in done.message


def test_files_that_lead_to_each_other_end(install: Install, model: Path) -> None:
    wheel(model / "files" / "wheels", "one")
    write(model / "files" / "requirements.txt", "--no-index\n-f wheels\none\n-c other.txt\n")
    write(model / "files" / "other.txt", "-c requirements.txt\none==1.0\n")

    assert install().status in (0, 6)


def test_hashes_are_checked(install_by_both: Install, model: Path) -> None:
    file = wheel(model / "files" / "wheels", "one")
    requirements = model / "files" / "requirements.txt"
    for digest, status in ((sha256(file), 0), ("0" * 64, 6)):
        write(requirements, f"--no-index\n-f wheels\none==1.0 \\\n    --hash=sha256:{digest}\n")
        done = install_by_both()
        assert done.status == status, done.log


def test_a_list_of_requirements_is_read_as_a_file_would_be(install_by_both: Install, model: Path) -> None:
    wheel(model / "files" / "wheels", "one")
    write(model / "files" / "constraints.txt", "one==1.0\n")

    done = install_by_both("--", "--no-index", "--find-links wheels", "-c constraints.txt", "one")

    assert (done.status, done.installed) == (0, {"one": "1.0"}), done.log
    assert install_by_both("./wheels/one-1.0-py3-none-any.whl").status == 0


def test_a_file_elsewhere_is_read_as_pip_would_here(install_by_both: Install, tmp_path: Path) -> None:
    here = tmp_path / "project" / "deep"
    wheel(tmp_path / "project" / "wheels", "one")
    write(here / "requirements.txt", "--no-index\n-f ../wheels\none\n../wheels/one-1.0-py3-none-any.whl\n")

    done = install_by_both("-r", "requirements.txt", cwd=here)

    assert (done.status, done.installed) == (0, {"one": "1.0"}), done.log


def test_read_only_sources_are_built(install_by_both: Install, model: Path) -> None:
    """A pod sees the model's files read-only; here nothing of them is written to."""
    package = source(model / "files" / "package", "here")
    write(model / "files" / "requirements.txt", "./package\n")

    assert install_by_both().status == 0
    assert not (package / "written-by-the-build").exists()


def test_the_files_themselves_may_be_the_package(install: Install, model: Path) -> None:
    source(model / "files", "here")
    (model / "files" / "src" / "func_main.py").write_text("")
    write(model / "files" / "requirements.txt", ".\n")

    done = install()

    assert (done.status, done.installed) == (0, {"here": "1.0"}), done.log


def test_modules_of_the_model_do_not_stand_in_for_the_installer_s(install_by_both: Install, model: Path) -> None:
    wheel(model / "files" / "wheels", "one")
    for name in ("random", "logging", "pip", "typing"):
        (model / "files" / f"{name}.py").write_text("raise SystemExit('the model was imported')\n")
    write(model / "files" / "requirements.txt", "--no-index\n-f wheels\none\n")

    assert install_by_both().status == 0


# What has changed ---------------------------------------------------------------------------------------------------


def test_what_is_installed_is_not_installed_again_and_what_has_changed_is(
    install_by_both: Install, model: Path
) -> None:
    """A wheel that was built again under the same version counts as changed, wherever it is named."""
    files = model / "files"
    write(
        files / "requirements.txt", "--no-index\n-f wheels\n-r more.txt\n./local/two-1.0-py3-none-any.whl\n./package\n"
    )
    write(files / "more.txt", "one\n")
    wheel(files / "wheels", "one", value=1)
    wheel(files / "local", "two", value=1)
    source(files / "package", "here")
    assert "installed already" not in install_by_both().log
    assert "installed already" in install_by_both().log

    wheel(files / "wheels", "one", value=2)
    assert (install_by_both().value("one"), "installed already" in install_by_both().log) == (2, True)
    wheel(files / "local", "two", value=2)
    assert (install_by_both().value("two"), "installed already" in install_by_both().log) == (2, True)
    (files / "package" / "here.py").write_text("VALUE = 'changed'\n")
    assert (install_by_both().value("here"), "installed already" in install_by_both().log) == ("changed", True)
    write(files / "more.txt", "one==1.0\n")
    assert "installed already" not in install_by_both().log


def test_a_lock_that_cannot_be_read_counts_for_nothing(install: Install, model: Path) -> None:
    wheel(model / "files" / "wheels", "one")
    write(model / "files" / "requirements.txt", "--no-index\n-f wheels\none\n")
    for content in (b"", b"\xff", b"[]", b"null", b'{"wanted": 1}', b"{" * 100_000):
        (model / "lib.lock").write_bytes(content)
        assert install().status == 0


def test_a_failure_leaves_what_was_there(install: Install, model: Path) -> None:
    wheel(model / "files" / "wheels", "one")
    write(model / "files" / "requirements.txt", "--no-index\n-f wheels\none\n")
    install()
    write(model / "files" / "requirements.txt", "--no-index\n-f wheels\none\nmissing\n")

    done = install()

    assert (done.status, "missing" in done.message, done.value("one")) == (6, True, "1.0")


# Pythons ------------------------------------------------------------------------------------------------------------


def test_the_model_s_python_decides_what_is_installed(install_by_both: Install, model: Path) -> None:
    python = environment("3.9")
    files = model / "files"
    wheel(files / "wheels", "old")
    wheel(files / "wheels", "new")
    write(
        files / "requirements.txt",
        '--no-index\n-f wheels\nold; python_version < "3.10"\nnew; python_version >= "3.10"\n',
    )

    assert install_by_both().installed == {"new": "1.0"}
    assert install_by_both("--python", python).installed == {"old": "1.0"}
    assert install_by_both().installed == {"new": "1.0"}
    assert install_by_both(MODEL_PYTHON=str(python)).installed == {"old": "1.0"}
    (model / "venv" / "bin").mkdir(parents=True)
    (model / "venv" / "bin" / "python").symlink_to(python)
    assert "installed already" in install_by_both().log


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (None, "No such file"),
        ("#!/bin/sh\necho no; exit 3\n", "no"),
        ("#!/bin/sh\necho '[1]'\n", ""),
        ("not a program", ""),
    ],
)
def test_what_is_no_python_is_named(
    program: str | None, text: str, install: Install, model: Path, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    if program:
        python.write_text(program)
        python.chmod(stat.S_IRWXU)

    done = install("one", "--python", python)

    assert (done.status, f"{python}: expected a Python" in done.message, text in done.message) == (6, True, True)


# Secrets ------------------------------------------------------------------------------------------------------------

LOGIN = "me:s3cr3t%40word"
TOKEN = "ab12cd34ef56ab78cd90"


@pytest.mark.parametrize("how", ["file", "list", "pip variable", "uv variable", "expanded"])
@pytest.mark.parametrize("name", ["one", "missing"])
def test_the_password_of_an_index_is_used_and_not_shown(
    how: str, name: str, install_by_both: Install, model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wheel(tmp_path / "packages", "one")
    uses_uv = "uv]" in request.node.name or "uv-" in request.node.name
    if how == "uv variable" and not uses_uv:
        pytest.skip("pip does not read it")
    with indexing(tmp_path / "packages", "me:s3cr3t@word") as index:
        url = f"http://{LOGIN}@{index.host}/simple/{TOKEN}/"
        file = model / "files" / "requirements.txt"
        arguments, variables = [], {}
        if how == "list":
            arguments = ["--", f"--index-url {url}", name]
        elif how == "pip variable":
            variables = {"PIP_INDEX_URL": url}
        elif how == "uv variable":
            variables = {"UV_DEFAULT_INDEX": url}
        elif how == "expanded":
            variables = {"INDEX_PASSWORD": LOGIN.partition(":")[2]}
        index_line = {
            "file": f"--index-url {url}\n",
            "expanded": f"--index-url http://me:${{INDEX_PASSWORD}}@{index.host}/\n",
        }
        write(file, f"{index_line.get(how, '')}{name}\n")
        done = install_by_both(*arguments, **variables)

    shown = done.log + done.message
    assert done.status == (0 if name == "one" else 6), done.log
    assert index.paths
    assert not [secret for secret in ("s3cr3t", TOKEN) if secret in shown], shown


@pytest.mark.parametrize(
    "line", ["one @ https://me:topsecret@127.0.0.1:9/one.whl", "https://127.0.0.1:9/one-1.0-py3-none-any.whl?sig=topsecret",
             "git+https://topsecret@127.0.0.1:9/x.git", "--index-url https://topsecret@127.0.0.1:9/\none"]
)  # fmt: skip
def test_credentials_of_addresses_are_not_shown(line: str, install_by_both: Install, model: Path) -> None:
    write(model / "files" / "requirements.txt", line)

    done = install_by_both(PIP_RETRIES="0", PIP_DEFAULT_TIMEOUT="3", UV_HTTP_RETRIES="0", UV_NO_INDEX="1")

    assert (done.status, "topsecret" in done.log, "topsecret" in done.message) == (6, False, False), done.log


def test_nobody_is_asked_for_a_password(install_by_both: Install, model: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "packages", "one")
    with indexing(tmp_path / "packages", "me:x") as index:
        write(model / "files" / "requirements.txt", f"--index-url http://{index.host}/\none\n")
        began = time.monotonic()
        assert install_by_both().status == 6
    assert time.monotonic() - began < 30


# Bounds -------------------------------------------------------------------------------------------------------------


def slow(folder: Path, code: str) -> None:
    source(folder, "here")
    backend = folder / "backend.py"
    backend.write_text(backend.read_text().replace('open("written', f'{code}\n    open("written'))


def test_an_installation_has_an_end_in_time_and_takes_its_children_with_it(
    install: Install, model: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "alive"
    child = "import subprocess, time; "
    child += f"subprocess.Popen(['sh', '-c', 'while sleep 0.2; do date > {mark}; done']); time.sleep(90)"
    slow(model / "files" / "package", child)
    write(model / "files" / "requirements.txt", "./package\n")

    done = install(INSTALL_TIMEOUT_SECONDS="8", **OFFLINE)

    assert (done.status, "not installed after 8 s (INSTALL_TIMEOUT_SECONDS)" in done.message) == (6, True), done.log
    mark.unlink(missing_ok=True)
    time.sleep(1)
    assert not mark.exists()


def test_an_installation_that_takes_too_much_room_is_ended(install: Install, model: Path) -> None:
    slow(
        model / "files" / "package",
        "import tempfile, time; tempfile.NamedTemporaryFile(delete=False).write(bytes(20 << 20)); time.sleep(60)",
    )
    write(model / "files" / "requirements.txt", "./package\n")

    done = install(INSTALL_MAX_BYTES="10000000", **OFFLINE)

    assert (done.status, "(INSTALL_MAX_BYTES)" in done.message) == (6, True), done.log


def test_output_without_an_end_of_line_needs_no_memory(install: Install, model: Path) -> None:
    slow(
        model / "files" / "package",
        "import sys; [sys.stdout.write('x' * 1000000) for _ in range(100)]; raise SystemExit(1)",
    )
    write(model / "files" / "requirements.txt", "./package\n")

    done = install(PIP_VERBOSE="1", **OFFLINE)

    assert (done.status, len(done.message) < 4200, len(done.log) < 100_000) == (6, True, True)


@pytest.mark.parametrize("text", ["0", "soon"])
def test_a_limit_that_is_no_number_is_refused(text: str, install: Install) -> None:
    done = install("one", INSTALL_TIMEOUT_SECONDS=text)

    assert done.status == 2
    assert done.message.startswith("InvalidSetting: INSTALL_TIMEOUT_SECONDS: expected a whole number")


def test_a_directory_that_is_not_there_is_named(install: Install, model: Path) -> None:
    shutil.rmtree(model)
    model.mkdir()

    done = install()

    assert done.status == 6
    assert f"{model}/files/requirements.txt: expected a file of requirements" in done.message


def test_a_place_that_cannot_be_written_to_is_named(install: Install, model: Path) -> None:
    wheel(model / "files" / "wheels", "one")
    (model / "lib.lock").mkdir()

    done = install("./wheels/one-1.0-py3-none-any.whl")

    assert (done.status, f"{model}/lib.lock" in done.message) == (6, True)
