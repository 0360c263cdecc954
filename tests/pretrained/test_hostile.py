"""Weight files from a stranger: each attack ends in one line, in little memory and time.

The files are made here. Where memory matters, a child process reads them under a limit of its
address space.
"""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tflite_writer import write_convolution

from seg_jax.checks import UserError
from seg_jax.pretrained import loading
from seg_jax.pretrained.formats import caffe, safetensors, tensorflow, tflite, torch

FORMATS = {
    ".caffemodel": caffe, ".index": tensorflow, ".pb": tensorflow, ".tflite": tflite,
    ".pth": torch, ".safetensors": torch,
}  # fmt: skip
GIB = 1 << 30
# Reads each file under a limit of memory beyond what the libraries took; prints the message or OK.
CHILD = """
import json, resource, sys, time
from pathlib import Path
from seg_jax.checks import UserError
from seg_jax.pretrained.formats import caffe, tensorflow, tflite, torch
readers = {".caffemodel": caffe, ".index": tensorflow, ".pb": tensorflow, ".tflite": tflite}
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30),) * 2)
for name in sys.argv[1:]:
    began = time.process_time()
    try:
        readers.get(Path(name).suffix, torch).read(Path(name))
        found = "OK"
    except UserError as error:
        found = str(error)
    print(json.dumps([found, time.process_time() - began]), flush=True)
"""


def refused(path, reader=None):
    """The message of the refusal: one line, printable, that names the file."""
    with pytest.raises(UserError) as caught:
        (reader or FORMATS[path.suffix]).read(path)
    message = str(caught.value)
    assert message.isprintable() and str(path) in message and len(message) < 1000
    return message


# PyTorch


def as_zip(payload, *, storages=(), **options):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", **options) as archive:
        archive.writestr("archive/data.pkl", payload)
        for key, content in enumerate(storages):
            archive.writestr(f"archive/data/{key}", content)
    return data.getvalue()


def as_old(payload, keys=(), stored=b""):
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    parts = [pickle.dumps(part, 2) for part in head]
    return b"".join([*parts, payload, pickle.dumps(list(keys), 2), stored])


def word(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def tensor(size, stride, *, offset=0, key="0", kind="FloatStorage"):
    """Opcodes of a view of storage `key`."""
    whole = lambda n: b"\x8a\x09" + n.to_bytes(9, "little", signed=True)  # noqa: E731
    row = lambda values: b"(" + b"".join(map(whole, values)) + b"t"  # noqa: E731
    storage = b"(" + word("storage") + b"ctorch\n%s\n" % kind.encode() + word(key) + word("cpu")
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + whole(1) + b"tQ"
        + whole(offset) + row(size) + row(stride) + b"tR"
    )  # fmt: skip


def state(*tensors):
    """A pickle of {"0": tensor, ...}."""
    items = b"".join(word(str(i)) + content for i, content in enumerate(tensors))
    return b"\x80\x02}(" + items + b"u."


PICKLES = {
    "sets": b"\x80\x04(" + b"\x8f" * 1_000_000 + b"t.",
    "dictionaries": b"\x80\x02(" + b"}" * 1_000_000 + b"t.",
    "tuple1": b"\x80\x02)" + b"\x85" * 5_000_000 + b"}q\x00h\x00s.",
    "nested_key": b"\x80\x02})" + b"\x85" * 40 + b"K\x01s.",
    "lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "long_text": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "long_bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "long_number": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "colliding_keys": b"\x80\x02}("
    + b"".join(b"\x8a\x0c" + (k * (2**61 - 1)).to_bytes(12, "little") + b"N" for k in range(9))
    + b"u.",
    "changed_function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",
    "wide_dtype": b"\x80\x02cnumpy\ndtype\n(" + word("f4000000000") + b"K\x00K\x01tR.",
    "terminal": b"\x80\x02cos\nsy\x1b[31mstem\n.",
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("pack", [as_zip, as_old])
def test_pickles_that_ask_for_more_than_they_are(tmp_path, name, pack):
    (tmp_path / "x.pth").write_bytes(pack(PICKLES[name]))
    refused(tmp_path / "x.pth")


def test_a_stride_of_zero_is_paid_for(tmp_path):
    """378 bytes asked for 32 GiB."""
    path = tmp_path / "x.pth"
    for payload in (
        state(tensor((2**33,), (0,))),
        state(tensor((2**20, 2**20), (0, 0))),
        state(*[tensor((1 << 17,), (0,)) for _ in range(40)]),
    ):
        path.write_bytes(as_zip(payload, storages=[bytes(4)]))
        assert "would take more than 8 times the file's" in refused(path)
        path.write_bytes(as_old(payload, "0", struct.pack("<q", 1) + bytes(4)))
        refused(path)
    # An expanded tensor of a size in proportion is read.
    path.write_bytes(as_zip(state(tensor((4, 3), (0, 1))), storages=[np.float32([1, 2, 3])]))
    np.testing.assert_array_equal(torch.read(path)["0"], np.float32([[1, 2, 3]] * 4))


@pytest.mark.parametrize(
    "view",
    [
        tensor((2**61, 2), (1, 2**61)),
        tensor((2,), (2**70,)),
        tensor((-1,), (1,)),
        tensor((1,), (1,), offset=-1),
        tensor((0, 2**60), (1, 1)),
        tensor((1,) * 60, (1,) * 60),
    ],
)
def test_sizes_that_overflow(tmp_path, view):
    (tmp_path / "x.pth").write_bytes(as_zip(state(view), storages=[bytes(8)]))
    if view == tensor((0, 2**60), (1, 1)):
        assert torch.read(tmp_path / "x.pth")["0"].size == 0
    else:
        refused(tmp_path / "x.pth")


@pytest.mark.parametrize("count", [-1, 2**40, 2**62])
def test_a_storage_longer_than_the_file(tmp_path, count):
    stored = struct.pack("<q", count) + bytes(4)
    (tmp_path / "x.pth").write_bytes(as_old(state(tensor((1,), (1,))), "0", stored))
    assert "it ends too early" in refused(tmp_path / "x.pth")


def test_archives_that_zipfile_cannot_read(tmp_path):
    path, good = tmp_path / "x.pth", state(tensor((1,), (1,)))
    path.write_bytes(as_zip(good, storages=[bytes(4)], compression=zipfile.ZIP_DEFLATED))
    assert "compressed, which PyTorch does not do" in refused(path)
    data = bytearray(as_zip(good, storages=[bytes(4)]))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(magic)
        data[place + at] |= 1  # of data.pkl: encrypted
    path.write_bytes(data)
    assert "is encrypted" in refused(path)
    data = bytearray(as_zip(good, storages=[bytes(4)]))
    for magic, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.find(magic) + at] = 97  # a compression that nobody knows
    path.write_bytes(data)
    refused(path)
    path.write_bytes(as_zip(good, storages=[bytes(4)])[:-30] + bytes(30))
    refused(path)


def test_members_that_overlap(tmp_path):
    """A directory whose entries share the same bytes: 500 storages of a megabyte in two."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data/0", bytes(1 << 20))
        views = [tensor((1,), (1,), key=str(i)) for i in range(500)]
        archive.writestr("archive/data.pkl", state(*views))
        first = archive.infolist()[0]
        for index in range(1, 500):
            copy = zipfile.ZipInfo(f"archive/data/{index}")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(copy, name, getattr(first, name))
            archive.filelist.append(copy)
            archive._didModify = True
    (tmp_path / "x.pth").write_bytes(data.getvalue())
    refused(tmp_path / "x.pth")


def test_a_directory_of_a_million_members(tmp_path):
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 65535, 65535, 500 << 20, 0, 0)
    (tmp_path / "x.pth").write_bytes(bytes(100) + end)
    refused(tmp_path / "x.pth")


# safetensors


def as_safetensors(header, stored=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + stored


def described(dtype="F32", shape=(1,), begin=0, end=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (as_safetensors({"a": described("F8_E4M3", (4,))}, bytes(4)), "a is F8_E4M3, which is not"),
        (as_safetensors({"a": described("F4", (8,))}, bytes(4)), "a is F4, which is not read here"),
        (as_safetensors({"a": described(shape=(0, 2**62), end=0)}), "a has the shape"),
        (as_safetensors({"a": described(shape=(0, 2**61), end=0)}), "damaged"),
        (as_safetensors({"a": described(shape=(2**40,))}, bytes(4)), "has the shape"),
        (as_safetensors({"a": described(shape=(-1,))}, bytes(4)), "has the shape"),
        (as_safetensors({"a": described(end=2**40)}, bytes(4)), "do not end with the file"),
        (as_safetensors({"a": described(), "b": described()}, bytes(4)), "b does not begin"),
        (as_safetensors({"a": described(shape=(1,))}, bytes(8)), "do not end with the file"),
        (as_safetensors({"a\n\x1b[31m": described("F8")}, bytes(4)), "a??[31m is F8"),
        (as_safetensors({"a": 3}), "damaged"),
        (as_safetensors([]), "its header is no object"),
        (as_safetensors(b"[" * 200_000), "damaged"),
        (as_safetensors(b"\xa5\xa5"), "damaged"),
        (struct.pack("<Q", 2**63) + b"{}", "its header has"),
        (b"", "damaged"),
    ],
)  # fmt: skip
def test_safetensors_that_are_refused(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)
    assert message in refused(tmp_path / "x.safetensors")


def test_bfloat16_is_read(tmp_path):
    """The values are those whose upper two bytes, as float32, are stored."""
    values = np.float32([1.0, -3.0, 0.15625, 65536.0])
    stored = values.view(np.uint16)[1::2].tobytes()
    path = tmp_path / "x.safetensors"
    path.write_bytes(as_safetensors({"a": described("BF16", (2, 2), end=8)}, stored))
    found = torch.read(path)["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.reshape(2, 2))


def test_safetensors_are_read_as_their_library_reads_them(tmp_path, rng):
    from safetensors.numpy import load_file, save_file

    kinds = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
    arrays = {
        kind: (100 * rng.random((3, 0 if kind == "i2" else 2))).astype(kind) for kind in kinds
    }
    path = tmp_path / "x.safetensors"
    save_file({**arrays, "scalar": np.array(3, np.float32)}, path, metadata={"format": "np"})
    found, expected = safetensors.read(path), load_file(path)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


# protobuf


def varint(value):
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def constant(shape, content, name=b"net/conv/weights"):
    """A frozen graph of one constant."""
    dims = b"".join(field(2, field(1, side)) for side in shape)
    value = field(1, 1) + field(2, dims) + field(4, content)
    attribute = field(1, b"value") + field(2, field(8, value))
    return field(1, field(1, name) + field(2, b"Const") + field(5, attribute))


def blob(shape, content, name=b"conv"):
    body = field(5, content) + field(7, b"".join(field(1, side) for side in shape))
    return field(100, field(1, name) + field(7, body))


def test_graphs_that_ask_for_more_than_they_are(tmp_path):
    path = tmp_path / "x.pb"
    path.write_bytes(constant((2, 3), np.arange(6, dtype=np.float32).tobytes()))
    assert tensorflow.read(path)["net/conv/weights"].shape == (2, 3)
    for content, message in (
        (constant((2**33,), bytes(4)), "would take more than"),
        (constant((2**62, 2**62), bytes(4)), "would take more than"),
        (constant((-1,), bytes(4)), "shape"),
        (constant((1,) * 100, bytes(4)), "100 dimensions"),
        (constant((1,), bytes(4), name=b"\xff\xfe/weights"), "is no UTF-8"),
        (b"".join(constant((1 << 18,), bytes(4)) for _ in range(20)), "would take more than"),
        (field(1, b"") * 400_000, "more than 300000 fields"),
        (b"\xff" * 50, "damaged"),
        (constant((1,), bytes(4))[:-3], "damaged"),
    ):
        path.write_bytes(content)
        assert message in refused(path)


def test_caffe_files_that_ask_for_more_than_they_are(tmp_path):
    path = tmp_path / "x.caffemodel"
    path.write_bytes(blob((2, 3), bytes(24)))
    assert caffe.read(path)["conv.0"].shape == (2, 3)
    for content, message in (
        (blob((2**40,), bytes(4)), "would take more than"),
        (blob((-1, 2), bytes(8)), "shape"),
        (blob((1,) * 40, bytes(4)), "40 dimensions"),
        (blob((1,), bytes(4), name=b"\xff\xfe"), "is no UTF-8"),
        (blob((1,), bytes(3)), "damaged"),
        (field(100, b"") * 400_000, "more than 300000 fields"),
    ):
        path.write_bytes(content)
        assert message in refused(path)


def index_file(entries, *, shards=1):
    """A LevelDB table of one block."""
    block = b""
    for key, value in [(b"", field(1, shards)), *entries]:
        block += varint(0) + varint(len(key)) + varint(len(value)) + key + value
    block += struct.pack("<II", 0, 1)
    handle = varint(0) + varint(len(block))
    index = varint(0) + varint(1) + varint(len(handle)) + b"z" + handle + struct.pack("<II", 0, 1)
    body = block + b"\0" * 5 + index + b"\0" * 5
    footer = varint(0) + varint(0) + varint(len(block) + 5) + varint(len(index))
    return body + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def stored_entry(shape, *, offset=0, size=4, shard=0):
    dims = b"".join(field(2, field(1, side)) for side in shape)
    return b"".join(field(n, v) for n, v in ((1, 1), (2, dims), (3, shard), (4, offset), (5, size)))


def test_checkpoints_that_ask_for_more_than_they_are(tmp_path):
    path = tmp_path / "model.ckpt.index"
    (tmp_path / "model.ckpt.data-00000-of-00001").write_bytes(np.float32(3).tobytes())
    path.write_bytes(index_file([(b"a", stored_entry((1,)))]))
    np.testing.assert_array_equal(tensorflow.read(path)["a"], np.float32([3]))
    for entry, message in (
        (stored_entry((2**40,)), "would take more than"),
        (stored_entry((1,), offset=2**40), "lies outside"),
        (stored_entry((1,), offset=-4), "lies outside"),
        (stored_entry((1,), size=2**40), "lies outside"),
        (stored_entry((1,), shard=7), "damaged"),
    ):
        path.write_bytes(index_file([(b"a", entry)]))
        assert message in refused(path)
    path.write_bytes(index_file([(b"\xff\xfe", stored_entry((1,)))]))
    refused(path)
    path.write_bytes(b"\xff" * 8 + index_file([])[8:])
    refused(path)


def test_an_index_that_points_into_nothing(tmp_path, rng):
    """Random changes of a small table: a reading or one line, never another error."""
    path = tmp_path / "model.ckpt.index"
    (tmp_path / "model.ckpt.data-00000-of-00001").write_bytes(bytes(64))
    good = bytearray(
        index_file([(b"a", stored_entry((1,))), (b"b", stored_entry((2, 2), size=16))])
    )
    for _ in range(300):
        changed = bytearray(good)
        for place in rng.integers(0, len(good), 3):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        try:
            tensorflow.read(path)
        except UserError as error:
            assert "\n" not in str(error)


# TensorFlow Lite


def lite(**changes):
    kernel = np.zeros((4, 3, 3, 2), np.uint8)
    given = {"scale": np.ones(4, np.float32), "zero_point": np.zeros(4, np.int64)} | changes
    return write_convolution(kernel, np.zeros(4, np.float32), **given)


def test_lite_files_that_ask_for_more_than_they_are(tmp_path):
    path = tmp_path / "x.tflite"
    path.write_bytes(lite())
    assert len(tflite.read(path).convolutions) == 1
    for scales in (5, 60_000, 100_000):  # broadcast, each would be another array
        path.write_bytes(lite(scale=np.ones(scales), zero_point=np.zeros(scales)))
        assert "scales" in refused(path)
    path.write_bytes(lite(zero_point=np.zeros(60_000)))
    assert "zero points" in refused(path)


@pytest.mark.parametrize("seed", range(4))
def test_changed_lite_files(tmp_path, seed):
    rng, good = np.random.default_rng(seed), lite()
    path = tmp_path / "x.tflite"
    for _ in range(100):
        changed = bytearray(good)
        for place in rng.integers(8, len(good), 2):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        try:
            tflite.read(path)
        except UserError as error:
            assert "\n" not in str(error)


# What is no file


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_no_regular_file(tmp_path, suffix):
    fifo, link, folder = (tmp_path / f"{name}{suffix}" for name in ("fifo", "link", "folder"))
    os.mkfifo(fifo)
    link.symlink_to("/dev/zero")
    folder.mkdir()
    for path in (fifo, link, folder, tmp_path / f"missing{suffix}"):
        message = refused(path)
        assert "is no regular file" in message or "cannot be read" in message


def test_the_catalogue_s_checksum_waits_for_no_fifo(tmp_path):
    os.mkfifo(tmp_path / "x.pth")
    with pytest.raises(UserError, match="is no regular file"):
        loading.load(tmp_path / "x.pth")


def test_all_attacks_within_a_gibibyte_and_five_seconds(tmp_path):
    """Of processor time, in one process whose address space may grow by a GiB."""
    files = {f"{name}.pth": as_zip(payload) for name, payload in PICKLES.items()}
    files |= {
        "zero.pth": as_zip(state(tensor((2**33,), (0,))), storages=[bytes(4)]),
        "storage.pth": as_old(
            state(tensor((1,), (1,))), "0", struct.pack("<q", 2**36) + bytes(4)
        ),
        "header.safetensors": as_safetensors(b"[" + b"{}," * (4 << 20) + b"1]"),
        "shape.pb": constant((2**33,), bytes(4)),
        "fields.pb": field(1, b"") * 20_000_000,
        "shape.caffemodel": blob((2**33,), bytes(4)),
        "fields.caffemodel": field(100, field(7, b"")) * 10_000_000,
        "dims.caffemodel": field(100, field(7, field(7, field(1, bytes(20_000_000))))),
        "scales.tflite": lite(scale=np.ones(60_000), zero_point=np.zeros(60_000)),
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in files]
    found = subprocess.run(
        [sys.executable, "-c", CHILD, *paths],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert found.returncode == 0 and len(lines) == len(files), found.stderr[-2000:]
    for path, (message, seconds) in zip(paths, lines, strict=True):
        assert message != "OK" and path in message, path
        assert "not enough memory" not in message and seconds < 5, (path, message, seconds)
