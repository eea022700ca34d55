"""How well do the features of vision encoders tell digits apart? A linear probe on the class token, on held-out images.

    python examples/vision/probe.py --images digits digits/teacher my-student ...

Logistic regression (C = 0.1, standardised features) is fitted to the embeddings of `train/` and scored on
`heldout/`, of which neither the teacher nor the search has seen an image. The last line is the same on bare pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoImageProcessor, AutoModel


def read_images(folder: Path) -> tuple[list[Image.Image], np.ndarray]:
    """Images and their digits, which name the subfolders."""
    files = sorted(folder.glob("*/*.png"))
    return [Image.open(file).copy() for file in files], np.array([int(file.parent.name) for file in files])


@torch.no_grad()
def class_tokens(model_dir: str, images: list[Image.Image]) -> np.ndarray:
    """Embeddings (images, hidden)."""
    model = AutoModel.from_pretrained(model_dir).eval()
    processor = AutoImageProcessor.from_pretrained(model_dir, backend="pil")
    parts = [images[i : i + 100] for i in range(0, len(images), 100)]
    states = [model(**processor(images=part, return_tensors="pt")).last_hidden_state[:, 0] for part in parts]
    return torch.cat(states).numpy()


def pixels(images: list[Image.Image]) -> np.ndarray:
    """The images as vectors (images, pixels)."""
    return np.stack([np.asarray(image, dtype=np.float64).reshape(-1) for image in images])


def main() -> None:
    """Print the accuracy of each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of train/ and heldout/")
    parser.add_argument("models", nargs="+")
    options = parser.parse_args()
    (train, digits), (heldout, expected) = (read_images(options.images / part) for part in ("train", "heldout"))
    for name in [*options.models, "pixels"]:
        ours, theirs = (pixels(x) if name == "pixels" else class_tokens(name, x) for x in (train, heldout))
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        print(f"{100 * probe.fit(ours, digits).score(theirs, expected):5.1f} %  {name}", flush=True)


if __name__ == "__main__":
    main()
