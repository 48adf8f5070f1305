"""torch: nn.LSTM, nn.GRU, nn.RNN; their cells; dynamic int8 quantization. One thread."""

from __future__ import annotations

import contextlib
import os
import warnings
from typing import Any

from fastrnn.measure.cases import Case, Weights
from fastrnn.measure.peers.runner import Array, Runner


def can(case: Case, kind: str) -> bool:
    """Whether this kind of module ("layer", "cell", "int8") computes `case`."""
    if kind == "cell":
        return case.is_step and case.num_layers == 1 and not case.proj_size
    return kind != "int8" or (case.cell != "RNN" and not case.proj_size)


def runners(case: Case, weights: Weights, kind: str) -> list[Runner]:
    """With oneDNN and without: either may be faster."""
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(RuntimeError):  # can be said once only
        torch.set_num_interop_threads(1)
    if kind == "int8":
        return [Int8(case, weights)]
    if kind == "cell":
        return [Cell(case, weights, onednn) for onednn in (True, False)]
    ways = (False,) if case.proj_size else (True, False)  # oneDNN has no projection
    return [Layer(case, weights, onednn) for onednn in ways]


class Torch(Runner):
    """A module with the case's weights and its state."""

    def __init__(self, case: Case, onednn: bool, name: str) -> None:
        import torch

        super().__init__(case)
        self.torch, self.onednn = torch, onednn
        self.flags: Any = torch.backends.mkldnn
        self.name = name if onednn else f"{name}, oneDNN off"
        zeros = [torch.zeros(shape) for shape in case.state_shapes.values()]
        self.state: Any = tuple(zeros) if case.cell == "LSTM" else zeros[0]

    def convert(self, x: Array) -> Any:
        """Return x as a tensor."""
        return self.torch.from_numpy(x.reshape(self.sequence_shape))

    def to_numpy(self, y: Any) -> Array:
        """Return a copy."""
        copy: Array = y.numpy().reshape(self.case.y_shape).copy()
        return copy

    def enter(self) -> None:
        """Set whether oneDNN may be used."""
        self.flags.set_flags(self.onednn)


class Layer(Torch):
    """nn.LSTM, nn.GRU, nn.RNN in inference mode."""

    def __init__(
        self, case: Case, weights: Weights, onednn: bool, name: str = "torch nn.{cell}"
    ) -> None:
        super().__init__(case, onednn, name.format(cell=case.cell))
        config = case.config
        proj = {"proj_size": config.proj_size} if config.proj_size else {}
        self.module: Any = getattr(self.torch.nn, case.cell)(
            config.input_size,
            config.hidden_size,
            config.num_layers,
            bidirectional=config.bidirectional,
            **proj,
        ).eval()
        own = {name: self.torch.tensor(value) for name, value in weights.items()}
        self.module.load_state_dict(own)

    def call(self, x: Any) -> Any:
        """Run the sequence."""
        if not self.case.carries_state:
            return self.module(x)[0]
        y, self.state = self.module(x, self.state)
        return y


class Int8(Layer):
    """torch.ao.quantization.quantize_dynamic: int8 weights, inputs quantized on the way."""

    def __init__(self, case: Case, weights: Weights) -> None:
        super().__init__(case, weights, True, "torch int8 nn.{cell}")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
            warnings.filterwarnings("ignore", category=UserWarning, module="torch")
            warnings.filterwarnings("ignore", message=".*torch.ao.quantization is deprecated")
            kind = getattr(self.torch.nn, case.cell)
            wrapped = self.torch.nn.Sequential(self.module)  # what is converted is a child
            if "ONEDNN_MAX_CPU_ISA" in os.environ:  # the default engine takes the best of the CPU
                self.torch.backends.quantized.engine = "onednn"
            quantized = self.torch.ao.quantization.quantize_dynamic(
                wrapped, {kind}, dtype=self.torch.qint8
            )
        self.module = quantized[0]


class Cell(Torch):
    """nn.LSTMCell, nn.GRUCell, nn.RNNCell in inference mode."""

    def __init__(self, case: Case, weights: Weights, onednn: bool) -> None:
        super().__init__(case, onednn, f"torch nn.{case.cell}Cell")
        self.module: Any = getattr(self.torch.nn, f"{case.cell}Cell")(
            case.input_size, case.hidden_size
        ).eval()
        own = {k.removesuffix("_l0"): self.torch.tensor(v) for k, v in weights.items()}
        self.module.load_state_dict(own)
        if case.cell == "LSTM":
            self.state = tuple(state[0] for state in self.state)
            self.call = self._lstm
        else:
            self.state = self.state[0]
            self.call = self._other

    def convert(self, x: Array) -> Any:
        """Return x (B, I) as a tensor."""
        return self.torch.from_numpy(x)

    def _lstm(self, x: Any) -> Any:
        self.state = self.module(x, self.state)
        return self.state[0]

    def _other(self, x: Any) -> Any:
        self.state = self.module(x, self.state)
        return self.state
