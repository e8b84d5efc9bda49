"""M2RAG's captions (Liu et al., arXiv 2502.17297): a picture's caption, with similar pictures and theirs to see.

image_cap test {id, image_path, image_caption} and retrieved candidates ─▶ 3,000 captions, scored as captions are
"""

from __future__ import annotations

from mminstruct.eval._m2rag import M2rag, protocols


class M2ragCaptions(M2rag):
    name = "m2rag-captions"
    summary = "M2RAG, captions: a picture's caption, with retrieved pictures and their captions."
    primary_scorer = "m2rag.generation"
    protocols = protocols(
        512,
        "The first picture needs a caption; the others were retrieved for it, with their captions. Reply with the "
        "caption of the first picture and nothing else.\n\nPicture: the first one\nRetrieved captions: {captions}\n\n"
        "Caption:",
        "Reply with a caption of the picture and nothing else.\n\nCaption:",
    )
    data = "M2RAG of NEUIR: queries=image_cap test file, retrieved={id, cands} lines, images=DIR of WebQA's pictures"


BENCHMARK = M2ragCaptions

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
