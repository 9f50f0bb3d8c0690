"""Archives that are damaged, hostile or of another tool's making: unpacked rightly, or refused with a word and nothing left."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from fetching import FUNCTION, link, run, serving, sha256, tar

from model_runtime.errors import DownloadFailed
from model_runtime.fetch import archive
from model_runtime.fetch.settings import Limits
from model_runtime.fetch.unpacking import unpack

FILES = {"src/func_main.py": FUNCTION, "weights.bin": os.urandom(50_000)}


def unpacked(folder: Path, content: bytes, name: str = "m.tar", limits: Limits | None = None) -> Path:
    file = folder / "archive"
    file.write_bytes(content)
    unpack(file, name, folder / "t", limits or Limits())
    return folder / "t"


def refused(folder: Path, content: bytes, text: str, name: str = "m.tar", limits: Limits | None = None) -> None:
    before = sorted(path.name for path in folder.parent.iterdir())
    with pytest.raises(DownloadFailed) as caught:
        unpacked(folder, content, name, limits)
    assert str(caught.value).startswith(f"{name}: cannot be unpacked: ")
    assert text in str(caught.value), caught.value
    assert not (folder / "t").exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == before


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return stream.getvalue()


def zip_entry(name: str, mode: int, content: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("src/func_main.py", FUNCTION)
        entry = zipfile.ZipInfo(name)
        entry.create_system, entry.external_attr = 3, mode << 16
        made.writestr(entry, content)
    return stream.getvalue()


# Good ones ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_tar_is_unpacked(mode: str, tmp_path: Path) -> None:
    folder = unpacked(tmp_path, tar(FILES, mode))

    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_zip_is_unpacked(method: int, tmp_path: Path) -> None:
    folder = unpacked(tmp_path, zipped(FILES, method))

    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize("packer", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_streams_may_follow_each_other_as_parallel_packers_write_them(
    packer: object, tmp_path: Path
) -> None:
    plain = tar(FILES, "w")
    pieces = [packer(plain[at : at + 20_000]) for at in range(0, len(plain), 20_000)]  # type: ignore[operator]

    assert (unpacked(tmp_path, b"".join(pieces)) / "weights.bin").read_bytes() == FILES["weights.bin"]


def test_the_archive_of_the_system_s_tar_is_unpacked_with_links_and_modes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "src" / "v1").mkdir(parents=True)
    (source / "src" / "v1" / "func_main.py").write_bytes(FUNCTION)
    (source / "src" / "run.sh").write_text("#!/bin/sh\n")
    (source / "src" / "run.sh").chmod(0o755)
    (source / "src" / "func_main.py").symlink_to("v1/func_main.py")
    (source / "current").symlink_to("src/v1")
    (source / ("long" * 60)).mkdir()
    (source / ("long" * 60) / "ä").write_text("x")
    os.link(source / "src" / "run.sh", source / "same.sh")
    with (source / "sparse").open("wb") as sparse:
        sparse.seek(1 << 20)
        sparse.write(b"end")
    content = subprocess.run(["tar", "-C", source, "-czS", "."], stdout=subprocess.PIPE, check=True).stdout

    folder = unpacked(tmp_path, content)

    assert os.readlink(folder / "src" / "func_main.py") == "v1/func_main.py"
    assert (folder / "current" / "func_main.py").read_bytes() == FUNCTION
    assert (folder / "src" / "run.sh").stat().st_mode & 0o111 == 0o111
    assert (folder / "same.sh").samefile(folder / "src" / "run.sh")
    assert (folder / ("long" * 60) / "ä").read_text() == "x"
    assert (folder / "sparse").read_bytes() == bytes(1 << 20) + b"end"
    assert int((folder / "src" / "run.sh").stat().st_mtime) == int((source / "src" / "run.sh").stat().st_mtime)


def test_links_and_modes_of_a_zip_are_kept(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name, mode, content in (
            ("run.sh", stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
            ("plain", stat.S_IFREG | 0o4644, b"x"),
            ("src/latest.sh", stat.S_IFLNK | 0o777, b"../run.sh"),
        ):
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, mode << 16
            made.writestr(entry, content)

    folder = unpacked(tmp_path, stream.getvalue(), "m.zip")

    assert os.readlink(folder / "src" / "latest.sh") == "../run.sh"
    assert stat.S_IMODE((folder / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "plain").stat().st_mode) == 0o644


def test_a_later_file_of_the_same_name_replaces_the_earlier_as_with_tar(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for content in (b"old", b"new"):
            member = tarfile.TarInfo("a.py")
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))

    assert (unpacked(tmp_path, stream.getvalue()) / "a.py").read_bytes() == b"new"


@pytest.mark.parametrize(
    "members", [[link("src/latest", "func_main.py")], [link("src/same.py", "src/func_main.py", tarfile.LNKTYPE)]]
)
def test_links_inside_are_kept(members: list[tarfile.TarInfo], tmp_path: Path) -> None:
    folder = unpacked(tmp_path, tar(FILES, more=members))

    assert (folder / members[0].name).read_bytes() == FUNCTION


# Hostile ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../evil.py", "/etc/evil.py", "a/../../evil.py", "..", "a\\..\\evil.py", "a/./../../evil", "a\nb"]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)

    refused(folder, tar({name: b"evil", **FILES}), "leads out")
    refused(folder, zipped({name: b"evil", **FILES}), "leads out", "m.zip")


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    return member


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ([link("evil", "/etc")], "leads out"),
        ([link("evil", "../..")], "leads out"),
        ([link("evil", "src/../..")], "leads out"),
        ([link("evil.py", "../../evil.py", tarfile.LNKTYPE)], "leads out"),
        ([link("evil.py", "/etc/passwd", tarfile.LNKTYPE)], "leads out"),
        ([link("a/b/c", "."), link("a/b/evil", "c/../../..")], "leads out"),
        ([link("evil", "x/.."), link("x", ".")], "leads out"),
        ([link("loop", "loop")], "leads out"),
        ([link("one", "two"), link("two", "one")], "leads out"),
        ([link("src", "/tmp")], "place of another"),
        ([link("a", "src"), special("a/b", tarfile.DIRTYPE)], "File exists"),
        ([link("a", ".."), link("a/b", "x")], "File exists"),
        ([link("same", "not/there", tarfile.LNKTYPE)], "not a file before it"),
        ([link("weights.bin/x", "y")], "weights.bin"),
        ([special("src/pipe", tarfile.FIFOTYPE)], "neither file nor folder"),
        ([special("src/disk", tarfile.BLKTYPE)], "neither file nor folder"),
        ([special("src/null", tarfile.CHRTYPE)], "neither file nor folder"),
        ([special("n" * 300, tarfile.DIRTYPE)], "File name too long"),
    ],
)
def test_what_leads_out_or_is_no_file_is_refused(members: list[tarfile.TarInfo], text: str, tmp_path: Path) -> None:
    refused(tmp_path, tar(FILES, more=members), text)


@pytest.mark.parametrize(
    ("name", "mode", "content", "text"),
    [
        ("evil", stat.S_IFLNK | 0o777, b"/etc/passwd", "leads out"),
        ("evil", stat.S_IFLNK | 0o777, b"../../..", "leads out"),
        ("evil", stat.S_IFLNK | 0o777, b"\xff\xfe", "utf-8"),
        ("pipe", stat.S_IFIFO | 0o644, b"", "neither file nor folder"),
        ("null", stat.S_IFCHR | 0o644, b"", "neither file nor folder"),
        ("src", stat.S_IFREG | 0o644, b"x", "place of another"),
    ],
)
def test_what_is_no_file_in_a_zip_is_refused(name: str, mode: int, content: bytes, text: str, tmp_path: Path) -> None:
    refused(tmp_path, zip_entry(name, mode, content), text, "m.zip")


def test_a_folder_whose_links_lead_out_of_it_is_not_taken_out_of_its_archive(tmp_path: Path) -> None:
    content = tar({"model/src/func_main.py": FUNCTION, "shared.bin": b"x"}, more=[link("model/x", "../shared.bin")])
    with serving(content) as server:
        status, message = run(
            "http", server.url, "--sha256", sha256(content), "--path", "model", "--into", str(tmp_path / "t")
        )

    assert (status, "leads out" in message) == (8, True), message
    assert not (tmp_path / "t" / "files").exists()


@pytest.mark.parametrize(
    ("path", "status"), [("model", 0), ("model/", 0), ("./model", 0), ("", 0), ("other", 8), ("file", 8)]
)
def test_a_folder_of_the_archive_can_be_chosen(path: str, status: int, tmp_path: Path) -> None:
    content = tar({"model/src/func_main.py": FUNCTION, "file": b"x"})
    with serving(content) as server:
        got, message = run(
            "http", server.url, "--sha256", sha256(content), "--path", path, "--into", str(tmp_path / "t")
        )

    assert got == status, message
    if status:
        assert message.startswith(f"SourceEmpty: model.tar.gz: the archive has no folder {path!r}")
    else:
        below = "" if path else "model/"
        assert (tmp_path / "t" / "files" / f"{below}src/func_main.py").read_bytes() == FUNCTION


# Damaged ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_tar_is_refused(mode: str, part: float, tmp_path: Path) -> None:
    content = tar(FILES, mode)
    content = content.rstrip(b"\0") if mode == "w" else content

    refused(tmp_path, content[: int(len(content) * part)], "")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_overwritten_bytes_are_found(mode: str, tmp_path: Path) -> None:
    """Also those after the last file, which a reader of the files alone never sees."""
    content = tar(FILES, mode)
    for at in [*range(20, len(content), len(content) // 20), len(content) - 5]:
        broken = bytearray(content)
        broken[at] ^= 0x55
        refused(tmp_path, bytes(broken), "")


def test_an_overwritten_header_is_no_early_end(tmp_path: Path) -> None:
    content = bytearray(tar(FILES, "w"))
    content[1024] ^= 0x55  # the second file's name

    refused(tmp_path, bytes(content), "truncated or overwritten")


def test_a_zip_that_is_truncated_or_overwritten_is_refused(tmp_path: Path) -> None:
    content = zipped(FILES)
    refused(tmp_path, content[:-30], "", "m.zip")
    refused(tmp_path, content[1000:], "", "m.zip")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        broken = bytearray(zipped(FILES, method))
        broken[1000] ^= 0x55
        refused(tmp_path, bytes(broken), "", "m.zip")


def test_an_encrypted_zip_is_refused_by_name(tmp_path: Path) -> None:
    content = bytearray(zipped({"src/func_main.py": FUNCTION}))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1

    refused(tmp_path, bytes(content), "'src/func_main.py' is encrypted", "m.zip")


@pytest.mark.parametrize(
    ("method", "name"), [(9, "deflate64"), (99, "AES"), (98, "ppmd"), (93, "zstandard"), (77, "method 77")]
)
def test_a_method_that_cannot_be_read_is_named(method: int, name: str, tmp_path: Path) -> None:
    content = bytearray(zipped({"src/func_main.py": FUNCTION}))
    content[8] = method
    content[content.index(b"PK\1\2") + 10] = method

    refused(tmp_path, bytes(content), f"'src/func_main.py' is compressed with {name}", "m.zip")


@pytest.mark.parametrize("name", ["m.tar.gz", "m.zip", "m.tar"])
@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"PK\3\4", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", os.urandom(5000)]
)
def test_what_is_no_archive_is_refused(content: bytes, name: str, tmp_path: Path) -> None:
    refused(tmp_path, content, "", name)


# Large ones ---------------------------------------------------------------------------------------------------------


def test_more_than_the_limits_is_not_unpacked(tmp_path: Path) -> None:
    few, small = Limits(max_files=1), Limits(max_bytes=20_000)
    for name, content in (("m.tar", tar(FILES)), ("m.zip", zipped(FILES))):
        refused(tmp_path, content, "more than the 1 entries allowed (FETCH_MAX_FILES)", name, few)
        refused(tmp_path, content, "inflates to more than", name, small)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_small_archive_does_not_fill_the_disk(mode: str, tmp_path: Path) -> None:
    """What it announces is refused before a byte is written."""
    bomb = tarfile.TarInfo("zeros")
    bomb.size = 3 << 30
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as made:  # type: ignore[call-overload]
        made.fileobj.write(bomb.tobuf())

    refused(tmp_path, stream.getvalue(), "inflates to more than the 1073741824 bytes allowed")


def test_a_sparse_file_counts_with_its_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    content = subprocess.run(["tar", "-C", tmp_path, "-cS", "sparse"], stdout=subprocess.PIPE, check=True).stdout

    refused(tmp_path, content, "inflates to more than")


def test_a_zip_that_announces_less_than_it_holds_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped({"zeros": bytes(100_000)}))
    for mark, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = content.index(mark) + offset
        content[at : at + 4] = (10).to_bytes(4, "little")

    refused(tmp_path, bytes(content), "", "m.zip")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        header = special("x", kind)
        header.size = 1 << 33
        refused(tmp_path, gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(100_000)), "a header of")


def test_an_xz_stream_that_needs_gigabytes_of_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    try:
        content = lzma.compress(tar(FILES, "w"), filters=filters)
    except MemoryError:
        pytest.skip("this machine cannot make one")

    refused(tmp_path, content, "Memory usage limit")


def test_a_list_of_entries_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped(FILES))
    at = content.rindex(b"PK\5\6") + 12
    content[at : at + 4] = (1 << 30).to_bytes(4, "little")

    refused(tmp_path, bytes(content), "its list of entries has 1073741824 bytes", "m.zip")


def test_the_entries_of_a_large_zip_are_read(tmp_path: Path) -> None:
    """More than 65,535: where they stand is in the part that zip64 added."""
    (tmp_path / "m.zip").write_bytes(zipped({str(number): b"" for number in range(66_000)}, zipfile.ZIP_STORED))

    assert sum(1 for _ in archive.entries(tmp_path / "m.zip", 1)) == 66_000
