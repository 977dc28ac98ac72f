"""What Python's `transformers` computes from a folder that `hydra-coordinator export` wrote.

  compare_logits.py DIR --ours FILE    compare with the engine's logits (`logits DIR TOKENS...`), print the difference,
                                       and run what the model card shows
  compare_logits.py DIR --write FILE   write tokens, logits and tokenisation: the reference of the Rust test

In an environment with torch and transformers. `cargo xtask bench export --python PATH` runs the comparison.
"""

import argparse
import contextlib
import hashlib
import io
import json
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = "The worker's 3 tokens: naïve, 漢字\n\n  and so on."
CHATS = [
    [{"role": "user", "content": "Hi \n"}],
    [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "a token?"}]},
        {"role": "assistant", "content": " A piece.\n"},
        {"role": "user", "content": "Of what?"},
    ],
    [
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "What is a word?"},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": "Text."},
        {"role": "user", "content": "Say \"more\""},
        {"role": "system", "content": "In\n\nverse. "},
        {"role": "user", "content": "Well?"},
    ],
]


def run_card(folder):
    """What the Python of the folder's model card prints."""
    card = (folder / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("path/to/this/folder", str(folder))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--ours", type=pathlib.Path, help="JSON with tokens and our logits")
    parser.add_argument("--write", type=pathlib.Path, help="where to write the reference")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(args.dir).eval()
    config = json.loads((args.dir / "config.json").read_text())

    def logits(tokens):
        with torch.no_grad():
            return model(torch.tensor([tokens])).logits[0]

    if args.ours:
        ours = json.loads(args.ours.read_text())
        theirs = logits(ours["tokens"])
        difference = (torch.tensor(ours["logits"]) - theirs).abs()
        result = {
            "tokens": len(ours["tokens"]),
            "largest_logit": theirs.abs().max().item(),
            "largest_difference": difference.max().item(),
            "same_likeliest": bool((torch.tensor(ours["logits"]).argmax(-1) == theirs.argmax(-1)).all()),
            "card": run_card(args.dir),
        }
        print(json.dumps(result))
    if args.write:
        tokenizer = AutoTokenizer.from_pretrained(args.dir)
        tokens = [(7 + 31 * i * i) % config["vocab_size"] for i in range(config["max_position_embeddings"])]
        reference = {
            "sha256": hashlib.sha256((args.dir / "model.safetensors").read_bytes()).hexdigest(),
            "config": config,
            "tokens": tokens,
            "logits": [[round(x, 6) for x in row] for row in logits(tokens).tolist()],
            "text": TEXT,
            "text_tokens": tokenizer(TEXT)["input_ids"],
            "chats": [[chat, tokenizer.apply_chat_template(chat, tokenize=False)] for chat in CHATS],
        }
        args.write.write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
