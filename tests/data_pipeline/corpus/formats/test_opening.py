"""Compressed files: read to the last member, or an error."""

import bz2
import gzip
import json
import lzma
import struct
from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import DataError
from data_pipeline.corpus.formats import Slice, cut_file, read_slice


def _zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, ".zst": _zstd}
SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"abcd"


def _write(folder, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def _texts(file: str) -> list[str | None]:
    return [text for texts, _ in read_slice(Slice(file), "text") for text in texts]


def _rows(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


@pytest.mark.parametrize("suffix", sorted(COMPRESS))
@pytest.mark.parametrize("kind", [".jsonl", ".txt"])
def test_files_of_several_members_are_read_whole_and_say_how_far_they_are(tmp_path, suffix, kind):
    documents = [f"document {number}" for number in range(2000)]
    content = "\n\n".join(documents) if kind == ".txt" else _rows(*documents).decode()
    middle = content.index("document 1000")
    members = COMPRESS[suffix](content[:middle].encode()) + COMPRESS[suffix](content[middle:].encode())
    file = _write(tmp_path, f"a{kind}{suffix}", members)
    (part,) = cut_file(file, len(members), 100)
    shares = [share for _, share in read_slice(part, "text")]
    assert _texts(file) == documents
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize(
    ("suffix", "before", "between", "behind"),
    [
        (".zst", SKIPPABLE, SKIPPABLE, SKIPPABLE),
        (".xz", b"", b"\0" * 4, b"\0" * 8),
        (".xz", b"", lzma.compress(b""), b""),
        (".gz", b"", gzip.compress(b"", mtime=0), b"\0" * 512),
        (".bz2", bz2.compress(b""), bz2.compress(b""), b""),
    ],
)
def test_what_a_format_allows_between_members_hides_none(tmp_path, suffix, before, between, behind):
    compress = COMPRESS[suffix]
    content = before + compress(_rows("a")) + between + compress(_rows("b")) + behind
    assert _texts(_write(tmp_path, f"a.jsonl{suffix}", content)) == ["a", "b"]


@pytest.mark.parametrize(
    ("suffix", "rubbish"),
    [
        *((suffix, rubbish) for suffix in COMPRESS for rubbish in (b"rubbish", b"\1", b'{"text": "b"}\n')),
        *((suffix, b"\0\0\0") for suffix in (".zst", ".xz", ".bz2")),  # gzip pads with zeros
    ],
)
def test_rubbish_behind_the_last_member_is_an_error(tmp_path, suffix, rubbish):
    with pytest.raises(DataError, match="cannot be read"):
        _texts(_write(tmp_path, f"a.jsonl{suffix}", COMPRESS[suffix](_rows("a")) + rubbish))


@pytest.mark.parametrize("suffix", sorted(COMPRESS))
def test_a_file_cut_off_anywhere_is_an_error(tmp_path, suffix):
    member = COMPRESS[suffix](_rows("a", "b"))
    content = member * 2
    for length in range(len(content)):
        file = _write(tmp_path, f"a.jsonl{suffix}", content[:length])
        if length == len(member):
            assert _texts(file) == ["a", "b"]
            continue
        with pytest.raises(DataError, match=f"a.jsonl{suffix}' cannot be read"):
            _texts(file)


@pytest.mark.parametrize("suffix", [".bz2", ".gz", ".xz"])
@given(data=st.data())
def test_a_changed_byte_is_an_error_or_changes_nothing(tmp_path_factory, suffix, data):
    """These three carry checksums; a header has bytes that mean nothing."""
    content = bytearray(COMPRESS[suffix](_rows("first", "second", "third")))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file = _write(tmp_path_factory.getbasetemp(), f"changed.jsonl{suffix}", bytes(content))
    with suppress(DataError):
        assert _texts(file) == ["first", "second", "third"]


def test_a_window_that_is_too_long_is_said_with_the_command_that_helps(tmp_path):
    # a frame of one raw block whose header asks for 2 GiB: exponent 21 (2^31), no content size, no checksum
    content = _rows("a")
    frame = struct.pack("<IBB", 0xFD2FB528, 0, 21 << 3) + struct.pack("<I", len(content) << 3 | 1)[:3] + content
    file = _write(tmp_path, "long.jsonl.zst", frame)
    with pytest.raises(DataError, match=r"`zstd -dc --long=31 long\.jsonl\.zst \| zstd -o new-long\.jsonl\.zst`"):
        _texts(file)
    small = frame[:5] + bytes([17 << 3]) + frame[6:]
    assert _texts(_write(tmp_path, "short.jsonl.zst", small)) == ["a"]
