"""One run of transformers' generate with a streamer, for `benchmarks/serving.py`.

    python benchmarks/serving_peer.py ORDER.json

The order says: the folder of a transformers LLaVA with its processor, chats (a picture, two questions), tokens of an
answer, tokens that are never written, threads, and where to write {"chats": [[turn, turn], ...]}. A turn is timed from
the picture's opening; its first token where `generate` hands it to the streamer, which is before the streamer has text
of it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration, TextIteratorStreamer


class Streamer(TextIteratorStreamer):
    """Remembers when the first token of the answer came; the prompt comes before it."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.calls: list[float] = []

    def put(self, value: Any) -> None:
        self.calls.append(time.perf_counter())
        super().put(value)


def turn(model: Any, processor: Any, image: str, prompt: str, order: dict[str, Any]) -> dict[str, Any]:
    tokenizer = processor.tokenizer
    start = time.perf_counter()
    picture = Image.open(image).convert("RGB")
    batch = processor(text=prompt, images=picture, add_special_tokens=False, return_tensors="pt")
    streamer = Streamer(tokenizer)
    settings = {
        "max_new_tokens": order["new"],
        "do_sample": False,
        "pad_token_id": tokenizer.pad_token_id,
        "suppress_tokens": order["never"],
    }
    thread = threading.Thread(target=_generate, args=(model, {**batch, **settings, "streamer": streamer}))
    thread.start()
    text = "".join(streamer)
    seconds = time.perf_counter() - start
    thread.join()
    return {
        "first": streamer.calls[1] - start,
        "seconds": seconds,
        "tokens": len(streamer.calls) - 1,
        "text": text.strip(),
    }


@torch.inference_mode()
def _generate(model: Any, given: dict[str, Any]) -> None:
    model.generate(**given)


def chat(model: Any, processor: Any, one: dict[str, Any], order: dict[str, Any]) -> list[dict[str, Any]]:
    first, second = one["questions"]
    prompt = f"USER: <image>\n{first} ASSISTANT:"
    turns = [turn(model, processor, one["image"], prompt, order)]
    prompt += f" {turns[0]['text']}</s>USER: {second} ASSISTANT:"
    return [*turns, turn(model, processor, one["image"], prompt, order)]


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(given["threads"])
    processor = AutoProcessor.from_pretrained(given["model"])
    model = LlavaForConditionalGeneration.from_pretrained(given["model"], dtype=torch.float32).eval()
    found = [chat(model, processor, one, given) for one in given["chats"]]
    Path(given["out"]).write_text(json.dumps({"chats": found}))
