"""Score a text with the demo's weights in PyTorch and record the figure for the demo."""

import argparse
import json
from pathlib import Path

import torch
from model import bits_per_character, encode, from_weights

DEMO = Path("fastrnn/demo")
STREAMS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, default=DEMO / "text.txt", help="UTF-8 text to score")
    parser.add_argument("--weights", type=Path, default=DEMO / "weights.pt")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--out", type=Path, default=DEMO / "reference.json", help="'-' prints only")
    args = parser.parse_args()

    torch.set_num_threads(1)
    model = from_weights(torch.load(args.weights, weights_only=True))
    indices = encode(args.text.read_text(encoding="utf-8"))
    reference = {
        "text": args.text.name,
        "characters": len(indices),
        "streams": args.streams,
        "bits_per_character": bits_per_character(model, indices, args.streams),
        "torch": torch.__version__.partition("+")[0],
    }
    report = json.dumps(reference, indent=2)
    print(report)
    if str(args.out) != "-":
        args.out.write_text(report + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
