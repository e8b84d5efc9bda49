"""What is special in benchmarks of videos, chats and retrieved passages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mminstruct.conversation import ImagePart
from mminstruct.errors import ConfigError, DataError
from mminstruct.eval.video_mme import subtitle_lines
from mminstruct.evaluation.benchmark import load_benchmark
from mminstruct.evaluation.results import run_benchmark
from tests.evaluation.answering import Table, last_shown
from tests.evaluation.miniatures import m2rag_facts, m2rag_questions, mmmt_if, mvbench, next_qa, video_mme, vlr_bench
from tests.evaluation.miniatures.miniature import write_json, write_lines, write_pictures, write_videos
from tests.evaluation.test_choices_benchmarks import refused

# --- videos -----------------------------------------------------------------------------------------------------------


def test_mvbench_does_not_show_a_whole_video_for_a_part_of_it(tmp_path: Path) -> None:
    options = mvbench.write(tmp_path).options
    (tmp_path / "video/star/Charades_segment").rename(tmp_path / "video/star/Charades_v1_480")
    refused("mvbench", list(options), DataError, r"the video star/Charades_segment/a\.mp4 is not in .*revision `video`")


def test_mvbench_knows_its_tasks(tmp_path: Path) -> None:
    options = mvbench.write(tmp_path).options
    (tmp_path / "json/action_count.json").rename(tmp_path / "json/counting.json")
    refused("mvbench", list(options), DataError, "has the task 'counting'; known are action_antonym, ")


def test_mvbench_counts_an_empty_answer_as_wrong_where_the_official_rule_does_not(tmp_path: Path) -> None:
    result = run_benchmark(Table({}), load_benchmark("mvbench", mvbench.write(tmp_path).options), blank=False)
    assert result.scores["mvbench.guarded"].score == 0 and result.scores["mvbench.official"].score == 1


def test_video_mme_without_a_file_of_subtitles(tmp_path: Path) -> None:
    small = video_mme.write(tmp_path)
    refused("video-mme", [*small.options, "protocol=with-subtitles"], ConfigError, "needs subtitles=DIR with VIDEO_ID")
    options = [*small.options, "protocol=with-subtitles", f"subtitles={tmp_path / 'subtitle'}", "subtitle_lines=1"]
    loaded = load_benchmark("video-mme", options)
    prompts = {item.id: last_shown(loaded.conversation(item)) for item in loaded.questions()}
    assert prompts["002-1"].startswith("<video>\nThis video's subtitles are listed below:\nNo subtitles available\nSel")
    assert prompts["001-1"].startswith("<video>\nThis video's subtitles are listed below:\nHello, all.\nSelect the ")


def test_video_mme_reads_the_authors_template(tmp_path: Path) -> None:
    question = {
        "question_id": "001-1",
        "task_type": "t",
        "question": "Who?",
        "options": ["A. x", "B. y"],
        "answer": "B",
    }
    video = {"video_id": "001", "duration_category": "short", "url": "https://www.youtube.com/watch?v=Q9"}
    file = write_json(tmp_path / "template.json", [video | {"questions": [question]}])
    write_videos(tmp_path, "Q9.mp4")
    items = load_benchmark("video-mme", [f"file={file}", f"videos={tmp_path}"]).questions()
    assert items[0].videos == (tmp_path / "Q9.mp4",) and items[0].choices == ("x", "y")


def test_subtitles_are_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes("1\n0 --> 1\ncafé\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.srt is not UTF-8 text"):
        subtitle_lines(tmp_path / "a.srt")


def test_next_qa_without_a_table_of_folders(tmp_path: Path) -> None:
    options = [option for option in next_qa.write(tmp_path).options if not option.startswith("map=")]
    refused("next-qa", options, DataError, r"the video 4010\.mp4 is not in .*videos; needed is: NExT-QA")
    table = write_json(tmp_path / "map.json", ["4010"])
    refused("next-qa", [*options, f"map={table}"], DataError, r"map\.json is no object of video and path")


def test_requests_show_videos_as_videos(tmp_path: Path) -> None:
    loaded = load_benchmark("next-qa", next_qa.write(tmp_path).options)
    request = loaded.request(loaded.questions()[0])
    assert [(medium.kind, Path(medium.path).name) for medium in request.conversation.media] == [("video", "4010.mp4")]


# --- chats ------------------------------------------------------------------------------------------------------------


def test_mmmt_if_a_turn_comes_behind_the_models_own_replies(tmp_path: Path) -> None:
    loaded = load_benchmark("mmmt-if", mmmt_if.write(tmp_path).options)
    items = {item.id: item for item in loaded.questions()}
    asked = loaded.request(items["x/3"], ["It is a moon.", ""]).conversation
    assert [(message.role, message.text) for message in asked.messages] == [
        ("user", "\nUse at most 3 words.\nWhat is it?"),
        ("assistant", "It is a moon."),
        ("user", "\nAnd these?"),
        ("assistant", ""),
        ("user", "Say moon.\nWhy?"),
    ]
    places = [part.index for message in asked.messages for part in message.content if isinstance(part, ImagePart)]
    assert places == [0, 1, 2] and [Path(medium.path).name for medium in asked.media] == ["a.png", "b.png", "c.png"]


def test_mmmt_if_counts_the_instructions_given_so_far(tmp_path: Path) -> None:
    """x/1 and x/2 follow the one instruction, x/3 one of two, y/1 none of one: (1 + 1 + 1/2 + 0) / 4."""
    replies = {"x/1": "a", "x/2": "b", "x/3": "no", "y/1": "no"}
    loaded = load_benchmark("mmmt-if", mmmt_if.write(tmp_path).options)
    score = run_benchmark(Table(replies), loaded, blank=False).scores["mmmt-if.paper"]
    assert score.score == pytest.approx(0.625)
    assert score.figures["turn 1"] == 0.5 and score.figures["turn 3"] == 0.5


def test_mmmt_if_repeats_only_what_is_said_in_words(tmp_path: Path) -> None:
    said_in_the_question = {"id": "keywords:existence", "kwargs": {"keywords": ["moon"]}}
    turn = {"question": "Why? Say moon.", "instructions": [said_in_the_question]}
    file = write_lines(tmp_path / "chats.jsonl", {"id": 1, "turns": [turn]})
    loaded = load_benchmark("mmmt-if", [f"file={file}"])
    assert last_shown(loaded.conversation(loaded.questions()[0])) == "Why? Say moon."
    options = [f"file={file}", "protocol=instructions-repeated"]
    refused("mmmt-if", options, DataError, "turn '1/1' has an instruction without `text`")


# --- retrieved passages -----------------------------------------------------------------------------------------------


def test_vlr_bench_needs_both_keywords_and_says_each_language(tmp_path: Path) -> None:
    loaded = load_benchmark("vlr-bench", vlr_bench.write(tmp_path).options)
    figures = (
        run_benchmark(Table({"0": "uluru", "1": "这是乌鲁鲁"}), loaded, blank=False)
        .scores["vlr-bench.official"]
        .figures
    )
    assert (figures["score"], figures["KMS en"], figures["KMS zh"]) == (0.5, 0.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"language": "fr"}, r"r\.json: entry 0: the language is 'fr' and none of en, ko, zh"),
        ({"question": ""}, r"r\.json: entry 0 has no question or no passages; give the data set"),
        ({"passages": []}, r"r\.json: entry 0 has no question or no passages; give the data set"),
        ({"image": "../a.png"}, "leads out of"),
    ],
)
def test_vlr_bench_refuses_with_file_and_entry(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    row = {"question": "What?", "passages": ["P."], "output": "It.", "keyword1": "i", "keyword2": "t", "language": "en"}
    write_pictures(tmp_path, "images/a.png")
    file = write_json(tmp_path / "r.json", [row | {"image": "a.png"} | changes])
    refused("vlr-bench", [f"data={file}", f"images={tmp_path / 'images'}"], DataError, message)


def test_m2rag_needs_what_was_retrieved_for_every_query(tmp_path: Path) -> None:
    small = m2rag_questions.write(tmp_path)
    refused("m2rag-questions", list(small.options[:1]), ConfigError, "give retrieved=FILE .* or protocol=no-retrieval")
    write_lines(tmp_path / "retrieved.jsonl", {"id": 7, "cands": []})
    refused("m2rag-questions", list(small.options), DataError, r"retrieved\.jsonl has no line of the query '8'")
    write_lines(tmp_path / "retrieved.jsonl", {"id": 7, "cands": [5]})
    refused("m2rag-questions", list(small.options), DataError, r"retrieved\.jsonl:1: cands\.0")


def test_m2rag_texts_are_cut_and_candidates_counted(tmp_path: Path) -> None:
    small = m2rag_questions.write(tmp_path)
    long = " ".join(f"w{number}" for number in range(500))
    write_lines(tmp_path / "retrieved.jsonl", {"id": 7, "cands": [long, "b", "c", "d"]}, {"id": 8, "cands": []})
    loaded = load_benchmark("m2rag-questions", small.options)
    text = last_shown(loaded.conversation(loaded.questions()[0]))
    assert "w399" in text and "w400" not in text and "[3] c" in text and "[4]" not in text


def test_m2rag_facts_do_not_show_the_document(tmp_path: Path) -> None:
    loaded = load_benchmark("m2rag-facts", m2rag_facts.write(tmp_path).options)
    for item in loaded.questions():
        assert "secret" not in last_shown(loaded.conversation(item)) and "never.png" not in [
            path.name for path in item.images
        ]
