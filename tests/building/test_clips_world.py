"""The world of clips: what it says of a clip is true of the written file's pixels, and what it calls wrong is not."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

from mminstruct.data_builders.worlds import clip_facts
from mminstruct.data_builders.worlds.clips import HEIGHT, RATE, WIDTH, clip
from mminstruct.media import encode_clip
from tests.building.clip_pixels import Pixels


def test_questions_and_sentences_are_true_and_wrong_answers_wrong(tmp_path: Path) -> None:
    judged: Counter[str] = Counter()
    for number in range(100, 114):
        made = clip(0, number)
        (tmp_path / "a.mp4").write_bytes(encode_clip(made.frames(), RATE))
        told = clip_facts.sentences(made)
        pixels = Pixels(tmp_path / "a.mp4", " ".join(sentence for _, _, sentence in told))
        assert len(pixels.frames) == made.length and len(pixels.scenes) == len(made.shots)
        for one in clip_facts.known(made, random.Random(number)):
            right = pixels.true(one.question, one.answer)
            if right is not None:
                judged[" ".join(one.question.split()[:2])] += 1
                assert right and not pixels.true(one.question, one.wrong), (number, one)
        for start, end, sentence in told:
            match = re.match(r"An? (\w+) \w+ (comes in|crosses)", sentence)
            if match and match[1] in pixels.single:
                track = pixels.track(match[1])
                assert abs(min(track) / RATE - start) <= 0.2, sentence
                assert match[2] == "comes in" or abs((max(track) + 1) / RATE - end) <= 0.2, sentence
                judged[match[2]] += 1
    assert judged["What happens"] >= 30 and judged["When does"] >= 15 and judged["Is the"] >= 10
    assert judged["From which"] >= 5 and judged["Which colour"] >= 10 and judged["How many"] == 14
    assert judged["comes in"] >= 2 and judged["crosses"] >= 2


def test_clips_are_short_small_and_their_events_lie_in_their_scenes() -> None:
    manners: Counter[str] = Counter()
    for number in range(300):
        made = clip(1, number)
        assert made == clip(1, number) and 56 <= made.length <= 99
        names = [mover.name for mover in made.movers()]
        names += [f"{mover.colors[-1]} {mover.shape}" for mover in made.movers() if mover.manner == "changes"]
        assert len(names) == len(set(names))
        for shot in made.shots:
            for mover in shot.movers:
                manners[mover.manner] += 1
                assert len(mover.centres) == len(mover.colors) == shot.length
                assert all(shot.first <= event.frame < shot.first + shot.length - 1 for event in mover.events)
                seen = [frame for frame in range(shot.length) if mover.seen(frame)]
                assert len(seen) >= 8 and any(mover.whole(frame) for frame in seen)
                lane = {centre[1 if shot.rows else 0] for centre in mover.centres}
                assert len(lane) == 1 and 0 < min(lane) < (HEIGHT if shot.rows else WIDTH)
    assert len(manners) == 7 and min(manners.values()) > 50
    assert clip(1, 0) != clip(0, 0)
