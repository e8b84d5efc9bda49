"""COCO captions, NoCaps and Flickr30k in miniature."""

from __future__ import annotations

from pathlib import Path

from ..scorers.files import write_json
from . import Miniature, picture

LMMS_EVAL = "<image>\nProvide a one-sentence caption for the provided image."
VLMEVALKIT = (
    "<image>\nPlease describe this image in general. Directly provide the description, "
    'do not include prefix like "This image depicts". '
)
PROMPTS = {"lmms-eval": LMMS_EVAL, "vlmevalkit": VLMEVALKIT}
SENTENCES = ("a man rides a wave on top of a surfboard", "two dogs sleep under the old wooden table")


def write_coco(folder: Path) -> list[str]:
    """Karpathy's splits: of three images two are of the test split."""

    def image(number: int, split: str, sentence: str) -> dict[str, object]:
        name = f"COCO_val2014_{number:012}.jpg"
        sentences = [{"tokens": sentence.split(), "raw": sentence, "imgid": 0, "sentid": place} for place in range(5)]
        return {
            "filepath": "val2014",
            "sentids": list(range(5)),
            "filename": name,
            "imgid": 0,
            "split": split,
            "sentences": sentences,
            "cocoid": number,
        }

    images = [image(391895, "test", SENTENCES[0]), image(60623, "val", "x"), image(483108, "test", SENTENCES[1])]
    for number in (391895, 483108):
        picture(folder / "images" / "val2014" / f"COCO_val2014_{number:012}.jpg")
    path = write_json(folder / "dataset_coco.json", {"images": images, "dataset": "coco"})
    return [f"references={path}", f"images={folder / 'images'}"]


def write_nocaps(folder: Path) -> list[str]:
    images = [
        {"id": number, "file_name": f"{number:016x}.jpg", "domain": domain, "coco_url": "", "open_images_id": ""}
        for number, domain in enumerate(("in-domain", "out-domain"))
    ]
    annotations = [
        {"image_id": number, "id": 10 * number + place, "caption": sentence}
        for number, sentence in enumerate(SENTENCES)
        for place in range(10)
    ]
    for image in images:
        picture(folder / "images" / str(image["file_name"]))
    path = write_json(folder / "nocaps_val_4500_captions.json", {"images": images, "annotations": annotations})
    return [f"references={path}", f"images={folder / 'images'}"]


def write_flickr30k(folder: Path) -> list[str]:
    names = ("1000092795.jpg", "10002456.jpg")
    lines = [
        f"{name}#{place}\t{sentence} .\n" for name, sentence in zip(names, SENTENCES, strict=True) for place in range(5)
    ]
    path = folder / "results_20130124.token"
    path.write_text("".join(lines), encoding="utf-8")
    for name in names:
        picture(folder / "flickr30k-images" / name)
    return [f"references={path}", f"images={folder / 'flickr30k-images'}"]


MINIATURES = [
    Miniature(
        "coco-captions",
        write_coco,
        prompts=PROMPTS,
        perfect=dict(zip(("391895", "483108"), SENTENCES, strict=True)),
        images=("COCO_val2014_000000391895.jpg",),
        needs={"dataset_coco.json": "Karpathy", "images/val2014": "Karpathy"},
        best=10.0,
        first={"cluster": "391895", "answers": (SENTENCES[0],) * 5},
    ),
    Miniature(
        "nocaps",
        write_nocaps,
        prompts=PROMPTS,
        perfect=dict(zip(("0", "1"), SENTENCES, strict=True)),
        images=("0000000000000000.jpg",),
        needs={"nocaps_val_4500_captions.json": "nocaps.org", "images": "OpenImages"},
        best=10.0,
        first={"kind": "in-domain"},
    ),
    Miniature(
        "flickr30k",
        write_flickr30k,
        prompts=PROMPTS,
        perfect=dict(zip(("1000092795.jpg", "10002456.jpg"), SENTENCES, strict=True)),
        images=("1000092795.jpg",),
        needs={"results_20130124.token": "Flickr30k", "flickr30k-images/10002456.jpg": "Flickr30k"},
        best=10.0,
    ),
]
