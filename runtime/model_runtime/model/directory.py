"""The model directory (`/model`): where its contract, its files and its libraries are. Reads nothing but the contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List

from .. import contract
from ..contract import Contract
from ..errors import ContractError, ModelNotFound


@dataclass(frozen=True)
class ModelDirectory:
    """A folder with `contract.protobin` and `files/src/func_main.py`."""

    path: Path

    @property
    def files(self) -> Path:
        return self.path / contract.FILES_DIR

    @property
    def source(self) -> Path:
        return self.files / "src"

    @property
    def entry(self) -> Path:
        return self.source / f"{contract.ENTRY_MODULE}.py"

    @property
    def import_path(self) -> List[str]:
        """Where the model's imports are found, first match wins."""
        return [str(self.source), *self.libraries]

    @property
    def libraries(self) -> List[str]:
        """The model's own libraries that are there. v3 kept them in files/src/lib, v0 and v2 in lib."""
        return [str(folder) for folder in (self.source / "lib", self.path / "lib") if folder.is_dir()]

    def read_contract(self) -> Contract:
        """The contract. Raises ModelNotFound where there is none, ContractError where it cannot be read."""
        if not self.path.is_dir():
            raise ModelNotFound(
                f"model directory {self.path}: expected a directory with {contract.CONTRACT_FILE}, found none"
            )
        file = self.path / contract.CONTRACT_FILE
        try:
            return contract.read(file.read_bytes())
        except FileNotFoundError:
            found = ", ".join(sorted(entry.name for entry in self.path.iterdir())) or "nothing"
            raise ModelNotFound(
                f"{file}: expected the model's contract, found none (the directory holds {found})"
            ) from None
        except OSError as error:
            raise ModelNotFound(f"{file}: cannot be read: {error.strerror}") from error
        except ContractError as error:
            raise ContractError(f"{file}: {error}") from None
