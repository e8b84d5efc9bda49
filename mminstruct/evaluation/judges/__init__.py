"""Language models that judge answers: asked through the builders' client, each reply kept, a failure never a score.

JudgedBenchmark.grade ─ prompt, facts ─▶ Judge.ask ─ log?, server ─▶ value, or None (`judge_failed`)
grades, as texts ─▶ a pure scorer of `mminstruct.evaluation.scorers`
"""

from mminstruct.evaluation.judged import JudgedBenchmark
from mminstruct.evaluation.judges.judge import Judge, JudgePrompt, Told, fill, read_told
from mminstruct.evaluation.judges.pairwise import Tally, both_orders, preferred, tally

__all__ = [
    "Judge",
    "JudgePrompt",
    "JudgedBenchmark",
    "Tally",
    "Told",
    "both_orders",
    "fill",
    "preferred",
    "read_told",
    "tally",
]
