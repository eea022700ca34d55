"""What tests of image teachers share: processors, small random teachers on disk, folders of images."""

import numpy as np
import torch
from autodistil_helpers import VISION_CONFIGS
from PIL import Image
from transformers import AutoModel
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

SIZE = {"height": 16, "width": 16}
PROCESSORS = {
    "vit": lambda: (ViTImageProcessorPil(size=SIZE), 3),
    "vit-grey": lambda: (ViTImageProcessorPil(size=SIZE, image_mean=[0.5], image_std=[0.5]), 1),
    "deit": lambda: (DeiTImageProcessorPil(size={"height": 20, "width": 20}, crop_size=SIZE), 3),
    "dinov2": lambda: (BitImageProcessorPil(size={"shortest_edge": 20}, crop_size=SIZE), 3),
    "raw": lambda: (ViTImageProcessorPil(size=SIZE, do_rescale=False, do_normalize=False), 3),
}
"""Kind -> processor of images of 16 pixels, and channels."""


def save_random_vit(folder, kind="vit", **config):
    """A random teacher with its processor."""
    torch.manual_seed(0)
    hf_config = VISION_CONFIGS[kind]()
    hf_config.update(config)
    AutoModel.from_config(hf_config).save_pretrained(folder)
    PROCESSORS[kind]()[0].save_pretrained(folder)
    return folder


def write_image_task(folder, name="colours", classes=("red", "green", "blue"), **counts):
    """Noisy images, each class brighter in a channel of its own, `train=8` for so many of each; returns `folder`."""
    generator = np.random.default_rng(0)
    for split, count in {"train": 8, "test": 4, **counts}.items():
        for channel, label in enumerate(classes):
            path = folder / name / split / label
            path.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 200, (18, 20, 3), dtype=np.uint8)
                pixels[..., channel] += 50
                Image.fromarray(pixels).save(path / f"{number:03d}.png")
    return folder


def write_images(folder, count=120, size=(18, 20)):
    """PNG and JPEG files with a bright bar each, in two subfolders."""
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = generator.integers(0, 80, (*size, 3), dtype=np.uint8)
        pixels[number % size[0], :, number % 3] = 255
        path = folder / f"part{number % 2}" / f"{number:03d}.{'png' if number % 3 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder
