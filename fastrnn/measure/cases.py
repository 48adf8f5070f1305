"""What is computed: `Case`, and the sets of cases that are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from fastrnn.layers.weights import StackConfig

Weights = dict[str, npt.NDArray[np.float32]]

FLOAT = 4  # bytes


def weight_share(weight_dtype: str | None) -> float:
    """Bytes of a weight that is stored so over those of a float32; of None 1."""
    return 1.0 if weight_dtype is None else np.dtype(weight_dtype).itemsize / FLOAT


@dataclass(frozen=True)
class Case:
    """One call: T steps of B rows through a stack, float32; one step of a stream if T is 1.

    State goes from call to call, except that of a bidirectional stack, which starts anew.
    """

    cell: str  # "LSTM", "GRU" or "RNN"
    input_size: int
    hidden_size: int
    batch: int = 1
    steps: int = 1
    num_layers: int = 1
    group: str = "grid"
    proj_size: int = 0
    bidirectional: bool = False
    name: str | None = None  # in human words, where there is one

    @property
    def id(self) -> str:
        """Name of the case, such as "LSTM I=128 H=128 B=1 T=1"."""
        more = [f"L={self.num_layers}"] if self.num_layers > 1 else []
        more += [f"P={self.proj_size}"] if self.proj_size else []
        more += ["bidirectional"] if self.bidirectional else []
        sizes = [f"I={self.input_size}", f"H={self.hidden_size}"]
        return " ".join([self.cell, *sizes, *more, f"B={self.batch}", f"T={self.steps}"])

    @property
    def config(self) -> StackConfig:
        """The stack, in the words of torch's constructor."""
        return StackConfig(
            self.cell,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            bidirectional=self.bidirectional,
            proj_size=self.proj_size,
        )

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(B, I) of one step, (T, B, I) of several."""
        return (*self.leading, self.input_size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """(B, D*P) of one step, (T, B, D*P) of several; P = proj_size, else hidden_size."""
        return (*self.leading, self.config.directions * self.config.output_size)

    @property
    def leading(self) -> tuple[int, ...]:
        """(B,) of one step, (T, B) of several."""
        return (self.batch,) if self.is_step else (self.steps, self.batch)

    @property
    def is_step(self) -> bool:
        """Whether it is one step of a stream, rather than a sequence."""
        return self.steps == 1 and not self.bidirectional

    @property
    def carries_state(self) -> bool:
        """Whether the state of one call is the next one's."""
        return not self.bidirectional

    @property
    def states(self) -> tuple[str, ...]:
        """("h", "c") of an LSTM, else ("h",)."""
        return ("h", "c") if self.cell == "LSTM" else ("h",)

    @property
    def state_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Shapes of h (L*D, B, P) and, for LSTM, c (L*D, B, H)."""
        config = self.config
        rows = self.num_layers * config.directions
        widths = {"h": config.output_size, "c": self.hidden_size}
        return {state: (rows, self.batch, widths[state]) for state in self.states}

    @property
    def products(self) -> list[tuple[int, int]]:
        """Weights of each layer's products: (with x, with h and of the projection), in floats.

        With x a sequence can be multiplied at once; with h only step by step.
        """
        shapes = self.config.shapes()
        count = {name: int(np.prod(shape)) for name, shape in shapes.items()}
        return [
            (
                count[f"weight_ih{suffix}"],
                count[f"weight_hh{suffix}"] + count.get(f"weight_hr{suffix}", 0),
            )
            for suffix in self.config.suffixes()
        ]

    @property
    def flops_per_step(self) -> float:
        """Multiplies and adds of the matrix products for one step of all rows."""
        return 2.0 * self.batch * sum(x + h for x, h in self.products)

    @property
    def weight_bytes(self) -> int:
        """Of all parameters, unpacked."""
        return FLOAT * self.config.parameters

    @property
    def bytes_per_step(self) -> float:
        """Of weights that one step reads at least: those with x once in a sequence."""
        return FLOAT * sum(x / self.steps + h for x, h in self.products)

    def __str__(self) -> str:
        return f"{self.name}: {self.id}" if self.name else self.id


def random_weights(case: Case, rng: np.random.Generator | None = None) -> Weights:
    """Uniform in +-1/sqrt(H), as torch initialises; of seed 0 if `rng` is None."""
    rng = np.random.default_rng(0) if rng is None else rng
    bound = case.hidden_size**-0.5
    return {
        name: rng.uniform(-bound, bound, shape).astype(np.float32)
        for name, shape in case.config.shapes().items()
    }


SIZES = (32, 64, 128, 256, 512, 1024)
STEP_BATCHES = (1, 4, 16, 64, 256)
SEQUENCE_BATCHES = (1, 4, 32)
SEQUENCE = 100  # steps


def grid(quick: bool = False) -> list[Case]:
    """LSTM and GRU, one layer, I = H: single steps, and sequences of 100."""
    sizes = (32, 128, 512) if quick else SIZES
    batches = {1: (1, 16) if quick else STEP_BATCHES, SEQUENCE: (1,) if quick else SEQUENCE_BATCHES}
    return [
        Case(cell, size, size, batch, steps)
        for cell, steps in product(("LSTM", "GRU"), (1, SEQUENCE))
        for batch in batches[steps]
        for size in sizes
    ]


# DeepBench's inference_server_set and inference_device_set, in float32 (hidden units, time steps;
# batches of 1, 2 and 4, on a device 1; I = H):
# https://github.com/baidu-research/DeepBench/blob/master/code/kernels/rnn_problems.h
# Its GRUs of 1024 to 2816 units run for 187 to 1500 steps: here for 187 only, since the time per
# step no longer changes beyond that. What is left out is T alone.
DEEPBENCH_SERVER = {
    "LSTM": [(512, 25), (1024, 25), (2048, 25), (1536, 50), (256, 150)],
    "GRU": [(2816, 187), (2048, 187), (1536, 187), (2560, 187), (512, 1), (1024, 187)],
}
DEEPBENCH_BATCHES = (1, 2, 4)
DEEPBENCH_DEVICE = [("RNN", 32, 672), ("RNN", 64, 96), ("LSTM", 256, 150)]


def deepbench(quick: bool = False) -> list[Case]:
    """DeepBench's published inference set; quick: its device set, which has the smallest."""
    sets = [(*device, 1, "device") for device in DEEPBENCH_DEVICE]
    if not quick:
        sets += [
            (cell, size, steps, batch, "server")
            for cell, sizes in DEEPBENCH_SERVER.items()
            for size, steps in sizes
            for batch in DEEPBENCH_BATCHES
        ]
    cases: dict[str, Case] = {}
    for cell, size, steps, batch, name in sets:
        case = Case(cell, size, size, batch, steps, group="deepbench", name=f"DeepBench {name}")
        if case.id in cases:  # in both sets
            case = replace(case, name="DeepBench server and device")
        cases[case.id] = case
    return list(cases.values())
