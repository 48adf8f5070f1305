"""What the globals of a pickle mean: the few that stand for tensors, arrays and containers.

All others are names, and what is made from them a Foreign record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastrnn.errors import FormatError
from fastrnn.formats.arrays import NUMPY_ELEMENTS
from fastrnn.formats.pickles import torchrecords
from fastrnn.formats.pickles.inert import (
    DType,
    Enclosed,
    Foreign,
    Global,
    NumpyArray,
    NumpyDType,
    Unreadable,
)
from fastrnn.formats.pickles.torchrecords import Args
from fastrnn.formats.source import Bytes, shown

Constructor = tuple[int, Callable[[Args], object]]  # the fewest values it takes, what it makes

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_PLAIN_KEYS = (str, bytes, bool, float, type(None))


def lookup(module: str, name: str) -> Global | DType:
    """What the pickle's global `module`.`name` is here."""
    module = _PYTHON_2.get(module, module)
    return torchrecords.element_type(module, name) or Global(f"{module}.{name}")


def is_known(known: Global) -> bool:
    """Whether the global is one of those that PyTorch and NumPy write beside their data."""
    return known.name in _CALLS or known.name in _INERT or known.name.startswith("__torch__.")


def call(function: object, args: object) -> object:
    """What calling `function`, or making an object of it, stands for. Nothing is called."""
    if not isinstance(function, Global):
        name = function.name if isinstance(function, (Foreign, DType)) else type(function).__name__
        return Foreign(name, args)
    step = _CALLS.get(function.name)
    if step is None:
        return Foreign(function.name, args)
    if type(args) is not tuple:
        raise FormatError(f"{function.name} is given {shown(args)}, expected a tuple")
    least, make = step
    if len(args) < least:
        raise FormatError(f"{function.name} is given {len(args)} values, expected {least}")
    return make(args)


def cost(function: object, args: object) -> int:
    """The objects that `call` counts for: where it copies its first argument, what it copies."""
    copies = isinstance(function, Global) and function.name in _COPYING
    if copies and isinstance(args, tuple) and args:
        if isinstance(args[0], list):
            return 1 + 2 * len(args[0])
        if isinstance(args[0], str):
            return 1 + len(args[0]) // 64
    return 2


def set_state(target: object, state: Any) -> None:
    """Give an object its state, as __setstate__ would; one that needs none here ignores it."""
    if isinstance(target, Foreign):
        target.state = state
    elif isinstance(target, NumpyDType):
        plain = type(state) is tuple and len(state) >= 5 and state[2:5] == (None, None, None)
        order = _ascii(state[1]) if plain else None
        if order not in ("<", ">", "|", "="):
            target.code = None
        target.byte_order = ">" if order == ">" else "<"
    elif isinstance(target, NumpyArray):
        if type(state) is not tuple or len(state) != 5 or type(state[1]) is not tuple:
            raise FormatError(f"a NumPy array has the state {shown(state)}, which is not one")
        _, shape, dtype, fortran, data = state
        _fill_array(target, data, dtype, shape, fortran=bool(fortran))


def set_items(target: dict[Any, object], items: list[Any]) -> None:
    """Add `items`, keys and values in turn, to `target`.

    A key that is not plain stands for itself alone: hashing it could take for ever, or the stack.
    """
    if len(items) % 2:
        raise FormatError("the pickle sets a dict item that has a key and no value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        plain = isinstance(key, _PLAIN_KEYS) or torchrecords.is_int64(key)
        target[key if plain else Foreign(type(key).__name__, ())] = value


def _ascii(text: object) -> object:
    return text.decode("latin-1") if type(text) is bytes else text


def _unreadable(reason: str) -> Constructor:
    record = Unreadable(reason)
    return 0, lambda args: record


def _from_type(args: Args) -> object:
    """A tensor subclass: (function that rebuilds the tensor, subclass, its arguments, state)."""
    function, cls, inner = args[:3]
    if isinstance(function, Global) and function.name in _TENSOR_CALLS:
        return call(function, inner)
    return Foreign(cls.name if isinstance(cls, Global) else "tensor subclass", args)


def _ordered_dict(args: Args) -> object:
    made: dict[Any, object] = {}
    if args:
        if type(args[0]) is dict:
            return args[0]
        if type(args[0]) is not list:
            raise FormatError(f"an OrderedDict is made from {shown(args[0])}, expected a list")
        for pair in args[0]:
            if type(pair) not in (list, tuple):
                raise FormatError(f"an OrderedDict is made from {shown(pair)}, expected pairs")
            set_items(made, list(pair[:2]))
    return made


def _enclosed(args: Args) -> Enclosed | Unreadable:
    if type(args[0]) is bytes:
        return Enclosed(args[0])
    return Unreadable(f"has a storage made from {shown(args[0])}, expected bytes")


def _object(args: Args) -> Foreign:
    return Foreign(args[0].name if isinstance(args[0], Global) else "object", ())


def _encode(args: Args) -> object:
    text, encoding = args[:2]
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise FormatError(f"_codecs.encode of {shown(text)} to {shown(encoding)}, expected latin1")
    return text.encode("latin-1")


def _numpy_dtype(args: Args) -> NumpyDType:
    code = _ascii(args[0])
    return NumpyDType(code if isinstance(code, str) and code in NUMPY_ELEMENTS else None)


def _numpy_shell(args: Args) -> object:
    cls = args[0]
    if isinstance(cls, Global) and cls.name == "numpy.ndarray":
        return NumpyArray()
    return Foreign(cls.name if isinstance(cls, Global) else "ndarray subclass", args)


def _numpy_buffer(args: Args) -> NumpyArray:
    data, dtype, shape, order = args[:4]
    made = NumpyArray()
    _fill_array(made, data, dtype, shape, fortran=_ascii(order) == "F")
    return made


def _fill_array(
    array: NumpyArray, data: object, dtype: object, shape: object, *, fortran: bool
) -> None:
    if not isinstance(dtype, NumpyDType):
        raise FormatError(f"a NumPy array has the dtype {shown(dtype)}, which is not one")
    if isinstance(data, str) and len(data) < 256:
        data = data.encode("utf-8")  # a string of Python 2, taken for text
    array.dtype, array.shape, array.fortran = dtype, torchrecords.ints("shape", shape), fortran
    array.data = Bytes(data) if type(data) is bytes else None


_FIRST: Constructor = (1, lambda args: args[0])
_SET: Constructor = (0, lambda args: args[0] if args else [])
_TENSOR_CALLS: dict[str, Constructor] = {
    "torch._utils._rebuild_tensor": (4, torchrecords.tensor),
    "torch._utils._rebuild_tensor_v2": (
        4,
        lambda args: torchrecords.tensor(args, metadata=args[6] if len(args) > 6 else None),
    ),
    "torch._utils._rebuild_tensor_v3": (
        7,
        lambda args: torchrecords.tensor(args, args[6], args[7] if len(args) > 7 else None),
    ),
    "torch._utils._rebuild_parameter": _FIRST,
    "torch._utils._rebuild_parameter_with_state": _FIRST,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _FIRST,
    "torch._utils._rebuild_device_tensor_from_numpy": _FIRST,
    "torch._utils._rebuild_xla_tensor": _FIRST,
    "torch._utils._rebuild_qtensor": (5, torchrecords.quantized),
    "torch._utils._rebuild_sparse_tensor": _unreadable("is sparse: save it as tensor.to_dense()"),
    "torch._utils._rebuild_sparse_csr_tensor": _unreadable("is sparse: save tensor.to_dense()"),
    "torch._utils._rebuild_nested_tensor": _unreadable("is a nested tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unreadable("is a meta tensor, without data"),
    "torch._utils._rebuild_wrapper_subclass": _unreadable("is a wrapper, without data of its own"),
}
_CALLS: dict[str, Constructor] = {
    **_TENSOR_CALLS,
    "torch._tensor._rebuild_from_type": (3, _from_type),
    "torch._tensor._rebuild_from_type_v2": (3, _from_type),
    "torch.storage._load_from_bytes": (1, _enclosed),
    "torch.Size": _FIRST,
    "torch.jit._pickle.build_intlist": _FIRST,
    "torch.jit._pickle.build_doublelist": _FIRST,
    "torch.jit._pickle.build_boollist": _FIRST,
    "torch.jit._pickle.build_tensorlist": _FIRST,
    "torch.jit._pickle.restore_type_tag": _FIRST,
    "collections.OrderedDict": (0, _ordered_dict),
    "collections.Counter": (0, _ordered_dict),
    "collections.defaultdict": (0, lambda args: {}),
    "builtins.set": _SET,
    "builtins.frozenset": _SET,
    "builtins.bytearray": (0, lambda args: args[0] if args else b""),
    "copyreg._reconstructor": (1, _object),
    "_codecs.encode": (2, _encode),
    "numpy.dtype": (1, _numpy_dtype),
    **{
        f"numpy.{core}.{name}": step
        for core in ("core", "_core")
        for name, step in (
            ("multiarray._reconstruct", (1, _numpy_shell)),
            ("numeric._frombuffer", (4, _numpy_buffer)),
        )
    },
}
_COPYING = {"collections.OrderedDict", "collections.Counter", "_codecs.encode"}
_INERT = {
    *(f"builtins.{name}" for name in ("bool", "int", "float", "complex", "str", "bytes")),
    *(f"builtins.{name}" for name in ("list", "tuple", "dict", "slice", "object")),
    "torch.device",
    "torch.serialization._get_layout",
    "torch.nn.parameter.Parameter",
    "torch.Tensor",
    "torch._tensor.Tensor",
    "torch.per_tensor_affine",
    "torch.per_tensor_symmetric",
    "torch.per_channel_affine",
    "torch.per_channel_affine_float_qparams",
    "torch.per_channel_symmetric",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
}
