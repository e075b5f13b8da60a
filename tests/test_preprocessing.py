"""From photographs to arrays."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flambeau.zoo import index
from flambeau.zoo.errors import FormatError
from flambeau.zoo.preprocessing import Preprocessing, read

PHOTOS = Path(__file__).resolve().parents[1] / "docs" / "examples" / "photos"
WIDE, HIGH = (40, 60, 3), (60, 40, 3)


def noise(*shape, dtype="u1", top=256):
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def test_without_resizing_pixels_come_out_as_they_are_channels_first():
    pixels = noise(5, 7, 3)
    x = Preprocessing((5, 7))(pixels)
    assert x.dtype == np.float32 and x.flags.c_contiguous
    assert np.array_equal(x, pixels.transpose(2, 0, 1)[None])


def test_scale_comes_before_mean_and_std():
    pixels = noise(4, 4, 3)
    mean, std = (0.5, 0.25, 0.125), (2.0, 4.0, 8.0)
    x = Preprocessing(4, mean=mean, std=std, scale=1 / 255)(pixels)
    expected = (pixels / 255 - mean) / std
    np.testing.assert_allclose(x[0], expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_bgr_swaps_the_channels_and_takes_the_mean_in_that_order():
    pixels = np.zeros((2, 2, 3), "u1") + np.array([10, 20, 30], "u1")  # red 10, blue 30
    x = Preprocessing(2, mean=(1, 2, 3), channels="BGR")(pixels)
    assert x[0, :, 0, 0].tolist() == [29, 18, 7]


@pytest.mark.parametrize("shape", [WIDE, HIGH])
def test_one_number_brings_the_shorter_side_to_it_and_the_centre_is_cut_out(shape):
    pixels = noise(*shape)
    h, w = shape[:2]
    small = Image.fromarray(pixels).resize((w // 2, h // 2), Image.Resampling.BILINEAR)
    expected = np.asarray(small)[h // 4 - 8 : h // 4 + 8, w // 4 - 8 : w // 4 + 8]
    assert np.array_equal(Preprocessing(16, resize=20).crop(pixels), expected)


def test_two_numbers_stretch_the_image():
    pixels = noise(*WIDE)
    stretched = Image.fromarray(pixels).resize((30, 20), Image.Resampling.BICUBIC)
    ours = Preprocessing((20, 30), resize=(20, 30), interpolation="bicubic").crop(pixels)
    assert np.array_equal(ours, np.asarray(stretched))


@pytest.mark.torch
@pytest.mark.parametrize("shape", [WIDE, HIGH, (41, 67, 3), (67, 41, 3)])
def test_it_matches_the_formula_of_torchvision_with_its_rounding(shape):
    import torch

    pixels = noise(*shape)
    h, w = shape[:2]
    new = (int(32 * h / w), 32) if w < h else (32, int(32 * w / h))
    small = Image.fromarray(pixels).resize(new[::-1], Image.Resampling.BILINEAR)
    top, left = int(round((new[0] - 28) / 2.0)), int(round((new[1] - 28) / 2.0))
    y = torch.from_numpy(np.array(small)).permute(2, 0, 1)[:, top : top + 28, left : left + 28]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    y = (y.float().div(255) - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    way = Preprocessing(28, 32, mean.tolist(), std.tolist(), 1 / 255)
    np.testing.assert_allclose(way(pixels)[0], y.numpy(), rtol=1e-5, atol=1e-6)


def test_a_list_and_a_stacked_array_make_the_same_batch():
    way, pixels = Preprocessing(16, resize=20), noise(3, *WIDE)
    x = way(list(pixels))
    assert x.shape == (3, 3, 16, 16)
    assert np.array_equal(x, way(pixels))
    assert np.array_equal(x[1:2], way(pixels[1]))


def test_a_path_an_open_file_and_a_pillow_image_are_the_same_image(tmp_path):
    pixels = noise(*WIDE)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    way = Preprocessing(16, resize=20)
    expected = way(pixels)
    with open(path, "rb") as file:
        assert np.array_equal(way(file), expected)
    for image in (path, str(path), Image.open(path), io.BytesIO(path.read_bytes())):
        assert np.array_equal(way(image), expected)


def test_grey_images_become_three_equal_channels():
    pixels = noise(6, 8)
    for image in (pixels, Image.fromarray(pixels)):
        assert np.array_equal(np.asarray(read(image)), np.stack([pixels] * 3, -1))


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    pixels = np.array([[0, 257, 65535], [32768, 1000, 128]], "u2")
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    grey = np.asarray(read(tmp_path / "deep.png"))[..., 0]
    assert grey.tolist() == [[0, 1, 255], [128, 4, 0]]


def test_a_palette_becomes_its_colours():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert np.asarray(read(image)).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_transparency_is_laid_on_white():
    pixels = np.array([[[9, 9, 9, 0], [10, 20, 30, 255]]], "u1")
    for image in (pixels, Image.fromarray(pixels)):
        assert np.asarray(read(image)).tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_cmyk_black_is_black():
    image = Image.new("CMYK", (1, 1), (0, 0, 0, 255))
    assert np.asarray(read(image)).tolist() == [[[0, 0, 0]]]


def test_the_rotation_that_a_camera_noted_is_applied(tmp_path):
    image = Image.fromarray(noise(2, 3, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90° clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    turned = np.rot90(np.asarray(image), -1)
    assert np.array_equal(np.asarray(read(tmp_path / "turned.png")), turned)


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [Image.new("L", (2, 2), grey) for grey in (50, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert np.all(np.asarray(read(tmp_path / "moving.gif")) == 50)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_file_that_is_no_image_is_a_format_error_with_its_name(tmp_path, content):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="photo.jpg"):
        Preprocessing(16)(path)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp"])
def test_a_truncated_image_is_a_format_error(tmp_path, kind):
    path = tmp_path / "photo"
    Image.fromarray(noise(64, 64, 3)).save(path, kind)
    content = path.read_bytes()
    for keep in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(FormatError, match="photo"):
            read(path)


def test_a_file_that_does_not_exist_stays_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        Preprocessing(16)(tmp_path / "nothing.jpg")


def test_arrays_of_another_kind_are_refused_with_what_came():
    way = Preprocessing(4)
    with pytest.raises(ValueError, match=r"must be uint8.*got float32 \(4, 4, 3\)"):
        way(np.zeros((4, 4, 3), "f4"))
    with pytest.raises(ValueError, match=r"got uint8 \(3, 4, 5\)"):
        way(np.zeros((3, 4, 5), "u1"))
    with pytest.raises(TypeError, match="got int"):
        way(3)
    with pytest.raises(FormatError, match="floats"):
        way(Image.new("F", (4, 4)))


def test_a_thread_of_pixels_is_refused_before_it_is_blown_up():
    with pytest.raises(ValueError, match="4000 × 2 pixels is too narrow"):
        Preprocessing(224, resize=256)(np.zeros((2, 4000, 3), "u1"))


@pytest.mark.parametrize(
    "options, must",
    [
        ({"channels": "GRB"}, "channels must be"),
        ({"interpolation": "cubic"}, "interpolation must be"),
        ({"mean": (1, 2)}, "mean must be a number or three"),
        ({"std": 0}, "std must not be 0"),
        ({"size": 0}, "size must be positive"),
        ({"resize": 15}, "resize must be at least the size"),
        ({"resize": (20, 15)}, "resize must be at least the size"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, must):
    with pytest.raises(ValueError, match=must):
        Preprocessing(**{"size": 16, **options})


def test_it_is_made_again_from_its_config_even_through_json():
    for entry in index.list():
        way = entry.preprocessing
        assert Preprocessing(**way.config()) == way
        assert Preprocessing(**json.loads(json.dumps(way.config()))) == way


@pytest.mark.parametrize("photo", sorted(PHOTOS.glob("*.jpg")), ids=lambda path: path.name)
def test_the_example_photographs_are_small_and_attributed(photo):
    x = index.get("resnet18").preprocessing(photo)
    assert x.shape == (1, 3, 224, 224) and np.isfinite(x).all() and x.std() > 0.3
    assert photo.stat().st_size < 60_000
    assert f"`{photo.name}`" in (PHOTOS / "ATTRIBUTION.md").read_text("utf-8")


@pytest.mark.data
def test_open_nsfw_is_fed_as_caffe_was(data):
    reference = np.load(data / "caffe" / "nsfw_reference.npz")
    pixels = reference["rgb_uint8"]
    expected = pixels[..., ::-1].astype("f4") - reference["mean_bgr"]
    x = index.get("open-nsfw").preprocessing.normalize(pixels.transpose(0, 3, 1, 2))
    assert np.array_equal(x, expected.transpose(0, 3, 1, 2))


def test_efficientnet_lite_is_fed_what_it_was_trained_on():
    x = index.get("efficientnet-lite0").preprocessing(np.full((300, 300, 3), 255, "u1"))
    assert np.all(x == 1)  # (255 - 127) / 128
