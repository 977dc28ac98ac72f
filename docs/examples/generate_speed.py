"""How fast Python's `transformers` answers from an exported model: greedy, one stream, on the CPU.

  generate_speed.py DIR NEW THREADS TOKEN...

Prints one JSON line: the tokens, and for each of several repetitions the seconds that `generate` took. In an
environment with torch and transformers; `cargo xtask bench generate --python PATH` runs it beside the engine.
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM

REPETITIONS = 5


def main():
    folder, new, threads, *prompt = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompt = torch.tensor([[int(token) for token in prompt]])
    # Every answer of the same length: no token ends it early.
    model.generation_config.eos_token_id = None
    seconds = []
    with torch.inference_mode():
        for _ in range(REPETITIONS + 1):
            begun = time.perf_counter()
            out = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=int(new), do_sample=False, pad_token_id=0
            )
            seconds.append(time.perf_counter() - begun)
    # The first one warms up.
    print(json.dumps({"tokens": out[0, prompt.shape[1] :].tolist(), "seconds": seconds[1:], "threads": int(threads)}))


if __name__ == "__main__":
    main()
