"""Makes the .pt files of this folder as torch.save does (zip format, pickle protocol 2), without PyTorch.

The classes below only lend their names to the pickle. Run with Python 3: python3 make.py
"""

import math
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

torch = types.ModuleType("torch")
torch._utils = types.ModuleType("torch._utils")
sys.modules.update({"torch": torch, "torch._utils": torch._utils})

FORMATS = {
    "FloatStorage": "f", "HalfStorage": "e", "BFloat16Storage": None, "DoubleStorage": "d",
    "LongStorage": "q", "IntStorage": "i", "ByteStorage": "B", "BoolStorage": "?",
}
for name in FORMATS:
    setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))


def _rebuild_tensor_v2():
    pass


def _rebuild_parameter():
    pass


for function in (_rebuild_tensor_v2, _rebuild_parameter):
    function.__module__ = "torch._utils"
    setattr(torch._utils, function.__name__, function)


class Storage:
    def __init__(self, kind, values):
        self.kind, self.values = kind, values

    def bytes(self):
        if self.kind == "BFloat16Storage":
            return b"".join(struct.pack("<f", value)[2:] for value in self.values)
        return struct.pack(f"<{len(self.values)}{FORMATS[self.kind]}", *self.values)


class Tensor:
    def __init__(self, storage, shape, strides=None, offset=0):
        if strides is None:
            strides, step = [], 1
            for size in reversed(shape):
                strides.insert(0, step)
                step *= size
        self.arguments = (storage, offset, tuple(shape), tuple(strides), False, OrderedDict())

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return torch._utils._rebuild_parameter, (self.tensor, True, OrderedDict())


class Pickler(pickle._Pickler):
    """Storages become persistent ids; their bytes become entries of the archive."""

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = []

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        if value not in self.storages:
            self.storages.append(value)
        key = str(self.storages.index(value))
        return "storage", getattr(torch, value.kind), key, "cpu", len(value.values)


def save(path, value, root="archive", compression=zipfile.ZIP_STORED, extra=()):
    from io import BytesIO

    file = BytesIO()
    pickler = Pickler(file)
    pickler.dump(value)
    with zipfile.ZipFile(path, "w", compression) as archive:
        def write(name, contents):
            info = zipfile.ZipInfo(f"{root}/{name}")
            info.compress_type = compression
            # PyTorch pads local headers so that contents start at multiples of 64.
            start = archive.fp.tell() + 30 + len(info.filename)
            info.extra = b"FB" + struct.pack("<H", pad := (-start - 4) % 64) + b"Z" * pad
            archive.writestr(info, contents)

        write("data.pkl", file.getvalue())
        write("byteorder", b"little")
        for key, storage in enumerate(pickler.storages):
            write(f"data/{key}", storage.bytes())
        write("version", b"3\n")
        for name, contents in extra:
            write(name, contents)


numbers = [0.5, -1.0, 2.0, 3.25, -4.5, 6.0]
shared = Storage("FloatStorage", [0.0, *numbers])
state = OrderedDict(
    f32=Tensor(shared, [2, 3], offset=1),
    transposed=Tensor(shared, [3, 2], strides=[1, 3], offset=1),
    column=Tensor(shared, [2], strides=[3], offset=2),
    parameter=Parameter(Tensor(Storage("FloatStorage", numbers), [6])),
    f16=Tensor(Storage("HalfStorage", numbers), [6]),
    bf16=Tensor(Storage("BFloat16Storage", numbers), [6]),
    f64=Tensor(Storage("DoubleStorage", numbers), [6]),
    i64=Tensor(Storage("LongStorage", [1, -2, 3]), [3]),
    i32=Tensor(Storage("IntStorage", [1, -2, 3]), [3]),
    u8=Tensor(Storage("ByteStorage", [1, 2, 255]), [3]),
    flag=Tensor(Storage("BoolStorage", [True, False]), [2]),
    scalar=Tensor(Storage("FloatStorage", [7.0]), []),
    empty=Tensor(Storage("FloatStorage", []), [0, 4]),
)
state._metadata = OrderedDict({"": {"version": 1}})
save("stored.pt", state)
save("deflated.pt", state, compression=zipfile.ZIP_DEFLATED)

nested = OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())
save("nested.pt", {"epoch": 3, "losses": [0.5, 0.25], "done": False, "note": None,
                   "optimizer": {"state": {}, "lr": 1e-3}, "model_state_dict": nested}, root="nested")

expanded = OrderedDict(
    expanded=Tensor(shared, [1000, 7], strides=[0, 1]),
    outside=Tensor(shared, [2, 3], offset=2),
)
save("views.pt", expanded)

# The smallest technical model with the original's table of sines and cosines.
def zeros(*shape):
    return Tensor(Storage("FloatStorage", [0.0] * math.prod(shape)), list(shape))


def linear(name, rows, columns):
    return {f"{name}.weight": zeros(rows, columns), f"{name}.bias": zeros(rows)}


def norm(name):
    return {f"{name}.weight": zeros(width), f"{name}.bias": zeros(width)}


width, positions = 4, 3
table = [
    (math.cos if column % 2 else math.sin)(position / 10000 ** (column // 2 * 2 / width))
    for position in range(positions) for column in range(width)
]
layer = "layers.0"
sinusoidal = OrderedDict({
    "embeddings.token_embedding.weight": zeros(5, width),
    "embeddings.pos_encoding.pe": Tensor(Storage("FloatStorage", table), [1, positions, width]),
    **norm("embeddings.layer_norm"), **norm("final_norm"),
    **linear(f"{layer}.step_projections.0", width, width),
    **{f"{layer}.attention.{part}.weight": zeros(width, width) for part in ("w_q", "w_k", "w_v")},
    **linear(f"{layer}.attention.w_o", width, width),
    **norm(f"{layer}.norm1"), **norm(f"{layer}.norm2"),
    **linear(f"{layer}.feedforward.linear1", 6, width), **linear(f"{layer}.feedforward.linear2", width, 6),
    "lm_head.weight": zeros(5, width),
})
save("sinusoidal.pt", sinusoidal)


class Print:
    def __reduce__(self):
        return print, ("this must not run",)


save("program.pt", {"model": state, "hook": Print()})
save("script.pt", state, extra=[("constants.pkl", b"")])
save("empty.pt", {"epoch": 3})
with open("legacy.pt", "wb") as file:
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, file, protocol=2)
