"""Train the demo's character model on Python's own documentation, and write its weights.

The text is `pydoc_data.topics`, which comes with every Python. Every eighth topic is held out.
"""

import argparse
import math
import platform
import random
import re
import time
from pathlib import Path
from pydoc_data.topics import topics

import torch
from model import SYMBOLS, CharacterModel, bits_per_character, encode, from_weights
from torch import Tensor, nn

HOLD_OUT_EVERY = 8
REPEATED_FROM = 60  # characters: a shorter paragraph may recur by chance
TABLE_LINE = re.compile(r"^ *[|+].*[|+]\n", re.MULTILINE)
STREAMS = 64  # as the demo scores


def split_topics() -> tuple[list[str], list[str]]:
    """Return the topics' texts for training and held out, without tables, no long paragraph twice.

    Tables are mostly rules and blanks: cheap to predict and dull to read. Topics quote one another
    ("specialnames" holds all of "customization"), so a paragraph that the held-out topics hold is
    dropped from those trained on.
    """
    names = sorted(topics)
    held_out = names[::HOLD_OUT_EVERY]
    seen: set[str] = set()

    def unseen(name: str) -> str:
        paragraphs = []
        for paragraph in TABLE_LINE.sub("", topics[name]).split("\n\n"):
            key = " ".join(paragraph.split())
            if key not in seen:
                paragraphs.append(paragraph)
            if len(key) >= REPEATED_FROM:
                seen.add(key)
        return "\n\n".join(paragraphs).strip("\n") + "\n\n"

    validation = [unseen(name) for name in held_out]
    return [unseen(name) for name in names if name not in held_out], validation


def epoch_batches(texts: list[str], batch: int, steps: int, order: random.Random) -> list[Tensor]:
    """Return the shuffled texts as `batch` parallel streams in pieces (<= steps + 1, batch).

    Each piece starts with the last character of the piece before it, the input of its first target.
    """
    indices = encode("\n" + "".join(order.sample(texts, len(texts))))
    length = len(indices) // batch
    rows = indices[: batch * length].view(batch, length).T
    return [rows[t : t + steps + 1] for t in range(0, length - 1, steps)]


def with_typos(x: Tensor, share: float) -> Tensor:
    """Return `x` with a `share` of its symbols replaced by random ones.

    What this text hardly ever holds, such as Markdown's backticks, then upsets the model less.
    """
    return torch.where(torch.rand(x.shape) < share, torch.randint(SYMBOLS, x.shape), x)


def rounded(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's weights in float16, as they are shipped."""
    return {name: weight.detach().half() for name, weight in model.state_dict().items()}


def train(args: argparse.Namespace) -> dict[str, Tensor]:
    """Train from fixed seeds, report each epoch, and return the float16 weights."""
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    order = random.Random(args.seed)
    texts, held_out = split_topics()
    validation = encode("".join(held_out))
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}: "
        f"{sum(map(len, texts)):,} characters to train on, {len(validation):,} held out"
    )

    model = CharacterModel(args.embedding, args.hidden, args.layers, dropout=args.dropout)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"GRU {args.layers} x {args.hidden}, {parameters:,} parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), args.rate, weight_decay=args.decay)
    total: int = args.epochs * len(epoch_batches(texts, args.batch, args.steps, random.Random(0)))
    warmup = total // 40

    def rate(step: int) -> float:
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / total)
        return min(1.0, (step + 1) / warmup) * (0.01 + 0.99 * cosine)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    start = time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        model.train()
        state: Tensor | None = None
        losses: list[float] = []
        for piece in epoch_batches(texts, args.batch, args.steps, order):
            logits, state = model(with_typos(piece[:-1], args.typos), state)
            loss = nn.functional.cross_entropy(
                logits.view(-1, SYMBOLS), piece[1:].reshape(-1), label_smoothing=args.smoothing
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            state = state.detach()
            losses.append(loss.item() / math.log(2))
        bits = bits_per_character(from_weights(rounded(model)), validation, STREAMS)
        print(
            f"epoch {epoch:3d}/{args.epochs}  train {sum(losses) / len(losses):.3f}  "
            f"held out {bits:.4f} bits per character  {time.perf_counter() - start:5.0f} s",
            flush=True,
        )
    return rounded(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("fastrnn/demo/weights.pt"))
    parser.add_argument("--epochs", type=int, default=26)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=208)
    parser.add_argument("--embedding", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--typos", type=float, default=0.03)
    parser.add_argument("--smoothing", type=float, default=0.02)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    weights = train(args)
    torch.save(weights, args.out)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
