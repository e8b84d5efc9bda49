"""Makes the nano model's tokenizer: byte-level BPE, so it can write any text, with whole words for easy-VQA's.

As in Llama's tokenizer a text gets a space in front that decoding takes away again, and so does each line, so a word is
the same token at the start of an answer or a line, inside a question and in a caption: a small model matches what it
sees with the word it is asked about only when it need not first learn that "blue" and " blue" are the same.

Run in the repository with the `build` extra installed: `python model_zoo/nano/make_tokenizer.py`. The text it learns
from is easy-VQA's training questions and answers, and the licence for ordinary English; the result is committed.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
VOCABULARY = 512
# ChatML's turn openings are one token each. The one behind which an answer begins then looks like no other token; where
# it was the line feed that stands everywhere, the small model spent one of its layers on telling them apart.
ROLES = ["<|im_start|>user\n", "<|im_start|>assistant\n"]
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<image>", *ROLES]


def main() -> None:
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        raise SystemExit("easy-vqa is not installed; run: pip install easy-vqa")
    questions = json.loads((Path(spec.origin).parent / "data/train/questions.json").read_text())
    licence = (HERE.parents[1] / "LICENSE").read_text()
    texts = [text for question, answer, _ in questions for text in (question, answer)]
    bpe = Tokenizer(models.BPE())
    line = normalizers.Replace(Regex(r"\n(?=[^\n])"), "\n ")
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend(" "), line])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("\n ", "\n"), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # What stands in every prompt should be short: the roles, and the words of an instruction.
    prompts = [
        *("system", "\n", "a\n\na", "a blue shape."),
        *("Describe the picture.", "Answer the question about the picture with one word."),
    ] * 1000
    bpe.train_from_iterator([*texts, *prompts, *licence.splitlines()], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        extra_special_tokens=["<|im_start|>", "<image>", *ROLES],
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(HERE)


if __name__ == "__main__":
    main()
