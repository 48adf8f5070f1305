"""Small torch models of the shapes that people train, for the tests of export, models and streams.

`ZOO` has every one with its inputs, its axes, and whether it can stream along time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

FEATURES, HIDDEN, CLASSES, WORDS, SPEAKER = 10, 24, 5, 30, 6

Axes = int | None | Mapping[str, int]


class ConvLSTM(nn.Module):
    """Conv1d with BatchNorm, LSTM, head: voice activity; looks one frame ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(FEATURES, 16, 3, padding=1), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2)
        )
        self.lstm = nn.LSTM(16, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.conv(x.transpose(1, 2)).transpose(1, 2))
        return torch.sigmoid(self.head(y))


class CausalGRU(nn.Module):
    """Dilated causal convolutions with residuals, LayerNorm, GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(FEATURES, 16, 1)
        self.convs = nn.ModuleList(nn.Conv1d(16, 16, 3, dilation=d) for d in (1, 2, 4))
        self.norm = nn.LayerNorm(16)
        self.gru = nn.GRU(16, HIDDEN, 2, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.transpose(1, 2))
        for conv in self.convs:
            x = x + torch.relu(conv(F.pad(x, (2 * conv.dilation[0], 0))))
        y, _ = self.gru(self.norm(x.transpose(1, 2)))
        return self.head(y)


class SymmetricConvs(nn.Module):
    """Two convolutions with padding on both sides: four frames of lookahead; time comes last."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv1d(FEATURES, 12, 5, padding=2)
        self.b = nn.Conv1d(12, 12, 5, padding="same", bias=False)
        self.gru = nn.GRU(12, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.b(F.leaky_relu(self.a(x))), 0.2)
        y, _ = self.gru(x.permute(0, 2, 1))
        return y.permute(0, 2, 1)


class StridedLSTM(nn.Module):
    """Four frames in, one frame out."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv1d(FEATURES, 16, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv1d(16, 16, 3, stride=2, padding=1),
            nn.GELU(),
        )
        self.lstm = nn.LSTM(16, HIDDEN, 2, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.convs(x.transpose(1, 2)).transpose(1, 2))
        return F.softmax(self.head(y), dim=-1)


class Tagger(nn.Module):
    """Embedding, BiLSTM, log_softmax: part of speech."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12, padding_idx=0)
        self.lstm = nn.LSTM(12, HIDDEN, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.lstm(self.embedding(tokens))
        return F.log_softmax(self.head(y), dim=-1)


class CharacterModel(nn.Module):
    """Embedding, LSTM, tied head: the next character."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, HIDDEN)
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.lstm(self.embedding(tokens))
        return F.linear(y, self.embedding.weight)


class CRNN(nn.Module):
    """Conv2d, pools, BiLSTM: text in a picture's lines. The width is time."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d((2, 1)),
        )
        self.lstm = nn.LSTM(8 * 4, HIDDEN, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, picture: Tensor) -> Tensor:  # (B, 1, 16, W)
        x = self.convs(picture)  # (B, 8, 4, W // 2)
        x = x.permute(0, 3, 1, 2).flatten(2)
        y, _ = self.lstm(x)
        return self.head(y).log_softmax(2)


class AttentionDecoder(nn.Module):
    """An encoder, and a decoder that looks at all of it in each of its steps, with LSTMCell."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.query = nn.Linear(HIDDEN, HIDDEN)
        self.cell = nn.LSTMCell(HIDDEN + CLASSES, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        memory, last = self.encoder(x)
        h, c = last[0], torch.zeros_like(last[0])
        word = torch.zeros(x.shape[0], CLASSES)
        words = []
        for _ in range(4):
            weights = torch.softmax(memory @ self.query(h).unsqueeze(2), dim=1)  # (B, T, 1)
            context = (weights * memory).sum(1)
            h, c = self.cell(torch.cat([context, word], 1), (h, c))
            word = torch.softmax(self.head(h), 1)
            words.append(word)
        return torch.stack(words, 1)


class SpeakerDenoiser(nn.Module):
    """Two inputs: frames, and whom to listen to."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES + SPEAKER, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, FEATURES)

    def forward(self, frames: Tensor, speaker: Tensor) -> Tensor:
        speaker = F.normalize(speaker, dim=1).unsqueeze(1).expand(-1, frames.shape[1], -1)
        y, _ = self.gru(torch.cat([frames, speaker], 2))
        return frames * torch.sigmoid(self.head(y))


class EchoCanceller(nn.Module):
    """Two inputs along time: microphone and loudspeaker."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Linear(FEATURES, 12), nn.Linear(FEATURES, 12)
        self.lstm = nn.LSTM(12, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, FEATURES)

    def forward(self, near: Tensor, far: Tensor) -> Tensor:
        y, _ = self.lstm(torch.tanh(self.near(near)) - torch.tanh(self.far(far)))
        return torch.minimum(near, self.head(y))


class TwoHeads(nn.Module):
    """Outputs by name: voice activity, pitch, and the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.vad, self.pitch = nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, 8)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y, _ = self.gru(x)
        pitch = self.pitch(y)
        return {
            "vad": torch.sigmoid(self.vad(y)).squeeze(-1),
            "pitch": pitch.softmax(-1),
            "best": pitch.argmax(-1),
        }


class Bottleneck(nn.Module):
    """GRUs with linear bottlenecks between them, as projections are written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.narrow = nn.Linear(HIDDEN, 8, bias=False)
        self.b = nn.GRU(8, HIDDEN, batch_first=True, bias=False)
        self.head = nn.Linear(HIDDEN, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        a, _ = self.a(x)
        b, _ = self.b(self.narrow(a))
        return x + self.head(b)


class FeatureMean(nn.Module):
    """Features brought to mean 0 and variance 1 in each frame, and averaged at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        y, _ = self.lstm(scaled)
        return torch.stack([y.mean(2), y.amax(2), y.std(2)], -1)


class LearnedStart(nn.Module):
    """States begin at values that were trained."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, 2, batch_first=True)
        self.h0 = nn.Parameter(torch.randn(2, 1, HIDDEN) * 0.5)
        self.c0 = nn.Parameter(torch.randn(2, 1, HIDDEN) * 0.5)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        start = (self.h0.repeat(1, rows, 1), self.c0.expand(-1, rows, -1).contiguous())
        y, _ = self.lstm(x, start)
        return self.head(y)


class MaskDenoiser(nn.Module):
    """Depthwise-separable causal convolutions, GRU, a mask on the input; log-compressed."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(FEATURES, FEATURES, 4, groups=FEATURES)
        self.pointwise = nn.Conv1d(FEATURES, 16, 1)
        self.norm = nn.BatchNorm1d(16)
        self.gru = nn.GRU(16, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, FEATURES)

    def forward(self, spectrum: Tensor) -> Tensor:
        x = torch.log(spectrum.abs().clamp(min=1e-4)).transpose(1, 2)
        x = self.norm(self.pointwise(self.depthwise(F.pad(x, (3, 0)))))
        y, _ = self.gru(F.relu6(x).transpose(1, 2))
        return spectrum * self.head(y).sigmoid().clamp(0.05, 0.95)


class ConvTransposeDecoder(nn.Module):
    """Down by two, LSTM, up by two again with a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv1d(FEATURES, 12, 4, stride=2)
        self.lstm = nn.LSTM(12, HIDDEN, batch_first=True)
        self.up = nn.ConvTranspose1d(HIDDEN, FEATURES, 4, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # (B, FEATURES, T)
        y, _ = self.lstm(torch.relu(self.down(x)).transpose(1, 2))
        return torch.tanh(self.up(y.transpose(1, 2)))


class SpeechTagger(nn.Module):
    """Two bidirectional layers over convolved frames; time comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 16, 3, padding=1)
        self.gru = nn.GRU(16, HIDDEN, 2, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:  # (T, B, FEATURES)
        x = torch.relu(self.conv(x.permute(1, 2, 0))).permute(2, 0, 1)
        y, _ = self.gru(x)
        return self.head(y)


class ProjectedLSTM(nn.Module):
    """LSTM with proj_size; time comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, 2, proj_size=8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return self.head(y)


class CausalPools(nn.Module):
    """Pools over the past, and an average that halves the rate."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2 * FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        past = F.pad(x, (2, 0))
        both = torch.cat([F.max_pool1d(past, 3, 1), F.avg_pool1d(past, 3, 1)], 1)
        halved = F.avg_pool1d(both, 2, 2)
        y, _ = self.gru(halved.transpose(1, 2))
        return F.max_pool1d(y, 2)


class Activations(nn.Module):
    """Every usual activation around one GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 32, 2)
        self.prelu = nn.PReLU(16)
        self.gru = nn.GRU(16, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.conv(F.pad(x.transpose(1, 2), (1, 0))), dim=1)
        x = F.hardswish(3 * self.prelu(3 * x)).transpose(1, 2)
        y, _ = self.gru(x)
        a, b, c, d = y.chunk(4, dim=-1)
        parts = [F.elu(a), F.softplus(b), F.selu(c), F.gelu(d, approximate="tanh"), F.silu(a)]
        parts += [F.mish(b), F.hardsigmoid(4 * c), F.softsign(d), F.hardtanh(4 * a), F.celu(b, 0.5)]
        parts += [F.gelu(c), F.logsigmoid(d), F.softmin(a, -1)]
        return torch.cat([*parts, F.hardshrink(c, 0.2), F.tanhshrink(d), torch.erf(a)], -1)


class ReluRNN(nn.Module):
    """RNN with relu, two layers, and one with tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.RNN(FEATURES, HIDDEN, 2, nonlinearity="relu", batch_first=True)
        self.tanh = nn.RNN(HIDDEN, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.relu(x)
        y, _ = self.tanh(y)
        return self.head(y)


class StateInOut(nn.Module):
    """The streaming form: the state comes in and goes out."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, 2, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.gru(x, h)
        return self.head(y), h


class ContextInOut(nn.Module):
    """The streaming form with a convolution's context and both states of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 12, 3)
        self.lstm = nn.LSTM(12, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(
        self, x: Tensor, context: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        seen = torch.cat([context, x.transpose(1, 2)], 2)
        y, (h, c) = self.lstm(torch.relu(self.conv(seen)).transpose(1, 2), (h, c))
        return torch.sigmoid(self.head(y)), seen[:, :, -2:], h, c


class CellStep(nn.Module):
    """One call, one step, of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(FEATURES, HIDDEN)
        self.gru = nn.GRUCell(HIDDEN, HIDDEN)

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, g: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h, c = self.lstm(x, (h, c))
        g = self.gru(h, g)
        return g + h, h, c, g


class Waveform(nn.Module):
    """Raw samples: a spectrum as a strided convolution, magnitudes, LSTM (Silero's shape)."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Conv1d(1, 2 * 9, 16, stride=8, bias=False)
        self.lstm = nn.LSTM(9, HIDDEN, batch_first=True)
        self.head = nn.Conv1d(HIDDEN, 1, 1)

    def forward(self, samples: Tensor) -> Tensor:  # (B, N)
        parts = self.spectrum(F.pad(samples.unsqueeze(1), (8, 0)))
        magnitude = torch.sqrt(parts[:, :9] ** 2 + parts[:, 9:] ** 2)
        y, _ = self.lstm(torch.log1p(magnitude).transpose(1, 2))
        return torch.sigmoid(self.head(torch.relu(y.transpose(1, 2)))).squeeze(1)


class ReflectedConv(nn.Module):
    """Padded by reflection, which reads the end of time first; then group norm over time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 12, 3, padding=1, padding_mode="reflect")
        self.gru = nn.GRU(12, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(self.conv(x.transpose(1, 2)).transpose(1, 2))
        return y


class GroupNormed(nn.Module):
    """Norms whose statistics are over time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 12, 1)
        self.groups, self.instance = nn.GroupNorm(3, 12), nn.InstanceNorm1d(12, affine=True)
        self.gru = nn.GRU(12, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.groups(self.conv(x.transpose(1, 2)))
        y, _ = self.gru(self.instance(x).transpose(1, 2))
        return y


class MeanOverTime(nn.Module):
    """One answer for a whole utterance: the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return self.head(y.mean(1))


class LastState(nn.Module):
    """One answer for a whole text: the last states of both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.lstm = nn.LSTM(12, HIDDEN, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        _, (h, _) = self.lstm(self.embedding(tokens))
        return self.head(torch.cat([h[-2], h[-1]], 1))


class LastFrame(nn.Module):
    """A forecast: the frame after the last."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return self.head(y[:, -1, :])


class SelfAttention(nn.Module):
    """A GRU and one layer of attention over all of time."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.attention = nn.MultiheadAttention(HIDDEN, 2, batch_first=True)
        self.norm = nn.LayerNorm(HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        seen, _ = self.attention(y, y, y, need_weights=False)
        return self.norm(y + seen)


class Packed(nn.Module):
    """Rows of different lengths, packed."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        return y


@dataclass(frozen=True)
class ZooModel:
    """A module of the zoo, and how it is to be called.

    Shapes and axes are by the names of forward's arguments. `reason` is why it cannot stream along
    time, and names the layer, or "" where it can.
    """

    module: type[nn.Module]
    shapes: Mapping[str, tuple[int | str, ...]]  # "B" and "T" where the batch and time stand
    reason: str = ""
    states: tuple[str, ...] = ()  # inputs that come back as the last outputs
    make: Mapping[str, Callable[[torch.Generator, tuple[int, ...]], Tensor]] = field(
        default_factory=dict
    )

    @property
    def name(self) -> str:
        return self.module.__name__

    @property
    def batch_axis(self) -> dict[str, int]:
        """Which axis of each input is the batch."""
        return self._axes("B")

    @property
    def time_axis(self) -> dict[str, int] | None:
        """Which axis of each input is time; None where one call is one step."""
        return self._axes("T") or None

    @property
    def streams(self) -> bool:
        """Whether frames can come one after the other, the state carried outside of the file."""
        return not self.reason and self.time_axis is not None and not self.states

    def build(self) -> nn.Module:
        """Return the module, in eval mode: the same weights every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(self.name.encode()))
            module = self.module()
            with torch.no_grad():
                for name, value in module.named_parameters():
                    if "weight_hh" in name:  # so that the past counts
                        value.mul_(2)
                for part in module.modules():
                    if isinstance(part, (nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell)):
                        for name, value in part.named_parameters():
                            if name.startswith("bias_hh"):  # of the forget or update gate
                                value[part.hidden_size : 2 * part.hidden_size] += 1.5
                for name, value in module.named_buffers():
                    if name.endswith("running_mean"):
                        value.normal_(0, 0.5)
                    elif name.endswith("running_var"):
                        value.uniform_(0.3, 2)
        return module.eval().requires_grad_(False)

    def inputs(self, batch: int = 2, time: int = 12, seed: int = 0) -> tuple[Tensor, ...]:
        """Return inputs of so many rows and frames, in forward's order."""
        generator = torch.Generator().manual_seed(1000 * seed + zlib.crc32(self.name.encode()))
        sizes = {"B": batch, "T": time}
        return tuple(
            self.make.get(name, _normal)(generator, tuple(sizes.get(n, n) for n in shape))
            for name, shape in self.shapes.items()
        )

    def _axes(self, mark: str) -> dict[str, int]:
        return {name: s.index(mark) for name, s in self.shapes.items() if mark in s}


def _normal(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=generator)


def _tokens(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, WORDS, shape, generator=generator)


def _states(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=generator) - 0.5


def _samples(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    rows, frames = shape
    return torch.randn((rows, 8 * frames), generator=generator)


_FRAMES: dict[str, tuple[int | str, ...]] = {"x": ("B", "T", FEATURES)}
_FRAMES_LAST: dict[str, tuple[int | str, ...]] = {"x": ("B", FEATURES, "T")}
_FRAMES_FIRST: dict[str, tuple[int | str, ...]] = {"x": ("T", "B", FEATURES)}
_TOKENS: dict[str, tuple[int | str, ...]] = {"tokens": ("B", "T")}

ZOO = [
    ZooModel(ConvLSTM, _FRAMES),
    ZooModel(CausalGRU, _FRAMES),
    ZooModel(SymmetricConvs, _FRAMES_LAST),
    ZooModel(StridedLSTM, _FRAMES),
    ZooModel(Tagger, _TOKENS, "lstm: reverse", make={"tokens": _tokens}),
    ZooModel(CharacterModel, _TOKENS, make={"tokens": _tokens}),
    ZooModel(CRNN, {"picture": ("B", 1, 16, "T")}, "lstm: reverse"),
    ZooModel(AttentionDecoder, _FRAMES, "the decoder reads the encoder's last state"),
    ZooModel(SpeakerDenoiser, {"frames": ("B", "T", FEATURES), "speaker": ("B", SPEAKER)}),
    ZooModel(EchoCanceller, {"near": ("B", "T", FEATURES), "far": ("B", "T", FEATURES)}),
    ZooModel(TwoHeads, _FRAMES),
    ZooModel(Bottleneck, _FRAMES),
    ZooModel(FeatureMean, _FRAMES),
    ZooModel(LearnedStart, _FRAMES),
    ZooModel(MaskDenoiser, {"spectrum": ("B", "T", FEATURES)}),
    ZooModel(ConvTransposeDecoder, _FRAMES_LAST),
    ZooModel(SpeechTagger, _FRAMES_FIRST, "gru: reverse"),
    ZooModel(ProjectedLSTM, _FRAMES_FIRST),
    ZooModel(CausalPools, _FRAMES),
    ZooModel(Activations, _FRAMES),
    ZooModel(ReluRNN, _FRAMES),
    ZooModel(
        StateInOut, {**_FRAMES, "h": (2, "B", HIDDEN)}, states=("h",), make={"h": _states}
    ),
    ZooModel(
        ContextInOut,
        {**_FRAMES, "context": ("B", FEATURES, 2), "h": (1, "B", HIDDEN), "c": (1, "B", HIDDEN)},
        states=("context", "h", "c"),
        make={"h": _states, "c": _states},
    ),
    ZooModel(
        CellStep,
        {"x": ("B", FEATURES), "h": ("B", HIDDEN), "c": ("B", HIDDEN), "g": ("B", HIDDEN)},
        states=("h", "c", "g"),
        make={"h": _states, "c": _states, "g": _states},
    ),
    ZooModel(Waveform, {"samples": ("B", "T")}, make={"samples": _samples}),
    ZooModel(ReflectedConv, _FRAMES, "conv: reflection"),
    ZooModel(GroupNormed, _FRAMES, "groups: statistics over time"),
    ZooModel(MeanOverTime, _FRAMES, "mean over time"),
    ZooModel(LastState, _TOKENS, "lstm: reverse", make={"tokens": _tokens}),
    ZooModel(LastFrame, _FRAMES, "reads the last frame"),
    ZooModel(SelfAttention, _FRAMES, "attention: over time"),
]  # fmt: skip
