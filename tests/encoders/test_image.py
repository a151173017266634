from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import encoded
from PIL import Image, ImageOps

from bbqrec_cli.encoders import load_encoder
from bbqrec_cli.encoders.image import decode
from bbqrec_cli.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """The folder of a CLIP model with random weights, 32 × 32 pixels, features of width 8."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(
            text_config={**small, "vocab_size": 50, "max_position_embeddings": 8},
            vision_config={**small, "image_size": 32, "patch_size": 16},
            projection_dim=8,
        )
    ).save_pretrained(folder)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    return folder


def test_clip_features_are_the_model_s_own(clip, dataset):
    """Reference: pixels normalised by hand, then vision tower, pooling and projection called one by one."""
    from transformers import CLIPModel

    encoder = load_encoder("image", str(clip), device=CPU)
    values, readable = encoder.encode(dataset.images[:4])
    model = CLIPModel.from_pretrained(clip).eval()
    pixels = np.stack([np.asarray(decode(picture)) for picture in dataset.images[:4]]) / 255
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    inputs = torch.tensor((pixels - mean) / std, dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.visual_projection(model.vision_model(pixel_values=inputs).pooler_output)
    np.testing.assert_allclose(values, expected.numpy(), atol=1e-5)
    assert readable.all()
    assert encoder.name == "tiny-clip"
    assert len(encoder.weights) == 16


def test_clip_masks_what_it_can_not_read(clip, dataset):
    values, readable = load_encoder("image", str(clip), device=CPU).encode([b"no picture", dataset.images[0]])
    alone, _ = load_encoder("image", str(clip), device=CPU).encode([dataset.images[0]])
    assert readable.tolist() == [False, True]
    assert not values[0].any()
    np.testing.assert_allclose(values[1], alone[0], atol=1e-5)


def test_a_vision_model_without_projection(tmp_path, dataset):
    from transformers import CLIPImageProcessor, ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    ViTModel(config).save_pretrained(tmp_path)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    values, _ = load_encoder("image", str(tmp_path), device=CPU).encode(dataset.images[:3])
    assert values.shape == (3, 16)


def test_a_folder_that_holds_no_model(tmp_path):
    with pytest.raises(DataError, match=r"--image-model .*is not a model") as caught:
        load_encoder("image", str(tmp_path), device=CPU)
    assert "FOLDER" in caught.value.hint


@pytest.mark.parametrize("modality", ["image", "text"])
def test_code_that_comes_with_a_model_is_not_run(tmp_path, modality):
    witness = tmp_path / "witness"
    code = f"open({str(witness)!r}, 'w').write('run')\nclass Own: pass\n"
    (tmp_path / "own.py").write_text(code)
    own = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoImageProcessor": "own.Own"}
    config = {"model_type": "own", "auto_map": own, "image_processor_type": "Own"}
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text(json.dumps(config))
    with pytest.raises(DataError, match=rf"--{modality}-model .*: brings code, which bbqrec does not run"):
        load_encoder(modality, str(tmp_path), device=CPU)
    assert not witness.exists()


def test_transparent_parts_are_white():
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert np.asarray(decode(encoded(clear))).min() == 255
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert np.asarray(decode(encoded(palette, transparency=0))).min() == 255
    assert decode(encoded(Image.new("L", (8, 8), 7))).getpixel((0, 0)) == (7, 7, 7)


def test_a_bomb_of_pixels_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encoded(Image.new("RGB", (12, 12)))) is None  # beyond the limit: Pillow only warns
    assert decode(encoded(Image.new("RGB", (40, 40)))) is None  # beyond twice the limit: Pillow refuses
    assert decode(encoded(Image.new("RGB", (10, 10)))) is not None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [0, 32])
def test_pictures_are_upright_whatever_their_exif_orientation(orientation, size):
    """Reference: Pillow's own turning of the whole picture."""
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    scene = Image.fromarray(
        np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:64, None], (1, 96)), np.zeros((64, 96), np.uint8)], 2)
    )
    exif = Image.Exif()
    exif[274] = orientation
    picture = encoded(scene, "JPEG", exif=exif, quality=95)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(picture))).convert("RGB")
    made = decode(picture, size=size)
    assert made.size == ((size, size) if size else expected.size)
    expected = expected.resize(made.size, Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(made, float) - np.asarray(expected, float)).mean() < 3


def test_two_pictures_of_one_scene_have_nearly_one_vector(dataset):
    """One is stored lying, with the orientation that makes it upright."""
    scene = decode(dataset.images[0])
    exif = Image.Exif()
    exif[274] = 6
    lying = encoded(scene.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    encoder = load_encoder("image", "descriptor", device=CPU)
    values, _ = encoder.encode([encoded(scene, "JPEG", quality=95), lying, encoded(scene.rotate(90), "JPEG")])
    values = values / np.linalg.norm(values, axis=1, keepdims=True)
    assert values[0] @ values[1] > 0.99
    assert values[0] @ values[1] > values[0] @ values[2]


def test_damaged_exif_leaves_the_picture_as_it_is(dataset):
    scene = decode(dataset.images[0])
    damaged = encoded(scene, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\xff" + bytes(4))
    assert decode(damaged).tobytes() == decode(encoded(scene, "JPEG")).tobytes()


@pytest.mark.slow
def test_pixels_made_by_workers(clip, dataset):
    """They need transformers, which takes seconds to import."""
    from bbqrec_cli.encoders.workers import prepared_ahead

    encoder = load_encoder("image", str(clip), device=CPU)
    pictures = [dataset.images[0], b"no picture", dataset.images[1]]
    with prepared_ahead(encoder.prepare, [pictures, pictures[:1]], 1) as ready:
        found = [encoder.finish(each) for each in ready]
    np.testing.assert_array_equal(found[0], encoder.encode(pictures)[0])
    np.testing.assert_array_equal(found[1], encoder.encode(pictures[:1])[0])
    assert not found[0][1].any()
