"""`Model`: a whole graph from an ONNX file, called as a layer is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from fastrnn.errors import FormatError
from fastrnn.formats import Readable, onnx
from fastrnn.formats.opening import title
from fastrnn.layers.compact import LARGEST
from fastrnn.models.along_time.pool import TimePool
from fastrnn.models.along_time.stream import TimeStream
from fastrnn.models.along_time.unrolled import Unrolled
from fastrnn.models.batch import find_batch
from fastrnn.models.calls import Calls
from fastrnn.models.fingerprint import graph_fingerprint
from fastrnn.models.fold import fold
from fastrnn.models.fuse import fuse
from fastrnn.models.graph import Graph, build
from fastrnn.models.inputs import Shapes, Signature, fixed_arrays, with_shapes
from fastrnn.models.ops.table import Array
from fastrnn.models.plan import Plan
from fastrnn.models.pool import ModelPool
from fastrnn.models.recurrence import Recurrence
from fastrnn.models.stacks import find, resolve
from fastrnn.models.states import candidates, described, find_states
from fastrnn.models.step import Binder
from fastrnn.models.stream import ModelStream
from fastrnn.models.trace import trace

SINGLE = " (a batch of 1 is written into the file: rows are stepped one by one)"


class Model:
    """A model as its file has it; made by `fastrnn.load_model`.

    A model is immutable: any number of threads may call it at once.

    Examples
    --------
    >>> model = fastrnn.load_model("silero_vad.onnx", fixed={"sr": 16000})
    >>> model.stream(batch=8).step(np.zeros((8, 576), np.float32)).shape
    (8, 1)
    >>> pool = model.pool(capacity=1000)
    >>> pool.step([pool.open(), pool.open()], np.zeros((2, 576), np.float32)).shape
    (2, 1)
    """

    def __init__(
        self,
        graph: Graph,
        fixed: Mapping[str, Any],
        options: Mapping[str, Any],
        name: str,
        states: Mapping[str, str] | None = None,
        time_axis: int | Mapping[str, int] | None = None,
        shapes: Shapes | None = None,
    ) -> None:
        self._name = name
        self._source = graph
        self._binder = Binder(options, graph.budget.allowed)
        self._fixed = fixed_arrays(graph, fixed)
        self._graph = fuse(fold(graph, self._fixed, options=options))
        self._graph = with_shapes(self._graph, shapes or {})
        self._signature = Signature(self._graph)
        self._plan = Plan.of(self._graph, self._binder)
        self._binder.settle()
        stored = str(options.get("weight_dtype") or "float32")
        if stored in LARGEST and not self.layers:
            raise ValueError(
                f"load_model: weight_dtype={stored!r}, but no recurrent node runs in the kernels"
            )
        self._stored = stored
        self._calls = Calls(self._graph, self._plan, self._binder)
        self._states = find_states(self.inputs, self.outputs, states)
        self._time_axis = time_axis
        if time_axis is not None and self._states:
            raise ValueError(
                f"load_model: time_axis={time_axis!r}, but the file has states: "
                f"{described(self._states)}; states={{}} says that they are none"
            )

    @classmethod
    def _from_file(
        cls,
        path: Readable,
        fixed: Mapping[str, Any],
        options: Mapping[str, Any],
        states: Mapping[str, str] | None = None,
        time_axis: int | Mapping[str, int] | None = None,
        shapes: Shapes | None = None,
    ) -> Model:
        """Read, check and fold the file `path`; raises as `fastrnn.load_model`."""
        name = title(path)
        model = onnx.read(path)
        try:
            return cls(build(model), fixed, options, name, states, time_axis, shapes)
        except FormatError as error:
            raise FormatError(f"{name}: {error}") from None

    @property
    def inputs(self) -> Mapping[str, onnx.Value]:
        """Each input's element type and shape, with the file's own names of axes, in its order."""
        return MappingProxyType(self._signature.inputs)

    @property
    def outputs(self) -> Mapping[str, onnx.Value]:
        """Each output's element type and shape, as far as the file says, in its order."""
        return MappingProxyType(self._signature.outputs)

    @property
    def states(self) -> Mapping[str, str]:
        """The inputs that are states -> the outputs that are the same states after a call."""
        return MappingProxyType(self._states)

    @property
    def layers(self) -> Mapping[str, Any]:
        """The recurrent layers that run in the kernels, by the names of their nodes."""
        return MappingProxyType(self._plan.layers())

    def stream(
        self, batch: int | None = None, *, initial_state: Any = None
    ) -> ModelStream | TimeStream:
        """Open `batch` streams that are stepped together; None: one, without a batch axis.

        Where the file has states they are carried, and a step is one call. Else the model is run
        along time, frame by frame.

        Parameters
        ----------
        initial_state : optional
            What the streams begin with and `reset` goes back to, as their `state` has it. None:
            states of the file are zeros.

        Raises
        ------
        ValueError
            The file leaves the shape of a state open; or a node does not run along time, which is
            named with the reason.
        """
        if self._states:
            return ModelStream(self._recurrence, batch, self._digest, initial_state)
        return TimeStream(self._unrolled, batch, self._digest, initial_state)

    @property
    def batch_first(self) -> bool:
        """Whether the runs of its pools have rows in front, and time behind them: always."""
        return True

    def pool(
        self, capacity: int, grow: bool = False, initial_state: Any = None
    ) -> ModelPool | TimePool:
        """Make a pool of streams that come and go one by one and are stepped in any subset.

        Parameters
        ----------
        capacity : int
            Streams that there is room for. Their states are allocated now.
        grow : bool
            Whether opening one more doubles the room; otherwise it raises PoolFullError.
        initial_state : optional
            What each stream begins with and `reset` goes back to: the `state` of a stream without
            batch.

        Raises
        ------
        ValueError
            As `stream`; or for another capacity than 1 to 2**31 - 1.
        """
        if self._states:
            return ModelPool(self._recurrence, capacity, grow, self._digest, initial_state)
        return TimePool(self._unrolled, capacity, grow, self._digest, initial_state)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what the model computes: nodes, tensors, what is fixed, and
        integer types of weights.

        Equal whatever engine, ISA or threads it has; saved states carry it.
        """
        return self._digest().hex()

    def _digest(self) -> bytes:
        more = f"{sorted(self._states.items())} {self._time_axis}"
        more += f" {self._stored}" if self._stored in LARGEST else ""
        return graph_fingerprint(self._source, self._fixed, more)

    @cached_property
    def _recurrence(self) -> Recurrence:
        batch = find_batch(self.inputs, self.outputs, self._states, self._plan.run)
        return Recurrence(self._graph, self._binder, self._states, batch)

    @cached_property
    def _unrolled(self) -> Unrolled:
        try:
            return Unrolled(self._graph, self._binder, self._time_axis)
        except ValueError as error:
            several = len(self.inputs) > 1
            may = candidates(self.inputs, self.outputs) if several else ""
            hint = f" (or does it have states? load_model's states= may be {may})" if may else ""
            raise ValueError(f"{self._name}: {error}{hint}") from None

    def __call__(self, /, *args: npt.ArrayLike, **named: npt.ArrayLike) -> Any:
        """Run the graph.

        Parameters
        ----------
        args, named : arrays
            The inputs, in the file's order or by name.

        Returns
        -------
        array, or dict of arrays by name where the file has several outputs

        Raises
        ------
        ValueError, TypeError
            An input is missing, unknown, or of a shape or type that does not fit; or a node cannot
            be computed from them, which is named.
        """
        key, values = self._signature.ready(args, named)
        run = self._calls.known(key)
        made = run(values) if run is not None else self._calls(self._signature.arrays(args, named))
        if len(made) == 1:
            return made[0]
        return dict(zip(self._graph.outputs, made, strict=True))

    def trace(self, node: str, /, *args: npt.ArrayLike, **named: npt.ArrayLike) -> dict[str, Array]:
        """Run the graph and return every gate and state of one recurrent node at every step.

        Computed by the BLAS engine, whatever engine the model has.

        Parameters
        ----------
        node : str
            Its name, or as in `fastrnn.load` that of several which are one stack; "" if there is
            only one.
        args, named : arrays
            The inputs, in the file's order or by name.

        Returns
        -------
        dict of arrays (L, D, T, B, H)
            As a layer's `trace`: "input", "forget", "cell", "output", "c" and "h" of an LSTM.

        Raises
        ------
        ValueError, TypeError
            As in calling the model; or there is no such node, or it cannot run as a layer.
        """
        values = self._signature.arrays(args, named)
        shapes: dict[str, tuple[int, ...]] = {}
        self._plan.run(values, shapes)
        graph = fold(self._graph, shapes=shapes, options=self._binder.options)
        return trace(graph, resolve(find(graph), node), values, self._binder)

    def _streaming(self) -> str:
        """How it streams, in a line."""
        try:
            if self._states:
                single = self._recurrence.batch.single
                return f"states: {described(self._states)}{SINGLE if single else ''}"
            unrolled = self._unrolled
        except ValueError as error:
            return f"no streams: {error}"
        time = ", ".join(f"axis {axis} of {name}" for name, axis in unrolled.axes.time.items())
        late = ", ".join(f"{name} {count}" for name, count in unrolled.delay.items())
        single = unrolled.axes.single
        return f"along time: {time}; frames late: {late}{SINGLE if single else ''}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copies and pickles: threads may share a model, processes load its file."""
        raise TypeError(
            f"{self._name}: a model cannot be copied or pickled: it does not change, and threads "
            "may share it; in another process call load_model"
        )

    def __repr__(self) -> str:
        lines = [f"Model({os.path.basename(self._name)})"]
        for what, values in (("inputs", self.inputs), ("outputs", self.outputs)):
            lines.append(f"  {what}:")
            lines += [f"    {name}: {_described(value)}" for name, value in values.items()]
        for name, array in self._fixed.items():
            lines.append(f"  fixed: {name} = {array.tolist() if array.size == 1 else array.shape}")
        lines.append(f"  {self._streaming()}")
        layers = self._plan.layers()
        if layers:
            lines.append("  in the kernels:")
            lines += [f"    {layer!r}" for layer in layers.values()]
        return "\n".join(lines)


def _described(value: onnx.Value) -> str:
    axes = (
        "?" if value.shape is None else ", ".join("?" if n is None else str(n) for n in value.shape)
    )
    return f"{value.element or '?'} ({axes})"
