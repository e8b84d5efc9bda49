"""The whole way in miniature: real pictures -> conversations -> two stages -> a model that is scored and answers."""

from __future__ import annotations

import json
import re

from tests.command import call


def test_from_data_to_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = [
        "data.options.limit=12",
        "stages.0.data.options.limit=12",
        *(f"stages.{number}.{setting}" for number in (0, 1) for setting in ("steps=4", "batch_size=4")),
        "log_every=1",
        "workers=0",
    ]
    code, out, err = call("quickstart", *settings, "--limit", "60")
    assert code == 0, err
    run = tmp_path / "runs/quickstart"
    assert "majority" in out and "mminstruct demo runs/quickstart/model" in out
    report = json.loads((run / "report.json").read_text())
    numbers = report["benchmarks"]["easy_vqa"]
    keys = {"accuracy", "n", "stderr", "by_type", "blank_image_accuracy", "majority_accuracy"}
    assert keys <= numbers.keys() and numbers["n"] == 60
    assert {"data", "train", "evaluate", "total"} <= report["seconds"].keys()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [(line["stage"], line["step"]) for line in lines]
    assert steps == [(stage, number) for stage in ("align", "tune") for number in (1, 2, 3, 4)]
    page = (run / "report.html").read_text()
    assert "<svg" in page and 'src="data:image/' in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page), "the report fetches something"
    assert len((run / "easy_vqa/predictions.jsonl").read_text().splitlines()) == 60
    assert {"config.resolved.yaml", "env.json", "data", "stages", "model"} <= {path.name for path in run.iterdir()}
    # The model answers with its own template, not with that of the align stage.
    assert json.loads((run / "model/mminstruct.json").read_text())["chat_template"]["name"] == "chatml"
    picture = next((run / "data").glob("*/images/train/0.png"))
    code, out, err = call("chat", run / "model", "--image", picture, "--question", "what color is the shape?", "--json")
    assert code == 0, err
    assert isinstance(json.loads(out)["answer"], str)
