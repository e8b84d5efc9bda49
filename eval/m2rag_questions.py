"""M2RAG's questions (Liu et al., arXiv 2502.17297): answers out of retrieved texts and pictures, as one sentence.

mmqa test {id, query, answer: [...]} and retrieved candidates ─▶ 3,000 questions of WebQA, scored as captions are
"""

from __future__ import annotations

from typing import ClassVar

from mminstruct.eval._m2rag import M2rag, protocols


class M2ragQuestions(M2rag):
    name = "m2rag-questions"
    summary = "M2RAG, multi-modal questions: a sentence out of retrieved texts and pictures."
    primary_scorer = "m2rag.generation"
    protocols = protocols(
        512,
        "Answer the question from the retrieved pictures, their captions and the retrieved texts, as far as they "
        "belong to it. Write one complete sentence and nothing else.\n\nQuestion: {question}\n"
        "Retrieved captions: {captions}\nRetrieved texts: {texts}\n\nAnswer:",
        "Answer the question in one complete sentence and write nothing else.\n\nQuestion: {question}\n\nAnswer:",
    )
    data = "M2RAG of NEUIR: queries=mmqa test file, retrieved={id, cands} lines, images=DIR of WebQA's pictures"
    own_images: ClassVar[int] = 0


BENCHMARK = M2ragQuestions

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
