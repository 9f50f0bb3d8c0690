"""Stubs of an era for other languages: `make stubs LANG=java ERA=v2` writes them to stubs/java.

Messages come from protoc itself (in grpcio-tools); services from the language's gRPC plugin: Python's is there too, those of
other languages are found on the PATH.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import generate
from grpc_tools import protoc

ROOT = generate.HERE.parent.parent


class Language(NamedTuple):
    """How protoc is asked for a language, and the plugin that makes its services."""

    messages: str  # protoc's flag, without --
    services: str = ""
    plugin: str = ""  # the program on the PATH that `services` needs
    comes_from: str = ""
    messages_plugin: str = ""  # where even messages need one


LANGUAGES = {
    "python": Language("python_out", "grpc_python_out"),
    "go": Language(
        "go_out",
        "go-grpc_out",
        "protoc-gen-go-grpc",
        "go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@latest google.golang.org/protobuf/cmd/protoc-gen-go@latest",
        "protoc-gen-go",
    ),
    "java": Language(
        "java_out", "grpc-java_out", "protoc-gen-grpc-java", "the Maven artifact io.grpc:protoc-gen-grpc-java"
    ),
    "cpp": Language("cpp_out", "grpc_out", "grpc_cpp_plugin", "the Debian package protobuf-compiler-grpc"),
    "csharp": Language("csharp_out", "grpc_out", "grpc_csharp_plugin", "the Debian package protobuf-compiler-grpc"),
    "ruby": Language("ruby_out", "grpc_out", "grpc_ruby_plugin", "the Debian package protobuf-compiler-grpc"),
    "php": Language("php_out", "grpc_out", "grpc_php_plugin", "the Debian package protobuf-compiler-grpc"),
    "objc": Language("objc_out", "grpc_out", "grpc_objective_c_plugin", "the Debian package protobuf-compiler-grpc"),
    "node": Language(
        "js_out", "grpc_out", "grpc_tools_node_protoc_plugin", "the npm package grpc-tools", "protoc-gen-js"
    ),
}
GO_PACKAGE = "example.com/hydrosphere"


def main() -> int:
    arguments = _arguments()
    if arguments.list or arguments.language is None:
        print(
            "make stubs LANG=… ERA=…\n  LANG: "
            + ", ".join(LANGUAGES)
            + "\n  ERA:  "
            + ", ".join(generate.ROOTS)
            + " (v2 and v3)"
        )
        return 0
    language = LANGUAGES[arguments.language]
    output = (arguments.output or ROOT / "stubs") / arguments.language
    options = {era: _options(era, language, output) for era in ([arguments.era] if arguments.era else ["v2", "v3"])}
    output.mkdir(parents=True, exist_ok=True)
    for era, chosen in options.items():
        if status := protoc.main(["protoc", *chosen, *generate.files(era)]):
            return int(status)
    print(f"wrote {sum(path.is_file() for path in output.rglob('*'))} files to {output}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("language", nargs="?", choices=LANGUAGES)
    parser.add_argument("--era", choices=list(generate.ROOTS))
    parser.add_argument("--output", type=Path, help="the folder for them (default: stubs/ of the project)")
    parser.add_argument("--list", action="store_true", help="say which languages and eras there are")
    return parser.parse_args()


def _options(era: str, language: Language, output: Path) -> list[str]:
    roots = [f"-I{generate.HERE / root}" for root in generate.ROOTS[era]]
    options = [*roots, f"-I{resources.files('grpc_tools') / '_proto'}", f"--{language.messages}={output}"]
    for plugin in (language.messages_plugin, language.plugin):
        if plugin and not shutil.which(plugin):
            sys.exit(f"{plugin} is not on the PATH; it comes from {language.comes_from}")
    if language.services:
        options.append(f"--{language.services}={output}")
    if language.plugin:
        name = language.services[: -len("_out")]
        options.append(f"--plugin=protoc-gen-{name}={shutil.which(language.plugin)}")
    if language.messages == "go_out":
        maps = [f"M{file}={GO_PACKAGE}/{Path(file).parent}" for file in generate.files(era)]
        options += [
            f"--{flag}_opt={option}" for flag in ("go", "go-grpc") for option in ["paths=source_relative", *maps]
        ]
    return options


if __name__ == "__main__":
    sys.exit(main())
