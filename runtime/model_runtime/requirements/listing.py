"""Reads requirements as far as it takes to know which files they lead to. What they mean is the installer's matter.

The rules are pip's: `-r` and `-c` lead from the file's own folder, other paths from the working directory.
"""

from __future__ import annotations

import locale
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import RequirementsFailed
from . import settings

_LARGEST = 16 << 20
_MOST_FILES = 1000
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CODING = re.compile(rb"coding[:=]\s*([-\w.]+)")
_EDITABLE = re.compile(r"^([ \t]*)(?:-e|--editable)(?:[ \t]*=[ \t]*|[ \t]+|(?=\S))(?!\\)(\S+)", re.M)
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_JOINED = re.compile(r"\\\r?\n(?!\s*--hash)")
_GLUED = re.compile(r"-[a-z].")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_FILES = ("-r", "--requirement", "-c", "--constraint")
_LINKS = ("-f", "--find-links")
# Options that uv understands as pip does.
_BOTH = {
    *_FILES,
    *_LINKS,
    "-e",
    "--editable",
    "-i",
    "--index-url",
    "--no-index",
    "--hash",
    "--only-binary",
    "--no-binary",
}


@dataclass(frozen=True)
class Wanted:
    """What a person asks for: lines of requirements, or a file of them."""

    lines: tuple[str, ...] = ()
    file: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.lines) or self.file is not None

    def __str__(self) -> str:
        return str(self.file) if self.file else ", ".join(self.lines)


@dataclass
class Listing:
    """Everything that requirements lead to on this machine."""

    texts: dict[Path, str] = field(default_factory=dict)  # requirement files by their path, as UTF-8 would have them
    local: set[Path] = field(default_factory=set)  # archives, packages and folders of links that they name
    options: set[str] = field(default_factory=set)
    variables: dict[str, str] = field(default_factory=dict)  # those that the texts refer to

    @property
    def suits_uv(self) -> bool:
        """Whether uv reads all of it as pip does. It expands no variables and joins no lines within a requirement."""
        is_joined = any(_JOINED.search(text) for text in self.texts.values())
        return self.options <= _BOTH and not self.variables and not is_joined


def listed(wanted: Wanted, top: Path, base: Path) -> Listing:
    """The listing of `wanted`, whose lines stand in the file `top`, as seen from the working directory `base`."""
    listing = Listing()
    text = read(wanted.file) if wanted.file else "".join(f"{line}\n" for line in wanted.lines)
    _add(listing, wanted.file or top, text, base)
    return listing


def read(file: Path) -> str:
    """The text of a requirements file in any of the encodings that pip reads. Raises RequirementsFailed."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise RequirementsFailed(f"{file}: expected a file of requirements: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise RequirementsFailed(f"{file}: expected a file of requirements, got more than {_LARGEST} bytes")
    try:
        text = _decoded(data)
    except (LookupError, ValueError) as error:
        raise RequirementsFailed(f"{file}: expected text in UTF-8, or in UTF-16 with its mark: {error}") from None
    if "\0" in text:
        raise RequirementsFailed(f"{file}: expected text in UTF-8, or in UTF-16 with its mark: got zero bytes")
    return text


def _decoded(data: bytes) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode() if encoding == "utf-8" else data.decode(encoding)
    for line in data.split(b"\n")[:2]:
        if line.startswith(b"#") and (found := _CODING.search(line)):
            return data.decode(found[1].decode())
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode(locale.getpreferredencoding(False))


def without_editable(text: str) -> str:
    """`-e ./package` is installed like `./package`: nobody edits what a pod has, and lib/ is no place for links to sources."""
    return _EDITABLE.sub(lambda found: found[1] + _as_path(found[2]), text)


def _as_path(value: str) -> str:
    """A folder's bare name, which is a path after `-e` only."""
    return value if value.startswith(".") or "/" in value or ":" in value else f"./{value}"


def _add(listing: Listing, file: Path, text: str, base: Path) -> None:
    if len(listing.texts) >= _MOST_FILES:
        raise RequirementsFailed(f"{file}: more than {_MOST_FILES} files of requirements")
    listing.texts[file] = text
    for words in _lines(text, listing.variables):
        listing.options.update(filter(_GLUED.match, words))
        for option, value in _pairs(words):
            listing.options.update([option] if option else [])
            if option in _FILES and value:
                path = Path(os.path.abspath(Path(file.parent, value)))
                if "://" not in value and path not in listing.texts:
                    _add(listing, path, read(path), base)
            elif (local := _local(option, value, file.parent, base)) is not None:
                listing.local.add(local)


def _lines(text: str, variables: dict[str, str]) -> Iterator[list[str]]:
    """The words of each logical line."""
    for line in _logical(text):
        line = _COMMENT.sub("", line)
        for name in _VARIABLE.findall(line):
            if (value := settings.value(name)) is not None:
                variables[name] = value
                line = line.replace(f"${{{name}}}", value)
        try:
            words = shlex.split(line)
        except ValueError:  # an unclosed quotation mark: the installer has words for it
            words = line.split()
        if words:
            yield words


def _logical(text: str) -> Iterator[str]:
    """Lines with those that a backslash continues. A comment is never continued, as with pip."""
    begun = ""
    for line in text.splitlines():
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            begun += line.strip("\\")
            continue
        yield f"{begun} {line}" if is_comment else begun + line
        begun = ""
    yield begun


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    """Options with their values; words without an option have the option ''."""
    option = ""
    for word in words:
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            yield option, value
            option = "" if equals else option
        elif re.match(r"-[a-z]", word):
            option = word[:2]
            yield option, word[2:].lstrip("=")
            option = "" if word[2:] else option
        else:
            yield option, word
            option = ""


def _local(option: str, value: str, folder: Path, base: Path) -> Path | None:
    """The file or folder of this machine that a word names, or None."""
    text = re.sub(r"\[[^\]]*\]$", "", value.split("#", maxsplit=1)[0].removeprefix("file://").removeprefix("file:"))
    if not text or "://" in text or option in ("-i", "--index-url", "--extra-index-url", "--hash"):
        return None
    if option in _LINKS and Path(folder, text).exists():
        return Path(folder, text)
    is_path = "/" in text or text.startswith(".") or text.lower().endswith(_ARCHIVES) or option in (*_LINKS, "-e")
    try:
        return Path(base, text) if is_path and Path(base, text).exists() else None
    except (OSError, ValueError):  # too long, or no path at all
        return None
