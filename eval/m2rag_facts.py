"""M2RAG's facts (Liu et al., arXiv 2502.17297): whether retrieved evidence supports a claim made with a picture.

fact_verify test {id, claim, claim_image, document, document_image, category} and retrieved candidates
    ─▶ 3,000 claims of Factify; the document is among what is retrieved or not, and is not given by itself
"""

from __future__ import annotations

from mminstruct.eval._m2rag import M2rag, protocols


class M2ragFacts(M2rag):
    name = "m2rag-facts"
    summary = "M2RAG, fact verification: Support, Refute or Insufficient, from retrieved texts and pictures."
    primary_scorer = "m2rag.fact-verification"
    protocols = protocols(
        16,
        "Check a claim that came with the first picture against the retrieved pictures and texts and what you know. "
        "Choose Support where they agree with it, Refute where they disagree, Insufficient where they leave it open. "
        "Reply with the one word.\n\nClaim picture: the first one\nClaim: {question}\nRetrieved texts: {texts}\n\n"
        "Category:",
        "Check a claim that came with the picture against what you know. Choose Support, Refute or Insufficient and "
        "reply with the one word.\n\nClaim: {question}\n\nCategory:",
    )
    data = (
        "M2RAG of NEUIR: queries=fact_verify test file, retrieved={id, cands} lines, images=DIR of Factify's pictures"
    )


BENCHMARK = M2ragFacts

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
