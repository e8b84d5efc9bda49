"""TextVQA (Singh et al., CVPR 2019, arXiv 1904.08920): questions that need the text in a photograph to be read.

    TextVQA_0.5.1_val.json {"data": [{question_id, image_id, question, answers [10]}]}, train_images/{image_id}.jpg
    TextVQA_Rosetta_OCR_v0.2_val.json {"data": [{image_id, ocr_tokens}]}, for the protocols with OCR tokens
        ─▶ 5,000 questions on 3,166 images

LLaVA-1.5 shows the model what an OCR program read; its 58.2 is by that prompt and about 46 without (lmms-eval's issues
6 and 51). So the two are protocols of their own, and a number says which it is. The default is LLaVA-1.5's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.errors import ConfigError, DataError
from mminstruct.eval.vqa import AFTER_IMAGE, LLAVA_TOKENS, LMMS_EVAL_TOKENS, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.official import Official, json_list, records
from mminstruct.evaluation.scorers.textvqa import read_questions

WITH_OCR = "{question}\nReference OCR token: {ocr}\nAnswer the question using a single word or phrase."
OCR_PLACE = "{ocr}"


class _Tokens(Official):
    image_id: int | str
    ocr_tokens: tuple[str, ...]


class Textvqa(Benchmark):
    name = "textvqa"
    summary = "TextVQA: questions about text in photographs, with the tokens of an OCR program or without."
    primary_scorer = "textvqa.evalai"
    further_scorers = ("textvqa.official-2021", "textvqa.vlmevalkit")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="LLaVA-1.5 (arXiv 2310.03744), scripts/v1_5/eval/textvqa.sh, llava_textvqa_val_v051_ocr.jsonl",
            max_new_tokens=LLAVA_TOKENS,
            prompt=AFTER_IMAGE + WITH_OCR,
        ),
        Protocol(
            name="llava-1.5-no-ocr",
            source="the same without the line of OCR tokens, as LLaVA-1.6's numbers are",
            max_new_tokens=LLAVA_TOKENS,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/textvqa/utils.py: no OCR tokens; first letter large, the others small",
            max_new_tokens=LMMS_EVAL_TOKENS,
            stop=("ASSISTANT:",),
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
    )
    licence = "CC BY 4.0 (textvqa.org); the images are OpenImages', CC BY 2.0"
    data = (
        "TextVQA of textvqa.org: questions=TextVQA_0.5.1_val.json, images=train_images/, and for OCR tokens "
        "ocr=TextVQA_Rosetta_OCR_v0.2_val.json"
    )

    class Options(Config):
        """The official files and the folder of images; `ocr` only for protocols that show OCR tokens."""

        questions: Path
        images: Path
        ocr: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing, `ConfigError` where OCR tokens are needed."""
        pictures = Pictures(self.options.images, self.data)
        tokens = self._tokens() if OCR_PLACE in self.protocol.prompt else None
        for item in read_questions(found(self.options.questions, self.data)):
            facts = dict(item.facts)
            if tokens is not None:
                if item.cluster not in tokens:
                    raise DataError(
                        f"{self.options.ocr} has no tokens of image {item.cluster!r}; give that of the split"
                    )
                facts["ocr_tokens"] = list(tokens[item.cluster])
            yield dataclasses.replace(item, images=(pictures.named(f"{item.cluster}.jpg"),), facts=facts)

    def _tokens(self) -> dict[str, tuple[str, ...]]:
        if self.options.ocr is None:
            raise ConfigError(
                f"textvqa: the protocol {self.protocol.name} shows OCR tokens; give "
                "ocr=TextVQA_Rosetta_OCR_v0.2_val.json, or protocol=llava-1.5-no-ocr"
            )
        lines = records(json_list(found(self.options.ocr, self.data), "data"), _Tokens)
        return {str(line.image_id): line.ocr_tokens for _, line in lines}

    def conversation(self, item: Item) -> Conversation:
        if self.protocol.name == "lmms-eval":
            item = dataclasses.replace(item, question=item.question.capitalize())
        prompt = self.protocol.text(item).replace(OCR_PLACE, ", ".join(item.facts.get("ocr_tokens", ())))
        return one_question(item, prompt)


BENCHMARK = Textvqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
