"""Makes the nano model's tokenizer: BPE with a fallback to bytes, so it can write any text, whole words for easy-VQA.

A word is the same token at the start of an answer, inside a question and in a caption, as in Llama's tokenizer: a small
model that has to learn that "blue" and " blue" mean the same matches colors much later.

Run in the repository with the `build` extra installed: `python model_zoo/nano/make_tokenizer.py`. The text it learns
from is easy-VQA's training questions and answers, and the licence for ordinary English; the result is committed.
"""

from __future__ import annotations

import importlib.util
import json
import string
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
VOCABULARY = 640
# ChatML's turn openings are one token each. The one behind which an answer begins then looks like no other token; where
# it was the line feed that stands everywhere, the small model spent one of its two layers on telling them apart.
ROLES = ["<|im_start|>user\n", "<|im_start|>assistant\n"]
SPECIAL = ["<|pad|>", "<|unk|>", "<|im_start|>", "<|im_end|>", "<image>", *ROLES]


def main() -> None:
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        raise SystemExit("easy-vqa is not installed; run: pip install easy-vqa")
    questions = json.loads((Path(spec.origin).parent / "data/train/questions.json").read_text())
    licence = (HERE.parents[1] / "LICENSE").read_text()
    texts = [text for question, answer, _ in questions for text in (question, answer)]
    bpe = Tokenizer(models.BPE(unk_token="<|unk|>", byte_fallback=True))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Punctuation("isolated")]
    )
    bpe.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL, *(f"<0x{value:02X}>" for value in range(256))],
        initial_alphabet=list(string.printable),
        show_progress=False,
    )
    # What stands in every prompt should be short: the roles, and the words of an instruction.
    prompts = ["user", "assistant", "system", "Answer the question about the picture with one word."] * 1000
    bpe.train_from_iterator([*texts, *prompts, *licence.splitlines()], trainer)
    # The trainer knows bytes only as special tokens; as such they would be dropped from decoded text.
    written = json.loads(bpe.to_str())
    written["added_tokens"] = [token for token in written["added_tokens"] if token["content"] in SPECIAL]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(written)),
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        unk_token="<|unk|>",
        extra_special_tokens=["<|im_start|>", "<image>", *ROLES],
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(HERE)


if __name__ == "__main__":
    main()
