"""Client and server stubs for other languages: `make stubs LANG=java ERA=v2` writes them to stubs/java."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import generate
import generators

ROOT = generate.HERE.parent.parent
LANGUAGES: dict[str, Callable[[dict[str, str]], generators.Generator]] = {
    "python": generators.python,
    "go": generators.go,
    "java": generators.java,
    "typescript": generators.typescript,
}
DEFAULT_ERAS = ("v2", "v3")
GO_PACKAGE = "example.com/stubs"


def main() -> int:
    arguments = _arguments()
    if arguments.list or arguments.language is None:
        eras = f"{', '.join(generate.ROOTS)} ({' and '.join(DEFAULT_ERAS)} where none is given)"
        print(f"make stubs LANG=… ERA=…\n  LANG: {', '.join(LANGUAGES)}\n  ERA:  {eras}")
        return 0
    output = (arguments.output or ROOT / "stubs") / arguments.language
    output.mkdir(parents=True, exist_ok=True)
    try:
        for era in [arguments.era] if arguments.era else DEFAULT_ERAS:
            if status := _generate(era, arguments.language, output, arguments.go_package):
                return status
    except generators.GeneratorMissing as error:
        print(f"stubs: {error}", file=sys.stderr)
        return 1
    print(f"wrote {sum(path.is_file() for path in output.rglob('*'))} files to {output}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("language", nargs="?", choices=LANGUAGES)
    parser.add_argument("--era", choices=list(generate.ROOTS))
    parser.add_argument("--output", type=Path, help="the folder for them (default: stubs/ of the project)")
    parser.add_argument("--go-package", default=GO_PACKAGE, help=f"what Go packages begin with (default: {GO_PACKAGE})")
    parser.add_argument("--list", action="store_true", help="print the languages and eras")
    return parser.parse_args()


def _generate(era: str, language: str, output: Path, go_package: str) -> int:
    files = list(generate.files(era))
    generator = LANGUAGES[language]({file: f"{go_package}/{Path(file).parent}" for file in files})
    roots = [f"-I{generate.HERE / root}" for root in generate.ROOTS[era]]
    well_known = f"-I{resources.files('grpc_tools') / '_proto'}"
    command = [*generator.command, *roots, well_known, *generator.options(output), *files]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
