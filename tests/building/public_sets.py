"""Miniatures of public data sets, by hand, in the layouts in which these are published, and what is built of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image


def write_all(root: Path) -> dict[str, Path]:
    """The folder of each data set's miniature, by the name that sources have for it."""
    for folder, (files, pictures) in SETS.items():
        for name, value in files.items():
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = isinstance(value, list) and name.endswith(".jsonl")
            path.write_text("\n".join(map(json.dumps, value)) if lines else json.dumps(value), encoding="utf-8")
        for number, name in enumerate(pictures):
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 20), (number, 90, len(folder))).save(path)
    return {folder: root / folder for folder in SETS}


def _people(*answers: str) -> list[dict[str, Any]]:
    return [{"answer": one, "answer_confidence": "yes", "answer_id": number} for number, one in enumerate(answers, 1)]


def _vqa(number: int, image: int, question: str, kind: str, *answers: str) -> tuple[dict[str, Any], dict[str, Any]]:
    asked = {"image_id": image, "question": question, "question_id": number}
    most = max(answers, key=answers.count)
    told = {"image_id": image, "question_id": number, "question_type": "what", "answer_type": kind}
    return asked, {**told, "multiple_choice_answer": most, "answers": _people(*answers)}


_VQA = [
    _vqa(9000, 9, "What is in the bowl?", "other", "fruit", "apples", "fruit"),
    _vqa(9001, 9, "Is it full?", "yes/no", "yes", "yes", "no"),
    _vqa(25000, 25, "How many giraffes?", "number", "2", "2", "3"),
    _vqa(25001, 25, "Is it raining?", "yes/no", "no", "no", "no"),
    _vqa(25002, 25, "How many trees?", "number", "4", "5", "4"),
]
_OKVQA = [
    _vqa(1, 9, "Which vitamin does it give?", "other", "c", "c", "a"),
    _vqa(2, 25, "Where do they live?", "other", "africa"),
]
_COCO = ["COCO_train2014_000000000009.jpg", "COCO_train2014_000000000025.jpg"]


def _object(image: int, category: int, box: list[float], crowd: int = 0) -> dict[str, Any]:
    return {
        "id": image * 10 + category,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": 1,
        "iscrowd": crowd,
    }


_IMAGES = [
    {"id": 9, "file_name": "000000000009.jpg", "width": 40, "height": 20},
    {"id": 25, "file_name": "000000000025.jpg", "width": 40, "height": 20},
]

SETS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "vqav2": (
        {
            "v2_OpenEnded_mscoco_train2014_questions.json": {"questions": [asked for asked, _ in _VQA]},
            "v2_mscoco_train2014_annotations.json": {"annotations": [told for _, told in _VQA]},
        },
        [f"train2014/{name}" for name in _COCO],
    ),
    "okvqa": (
        {
            "OpenEnded_mscoco_train2014_questions.json": {"questions": [asked for asked, _ in _OKVQA]},
            "mscoco_train2014_annotations.json": {"annotations": [told for _, told in _OKVQA]},
        },
        [f"train2014/{name}" for name in _COCO],
    ),
    "coco": (
        {
            "annotations/captions_train2017.json": {
                "images": _IMAGES,
                "annotations": [
                    {"id": 1, "image_id": 9, "caption": "A bowl of fruit. "},
                    {"id": 2, "image_id": 9, "caption": "Fruit on a table."},
                    {"id": 3, "image_id": 25, "caption": "Giraffes in the grass."},
                ],
            },
            "annotations/instances_train2017.json": {
                "images": _IMAGES,
                "annotations": [
                    _object(9, 51, [4, 2, 32, 16]),
                    _object(9, 53, [10, 4, 4, 4]),
                    _object(9, 53, [20, 4, 4, 4]),
                    _object(25, 25, [0, 0, 20, 20]),
                    _object(25, 51, [30, 15, 4, 4]),
                ],
                "categories": [
                    {"id": 51, "name": "bowl", "supercategory": "kitchen"},
                    {"id": 53, "name": "apple", "supercategory": "food"},
                    {"id": 25, "name": "giraffe", "supercategory": "animal"},
                    {"id": 22, "name": "elephant", "supercategory": "animal"},
                ],
            },
        },
        ["train2017/000000000009.jpg", "train2017/000000000025.jpg"],
    ),
    "flickr30k": (
        {
            "dataset_flickr30k.json": {
                "images": [
                    {"filename": "1.jpg", "imgid": 0, "split": "train", "sentences": [{"raw": "A man climbs a wall."}]},
                    {"filename": "2.jpg", "imgid": 1, "split": "test", "sentences": [{"raw": "A dog."}]},
                    {"filename": "3.jpg", "imgid": 2, "split": "train", "sentences": [{"raw": "Two girls run."}]},
                ]
            }
        },
        [f"flickr30k-images/{number}.jpg" for number in (1, 2, 3)],
    ),
    "gqa": (
        {
            "train_balanced_questions.json": {
                "07333408": {
                    **{"imageId": "1", "question": "What is on the white wall?", "answer": "pipe"},
                    **{"fullAnswer": "The pipe is on the wall.", "isBalanced": True, "semanticStr": "..."},
                },
                "07333405": {
                    **{"imageId": "2", "question": "Is that fence white?", "answer": "no"},
                    **{"fullAnswer": "No, the fence is brown.", "isBalanced": True, "semanticStr": "..."},
                },
            }
        },
        ["images/1.jpg", "images/2.jpg"],
    ),
    "aokvqa": (
        {
            "aokvqa_v1p0_train.json": [
                {
                    **{"split": "train", "image_id": 9, "question_id": "q1", "question": "What is the fruit good for?"},
                    **{"choices": ["health", "sleep", "wood", "metal"], "correct_choice_idx": 0},
                    **{"direct_answers": ["health", "vitamins", "health"], "difficult_direct_answer": False},
                    **{"rationales": ["Fruit has vitamins."]},
                },
                {
                    **{"split": "train", "image_id": 25, "question_id": "q2", "question": "What do they eat?"},
                    **{"choices": ["meat", "fish", "leaves", "bread"], "correct_choice_idx": 2},
                    **{"direct_answers": ["leaves", "leaves"], "difficult_direct_answer": False},
                    **{"rationales": ["Giraffes reach up into trees."]},
                },
            ]
        },
        ["train2017/000000000009.jpg", "train2017/000000000025.jpg"],
    ),
    "scienceqa": (
        {
            "problems.json": {
                "1": {
                    **{"question": "Which is farthest north?", "choices": ["West Virginia", "Arizona"], "answer": 0},
                    **{
                        "hint": "",
                        "image": "image.png",
                        "split": "train",
                        "solution": "Find the compass rose.",
                        "grade": "2",
                    },
                },
                "2": {
                    **{"question": "No figure", "choices": ["a", "b"], "answer": 1, "hint": "", "image": None},
                    **{"split": "train", "solution": "", "grade": "2"},
                },
                "5": {
                    **{"question": "What do they show?", "choices": ["birds", "fish", "cells"], "answer": 2},
                    **{
                        "hint": "See the figure.",
                        "image": "image.png",
                        "split": "train",
                        "solution": "They are cells.",
                    },
                },
            }
        },
        ["images/train/1/image.png", "images/train/5/image.png"],
    ),
    "textvqa": (
        {
            "TextVQA_0.5.1_train.json": {
                "dataset_type": "train",
                "data": [
                    {
                        "question": "what is the brand?",
                        "image_id": "a1",
                        "question_id": 0,
                        "answers": ["nokia", "nokia", "the nokia"],
                    },
                    {"question": "what time is it?", "image_id": "b2", "question_id": 1, "answers": ["10:10", "ten"]},
                ],
            }
        },
        ["train_images/a1.jpg", "train_images/b2.jpg"],
    ),
    "textcaps": (
        {
            "TextCaps_0.1_train.json": {
                "data": [
                    {
                        "image_id": "a1",
                        "caption_id": 0,
                        "caption_str": "A phone by Nokia.",
                        "reference_strs": ["A phone by Nokia."],
                    },
                    {"image_id": "a1", "caption_id": 1, "caption_str": "Nokia is written there.", "reference_strs": []},
                ]
            }
        },
        ["train_images/a1.jpg"],
    ),
    "vizwiz": (
        {
            "Annotations/train.json": [
                {
                    **{"image": "VizWiz_train_00000000.jpg", "question": "What's the name of this product?"},
                    **{
                        "answers": _people("basil leaves", "basil", "basil leaves"),
                        "answer_type": "other",
                        "answerable": 1,
                    },
                },
                {
                    **{"image": "VizWiz_train_00000001.jpg", "question": "Can you tell me what is in this can?"},
                    **{"answers": _people("soda", "coke", "soda"), "answer_type": "other", "answerable": 1},
                },
                {
                    **{"image": "VizWiz_train_00000002.jpg", "question": "What is this?"},
                    **{"answers": _people("unanswerable"), "answer_type": "unanswerable", "answerable": 0},
                },
            ]
        },
        [f"train/VizWiz_train_0000000{number}.jpg" for number in range(3)],
    ),
    "refcoco": (
        {
            "finetune_refcoco_train.json": {
                "images": [
                    {
                        "id": 0,
                        "file_name": _COCO[0],
                        "width": 40,
                        "height": 20,
                        "caption": "left bowl",
                        "original_id": 9,
                    },
                    {
                        "id": 1,
                        "file_name": _COCO[0],
                        "width": 40,
                        "height": 20,
                        "caption": "small apple",
                        "original_id": 9,
                    },
                ],
                "annotations": [
                    {"id": 0, "image_id": 0, "bbox": [0, 0, 10, 10], "iscrowd": 0, "category_id": 51},
                    {"id": 1, "image_id": 1, "bbox": [20, 10, 20, 5], "iscrowd": 0, "category_id": 53},
                ],
                "categories": [{"id": 51, "name": "bowl"}],
            }
        },
        [f"train2014/{_COCO[0]}"],
    ),
    "snli-ve": (
        {
            "snli_ve_train.jsonl": [
                {"Flickr30K_ID": "1", "pairID": "1#0r1n", "gold_label": "neutral", "sentence2": "A man is training."},
                {"Flickr30K_ID": "1", "pairID": "1#0r1c", "gold_label": "contradiction", "sentence2": "A man sleeps."},
                {"Flickr30K_ID": "1", "pairID": "1#0r1x", "gold_label": "-", "sentence2": "Nobody agreed."},
            ]
        },
        ["flickr30k-images/1.jpg"],
    ),
    "vsr": (
        {
            "train.jsonl": [
                {"image": "1.jpg", "caption": "The cat is on the bed.", "label": 1, "relation": "on"},
                {"image": "1.jpg", "caption": "The cat is under the bed.", "label": 0, "relation": "under"},
            ]
        },
        ["images/1.jpg"],
    ),
    "clevr": (
        {
            "questions/CLEVR_train_questions.json": {
                "info": {"split": "train"},
                "questions": [
                    {
                        "image_index": 0,
                        "question_index": 0,
                        "image_filename": "c0.png",
                        "question": "How many cubes?",
                        "answer": "2",
                    },
                    {
                        "image_index": 0,
                        "question_index": 1,
                        "image_filename": "c0.png",
                        "question": "Any spheres?",
                        "answer": "no",
                    },
                ],
            }
        },
        ["images/train/c0.png"],
    ),
    "chartqa": (
        {
            "train/train_human.json": [
                {"imgname": "1.png", "query": "How many years are shown?", "label": "12"},
                {"imgname": "1.png", "query": "Which is the last?", "label": "2019"},
            ]
        },
        ["train/png/1.png"],
    ),
    "docvqa": (
        {
            "train/train_v1.0.json": {
                "dataset_split": "train",
                "data": [
                    {
                        "questionId": 337,
                        "question": "What is the date?",
                        "image": "documents/x_1.png",
                        "answers": ["1/8/93"],
                    },
                    {
                        "questionId": 338,
                        "question": "Who signed?",
                        "image": "documents/x_1.png",
                        "answers": ["P. Carter", "p. carter"],
                    },
                ],
            }
        },
        ["train/documents/x_1.png"],
    ),
    "tallyqa": (
        {
            "train.json": [
                {"image": "VG_100K/1.jpg", "question_id": 1, "question": "How many cups are red?", "answer": 3},
                {"image": "VG_100K/1.jpg", "question_id": 2, "question": "How many dogs?", "answer": 0},
            ]
        },
        ["VG_100K/1.jpg"],
    ),
    "ocrvqa": (
        {
            "dataset.json": {
                "068107": {"title": "Mens Pocket Planner", "authorName": "", "genre": "Calendars", "split": 1},
                "076115": {"title": "A Study of\nTrees", "authorName": "Ann Bly", "genre": "Science", "split": 1},
                "099999": {"title": "Another One", "authorName": "Ed Fox", "genre": "Travel", "split": 1},
                "000001": {"title": "Held out", "authorName": "X", "genre": "Y", "split": 2},
            }
        },
        [f"images/{name}.jpg" for name in ("068107", "076115", "099999")],
    ),
    "hateful-memes": (
        {
            "train.jsonl": [
                {"id": 42953, "img": "img/42953.png", "label": 0, "text": "what a fine day"},
                {"id": 23058, "img": "img/23058.png", "label": 1, "text": "go home"},
            ]
        },
        ["img/42953.png", "img/23058.png"],
    ),
    "classes": ({}, ["train/great_horned_owl/1.png", "train/great_horned_owl/2.png", "train/wren/1.png"]),
}

# Of each task (what is asked below the instruction, what is answered), in the order of the ids; by hand. Of tasks in
# which chance chooses, nothing.
EXPECTED: dict[str, list[tuple[str, str]]] = {
    "vqav2+answer": [
        *(("How many giraffes?", "2"), ("Is it raining?", "no"), ("How many trees?", "4")),
        *(("What is in the bowl?", "fruit"), ("Is it full?", "yes")),
    ],
    "vqav2+yes-no": [("Is it raining?", "no"), ("Is it full?", "yes")],
    "vqav2+number": [("How many giraffes?", "2"), ("How many trees?", "4")],
    "okvqa+answer": [("Which vitamin does it give?", "c"), ("Where do they live?", "africa")],
    "coco+kinds": [("", "bowl, giraffe"), ("", "apple, bowl")],
    "coco+detect": [
        ("", "giraffe: [0.00, 0.00, 0.50, 1.00]\nbowl: [0.75, 0.75, 0.85, 0.95]"),
        ("", "bowl: [0.10, 0.10, 0.90, 0.90]\napple: [0.25, 0.20, 0.35, 0.40]\napple: [0.50, 0.20, 0.60, 0.40]"),
    ],
    "flickr30k+caption": [("", "A man climbs a wall."), ("", "Two girls run.")],
    "gqa+answer": [("Is that fence white?", "no"), ("What is on the white wall?", "pipe")],
    "gqa+sentence": [
        ("Is that fence white?", "No, the fence is brown."),
        ("What is on the white wall?", "The pipe is on the wall."),
    ],
    "aokvqa+choose": [
        ("What is the fruit good for? (A) health (B) sleep (C) wood (D) metal", "health"),
        ("What do they eat? (A) meat (B) fish (C) leaves (D) bread", "leaves"),
    ],
    "aokvqa+answer": [("What is the fruit good for?", "health"), ("What do they eat?", "leaves")],
    "aokvqa+explain": [
        ("What is the fruit good for?", "Fruit has vitamins."),
        ("What do they eat?", "Giraffes reach up into trees."),
    ],
    "scienceqa+choose": [
        ("Which is farthest north? (A) West Virginia (B) Arizona", "West Virginia"),
        ("See the figure.\nWhat do they show? (A) birds (B) fish (C) cells", "cells"),
    ],
    "scienceqa+explain": [
        ("Which is farthest north?", "Find the compass rose."),
        ("What do they show?", "They are cells."),
    ],
    "textvqa+answer": [("what is the brand?", "nokia"), ("what time is it?", "10:10")],
    "textcaps+caption": [("", "A phone by Nokia."), ("", "Nokia is written there.")],
    "vizwiz+answer": [
        ("What's the name of this product?", "basil leaves"),
        ("Can you tell me what is in this can?", "soda"),
    ],
    "vizwiz+answerable": [
        ("What's the name of this product?", "answerable"),
        ("Can you tell me what is in this can?", "answerable"),
        ("What is this?", "unanswerable"),
    ],
    "refcoco+locate": [("left bowl", "[0.00, 0.00, 0.25, 0.50]"), ("small apple", "[0.50, 0.50, 1.00, 0.75]")],
    "refcoco+refer": [("[0.00, 0.00, 0.25, 0.50]", "left bowl"), ("[0.50, 0.50, 1.00, 0.75]", "small apple")],
    "snli-ve+entailment": [
        ("Hypothesis: A man sleeps. Options: (A) entailment (B) neutral (C) contradiction", "contradiction"),
        ("Hypothesis: A man is training. Options: (A) entailment (B) neutral (C) contradiction", "neutral"),
    ],
    "vsr+statement": [("The cat is on the bed.", "true"), ("The cat is under the bed.", "false")],
    "clevr+answer": [("How many cubes?", "2"), ("Any spheres?", "no")],
    "chartqa+answer": [("How many years are shown?", "12"), ("Which is the last?", "2019")],
    "docvqa+answer": [("What is the date?", "1/8/93"), ("Who signed?", "P. Carter")],
    "tallyqa+count": [("How many cups are red?", "3"), ("How many dogs?", "0")],
    "ocrvqa+title": [("", "Mens Pocket Planner"), ("", "A Study of\nTrees"), ("", "Another One")],
    "ocrvqa+author": [("", "Ann Bly"), ("", "Ed Fox")],
    "ocrvqa+genre": [("", "Calendars"), ("", "Science"), ("", "Travel")],
    "hateful-memes+classify": [
        ("Text on the meme: go home", "hateful"),
        ("Text on the meme: what a fine day", "not hateful"),
    ],
    "classes+name": [("", "great horned owl"), ("", "great horned owl"), ("", "wren")],
}
