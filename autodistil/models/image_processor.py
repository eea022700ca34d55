"""A teacher's image processor, taken apart: resizing and cropping, done once a corpus, and a map of pixels by channel.

The processor's Pillow backend is used whatever else is installed, so that the same files give the same pixels. What it
does is found by trying it: its output size, and that it does nothing but resize, crop, rescale and normalise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoImageProcessor, PretrainedConfig, PreTrainedModel

from autodistil.data.batch import PixelInputs
from autodistil.data.images import INSTALL, decode
from autodistil.errors import TeacherError
from autodistil.models.architectures import plain_type
from autodistil.models.families import family_named
from autodistil.models.families.vit import VisionFamily
from autodistil.models.hf_folder import EvaluatedModel, check_answers, loading_errors

_PROBES = ((48, 64), (96, 56))
"""Height and width of images on which a processor is tried."""
_MOST_PIXELS = 4096
"""Of a side of what a processor may make: encoders see a tenth of it, and ten times as much is gigabytes an image."""
_RESIZE_ONLY = {"do_rescale": False, "do_normalize": False}


@dataclass(frozen=True)
class ImageReader:
    """A processor in two steps: `pixels`, whose results are kept, and `inputs.batch`."""

    processor: Any  # a BaseImageProcessor, whose options are those of its subclass
    channels: int
    """1: grey, 3: RGB."""
    size: int
    """Height and width in pixels of what it makes of any image."""
    inputs: PixelInputs

    def pixels(self, images: Sequence[Any]) -> np.ndarray:
        """Resized and cropped pixels (images, channels, height, width) of uint8.

        Args:
            images: Pillow images of mode L or RGB, by the channels; or arrays (height, width, channels).
        """
        made = self.processor(images=list(images), return_tensors="np", **_RESIZE_ONLY)["pixel_values"]
        return np.asarray(made, dtype=np.uint8)

    def probes(self) -> np.ndarray:
        """Pixels, as by `pixels`, of two images that differ."""
        return np.concatenate([self.pixels([image]) for image in _probes(self.channels)])

    def sample(self, files: Sequence[str], most: int) -> NDArray[np.float32]:
        """Images of files as a model reads them, `most` at most, evenly among them (files, channels, height, width).

        Raises:
            CorpusError: one is missing, damaged or no image.
        """
        places = np.unique(np.linspace(0, len(files) - 1, most).astype(int))
        chosen = [Path(files[place]) for place in np.random.default_rng(0).permutation(places)]  # not class by class
        pixels = self.pixels([decode(file, f"image file {str(file)!r}", self.channels) for file in chosen])
        found: NDArray[np.float32] = self.inputs.batch(pixels)["pixel_values"].numpy()
        return found

    @property
    def fingerprint(self) -> str:
        """What decides on the pixels and on what is made of them."""
        options = {key: value for key, value in self.processor.to_dict().items() if not key.startswith("_")}
        return json.dumps([self.channels, options], sort_keys=True, default=str)


def load_image_encoder(
    model: EvaluatedModel, device: torch.device, layers: int | None = None
) -> tuple[PreTrainedModel, ImageReader]:
    """A vision encoder in eval mode and what reads images for it, as a teacher has them (`teacher.load_teacher`).

    Args:
        model: one that reads images.
        device: where to compute.
        layers: how many of the first to run; all unless given.

    Raises:
        ConfigError: it has fewer layers.
        TeacherError: its weights or its processor are missing or damaged, or do something else than is supported.
    """
    reader = load_image_reader(model.folder, model.source, model.config, what="model")
    encoder = model.untried_encoder(layers)
    _make_ready(model, encoder, reader, device)
    return encoder, reader


def load_image_classifier(
    model: EvaluatedModel, device: torch.device, outputs: int | None = None
) -> tuple[PreTrainedModel, ImageReader]:
    """A vision encoder under a head, and what reads images for it.

    Args:
        model: one that reads images.
        device: where to compute.
        outputs: of a new head, drawn from torch's global generator; None: its own head, in eval mode.

    Raises:
        TeacherError: as `load_image_encoder`, or it has no head.
    """
    reader = load_image_reader(model.folder, model.source, model.config, what="model")
    network = model.fine_tuned(torch.device("cpu")) if outputs is None else model.untried_classifier(outputs)
    network.to(device)  # type: ignore[arg-type]  # its wrapper is annotated so
    encoder: Any = network.base_model
    _make_ready(model, encoder, reader, device)
    return network, reader


def image_tokens(config: PretrainedConfig) -> int:
    """Tokens of an image, special ones included, of a vision encoder or a student of one."""
    return _vision_family(config).max_length(config)


def _vision_family(config: PretrainedConfig) -> VisionFamily:
    family = family_named(plain_type(config))
    assert isinstance(family, VisionFamily), config.model_type
    return family


def _make_ready(model: EvaluatedModel, encoder: PreTrainedModel, reader: ImageReader, device: torch.device) -> None:
    """Bring an encoder to the size that its processor makes, and try it."""
    with loading_errors(f"model {model.source!r} cannot be used", "; give the config.json that belongs to the weights"):
        fit_positions(encoder, reader.size, _vision_family(model.config).special_tokens)
    encoder.to(device)  # type: ignore[arg-type]  # its wrapper is annotated so
    check_answers(encoder, f"model {model.source!r}", reader.inputs.batch(reader.probes()))


def load_image_reader(
    folder: Path, source: str, config: PretrainedConfig, trust_remote_code: bool = False, what: str = "teacher"
) -> ImageReader:
    """The image processor of a model.

    Args:
        folder: the model's.
        source: as the user wrote it.
        config: the model's.
        trust_remote_code: allow code that comes with it.
        what: how to call the model in messages.

    Raises:
        TeacherError: Pillow is missing, or the processor is, or it does something else than is supported.
    """
    auto_processor: Any = AutoImageProcessor
    advice = "; put its preprocessor_config.json into the folder (save_pretrained of an image processor)"
    with loading_errors(f"{what} {source!r} has no usable image processor", advice):
        try:
            processor = auto_processor.from_pretrained(folder, trust_remote_code=trust_remote_code, backend="pil")
        except ImportError as error:
            raise TeacherError(f"{what} {source!r} reads images, which needs Pillow; run: {INSTALL}") from error
    return reader_of(processor, source, int(config.num_channels), what)


def reader_of(processor: Any, source: str, channels: int, what: str = "teacher") -> ImageReader:
    """Take a processor apart.

    Raises:
        TeacherError: it does something else than is supported.
    """
    probes = _probes(channels)
    name = f"image processor of {what} {source!r}"
    failed = f"{name} cannot read images of {channels} channels"
    with loading_errors(failed, "; correct its preprocessor_config.json"):
        _check_sides(processor)
        shapes = {_tried(processor, image, **_RESIZE_ONLY).shape for image in probes}
        reader = ImageReader(processor, channels, next(iter(shapes))[-1], _pixel_inputs(processor, channels))
        whole = [_tried(processor, image) for image in probes]
        ours = [reader.inputs.batch(reader.pixels([image]))["pixel_values"].numpy() for image in probes]
    if shapes != {(1, channels, reader.size, reader.size)}:
        made = " and ".join("x".join(map(str, shape[1:])) for shape in sorted(shapes))
        raise TeacherError(
            f"{name} makes {made} of images; allowed: one square size, {channels} "
            "channels; set size and crop_size in its preprocessor_config.json"
        )
    if not all(np.allclose(a, b, atol=1e-5) for a, b in zip(ours, whole, strict=True)):
        raise TeacherError(
            f"{name} does more than resize, crop, rescale and normalise, which is not supported; give another {what}"
        )
    return reader


def _probes(channels: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (*size, channels), dtype=np.uint8) for size in _PROBES]


def _check_sides(processor: Any) -> None:
    for name in ("size", "crop_size", "pad_size"):
        sides = [side for side in dict(getattr(processor, name, None) or {}).values() if side]
        if any(side > _MOST_PIXELS for side in sides):
            raise ValueError(f"{name} = {max(sides)}; allowed: at most {_MOST_PIXELS} pixels a side")


def _tried(processor: Any, image: np.ndarray, **options: bool) -> np.ndarray:
    return np.asarray(processor(images=[image], return_tensors="np", **options)["pixel_values"])


def _pixel_inputs(processor: Any, channels: int) -> PixelInputs:
    """(pixel * factor - mean) / std as one multiplication and one addition."""
    factor = float(processor.rescale_factor) if processor.do_rescale else 1.0
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
    means, stds = (np.broadcast_to(np.asarray(x, dtype=np.float64), channels) for x in (mean, std))
    return PixelInputs(tuple((factor / stds).tolist()), tuple((-means / stds).tolist()))


@torch.no_grad()
def fit_positions(model: PreTrainedModel, size: int, special_tokens: int) -> None:
    """Bring a model's position embeddings to the size that its processor makes of images, once and in place.

    DINOv2 was trained at 518 pixels and is used at 224: its forward interpolates the same positions for every image.
    Afterwards it is a model of that size, which computes the same.

    Args:
        model: a vision encoder that can interpolate its positions.
        size: height and width in pixels.
        special_tokens: before the patches.
    """
    config: Any = model.config
    if config.image_size in (size, [size, size], (size, size)):
        return
    embeddings: Any = model.embeddings
    config.image_size = size
    with torch.device("meta"):
        fresh: Any = type(model)(config).embeddings
    patches = embeddings.position_embeddings.new_zeros(1, special_tokens + fresh.patch_embeddings.num_patches, 1)
    positions = embeddings.interpolate_pos_encoding(patches.expand(-1, -1, config.hidden_size), size, size)
    embeddings.position_embeddings = torch.nn.Parameter(positions.clone())
    for module, new in ((embeddings, fresh), (embeddings.patch_embeddings, fresh.patch_embeddings)):
        for name in ("image_size", "num_patches"):
            if hasattr(new, name):
                setattr(module, name, getattr(new, name))
