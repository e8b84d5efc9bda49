"""From answers to numbers: scores per question, means with error bars per question type, and the two baselines.

    Predictions (and the blank control's) ── judge ──▶ BenchmarkResult ── numbers ──▶ report.json
                                                             ├─ timing ──▶ timing.json
                                                             └─ write_predictions ──▶ predictions.jsonl

`numbers` are the same for every run of the same model on the same questions, on any number of processes and after any
interruption; `timing` is what differs.

Two baselines say what an accuracy is worth: `majority_accuracy` needs neither image nor question (always the most
frequent gold answer), `blank_image_accuracy` is the same model shown grey images, so it needs no sight. Beside each
stands the same in the metric's own unit (`majority_score`, `blank_image_score`): what a right answer by itself is worth
is another figure where the metric counts questions that are right in all rotations, or an F1.
"""

from __future__ import annotations

import functools
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mminstruct.evaluation.adapters import Adapter
from mminstruct.evaluation.answer_cache import AnswerCache
from mminstruct.evaluation.benchmark import Benchmark
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.judged import JudgedBenchmark, require_judge
from mminstruct.evaluation.own_files import item_line, question_line
from mminstruct.evaluation.processes import Processes
from mminstruct.evaluation.runner import ALONE, Predictions, evaluate
from mminstruct.evaluation.scorers import Score, Scorer, Verdict, scorer
from mminstruct.evaluation.scorers.metric import Total, mean
from mminstruct.evaluation.statistics import estimate, is_mean, majority_verdicts, most_frequent_answer, spread
from mminstruct.files import atomic_file, bytes_sha256

if TYPE_CHECKING:
    from mminstruct.evaluation.judges import Judge

_CONTROL = ("blank_image_accuracy", "blank_image_stderr", "blank_image_score", "image_gain", "image_gain_stderr")
_FIGURES = ("accuracy", "stderr", "score", "score_stderr", "interval", *_CONTROL)


@dataclass(frozen=True)
class BenchmarkResult:
    """The answers to one benchmark and what they scored.

    Attributes:
        scores: what each of the benchmark's scorers says of the answers, the primary one first.
        blank: the blank control's answers to the same items, or None where it was not run.
        blank_scores: what the scorers say of those.
        limit: how many of the first questions were asked; None for all.
        judge: what the report says of the judge of a `JudgedBenchmark`.
    """

    benchmark: Benchmark
    predictions: Predictions
    scores: dict[str, Score]
    blank: Predictions | None
    blank_scores: dict[str, Score]
    limit: int | None = None
    judge: dict[str, Any] | None = None

    def primary(self, place: int) -> float:
        """The primary score of an item."""
        return self.scores[self.benchmark.primary_scorer].verdicts[place].score

    @functools.cached_property
    def _total(self) -> Total:
        """What adds up the primary scorer's verdicts; the plain mean where that is the same, as it is drawn faster."""
        total, verdicts = scorer(self.benchmark.primary_scorer).variant.total, self._verdicts
        return mean if is_mean(self.predictions.items, verdicts, total) else total

    @property
    def _verdicts(self) -> tuple[Verdict, ...]:
        return self.scores[self.benchmark.primary_scorer].verdicts

    @property
    def accuracy(self) -> float:
        """The mean of the primary scores."""
        return estimate([self.primary(place) for place in range(len(self.predictions.items))], self._clusters()).mean

    def _clusters(self) -> list[str]:
        return [item.cluster or item.id for item in self.predictions.items]

    def numbers(self) -> dict[str, Any]:
        """What `report.json` says of this benchmark; every accuracy is in [0, 1], a score on its metric's own scale."""
        benchmark, items, asked = self.benchmark, self.predictions.items, self.predictions.asked
        primary, rule = self.scores[benchmark.primary_scorer], scorer(benchmark.primary_scorer)
        everything = list(range(len(items)))
        overall = self._figures(everything)
        return {
            "name": benchmark.name,
            "summary": benchmark.summary,
            **overall,
            "best": rule.metric.best,
            "score_is_mean": self._total is mean,
            "figures": primary.figures,
            "unparsed": primary.unparsed,
            "parse_rate": 1 - primary.unparsed / len(items),
            "clusters": len(set(self._clusters())),
            "scorer": rule.name,
            "scorers": {name: _by_scorer(name, found) for name, found in self.scores.items()},
            "by_type": self._by_type(),
            **self._majority(),
            "empty_answers": sum(not answer for answer in self.predictions.texts),
            "cut_off_answers": sum(reply.finish == "length" for reply in self.predictions.replies),
            "cut_off_share": sum(reply.finish == "length" for reply in self.predictions.replies) / len(items),
            "mean_answer_characters": sum(map(len, self.predictions.texts)) / len(items),
            "judge_failed": primary.excluded,
            "judge": self.judge,
            "missing_answers": sum(reply.finish == "missing" for reply in self.predictions.replies),
            "mean_answer_tokens": sum(reply.tokens for reply in self.predictions.replies) / len(items),
            "distinct_requests": self.predictions.distinct,
            "batch_checked": self.predictions.checked,
            "batch_flips": list(self.predictions.flips),
            "protocol": protocol_facts(benchmark),
            "options": benchmark.options.model_dump(mode="json"),
            "limit": self.limit,
            "hashes": {
                "prompts": bytes_sha256("\n".join(asked).encode()) if asked else None,
                "gold": gold_hash(items),
            },
        }

    def timing(self) -> dict[str, Any]:
        """How long the answers took: what differs from run to run, and is no part of `numbers`."""
        passes = {"answers": self.predictions} | ({} if self.blank is None else {"blank control": self.blank})
        return {
            name: {
                "seconds": done.seconds,
                "generated": done.generated,
                "questions_per_second": len(done.items) / done.seconds,
                "batches": _quantiles([seconds for seconds, _ in done.batches]),
                "seconds_a_question": _quantiles([s / n for s, n in done.batches for _ in range(n)]),
            }
            for name, done in passes.items()
        }

    def _majority(self) -> dict[str, Any]:
        """What the most frequent gold answers would score; nobody has them judged."""
        if isinstance(self.benchmark, JudgedBenchmark):
            names = ("majority_answer", *_guess_names("majority"), *_guess_names("majority_by_type"))
            return dict.fromkeys(names)
        items, rule = self.predictions.items, scorer(self.benchmark.primary_scorer)
        by_type: dict[int, Verdict] = {}
        for places in _places_by([item.types[-1] if item.types else "" for item in items]).values():
            by_type |= dict(zip(places, majority_verdicts([items[place] for place in places], rule), strict=True))
        return {
            "majority_answer": most_frequent_answer([item.answers for item in items]),
            **_guessed("majority", items, majority_verdicts(items, rule), rule),
            **_guessed("majority_by_type", items, [by_type[place] for place in range(len(items))], rule),
        }

    def _by_type(self) -> dict[str, dict[str, Any]]:
        """Numbers of each question type, coarse and fine, in alphabetical order."""
        items, rule = self.predictions.items, scorer(self.benchmark.primary_scorer)
        places_of: dict[str, list[int]] = defaultdict(list)
        for place, item in enumerate(items):
            for name in item.types:
                places_of[name].append(place)

        def majority(places: Sequence[int]) -> dict[str, Any]:
            if isinstance(self.benchmark, JudgedBenchmark):
                return dict.fromkeys(_guess_names("majority"))
            some = [items[place] for place in places]
            return _guessed("majority", some, majority_verdicts(some, rule), rule)

        return {name: self._figures(places) | majority(places) for name, places in sorted(places_of.items())}

    def _figures(self, places: Sequence[int]) -> dict[str, Any]:
        """Accuracy, score, n, standard errors, interval and blank control of some of the items, but of none that could
        not be judged."""
        name, everything = self.benchmark.primary_scorer, self.predictions.items
        verdicts = self.scores[name].verdicts
        unjudged = [self.scores[name], *([self.blank_scores[name]] if self.blank is not None else [])]
        places = [place for place in places if not any(found.verdicts[place].excluded for found in unjudged)]
        if not places:
            return {"n": 0} | dict.fromkeys(_FIGURES)
        items = [everything[place] for place in places]
        clusters = [item.cluster or item.id for item in items]
        seen = estimate([verdicts[place].score for place in places], clusters)
        total, judged = self._total, [verdicts[place] for place in places]
        drawn = spread(items, judged, total)
        figures: dict[str, Any] = {
            "accuracy": seen.mean,
            "n": seen.n,
            "stderr": seen.stderr,
            "score": total(items, judged)["score"],
            # Of a mean in closed form, of any other figure (F1, a sum of tasks) from the draws.
            "score_stderr": seen.stderr if total is mean else None if drawn is None else drawn.stderr,
            "interval": None if drawn is None else [drawn.low, drawn.high],
        }
        figures |= dict.fromkeys(_CONTROL)
        if self.blank is not None:
            controls = self.blank_scores[name].verdicts
            unseen = estimate([controls[place].score for place in places], clusters)
            gains = [verdicts[place].score - controls[place].score for place in places]
            gain = estimate(gains, clusters)
            figures |= {
                "blank_image_accuracy": unseen.mean,
                "blank_image_stderr": unseen.stderr,
                "blank_image_score": scorer(name).variant.total(items, [controls[place] for place in places])["score"],
                # Of the paired differences, so the difficulty that both runs share does not widen it.
                "image_gain": gain.mean,
                "image_gain_stderr": gain.stderr,
            }
        return figures


def run_benchmark(
    adapter: Adapter,
    benchmark: Benchmark,
    *,
    limit: int | None = None,
    blank: bool = True,
    answers: AnswerCache | None = None,
    check: int = 0,
    folder: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    processes: Processes = ALONE,
    grader: Judge | None = None,
) -> BenchmarkResult:
    """Answer a benchmark, with the blank control, and score it.

    Args:
        blank: also run the blank control (it costs about as much again, less where questions repeat).
        answers, check, processes: as `evaluate` takes them.
        folder: where `predictions.jsonl` and `predictions_blank.jsonl` go, each as soon as it is known.
        progress: called as progress(phase, items done, items in all), phase being "answers" or "blank control".
        grader: of the answers, where the benchmark is a `JudgedBenchmark`; what it says goes to `judged.jsonl`.

    Raises:
        ConfigError: the benchmark needs a judge, and there is none.
        DataError: the benchmark's data is missing or broken.
        MediaError: an image cannot be read.
    """
    require_judge(benchmark, grader)
    grader = None if grader is None else grader.anew()

    def one_pass(phase: str, blank_images: bool) -> tuple[Predictions, dict[str, Score]]:
        predictions = evaluate(
            adapter,
            benchmark,
            limit=limit,
            blank_images=blank_images,
            answers=answers,
            check=0 if blank_images else check,
            progress=None if progress is None else lambda done, total: progress(phase, done, total),
            processes=processes,
        )
        end = "_blank.jsonl" if blank_images else ".jsonl"
        graded: list[str] | None = None
        if grader is not None and isinstance(benchmark, JudgedBenchmark):
            # The others' scores are not shown; an empty answer stands for a missing one.
            graded = ["null"] * len(predictions.items)
            if processes.first:
                graded = benchmark.grade(grader, predictions.items, predictions.texts)
                if folder is not None:
                    write_judged(folder / f"judged{end}", predictions.items, graded)
        scores = judge(benchmark, predictions, graded)
        if folder is not None and processes.first:
            write_predictions(folder / f"predictions{end}", predictions, scores)
        return predictions, scores

    predictions, scores = one_pass("answers", blank_images=False)
    result = BenchmarkResult(benchmark, predictions, scores, None, {}, limit)
    if blank:
        control, control_scores = one_pass("blank control", blank_images=True)
        result = replace(result, blank=control, blank_scores=control_scores)
    if grader is not None and isinstance(benchmark, JudgedBenchmark):
        result = replace(result, judge=grader.facts())
    return result


def judge(benchmark: Benchmark, predictions: Predictions, graded: Sequence[str] | None = None) -> dict[str, Score]:
    """What each of the benchmark's scorers says of the answers, by the name under which the benchmark has it.

    Args:
        graded: what a language model said of the answers, where scorers read that.
    """
    texts = predictions.scored if graded is None else graded
    return {name: scorer(name).score(predictions.items, texts) for name in benchmark.scorer_names}


def write_judged(path: Path, items: Sequence[Item], graded: Sequence[str]) -> None:
    """A judge's grades, one JSON line per item: `mminstruct score` takes the file for predictions."""
    with atomic_file(path) as stream:
        for item, grade in zip(items, graded, strict=True):
            stream.write(json.dumps({"id": item.id, "prediction": grade}) + "\n")


def write_predictions(path: Path, predictions: Predictions, scores: Mapping[str, Score]) -> None:
    """One JSON line per item; the file appears whole or not at all.

    It holds gold answers and predictions, so `mminstruct score` takes it for either, and what `--compare` needs: how
    each answer ended, and what was asked (`Predictions.asked`).
    """
    with atomic_file(path) as stream:
        for place, (item, reply) in enumerate(zip(predictions.items, predictions.replies, strict=True)):
            scored = {name: found.verdicts[place].score for name, found in scores.items()}
            line = item_line(item) | {"prediction": reply.text, "scores": scored, "finish": reply.finish}
            if predictions.asked:
                line["asked"] = predictions.asked[place]
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def protocol_facts(benchmark: Benchmark) -> dict[str, Any]:
    """The protocol in use as JSON."""
    return asdict(benchmark.protocol) | {"stop": list(benchmark.protocol.stop)}


def gold_hash(items: Sequence[Item]) -> str:
    """Over the items in their order, without the paths of their media, which `Predictions.asked` knows by content."""
    lines = (json.dumps(question_line(item), sort_keys=True, ensure_ascii=False) for item in items)
    return bytes_sha256("\n".join(lines).encode())


def _by_scorer(name: str, found: Score) -> dict[str, Any]:
    """What a scorer says of all answers, and whose rule it is."""
    rule = scorer(name)
    return {
        "name": rule.name,
        "score": found.score,
        "figures": found.figures,
        "unparsed": found.unparsed,
        "best": rule.metric.best,
        "source": rule.variant.source,
    }


def _guess_names(name: str) -> tuple[str, str]:
    """Keys of a baseline: the mean over single answers, and the metric's own figure."""
    return f"{name}_accuracy", f"{name}_score"


def _guessed(name: str, items: Sequence[Item], verdicts: Sequence[Verdict], rule: Scorer) -> dict[str, float | None]:
    """The two figures of a baseline."""
    accuracy = math.fsum(verdict.score for verdict in verdicts) / len(verdicts)
    return dict(zip(_guess_names(name), (accuracy, rule.variant.total(items, verdicts)["score"]), strict=True))


def _quantiles(seconds: Sequence[float]) -> dict[str, float | int] | None:
    """How many, the median and the 95th percentile; None where nothing was asked now."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    high = ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)]
    return {"count": len(ordered), "median": statistics.median(ordered), "percentile_95": high}


def _places_by(names: Sequence[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        groups[name].append(place)
    return groups
