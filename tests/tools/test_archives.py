"""Image archives made without a builder."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from cluster import archives


@pytest.fixture
def program(tmp_path: Path) -> Path:
    program = tmp_path / "hello"
    program.write_bytes(b"\x7fELF and so on")
    return program


def test_an_archive_is_the_same_whenever_it_is_made(program: Path, tmp_path: Path) -> None:
    archives.write(tmp_path / "first.tar", program, "localhost/hello:1")
    program.touch()
    archives.write(tmp_path / "second.tar", program, "localhost/hello:1")

    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_every_blob_is_what_its_name_says_and_the_program_can_be_run(program: Path, tmp_path: Path) -> None:
    archives.write(tmp_path / "image.tar", program, "localhost/hello:1")
    with tarfile.open(tmp_path / "image.tar") as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    blobs = {name.rpartition("/")[2]: data for name, data in files.items() if name.startswith("blobs/sha256/")}
    [named] = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blobs[named["digest"].removeprefix("sha256:")])
    config = json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    layer = tmp_path / "layer.tar"
    layer.write_bytes(blobs[manifest["layers"][0]["digest"].removeprefix("sha256:")])

    assert {hashlib.sha256(data).hexdigest() for data in blobs.values()} == set(blobs)
    assert named["annotations"]["io.containerd.image.name"] == "localhost/hello:1"
    assert config["config"]["Entrypoint"] == ["/hello"]
    with tarfile.open(layer) as inner:
        assert [(entry.name, entry.mode) for entry in inner] == [("hello", 0o755)]
