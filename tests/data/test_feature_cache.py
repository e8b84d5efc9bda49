"""A feature cache holds what the encoder makes, finds what was damaged, and never serves another encoder's features."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import types

import pytest
import torch

import mminstruct
from mminstruct.conversation import Media
from mminstruct.data import feature_cache, feature_fill
from mminstruct.data.dataset import ConversationDataset, MicroBatches
from mminstruct.data.feature_cache import CachedMedia, FeatureCache, FeatureCacheConfig, describe
from mminstruct.data.plan import MicroBatch
from mminstruct.errors import DataError, MediaError, RunError
from mminstruct.files import read_json, write_json
from mminstruct.media import open_medium
from mminstruct.models.encoders import Tower
from mminstruct.models.packing import packed
from mminstruct.models.processor import Processor
from mminstruct.training import objectives
from tests.conftest import conversation, picture
from tests.media.test_open_video import write

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiles():
    torch.manual_seed(0)
    return mminstruct.create("nano-tiles", tiny=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five pictures, the last two alike, and a clip."""
    folder = tmp_path_factory.mktemp("media")
    for number, size in enumerate([(40, 40), (90, 40), (30, 100), (64, 64)]):
        picture(number, size).save(folder / f"{number}.png")
    shutil.copyfile(folder / "3.png", folder / "4.png")
    write(folder / "clip.mp4", 20)
    return folder


MEDIA = [*(Media(path=f"{number}.png") for number in range(5)), Media(path="clip.mp4", kind="video")]


def finish(work):
    """What a generator returns."""
    while True:
        try:
            next(work)
        except StopIteration as ended:
            return ended.value


def fill(model, processor, root, config, media=MEDIA, **options) -> CachedMedia:
    keys = finish(feature_fill.hash_media(media, root))
    cache = FeatureCache(config.folder, describe(model, processor, config, "fp32"))
    cache.clear()
    lacking = {keys[one.path]: one for one in media if keys[one.path] not in cache}
    finish(feature_fill.fill(cache, list(lacking.items()), root, processor, model.vision_encoder, CPU, **options))
    return CachedMedia(FeatureCache(config.folder, describe(model, processor, config, "fp32")), keys)


def prepared(processor, root, media):
    return processor.prepare(open_medium(media.kind, root / media.path, processor.frame_sampling))


@pytest.mark.parametrize(("dtype", "relative"), [("float32", 0.0), ("bfloat16", 2**-8), ("float8_e4m3fn", 2**-4)])
@pytest.mark.parametrize("row", ["nano", "nano-tiles", "nano-fused"])
def test_what_is_read_is_what_the_encoder_makes(folder, tmp_path, row, dtype, relative):
    """Of pictures, tiles and frames; rounded to half of the last bit, and equal media stored once."""
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    cached = fill(model, processor, folder, FeatureCacheConfig(folder=tmp_path, dtype=dtype), workers=1)
    for media in MEDIA:
        expected = prepared(processor, folder, media)
        with torch.no_grad():
            features = model.eval().vision_encoder(expected.pixels)
        found = cached.read(media.path)
        assert found.medium == expected.medium and found.features.shape == features.shape
        # Below its smallest normal number eight bits round by steps: 2**-10 of 448, which the largest number becomes.
        steps = float(features.abs().max()) / 448 * 2**-10 if dtype == "float8_e4m3fn" else 1e-6
        assert ((found.features - features).abs() <= relative * features.abs() + steps).all()
    (table,) = [path for path in tmp_path.rglob("*.json") if path.name != "description.json"]
    assert len(read_json(table)["entries"]) == 5


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("row", ["nano", "nano-tiles", "nano-instruct-q-former"])
def test_batches_of_features_give_the_loss_and_gradients_of_pixels(folder, tmp_path, row, packs):
    """With shared prefixes, several pictures in one conversation, and a text beside them."""
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    model.vision_encoder.requires_grad_(False)
    records = [conversation(f"question {n}?", "an answer", images=1, name=str(n)) for n in range(4)]
    records += [conversation("and these?", "alike", images=2), conversation("hello", "hello, you")]
    dataset = ConversationDataset(records, folder, processor, max_length=999)
    batches = MicroBatches(dataset, packs, share_prefix=True)
    whole = MicroBatch(list(range(len(records))))

    def step(batch):
        model.zero_grad()
        output = objectives.get("sft")(model.train(), {k: v for k, v in batch.items() if k != "conversations"})
        output.loss_sum.backward()
        return output.loss_sum.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    cached = fill(model, processor, folder, FeatureCacheConfig(folder=tmp_path, dtype="float32"))
    with packed(model) if packs else contextlib.nullcontext():
        loss, gradients = step(batches[whole])
        dataset.use(cached)
        batch = batches[whole]
        assert "pixel_values" not in batch
        assert "features" in batch
        found_loss, found = step(batch)
    assert found_loss == pytest.approx(loss, rel=1e-6)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("row", ["nano", "nano-tiles", "nano-instruct-q-former", "nano-gated-cross-attention"])
def test_a_batch_of_text_runs_the_connector_and_not_the_encoder(folder, tmp_path, monkeypatch, row):
    """Every process does the same, whatever its batch holds."""
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    dataset = ConversationDataset([conversation("hello", "hello, you")], folder, processor, max_length=99)
    dataset.use(fill(model, processor, folder, FeatureCacheConfig(folder=tmp_path)))
    model.vision_encoder.requires_grad_(False)
    calls = []
    monkeypatch.setattr(Tower, "forward", lambda *_: calls.append(1))
    batch = MicroBatches(dataset, False, False)[MicroBatch([0])]
    assert batch["features"].shape == (0, *model.feature_shape)
    del batch["conversations"]
    objectives.get("sft")(model.train(), batch).loss_sum.backward()
    assert not calls
    idle = set(model.connector.idle_parameters())
    for name, parameter in model.connector.named_parameters():
        assert parameter.grad is not None or name in idle or name == "image_newline", name
    plain = model.eval()(batch["input_ids"]).logits
    assert torch.equal(model(batch["input_ids"], features=batch["features"]).logits, plain)


def test_features_of_another_encoder_are_refused(tiles):
    model, _ = tiles
    ids = torch.tensor([[1, 2]])
    with pytest.raises(DataError, match="this model's encoder makes"):
        model(ids, features=torch.zeros(1, 3, 5))
    with pytest.raises(DataError, match="takes one of them"):
        model(ids, features=torch.zeros(0, *model.feature_shape), pixel_values=torch.zeros(1, 3, 64, 64))


def test_another_tower_or_setting_never_hits(tiles, tmp_path):
    """Each of these has a folder of its own; the same again has the same."""
    model, processor = tiles
    config = FeatureCacheConfig(folder=tmp_path)

    def name(model=model, processor=processor, config=config, precision="fp32"):
        return feature_cache.sub_folder(tmp_path, describe(model, processor, config, precision))

    def changed(**updates):
        return Processor(processor.tokenizer, processor.config.model_copy(update=updates))

    torch.manual_seed(1)
    settings = processor.config
    sampling = settings.video.sampling.model_copy(update={"limit": 4})
    others = [
        name(model=mminstruct.create("nano-tiles", tiny=True)[0]),
        name(processor=changed(image=settings.image.model_copy(update={"resize": "pad"}))),
        name(processor=changed(tiling=settings.tiling.model_copy(update={"resolutions": ((64, 128),)}))),
        name(processor=changed(video=settings.video.model_copy(update={"sampling": sampling}))),
        name(config=config.model_copy(update={"dtype": "float32"})),
        name(precision="bf16"),
    ]
    assert len({name(), *others}) == len(others) + 1
    torch.manual_seed(0)
    again = mminstruct.create("nano-tiles", tiny=True)[0]
    torch.nn.init.zeros_(next(again.connector.parameters()))
    assert name(model=again) == name()  # a connector may learn
    with torch.no_grad():
        next(again.vision_encoder.parameters()).view(-1)[0] += 1e-6
    assert name(model=again) != name()


def flip(path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def test_damage_is_found_and_says_what_to_remove(tiles, folder, tmp_path):
    model, processor = tiles
    config = FeatureCacheConfig(folder=tmp_path)
    media = MEDIA[:2]
    whole = fill(model, processor, folder, config, media)
    (shard,) = tmp_path.rglob("*.safetensors")
    table = shard.with_suffix(".json")
    kept = {path: path.read_bytes() for path in (shard, table)}

    def read():
        cached = CachedMedia(FeatureCache(config.folder, describe(model, processor, config, "fp32")), whole.keys)
        return [cached.read(one.path) for one in media]

    cut = lambda: shard.write_bytes(kept[shard][:-10])  # noqa: E731
    for damage in (
        lambda: flip(shard, -1),
        lambda: flip(shard, len(kept[shard]) // 2),
        lambda: flip(shard, 20),
        cut,
        shard.unlink,
        lambda: table.write_text(table.read_text()[:-20]),
        lambda: table.write_text(table.read_text().replace('"scale": 1.0', '"scale": 2.0')),
    ):
        damage()
        with pytest.raises(DataError, match=rf"remove .*{shard.stem}.safetensors and .json") as found:
            read()
        assert "\n" not in str(found.value)
        for path, content in kept.items():
            path.write_bytes(content)
        assert len(read()) == 2
    expected = [one.features.clone() for one in read()]
    shard.unlink()
    table.unlink()
    fill(model, processor, folder, config, media)
    assert all(torch.equal(one.features, other) for one, other in zip(read(), expected, strict=True))


def test_a_fill_that_is_killed_leaves_only_whole_shards_and_goes_on(tiles, folder, tmp_path, monkeypatch):
    model, processor = tiles
    config = FeatureCacheConfig(folder=tmp_path / "killed")
    monkeypatch.setattr(feature_fill, "SHARD_BYTES", 1)
    monkeypatch.setattr(feature_fill, "_TILES", 1)
    child = os.fork()
    if child == 0:
        written = []
        save = feature_cache.save_file

        def killed(tensors, path):
            if len(written) == 2:
                path.write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            written.append(path)
            save(tensors, path)

        feature_cache.save_file = killed
        fill(model, processor, folder, config)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (place,) = (tmp_path / "killed").iterdir()
    assert len(list(place.glob("*.safetensors"))) == 2 and len(list(place.glob(".*.tmp"))) == 1
    (place / "orphan.safetensors").write_bytes(b"killed before its table was written")
    calls = []
    model.vision_encoder.register_forward_hook(lambda *_: calls.append(1))
    resumed = fill(model, processor, folder, config)
    computed = len(calls)
    whole = fill(model, processor, folder, config.model_copy(update={"folder": tmp_path / "whole"}))
    model.vision_encoder._forward_hooks.clear()
    assert 0 < computed < len(calls) - computed
    for media in MEDIA:
        assert torch.equal(resumed.read(media.path).features, whole.read(media.path).features)
    assert not list(place.glob(".*.tmp")) and not (place / "orphan.safetensors").exists()
    assert len(list(place.glob("*.safetensors"))) == 5


def test_the_limit_and_the_disk_are_respected_before_anything_is_written(tiles, folder, tmp_path, monkeypatch):
    model, processor = tiles
    config = FeatureCacheConfig(folder=tmp_path / "cache", dtype="float32")
    guess = feature_fill.estimate(MEDIA, processor, config, model.feature_shape)
    unknown = [media.model_copy(update={"width": 90, "height": 40}) for media in MEDIA]
    closer = feature_fill.estimate(unknown, processor, config, model.feature_shape)
    with pytest.raises(RunError, match=r"above its limit_gb of 1e-06; raise it"):
        feature_fill.require_room(guess, config.model_copy(update={"limit_gb": 1e-6}))
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=guess - 1))
        with pytest.raises(RunError, match=r"its disk has .* free; make room"):
            feature_fill.require_room(guess, config)
    feature_fill.require_room(guess, config)
    assert not config.folder.exists()
    fill(model, processor, folder, config)
    taken = sum(path.stat().st_size for path in config.folder.rglob("*") if path.is_file())
    assert closer < guess and taken <= guess + 4096  # the description
    with pytest.raises(RunError, match="would take"):
        feature_fill.require_room(1, config.model_copy(update={"limit_gb": taken / 1e9}))


def test_a_full_disk_is_one_line_and_leaves_no_shard(tiles, folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache, "save_file", full)
    with pytest.raises(RunError, match=r"No space left on device.*make room"):
        fill(*tiles, folder, FeatureCacheConfig(folder=tmp_path))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["description.json"]


def test_one_run_waits_for_another_and_one_that_died_holds_nobody_up(tmp_path):
    (tmp_path / "lock").touch()
    child = os.fork()
    if child == 0:
        with (tmp_path / "lock").open("a") as stream:
            finish(feature_fill.locked(tmp_path, stream))
            write_json(tmp_path / "held", True)
            signal.pause()
    while not (tmp_path / "held").exists():
        pass
    with (tmp_path / "lock").open("a") as stream:
        waiting = feature_fill.locked(tmp_path, stream)
        next(waiting)
        next(waiting)  # not yet
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        finish(waiting)


def test_two_writers_do_not_disturb_each_other(tiles, folder, tmp_path):
    """Where a file system knows no locks, both compute all, and what they leave is whole."""
    model, processor = tiles
    config = FeatureCacheConfig(folder=tmp_path)
    keys = finish(feature_fill.hash_media(MEDIA[:1], folder))
    media = [(key, MEDIA[0]) for key in keys.values()]
    caches = [FeatureCache(tmp_path, describe(model, processor, config, "fp32")) for _ in range(2)]
    works = [feature_fill.fill(cache, media, folder, processor, model.vision_encoder, CPU) for cache in caches]
    for work in works:
        next(work)
    for work in works:
        finish(work)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    found = FeatureCache(tmp_path, describe(model, processor, config, "fp32")).read(media[0][0])
    assert torch.equal(found.features, caches[0].read(media[0][0]).features)


def test_a_missing_file_is_an_error_with_its_path(tmp_path):
    with pytest.raises(MediaError, match=r"nowhere.png cannot be read \(No such file"):
        finish(feature_fill.hash_media([Media(path="nowhere.png")], tmp_path))
    data = [Media(path="data:image/png;base64,AAAA"), Media(path="data:image/png;base64,AAAB")]
    assert len(set(finish(feature_fill.hash_media(data, tmp_path)).values())) == 2
