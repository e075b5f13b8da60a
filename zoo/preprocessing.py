"""From photographs to the arrays a trained network expects."""

import os
import struct
from dataclasses import asdict, dataclass

import numpy as np

from flambeau.zoo.errors import FormatError

LONGEST = 100  # a longer strip than 100:1 would be blown up to gigabytes before it is cropped
DAMAGED = OSError, ValueError, SyntaxError, EOFError, struct.error  # what Pillow raises


@dataclass(frozen=True)
class Preprocessing:
    """x = (scale · pixel - mean) / std, of images brought to one size

    image (h, w, 3) uint8 or any file Pillow reads -> x (1, 3, *size); a list of n -> (n, 3, *size)

    size: (h, w) of the network's input, or one number for a square.
    resize: None stretches the image to size; a number brings its shorter side to that, keeping the
        proportions; (h, w) stretches it to that. Of what is then larger the centre is taken.
    mean, std: a number, or one for each channel in the order of `channels`.
    scale: what pixels, 0 to 255, are multiplied by first (Caffe 1, torchvision 1/255).
    channels: "RGB", or "BGR" for networks trained in Caffe.
    interpolation: "bilinear", "bicubic" or "nearest", Pillow's (antialiased when it shrinks).

    Grey, palette, CMYK and 16-bit images become RGB, transparent ones are laid on white, EXIF
    rotation is applied, of an animation the first frame is taken. Raises FormatError for a file
    that is no image.

    >>> Preprocessing(2, mean=128)(np.full((4, 4, 3), 130, "u1"))[0, 0]
    array([[2., 2.],
           [2., 2.]], dtype=float32)
    """

    size: int | tuple[int, int]
    resize: int | tuple[int, int] | None = None
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    scale: float = 1.0
    channels: str = "RGB"
    interpolation: str = "bilinear"

    def __post_init__(self):
        for name in ("size", "resize", "mean", "std"):
            value = getattr(self, name)
            if isinstance(value, list):  # as the index's TOML has it
                object.__setattr__(self, name, tuple(value))
        if isinstance(self.size, int):
            object.__setattr__(self, "size", (self.size, self.size))
        self._need(self.channels in ("RGB", "BGR"), 'channels must be "RGB" or "BGR"', "channels")
        self._need(
            self.interpolation in ("nearest", "bilinear", "bicubic"),
            'interpolation must be "nearest", "bilinear" or "bicubic"',
            "interpolation",
        )
        for name in ("mean", "std"):
            fits = np.shape(getattr(self, name)) in ((), (3,))
            self._need(fits, f"{name} must be a number or three", name)
        self._need(np.all(np.asarray(self.std) != 0), "std must not be 0", "std")
        self._need(min(self.size) > 0, "size must be positive", "size")
        if self.resize is not None:
            h, w = np.broadcast_to(self.resize, 2)
            fits = h >= self.size[0] and w >= self.size[1]
            self._need(fits, f"resize must be at least the size {self.size}", "resize")

    def _need(self, condition, must, name):
        if not condition:
            raise ValueError(f"Preprocessing: {must} — got {getattr(self, name)!r}")

    def config(self):
        """The arguments that make it again, for a file: Preprocessing(**way.config()) == way."""
        return asdict(self)

    def __call__(self, images):
        """x (n, 3, *size), float32, of an image or of a list of images

        An image is a path, an open file, a Pillow image or a uint8 array (h, w), (h, w, 3) or
        (h, w, 4); an array (n, h, w, 3) is n of them.
        """
        many = isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4
        pixels = [self.crop(image) for image in (images if many else [images])]
        x = np.empty((len(pixels), 3, *self.size), "f4")
        for i, image in enumerate(pixels):
            x[i] = image.transpose(2, 0, 1)
        return self.normalize(x)

    def crop(self, image):
        """The pixels the network will see: image -> (*size, 3) uint8, RGB."""
        from PIL import Image

        image = read(image)
        h, w = self._resized(image.height, image.width)
        if (h, w) != (image.height, image.width):
            image = image.resize((w, h), Image.Resampling[self.interpolation.upper()])
        top, left = (round((a - b) / 2) for a, b in zip((h, w), self.size, strict=True))
        return np.asarray(image)[top : top + self.size[0], left : left + self.size[1]]

    def normalize(self, x):
        """x (n, 3, h, w), RGB, 0 to 255 -> what the network expects, float32."""
        x = np.asarray(x, "f4")
        if self.channels == "BGR":
            x = x[:, ::-1]
        mean, std = (np.asarray(a, "f4").reshape(-1, 1, 1) for a in (self.mean, self.std))
        return np.ascontiguousarray((x * np.float32(self.scale) - mean) / std)

    def _resized(self, h, w):
        if self.resize is None:
            return self.size
        if isinstance(self.resize, tuple):
            return self.resize
        short, long = min(h, w), max(h, w)
        if long > LONGEST * short:
            raise ValueError(f"{self}: an image of {w} × {h} pixels is too narrow to be cropped")
        long = int(self.resize * long / short)
        return (self.resize, long) if h < w else (long, self.resize)


def read(image):
    """A path, an open file, a Pillow image or a uint8 array -> a Pillow image in RGB."""
    from PIL import Image

    if isinstance(image, np.ndarray):
        return _rgb(_from_array(image))
    opened = isinstance(image, Image.Image)
    if not (opened or isinstance(image, str | os.PathLike) or hasattr(image, "read")):
        kind = type(image).__name__
        raise TypeError(f"an image is a path, a Pillow image or a uint8 array — got {kind}")
    name = os.fspath(image) if isinstance(image, str | os.PathLike) else "the image"
    try:
        if opened:
            return _rgb(image)
        with Image.open(image) as opened:
            return _rgb(opened)
    except Image.UnidentifiedImageError as error:
        raise FormatError(f"{name} is not an image that Pillow can read") from error
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from error
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # no such file, no permission
        raise FormatError(f"{name} is a damaged image: {error}") from error
    except Image.DecompressionBombError as error:
        raise FormatError(f"{name}: {error}") from error


def _from_array(pixels):
    from PIL import Image

    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not fits or pixels.size == 0:
        raise ValueError(
            "an image as an array must be uint8, 0 to 255, of shape (h, w), (h, w, 3) or (h, w, 4)"
            f" — got {pixels.dtype} {pixels.shape}"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _rgb(image):
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise FormatError("floats as pixels have no known range: give them as uint8")
    if image.mode.startswith("I"):  # 16 bits, where Pillow's own conversion clips at 255
        grey = np.asarray(image).astype("i8")
        image = Image.fromarray(((np.clip(grey, 0, 65535) + 128) // 257).astype("u1"))
    if image.has_transparency_data:  # the colour under full transparency is arbitrary
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
