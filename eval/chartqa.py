"""ChartQA (Masry et al., ACL Findings 2022, arXiv 2203.10244): questions about charts, by relaxed accuracy.

    test/{test_human.json, test_augmented.json} [{imgname, query, label}], test/png/{imgname}
        ─▶ 1,250 questions that people wrote and 1,250 that were generated from captions; kind: human, augmented

`questions` is the folder of the split or one of its two files, `images` by default `png` in that folder.

The two halves are far apart in difficulty: the figures have both, and their mean. LLaVA-1.5 published no number.

The protocol `lmms-eval` asks for a word, and `chartqa.pix2struct`, the headline, reads that; `lm-eval` lets the model
reason, and `chartqa.mistral` reads what it calls its final answer: with protocol=lm-eval read that score.
"""

from __future__ import annotations

from collections.abc import Iterator

from mminstruct.eval.vqa import AFTER_IMAGE, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.scorers.chartqa import read_questions
from mminstruct.evaluation.table_images import FileOrTable, with_images

# To the letter, with a word that stands twice there.
REASONED = """{question}
Analyze the image and question carefully, using step-by-step reasoning.
First, describe any image provided in detail. Then, present your reasoning. And finally your final answer in this format:
Final Answer: <answer>
where <answer> follows the following instructions:
- <answer> should should be a single phrase or number.
- <answer> should not paraphrase or reformat the text in the image.
- If <answer> is a ratio, it should be a decimal value like 0.25 instead of 1:4.
- If the question is a Yes/No question, <answer> should be Yes/No.
- If <answer> is a number, it should not contain any units.
- If <answer> is a percentage, it should include a % sign.
- If <answer> is an entity, it should include the full label from the graph.
IMPORTANT: Remember, to end your answer with Final Answer: <answer>."""  # noqa: E501


class Chartqa(Benchmark):
    name = "chartqa"
    summary = "ChartQA: questions about charts; numbers may be off by five per cent."
    primary_scorer = "chartqa.pix2struct"
    further_scorers = ("chartqa.vlmevalkit", "chartqa.mistral", "chartqa.mistral-anywhere")
    protocols = (
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/chartqa/chartqa.yaml",
            max_new_tokens=16,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
        Protocol(
            name="lm-eval",
            source="lm-evaluation-harness, tasks/chartqa/chartqa.yaml, after mistral-evals, eval/tasks/chartqa.py",
            max_new_tokens=512,
            prompt=REASONED,
        ),
    )
    licence = "GPL-3.0 (vis-nlp/ChartQA); the charts are of Statista, Pew Research, Our World in Data and the OECD"
    data = (
        "ChartQA of vis-nlp/ChartQA: questions=ChartQA Dataset/test/ (or one of its files), images=test/png/; "
        "or VLMEvalKit's questions=ChartQA_TEST.tsv"
    )

    class Options(FileOrTable):
        """As `FileOrTable`."""

    options: FileOrTable

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        questions = self.options.questions
        folder = questions if questions.is_dir() else questions.parent
        options = self.options.model_copy(update={"images": self.options.images or folder / "png"})
        yield from with_images(options, self.data, read_questions, lambda item: [item.cluster])


BENCHMARK = Chartqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
