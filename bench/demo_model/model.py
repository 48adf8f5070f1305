"""The demo's model in PyTorch: its alphabet, its layers and how a text is scored with it."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
UNKNOWN = len(ALPHABET)  # every other character; a tab counts as a space
SYMBOLS = len(ALPHABET) + 1
NEWLINE = ALPHABET.index("\n")  # the first input of every stream


def encode(text: str) -> Tensor:
    """Return the index of each character of `text`: int64, shape (len(text),)."""
    index = {character: i for i, character in enumerate(ALPHABET)}
    index["\t"] = index[" "]
    return torch.tensor([index.get(character, UNKNOWN) for character in text], dtype=torch.int64)


class CharacterModel(nn.Module):
    """Embedding, GRU and a linear head: the logits of the next character, at every step."""

    def __init__(
        self, embedding_size: int, hidden_size: int, num_layers: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, embedding_size)
        between = dropout if num_layers > 1 else 0.0
        self.gru = nn.GRU(embedding_size, hidden_size, num_layers, dropout=between)
        self.head = nn.Linear(hidden_size, SYMBOLS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map indices (T, B) and a state (L, B, H) to logits (T, B, SYMBOLS) and the next state."""
        y, h = self.gru(self.embedding(x), h)
        return self.head(self.dropout(y)), h


def from_weights(weights: Mapping[str, Tensor]) -> CharacterModel:
    """Return the model, in eval mode and float32, that a state dict of any float type describes."""
    num_layers = sum(name.startswith("gru.weight_ih_l") for name in weights)
    embedding_size = weights["embedding.weight"].shape[1]
    hidden_size = weights["head.weight"].shape[1]
    model = CharacterModel(embedding_size, hidden_size, num_layers)
    model.load_state_dict(weights)
    return model.eval()


@torch.inference_mode()
def bits_per_character(model: CharacterModel, indices: Tensor, streams: int) -> float:
    """Return the mean of -log2 p(character | those before it in its stream) over `indices` (n,).

    The text is cut into `streams` contiguous pieces of ceil(n / streams) characters; the last ones
    are padded, or empty, and padding is not counted. Each stream starts from the zero state with a
    newline as its first input, so that every character is scored exactly once. The layers run in
    float32, softmax and sum in float64.
    """
    n = len(indices)
    if n == 0:
        raise ValueError("bits_per_character: the text is empty")
    steps = math.ceil(n / streams)
    padded = torch.full((streams * steps,), NEWLINE)
    padded[:n] = indices
    target = padded.view(streams, steps).T  # (T, B)
    counted = (torch.arange(streams * steps) < n).view(streams, steps).T
    first = torch.full((1, streams), NEWLINE)
    logits, _ = model(torch.cat([first, target[:-1]]))
    log_p = logits.double().log_softmax(dim=-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return -float(log_p[counted].sum()) / (n * math.log(2))
