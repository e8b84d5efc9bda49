"""One run of a peer, for `benchmarks/evaluation.py`, in a Python that has the peer installed.

    python benchmarks/evaluation_peer.py ORDER.json            # transformers' generate, or lmms-eval's llava_hf

The order says: which peer, the folder of a transformers LLaVA with its processor, the questions (picture, question,
answer) in order, how many answers at once, new tokens, threads, and where to write {"answers": [...], "seconds": ...}.
`generate` is timed from the first picture opened to the last answer decoded; `lmms_eval` is a whole process, as is
`mminstruct eval`, which it is compared with. A batch of one is what LLaVA's scripts, VLMEvalKit and llava_hf do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TASK = """\
task: questions
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {parquet}
test_split: test
output_type: generate_until
doc_to_visual: !function functions.pictures
doc_to_text: !function functions.question
doc_to_target: answer
generation_kwargs: {{max_new_tokens: {new}, temperature: 0, top_p: 1.0, num_beams: 1, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, ignore_punctuation: true}}
metadata:
  - version: 0.0
"""
FUNCTIONS = """\
def pictures(row):
    return [row["image"].convert("RGB")]


def question(row, lmms_eval_specific_kwargs=None):
    return row["question"]
"""


def generate(order: dict[str, Any]) -> dict[str, Any]:
    import torch
    from PIL import Image
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    torch.set_num_threads(order["threads"])
    processor = AutoProcessor.from_pretrained(order["model"])
    model = LlavaForConditionalGeneration.from_pretrained(order["model"], dtype=torch.float32).eval()
    tokenizer = processor.tokenizer

    @torch.inference_mode()
    def answers(questions: list[dict[str, str]]) -> list[str]:
        found: list[str] = []
        for first in range(0, len(questions), order["batch"]):
            some = questions[first : first + order["batch"]]
            batch = processor(
                text=[f"USER: <image>\n{one['question']} ASSISTANT:" for one in some],
                images=[Image.open(one["image"]).convert("RGB") for one in some],
                padding=True,
                padding_side="left",
                add_special_tokens=False,
                return_tensors="pt",
            )
            out = model.generate(
                **batch,
                max_new_tokens=order["new"],
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
            found += tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in found]

    answers(order["questions"][: 2 * order["batch"]])  # warm up
    start = time.perf_counter()
    found = answers(order["questions"])
    return {"answers": found, "seconds": time.perf_counter() - start}


def lmms_eval(order: dict[str, Any]) -> dict[str, Any]:
    from datasets import Dataset, Image

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {key: [one[key] for one in order["questions"]] for key in ("image", "question", "answer")}
        Dataset.from_dict(rows).cast_column("image", Image()).to_parquet(str(folder / "test.parquet"))
        (folder / "task").mkdir()
        (folder / "task/functions.py").write_text(FUNCTIONS)
        (folder / "task/questions.yaml").write_text(TASK.format(parquet=folder / "test.parquet", new=order["new"]))
        command = [sys.executable, "-m", "lmms_eval", "--model", "llava_hf", "--force_simple", "--batch_size", "1"]
        command += ["--model_args", f"pretrained={order['model']},device=cpu,device_map=cpu,dtype=float32"]
        command += ["--tasks", "questions", "--include_path", str(folder / "task")]
        command += ["--output_path", str(folder / "results"), "--log_samples"]
        settings = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        settings |= {"OMP_NUM_THREADS": str(order["threads"]), "TOKENIZERS_PARALLELISM": "false"}
        start = time.perf_counter()
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        files = sorted((folder / "results").rglob("*samples*.jsonl"))
        if done.returncode or not files:
            raise SystemExit(f"lmms-eval failed (exit {done.returncode}):\n{(done.stdout + done.stderr)[-4000:]}")
        samples = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    samples.sort(key=lambda sample: sample["doc_id"])
    return {"answers": [_logged(sample["filtered_resps"]) for sample in samples], "seconds": seconds}


def _logged(answer: str | list[str]) -> str:
    """An answer as lmms-eval logs it: a text, or, in some releases, a list of one."""
    return (answer if isinstance(answer, str) else answer[0]).strip()


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    peers = {"generate": generate, "lmms-eval": lmms_eval}
    Path(given["out"]).write_text(json.dumps(peers[given["peer"]](given)))
