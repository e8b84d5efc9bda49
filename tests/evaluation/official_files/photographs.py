"""VQA v2, OK-VQA, VizWiz, GQA and TextVQA in miniature."""

from __future__ import annotations

from pathlib import Path

from ..scorers.files import write_json
from . import Miniature, picture, votes

SHORT = "\nAnswer the question using a single word or phrase."


def write_vqa(folder: Path, prefix: str = "v2_", split: str = "val2014") -> list[str]:
    """VQA's layout: two questions on one image and one on another."""
    rows = [(262148000, 262148, "Where is he looking?", "other", "where is", ["down"] * 8 + ["at table", "table"])]
    rows += [(262148001, 262148, "What are the people doing?", "other", "what are the", ["watching"] * 10)]
    rows += [(393225000, 393225, "Is this a creamy soup?", "yes/no", "is this a", ["no"] * 9 + ["yes"])]
    questions = [{"question_id": row[0], "image_id": row[1], "question": row[2]} for row in rows]
    annotations = [
        {
            "question_id": row[0],
            "image_id": row[1],
            "answer_type": row[3],
            "question_type": row[4],
            "multiple_choice_answer": row[5][0],
            "answers": votes(*row[5]),
        }
        for row in rows
    ]
    header = {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {}, "data_subtype": split}
    asked = write_json(folder / f"{prefix}OpenEnded_mscoco_{split}_questions.json", {**header, "questions": questions})
    told = write_json(folder / f"{prefix}mscoco_{split}_annotations.json", {**header, "annotations": annotations})
    for number in ("000000262148", "000000393225"):
        picture(folder / split / f"COCO_{split}_{number}.jpg")
    return [f"questions={asked}", f"annotations={told}", f"images={folder / split}"]


def write_vizwiz(folder: Path) -> list[str]:
    lines = [
        {
            "image": "VizWiz_val_00000000.jpg",
            "question": "Ok. There is another picture I hope it is a better one.",
            "answers": [{"answer": "unanswerable", "answer_confidence": "yes"}] * 10,
            "answer_type": "unanswerable",
            "answerable": 0,
        },
        {
            "image": "VizWiz_val_00000001.jpg",
            "question": "Can you tell me what this medicine is please?",
            "answers": [{"answer": "night time", "answer_confidence": "maybe"}] * 10,
            "answer_type": "other",
            "answerable": 1,
        },
    ]
    for line in lines:
        picture(folder / "val" / str(line["image"]))
    path = folder / "Annotations" / "val.json"
    path.parent.mkdir()
    return [f"questions={write_json(path, lines)}", f"images={folder / 'val'}"]


def write_gqa(folder: Path) -> list[str]:
    def question(text: str, answer: str, image: str, structural: str, semantic: str) -> dict[str, object]:
        return {
            "question": text,
            "answer": answer,
            "fullAnswer": f"{answer}.",
            "imageId": image,
            "isBalanced": True,
            "groups": {"global": None, "local": "06-vest_sweater"},
            "entailed": [],
            "equivalent": [],
            "types": {"structural": structural, "semantic": semantic, "detailed": "existAttrOr"},
            "semantic": [{"operation": "select", "argument": "bowl (1)", "dependencies": []}],
            "semanticStr": "select: bowl (1)",
        }

    content = {
        "201307251": question("Is it overcast?", "no", "n161313", "verify", "global"),
        "201640614": question("Who is wearing the dress?", "woman", "n235859", "query", "rel"),
    }
    for image in ("n161313", "n235859"):
        picture(folder / "images" / f"{image}.jpg")
    return [
        f"questions={write_json(folder / 'testdev_balanced_questions.json', content)}",
        f"images={folder / 'images'}",
    ]


def write_textvqa(folder: Path) -> list[str]:
    def question(number: int, image: str, text: str, answer: str) -> dict[str, object]:
        return {
            "question_id": number,
            "question": text,
            "image_id": image,
            "image_classes": ["Sign"],
            "flickr_300k_url": "",
            "set_name": "val",
            "answers": [answer] * 10,
        }

    rows = [
        question(34602, "003a8ae2ef43b901", "what is the brand of this Camera?", "dakota"),
        question(34603, "0054c91397f2fe05", "what does the small white text spell?", "copenhagen"),
    ]
    tokens = [
        {"image_id": "003a8ae2ef43b901", "ocr_tokens": ["DAKOTA", "DIGITAL"], "ocr_info": []},
        {"image_id": "0054c91397f2fe05", "ocr_tokens": [], "ocr_info": []},
    ]
    for row in rows:
        picture(folder / "train_images" / f"{row['image_id']}.jpg")
    asked = write_json(folder / "TextVQA_0.5.1_val.json", {"dataset_name": "textvqa", "data": rows})
    read = write_json(folder / "TextVQA_Rosetta_OCR_v0.2_val.json", {"dataset_name": "textvqa", "data": tokens})
    return [f"questions={asked}", f"images={folder / 'train_images'}", f"ocr={read}"]


UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'." + SHORT
VQA_PERFECT = {"262148000": "down", "262148001": "watching", "393225000": "no"}

MINIATURES = [
    Miniature(
        "vqav2",
        write_vqa,
        prompts=dict.fromkeys(("llava-1.5", "lmms-eval"), f"<image>\nWhere is he looking?{SHORT}"),
        perfect=VQA_PERFECT,
        images=("COCO_val2014_000000262148.jpg",),
        needs={
            "v2_OpenEnded_mscoco_val2014_questions.json": "visualqa.org",
            "v2_mscoco_val2014_annotations.json": "visualqa.org",
            "val2014": "visualqa.org",
            "val2014/COCO_val2014_000000393225.jpg": "visualqa.org",
        },
        first={"kind": "other", "detail": "where is", "cluster": "262148"},
    ),
    Miniature(
        "ok-vqa",
        lambda folder: write_vqa(folder, ""),
        prompts={
            "llava-1.5": f"<image>\nWhere is he looking?{SHORT}",
            "lmms-eval": f"<image>\nWhere is he looking?{UNANSWERABLE}",
        },
        perfect=VQA_PERFECT,
        images=("COCO_val2014_000000262148.jpg",),
        needs={"OpenEnded_mscoco_val2014_questions.json": "okvqa.allenai.org", "val2014": "okvqa.allenai.org"},
    ),
    Miniature(
        "vizwiz",
        write_vizwiz,
        prompts={
            "llava-1.5": f"<image>\nOk. There is another picture I hope it is a better one.{UNANSWERABLE}",
            # Python's capitalize(): all but the first letter small.
            "lmms-eval": f"<image>\nOk. there is another picture i hope it is a better one.{UNANSWERABLE}",
        },
        perfect={"VizWiz_val_00000000.jpg": "Unanswerable", "VizWiz_val_00000001.jpg": "Night time."},
        images=("VizWiz_val_00000000.jpg",),
        needs={"Annotations/val.json": "vizwiz.org", "val": "vizwiz.org", "val/VizWiz_val_00000001.jpg": "vizwiz.org"},
        first={"kind": "unanswerable"},
    ),
    Miniature(
        "gqa",
        write_gqa,
        prompts=dict.fromkeys(("llava-1.5", "lmms-eval"), f"<image>\nIs it overcast?{SHORT}"),
        perfect={"201307251": "No", "201640614": "Woman."},
        images=("n161313.jpg",),
        needs={"testdev_balanced_questions.json": "cs.stanford.edu", "images": "GQA", "images/n235859.jpg": "GQA"},
        first={"kind": "verify", "detail": "global", "cluster": "n161313"},
    ),
    Miniature(
        "textvqa",
        write_textvqa,
        prompts={
            "llava-1.5": f"<image>\nwhat is the brand of this Camera?\nReference OCR token: DAKOTA, DIGITAL{SHORT}",
            "llava-1.5-no-ocr": f"<image>\nwhat is the brand of this Camera?{SHORT}",
            "lmms-eval": f"<image>\nWhat is the brand of this camera?{SHORT}",
        },
        perfect={"34602": "Dakota", "34603": "copenhagen"},
        images=("003a8ae2ef43b901.jpg",),
        needs={
            "TextVQA_0.5.1_val.json": "textvqa.org",
            "TextVQA_Rosetta_OCR_v0.2_val.json": "textvqa.org",
            "train_images": "textvqa.org",
        },
        first={"cluster": "003a8ae2ef43b901"},
    ),
]
