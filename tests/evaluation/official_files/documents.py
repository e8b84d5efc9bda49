"""DocVQA, InfographicVQA, ST-VQA, ChartQA, OCRBench and OCR-VQA in miniature."""

from __future__ import annotations

from pathlib import Path

from mminstruct.eval.chartqa import REASONED

from ..scorers.files import write_json
from . import Miniature, picture
from .photographs import SHORT


def write_docvqa(folder: Path) -> list[str]:
    header = {"dataset_name": "SP-DocVQA", "dataset_version": "1.0", "dataset_split": "val"}
    rows = [
        {
            "questionId": 49153,
            "question": "What is the ‘actual’ value per 1000, during the year 1975?",
            "question_types": ["figure/diagram"],
            "image": "documents/pybv0228_81.png",
            "docId": 14465,
            "ucsf_document_id": "pybv0228",
            "ucsf_document_page_no": "81",
            "answers": ["0.28"],
            "data_split": "val",
        },
        {
            "questionId": 24580,
            "question": "What is name of university?",
            "question_types": ["layout"],
            "image": "documents/nkbl0226_1.png",
            "docId": 7392,
            "answers": ["university of california", "University of California, San Diego"],
            "data_split": "val",
        },
    ]
    # As it is published now, the folder of images has no "documents" in it.
    picture(folder / "spdocvqa_images" / "pybv0228_81.png")
    picture(folder / "spdocvqa_images" / "nkbl0226_1.png")
    path = write_json(folder / "val_v1.0_withQT.json", {**header, "data": rows})
    return [f"questions={path}", f"images={folder / 'spdocvqa_images'}"]


def write_infovqa(folder: Path) -> list[str]:
    rows = [
        {
            "questionId": 98313,
            "question": "Which social platform has heavy female audience?",
            "image_local_name": "37313.jpeg",
            "image_url": "https://example.org/a.jpg",
            "ocr_output_file": "37313.json",
            "answers": ["pinterest"],
            "data_split": "val",
            "answer_type": ["image span"],
            "evidence": ["text"],
            "operation/reasoning": [],
        },
        {
            "questionId": 98314,
            "question": "How many more are 1 and 2?",
            "image_local_name": "37314.jpeg",
            "answers": ["3"],
            "answer_type": ["non span"],
            "evidence": ["figure"],
            "operation/reasoning": ["arithmetic"],
        },
    ]
    for row in rows:
        picture(folder / "infographicsvqa_images" / str(row["image_local_name"]))
    path = write_json(folder / "infographicsVQA_val_v1.0_withQT.json", {"dataset_name": "x", "data": rows})
    return [f"questions={path}", f"images={folder / 'infographicsvqa_images'}"]


def write_st_vqa(folder: Path) -> list[str]:
    rows = [
        {
            "question_id": 0,
            "question": "Where is this train going?",
            "answers": ["To New York", "New York"],
            "dataset": "coco-text",
            "file_name": "COCO_train2014_000000378466.jpg",
            "file_path": "coco-text/COCO_train2014_000000378466.jpg",
            "image_classes": "",
            "set_name": "train",
        },
        {
            "question_id": 1,
            "question": "What is the sum?",
            "answers": ["50"],
            "dataset": "vizwiz",
            "file_name": "COCO_train2014_000000378466.jpg",
            "file_path": "vizwiz/11.jpg",
        },
    ]
    for row in rows:
        picture(folder / "images" / str(row["file_path"]))
    path = write_json(folder / "train_task_3.json", {"dataset_name": "ST-VQA", "task_name": "task 3", "data": rows})
    return [f"questions={path}", f"images={folder / 'images'}"]


def write_chartqa(folder: Path) -> list[str]:
    test = folder / "ChartQA Dataset" / "test"
    test.mkdir(parents=True)
    human = [
        {"imgname": "41699051005347.png", "query": "How many food items are shown in the bar graph?", "label": "14"},
        {"imgname": "41699051005347.png", "query": "What is the name of the second bar?", "label": "Pork"},
    ]
    augmented = [{"imgname": "multi_col_1.png", "query": "What year was the share 5?", "label": "2008"}]
    write_json(test / "test_human.json", human)
    write_json(test / "test_augmented.json", augmented)
    for line in human + augmented:
        picture(test / "png" / line["imgname"])
    return [f"questions={test}"]


def write_ocrbench(folder: Path) -> list[str]:
    def row(name: str, kind: str, question: str, image: str, answers: object) -> dict[str, object]:
        return {"dataset_name": name, "type": kind, "question": question, "image_path": image, "answers": answers}

    rows = [
        row(
            "IIIT5K",
            "Regular Text Recognition",
            "what is written in the image?",
            "IIIT5K/test/1007_1.png",
            ["CENTRE"],
        ),
        row(
            "HME100k",
            "Handwritten Mathematical Expression Recognition",
            "Please write out the expression of the formula in the image using LaTeX format.",
            "HME100K/test_img/test_8008.jpg",
            ["8 a ^ { 2 }"],
        ),
    ]
    for line in rows:
        picture(folder / "OCRBench_Images" / str(line["image_path"]))
    return [f"questions={write_json(folder / 'OCRBench.json', rows)}", f"images={folder / 'OCRBench_Images'}"]


def write_ocr_vqa(folder: Path) -> list[str]:
    def book(address: str, split: int, **asked: str) -> dict[str, object]:
        return {
            "imageURL": address,
            "questions": [question.replace("_", " ") + "?" for question in asked],
            "answers": list(asked.values()),
            "title": "A title",
            "authorName": "An author",
            "genre": "Travel",
            "split": split,
        }

    books = {
        "0310252717": book("http://example.org/51.jpg", 1, Who_wrote_this="Nobody"),
        "1594732108": book("http://example.org/52.gif", 3, What_is_the_genre="Religion & Spirituality", Is_it_new="No"),
        "0735611386": book("http://example.org/53.png", 3, What_is_the_genre="Travel"),
    }
    picture(folder / "images" / "1594732108.gif")
    picture(folder / "images" / "0735611386.jpg")  # as those keep it who name all of them so
    return [f"questions={write_json(folder / 'dataset.json', books)}", f"images={folder / 'images'}"]


MINIATURES = [
    Miniature(
        "docvqa",
        write_docvqa,
        prompts={"lmms-eval": f"<image>\nWhat is the ‘actual’ value per 1000, during the year 1975?{SHORT}"},
        perfect={"49153": "0.28", "24580": "University of California"},
        images=("pybv0228_81.png",),
        needs={
            "val_v1.0_withQT.json": "docvqa.org",
            "spdocvqa_images": "docvqa.org",
            "spdocvqa_images/nkbl0226_1.png": "documents/nkbl0226_1.png or nkbl0226_1.png is not in",
        },
    ),
    Miniature(
        "infovqa",
        write_infovqa,
        prompts={"lmms-eval": f"<image>\nWhich social platform has heavy female audience?{SHORT}"},
        perfect={"98313": "Pinterest", "98314": "3"},
        images=("37313.jpeg",),
        needs={"infographicsVQA_val_v1.0_withQT.json": "InfographicVQA", "infographicsvqa_images": "InfographicVQA"},
    ),
    Miniature(
        "st-vqa",
        write_st_vqa,
        prompts={"lmms-eval": f"<image>\nWhere is this train going?{SHORT}"},
        perfect={"0": "New York", "1": "50"},
        images=("COCO_train2014_000000378466.jpg",),
        needs={"train_task_3.json": "rrc.cvc.uab.es", "images/coco-text": "ST-VQA"},
    ),
    Miniature(
        "chartqa",
        write_chartqa,
        prompts={
            "lmms-eval": f"<image>\nHow many food items are shown in the bar graph?{SHORT}",
            "lm-eval": REASONED.replace("{question}", "<image>How many food items are shown in the bar graph?"),
        },
        perfect={
            "41699051005347.png\nHow many food items are shown in the bar graph?": "14.5",  # within five per cent
            "41699051005347.png\nWhat is the name of the second bar?": "pork",
            "multi_col_1.png\nWhat year was the share 5?": "2008",
        },
        images=("41699051005347.png",),
        needs={"ChartQA Dataset/test": "vis-nlp/ChartQA", "ChartQA Dataset/test/png/multi_col_1.png": "vis-nlp"},
        first={"kind": "human"},
    ),
    Miniature(
        "ocrbench",
        write_ocrbench,
        prompts={"official": "<image>\nwhat is written in the image?"},
        perfect={"0": "It says Centre.", "1": "8a^{2}"},
        images=("1007_1.png",),
        needs={"OCRBench.json": "MultimodalOCR", "OCRBench_Images/HME100K": "MultimodalOCR"},
        best=2.0,
        first={"kind": "Regular Text Recognition", "detail": "IIIT5K"},
    ),
    Miniature(
        "ocr-vqa",
        write_ocr_vqa,
        prompts={"vlmevalkit": f"<image>\nWhat is the genre?{SHORT}"},
        perfect={"1594732108_0": "religion & spirituality", "1594732108_1": "no", "0735611386_0": "Travel"},
        images=("1594732108.gif",),
        needs={"dataset.json": "ocr-vqa.github.io", "images/1594732108.gif": "loadDataset.py"},
        first={"cluster": "1594732108"},
    ),
]
