"""Tiles and frames: every count and every vector as LLaVA-NeXT, LLaVA-NeXT-Video and LLaVA-OneVision have them."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextModel,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionModel,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next_video.configuration_llava_next_video import LlavaNextVideoConfig
from transformers.models.llava_next_video.modeling_llava_next_video import LlavaNextVideoPooler

import mminstruct
from mminstruct.config import validate
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart, VideoPart
from mminstruct.data.dataset import ConversationDataset
from mminstruct.errors import ConfigError, DataError
from mminstruct.media import FrameSampling, Video
from mminstruct.models import checkpoint
from mminstruct.models.config import ImageConfig, ModelRow, TilingConfig, VideoConfig
from mminstruct.models.factory import read_row
from mminstruct.models.image import prepare
from mminstruct.models.layout import Layout, Medium
from tests.conftest import make_tokenizer, picture
from tests.media.test_open_video import write

PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
SMALL = [[8, 16], [16, 8], [16, 16], [24, 8], [8, 24]]
FULL = TilingConfig(resolutions=tuple(map(tuple, PINPOINTS)))
TINY = TilingConfig(resolutions=tuple(map(tuple, SMALL)))
VISION = {
    "model_type": "clip_vision_model",
    "image_size": 8,
    "patch_size": 2,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEXT = {
    "model_type": "llama",
    "hidden_size": 12,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 32,
}


def sizes(count: int, most: int) -> list[tuple[int, int]]:
    """Heights and widths, a third of them of extreme shapes."""
    draw = random.Random(0)
    some = [(draw.randint(1, most), draw.randint(1, most)) for _ in range(count - count // 3)]
    return some + [(draw.randint(1, 40), draw.randint(1, most))[:: draw.choice([1, -1])] for _ in range(count // 3)]


def test_200_sizes_take_as_many_tokens_as_with_transformers():
    processor = LlavaNextProcessor(
        LlavaNextImageProcessorPil(
            image_grid_pinpoints=PINPOINTS, size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
        ),
        make_tokenizer(bos=True),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    asked = sizes(200, 3000)
    expected = processor._get_num_multimodal_tokens(image_sizes=asked).num_image_tokens
    layout = Layout(336, 24 * 24, FULL)
    assert [layout.tokens(Medium(0, *size)) for size in asked] == expected
    assert len(set(expected)) > 50
    assert max(expected) <= layout.most_tokens() == 2928  # published: a square picture of four tiles


def test_tiles_are_those_of_transformers():
    """Which grid, in what order, scaled, centred on black and normalised: the same numbers."""
    processor = LlavaNextImageProcessorPil(
        image_grid_pinpoints=SMALL, size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}, do_pad=False
    )
    image = ImageConfig(size=8, mean=tuple(processor.image_mean), std=tuple(processor.image_std))
    layout = Layout(8, 16, TINY)
    for seed, (height, width) in enumerate(sizes(60, 60)):
        photo = picture(seed, (width, height))
        expected = torch.from_numpy(np.array(processor(photo)["pixel_values"][0]))
        found = prepare(photo, image, layout)
        assert found.medium == (0, height, width)
        assert len(found.pixels) == layout.tiles(found.medium)
        assert torch.allclose(found.pixels, expected.float(), atol=1e-5), (height, width)


@pytest.fixture(scope="module")
def next_model() -> LlavaNextModel:
    torch.manual_seed(0)
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**{k: v for k, v in VISION.items() if k != "model_type"}),
        text_config=LlamaConfig(**{k: v for k, v in TEXT.items() if k != "model_type"}),
        image_grid_pinpoints=SMALL,
        image_seq_length=16,
    )
    return LlavaNextModel(config)


def test_vectors_stand_as_in_transformers(next_model):
    layout = Layout(8, 16, TINY)
    media = [Medium(0, *size) for size in sizes(40, 60)]
    features = [torch.randn(layout.tiles(medium), 16, 12) for medium in media]
    newline = torch.randn(12)
    expected, lengths = next_model.pack_image_features(
        features, torch.tensor([medium[1:] for medium in media]), "default", image_newline=newline
    )
    found = layout.arrange(torch.cat(features), media, newline)
    assert torch.equal(found, expected if isinstance(expected, torch.Tensor) else torch.cat(expected))
    assert lengths.tolist() == [layout.tokens(medium) for medium in media]


def test_flat_tiles_are_lined_up_one_after_the_other():
    layout = Layout(8, 3, TINY.model_copy(update={"merge": "flat"}))
    medium = Medium(0, 20, 20)
    vectors = torch.randn(5, 3, 4)
    assert layout.tokens(medium) == 15
    assert torch.equal(layout.arrange(vectors, [medium]), vectors.flatten(0, 1))


@pytest.mark.parametrize("mode", ["average", "max"])
def test_frames_are_pooled_as_in_llava_next_video(mode):
    layout = Layout(8, 25, video=VideoConfig(pool=2, pool_mode=mode))
    settings = LlavaNextVideoConfig(spatial_pool_mode=mode, spatial_pool_stride=2)
    frames = torch.randn(3, 25, 6)
    expected = LlavaNextVideoPooler(settings)(frames)
    assert layout.frame_tokens() == expected.shape[1] == 4
    assert torch.equal(layout.arrange(frames, [Medium(3, 9, 9)]), expected.flatten(0, 1))


@pytest.mark.parametrize("side", [4, 5])
def test_frames_are_pooled_as_in_llava_onevision(side):
    layout = Layout(8, side * side, video=VideoConfig(pool=2, pool_mode="bilinear"))
    config = LlavaOnevisionConfig(vision_config=VISION | {"image_size": 2 * side}, text_config=TEXT)
    reference = LlavaOnevisionModel(config)
    frames = torch.randn(3, side * side, 6)
    expected = reference.apply_pooling(frames)
    assert layout.frame_tokens() == expected.shape[1]
    assert torch.allclose(layout.arrange(frames, [Medium(3, 9, 9)]), expected.flatten(0, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tiling": TilingConfig(resolutions=((8, 12),))}, "8, 12.*a tile is 8 x 8 pixels"),
        ({"tiling": TINY, "vectors": 15}, "spatial_unpad wants a square grid of patches, found 15"),
        ({"video": VideoConfig(pool=2), "vectors": 15}, "video.pool wants a square grid"),
        ({"video": VideoConfig(pool=5)}, "video.pool is 5, but a frame has only 4 x 4 vectors"),
        ({"tiling": TINY, "in_prompt": False}, "looks at whole media"),
    ],
)
def test_what_cannot_be_laid_out_is_an_error(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Layout(**({"tile": 8, "vectors": 16} | arguments))


def test_a_row_that_tiles_and_pads_is_an_error():
    row = read_row("nano-tiles")[0].model_dump(mode="json")
    row["vision_encoder"]["image"]["resize"] = "pad"
    with pytest.raises(ConfigError, match=r"wants image\.resize: squash"):
        validate(ModelRow, row, "row")


# ---- the whole way: conversation, processor, model ------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiles():
    torch.manual_seed(0)
    return mminstruct.create("nano-tiles", tiny=True)


def film(frames: int, size: tuple[int, int] = (50, 40)) -> Video:
    return Video(tuple(picture(seed, size) for seed in range(frames)), tuple(float(i) for i in range(frames)))


def mixed() -> tuple[Conversation, list]:
    """A picture, a film and another picture, in two turns and an answer."""
    record = Conversation(
        id="mixed",
        messages=[
            Message(role="user", content=[ImagePart(index=0), VideoPart(index=1), TextPart(text="alike?")]),
            Message(role="assistant", content=[TextPart(text="no, like "), ImagePart(index=2), TextPart(text=" this")]),
            Message(role="user", content=[TextPart(text="why?")]),
            Message(role="assistant", content=[TextPart(text="colors")]),
        ],
        media=[Media(path="a"), Media(path="b", kind="video"), Media(path="c")],
    )
    return record, [picture(7, (90, 40)), film(3), picture(8, (30, 100))]


def test_pictures_and_videos_stand_where_the_text_has_them(tiles):
    model, processor = tiles
    record, opened = mixed()
    sample = processor.training_sample(record, opened)
    assert sample["media"].tolist() == [[0, 40, 90], [3, 40, 50], [0, 100, 30]]
    model.eval()
    media = [Medium(*row) for row in sample["media"].tolist()]
    places = sample["input_ids"] == processor.config.image_token_id
    found = model.embed(sample["input_ids"][None], sample["pixel_values"], media=media)[0][0][places]
    parts = []
    for one in map(processor.prepare, opened):  # each alone
        parts.append(model.image_embeddings(one.pixels, media=[one.medium]))
        assert len(parts[-1]) == processor.layout.tokens(one.medium)
    assert len(parts[1]) == 3  # a film's frames, four vectors each, pooled two by two
    assert torch.allclose(found, torch.cat(parts), atol=1e-5)
    assert (sample["labels"][places] == -100).all()


def test_a_batch_of_different_media_equals_each_alone(tiles):
    model, processor = tiles
    record, opened = mixed()
    alone = Conversation(
        id="one",
        messages=[Message(role="user", content=[ImagePart(index=0), TextPart(text="what is it?")])],
        media=[Media(path="a")],
    )
    prompts = [processor.prompt(record, opened), processor.prompt(alone, [picture(3, (200, 50))])]
    model.eval()
    together = model(**processor.collate(prompts)).logits[:, -1]
    for number, prompt in enumerate(prompts):
        assert torch.allclose(model(**processor.collate([prompt])).logits[0, -1], together[number], atol=1e-5)


def test_a_data_set_with_videos_is_read_trained_on_and_kept_in_memory(tiles, tmp_path):
    model, processor = tiles
    write(tmp_path / "clip.mp4", 20)
    picture(3, (90, 40)).save(tmp_path / "c.png")
    record, _ = mixed()
    media = [Media(path="c.png", width=90, height=40), Media(path="clip.mp4", kind="video"), Media(path="c.png")]
    dataset = ConversationDataset([record.model_copy(update={"media": media})], tmp_path, processor, max_length=999)
    sample = dataset[0]
    assert sample["media"].tolist() == [[0, 40, 90], [8, 48, 64], [0, 40, 90]]
    (tmp_path / "clip.mp4").unlink()
    assert torch.equal(dataset[0]["pixel_values"], sample["pixel_values"])
    counted, _ = dataset.token_counts(share=True)
    assert list(counted) == [len(sample["input_ids"])]  # the size of the last is not in the record
    loss = model.train()(**processor.collate([sample], padding_side="right")).loss
    assert torch.isfinite(loss)


def test_a_model_without_tiles_takes_videos_beside_pictures():
    torch.manual_seed(0)
    model, processor = mminstruct.create("nano", tiny=True)
    video = Conversation(
        id="film",
        messages=[Message(role="user", content=[VideoPart(index=0), TextPart(text="what moves?")])],
        media=[Media(path="b", kind="video")],
    )
    image = video.model_copy(
        update={
            "messages": [Message(role="user", content=[ImagePart(index=0), TextPart(text="what?")])],
            "media": [Media(path="a")],
        }
    )
    prompts = [processor.prompt(video, [film(5)]), processor.prompt(image, [picture(1)])]
    assert int((prompts[0]["input_ids"] == processor.config.image_token_id).sum()) == 5 * 4
    assert "media" not in prompts[1]
    batch = processor.collate(prompts)
    model.eval()
    assert torch.allclose(
        model(**batch).logits[1, -1], model(**processor.collate(prompts[1:])).logits[0, -1], atol=1e-5
    )
    with pytest.raises(DataError, match="media are 4 tiles and frames, pixel_values holds 6"):
        model(**batch | {"media": torch.tensor([[3, 40, 50], [0, 64, 64]])})


def test_a_tiling_model_wants_to_know_the_sizes(tiles):
    model, processor = tiles
    record, opened = mixed()
    batch = processor.collate([processor.prompt(record, opened)])
    del batch["media"]
    with pytest.raises(DataError, match="cuts pictures into tiles; give media"):
        model(**batch)


def test_tiles_train_the_newline_and_come_back_from_disk(tiles, tmp_path):
    model, processor = tiles
    record, opened = mixed()
    batch = processor.collate([processor.training_sample(record, opened)], padding_side="right")
    model.train()(**batch).loss.backward()
    assert model.connector.image_newline.grad.any()
    text = processor.collate([processor.training_sample(Conversation(id="t", messages=record.messages[2:]), [])])
    model.zero_grad()
    model.train()(**text).loss.backward()
    assert model.connector.image_newline.grad is not None  # in the graph on a rank without pictures too
    checkpoint.save(tmp_path / "m", model, processor)
    again, processor_again = mminstruct.load(tmp_path / "m")
    assert processor_again.config == processor.config
    assert torch.equal(again(**batch).logits, model.eval()(**batch).logits)


def test_connectors_that_read_the_question_read_it_for_each_tile(tmp_path):
    (tmp_path / "both.yaml").write_text(
        "name: both\nbase: nano-instruct-q-former\nsummary: Both.\n"
        "weights: {reason: made for a test}\nreported: {reason: made for a test}\nmeasured: {reason: made for a test}\n"
        "tiling: {resolutions: [[64, 128], [128, 128]], merge: flat}\n"
    )
    model, processor = mminstruct.create(tmp_path / "both.yaml")
    record, opened = mixed()
    sample = processor.prompt(record, opened)
    assert len(sample["instruction_ids"]) == len(sample["pixel_values"]) == 3 + 3 + 5
    assert torch.isfinite(model.eval()(**processor.collate([sample])).logits).all()


def test_frames_are_taken_as_their_model_wants_them():
    assert FrameSampling(method="uniform", limit=4).indices(10, 30) == [0, 3, 6, 9]
    assert FrameSampling(method="midpoints", limit=4).indices(100, 30) == [12, 37, 62, 87]
    assert FrameSampling(method="fps", limit=8, fps=2).indices(95, 30) == [0, 15, 30, 45, 60, 75, 90]
    assert FrameSampling(method="fps", limit=3, fps=2).indices(95, 30) == [0, 47, 94]
    for method in ("uniform", "midpoints", "fps"):
        assert FrameSampling(method=method, limit=8, fps=90).indices(3, 30) == [0, 1, 2]
