"""`fetch contract`: the contract of a source, checked, compared and taken."""

from __future__ import annotations

import os
from pathlib import Path

from fetching import run

from model_runtime import contract


def test_a_contract_of_the_source_is_taken_or_compared(tmp_path: Path) -> None:
    promise = {
        "name": "predict",
        "inputs": {"x": {"shape": [-1], "type": "double"}},
        "outputs": {"y": {"shape": [-1], "type": "double"}},
    }
    other = {**promise, "outputs": {"y": {"shape": [-1], "type": "int64"}}}
    source, same, different = tmp_path / "source", tmp_path / "same", tmp_path / "different"
    source.write_bytes(contract.write(contract.parse(promise), "v3"))
    same.write_bytes(contract.write(contract.parse(promise), "v2"))
    different.write_bytes(contract.write(contract.parse(other)))
    log = tmp_path / "log"

    assert run("contract", str(source), "--into", str(tmp_path), log=log) == (0, "")
    assert (tmp_path / "contract.protobin").read_bytes() == source.read_bytes()
    assert run("contract", str(source), "--expect", str(same), log=log) == (0, "")
    assert run("contract", str(source), "--expect", str(different), log=log)[1].startswith("ContractMismatch: ")
    assert run("contract", str(tmp_path / "none"), "--into", str(tmp_path), log=log)[1].startswith("ContractMissing: ")


def test_what_is_no_file_is_no_contract(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for name in ("pipe", "", "a" * 300):
        status, message = run("contract", str(tmp_path / name), "--into", str(tmp_path), log=tmp_path / "log")
        assert status == 8
        assert message.startswith("ContractMissing: ")


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    promise = {
        "name": "predict",
        "inputs": {"x": {"shape": [-1], "type": "double"}},
        "outputs": {"y": {"shape": [-1], "type": "double"}},
    }
    (tmp_path / "source").write_bytes(contract.write(contract.parse(promise)))

    status, message = run(
        "contract", str(tmp_path / "source"), "--into", str(tmp_path / "nowhere"), log=tmp_path / "log"
    )

    assert (status, message) == (8, f"DownloadFailed: {tmp_path}/nowhere/contract.protobin: No such file or directory")
