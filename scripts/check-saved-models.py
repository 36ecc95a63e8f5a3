#!/usr/bin/env python3
"""What Tandem trains loads in transformers, with the same loss.

Trains a small model of each family (the shapes of tests/parity, a token a byte) for some steps under a
separated plan, and holds the loss of `tandem evaluate` on the held-out text against transformers'.
Needs torch and transformers; exit status 1 where a loss differs by 1e-4 or a tensor's name is unknown.

    python3 scripts/check-saved-models.py TANDEM TEXT_FILE [NAME ...]
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM

PARITY = pathlib.Path(__file__).resolve().parent.parent / "tests" / "parity"
LENGTH, BOUND = 32, 1e-4


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr.strip()}")


def trained(tandem, text, name, work):
    """The run's directory, and the loss that Tandem finds on the held-out tenth."""
    config = json.loads((PARITY / name / "config.json").read_text())
    config.pop("quantization_config", None)
    config.update(vocab_size=256, torch_dtype="float32")
    config.pop("dtype", None)
    model = work / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(config))
    experts = any("experts" in field for field in config)
    common = ["--data", text, "--sequence-length", LENGTH]
    run(tandem, "train", "--model", model, "--random-weights", 1, "--output", work / "run", *common,
        "--steps", 20, "--batch", 8, "--learning-rate", 0.003,
        "--plan", "ma:attention=2,experts=2" if experts else "tp:ranks=2")
    run(tandem, "evaluate", "--model", work / "run", *common, "--json", work / "loss.json")
    return work / "run", json.loads((work / "loss.json").read_text())["loss"]


def loss_in_transformers(directory, tokens):
    model, told = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32,
                                                       output_loading_info=True)
    strange = sorted(told["missing_keys"]) + sorted(told["unexpected_keys"])
    if strange:
        sys.exit(f"transformers misses or does not know {strange}")
    total, count = 0.0, 0
    for first in range(0, len(tokens), LENGTH + 1):  # as Dataset cuts what is packed
        piece = torch.tensor(tokens[first:first + LENGTH + 1])
        if len(piece) < 2:
            continue
        with torch.no_grad():
            logits = model(piece[None, :-1]).logits[0].float()
        total += torch.nn.functional.cross_entropy(logits, piece[1:], reduction="sum").item()
        count += len(piece) - 1
    return total / count


def main():
    tandem, text = sys.argv[1], sys.argv[2]
    names = sys.argv[3:] or sorted(path.name for path in PARITY.iterdir() if path.is_dir())
    data = pathlib.Path(text).read_bytes()
    held_out = list(data[len(data) - len(data) // 10:])
    failed = False
    for name in names:
        with tempfile.TemporaryDirectory() as work:
            directory, ours = trained(tandem, text, name, pathlib.Path(work))
            theirs = loss_in_transformers(directory, held_out)
        failed |= abs(ours - theirs) > BOUND
        print(f"{name:24}{ours:10.6f}{theirs:10.6f}  differ by {abs(ours - theirs):.1e}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
