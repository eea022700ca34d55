"""Objects in images without labels: planted ones are found, and a model sees those that it sees."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from autodistil_helpers import VISION_CONFIGS
from hypothesis import given
from hypothesis import strategies as st
from image_helpers import save_random_vit, write_images
from run_helpers import one_line
from scipy.linalg import eig
from transformers import AutoModel

from autodistil import cli
from autodistil.evaluation.token_cut import WEAK, find_object, second_eigenvector
from autodistil.models.architectures import per_layer_config
from autodistil.models.attention import LAST_LAYER, run_tapped, use_tapped_attention


def planted(mask, seed, noise=0.08):
    """Keys of patches that point one way within a mask and another outside of it."""
    generator = np.random.default_rng(seed)
    inside, outside = np.linalg.qr(generator.standard_normal((16, 2)))[0].T
    keys = np.where(mask.reshape(-1, 1), inside, outside) + noise / 4 * generator.standard_normal((mask.size, 16))
    return keys * generator.uniform(0.5, 2, (mask.size, 1))


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.data())
def test_a_planted_object_is_found(seed, height, width, data):
    """The smaller side: its patches have the larger entries."""
    mask = np.zeros((7, 7), dtype=bool)
    top, left = data.draw(st.integers(0, 7 - height)), data.draw(st.integers(0, 7 - width))
    mask[top : top + height, left : left + width] = True
    keys = planted(mask, seed)
    np.testing.assert_array_equal(find_object(keys, (7, 7)), mask)
    np.testing.assert_array_equal(find_object(-3 * keys, (7, 7)), mask)


def test_of_two_blocks_apart_one_is_the_object():
    mask = np.zeros((7, 7), dtype=bool)
    mask[0, :2] = mask[5:, 5:] = True
    found = find_object(planted(mask, 0), (7, 7))
    assert found.sum() in (2, 4)
    assert not (found & ~mask).any()


def test_the_second_eigenvector_is_that_of_the_paper_s_problem():
    keys = planted(np.arange(20).reshape(4, 5) % 3 == 0, 1, noise=2.0)
    cosines = keys @ keys.T / np.outer(*[np.linalg.norm(keys, axis=1)] * 2)
    weights = np.where(cosines > 0.2, 1, WEAK)
    degrees = np.diag(weights.sum(1))
    values, vectors = eig(degrees - weights, degrees)
    expected = vectors[:, np.argsort(values.real)[1]].real
    found = second_eigenvector(keys)
    assert abs(found @ expected) / np.linalg.norm(found) / np.linalg.norm(expected) == pytest.approx(1)


def test_keys_that_are_all_alike_show_no_object():
    assert not find_object(np.ones((9, 4)), (3, 3)).any()


@pytest.mark.parametrize(("layers", "last"), [([(4, 64)] * 4, 3), ([(4, 64), (2, 64), (0, 64), (0, 64)], 1)])
def test_the_last_attention_is_tapped_wherever_it_is(layers, last):
    """In a student whose later layers have none it is the second."""
    torch.manual_seed(0)
    model = AutoModel.from_config(per_layer_config(VISION_CONFIGS["vit"](), 16, layers)).eval()
    use_tapped_attention(model)
    batch = {"pixel_values": torch.randn(2, 3, 16, 16)}
    found, expected = (run_tapped(model, batch, layer, output=True) for layer in (LAST_LAYER, last))
    for ours, theirs in zip(found.attention, expected.attention, strict=True):
        assert torch.equal(ours, theirs)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    for kind in ("vit", "deit"):
        save_random_vit(folder / kind, kind)
        model = AutoModel.from_pretrained(folder / kind)
        with torch.no_grad():  # so that keys differ
            model.embeddings.position_embeddings.normal_()
        model.save_pretrained(folder / kind)
    save_random_vit(folder / "coarse", "vit", patch_size=8)
    write_images(folder / "images", 12)
    return folder


def said(capsys, *argv):
    with pytest.raises(SystemExit) as caught:
        cli.main(["evaluate", *map(str, argv), "--device", "cpu", "--threads", "1"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_the_command_says_how_far_objects_agree(folders, capsys):
    images = ("--images", folders / "images")
    found = json.loads(said(capsys, folders / "deit", "--objects-of", folders / "vit", *images, "--json"))
    assert found["images"] == 12
    assert 0 <= found["overlap"] < 1
    uneven = per_layer_config(VISION_CONFIGS["vit"](), 16, [(4, 64), (2, 64), (0, 64), (0, 64)])
    AutoModel.from_config(uneven).save_pretrained(folders / "uneven")
    shutil.copy(folders / "vit" / "preprocessor_config.json", folders / "uneven")
    found = json.loads(said(capsys, folders / "uneven", "--objects-of", folders / "vit", *images, "--json"))
    assert found["images"] == 12
    shown = said(capsys, folders / "vit", "--objects-of", folders / "vit", *images).replace("\n", " ")
    assert "100.0% of their patches in common, 100.0% of the images" in shown


def refused(capsys, *argv):
    with pytest.raises(SystemExit):
        cli.main(["evaluate", *map(str, argv)])
    return one_line(capsys)


def test_bad_calls_are_one_line(folders, capsys, tiny_bert):
    vit, images = folders / "vit", ("--images", folders / "images")
    asked = [vit, "--objects-of", vit, *images]
    for argv in ([vit, "--objects-of", vit], [vit, *images], [*asked, "--task", "mrpc"], [*asked, "--max-length", "9"]):
        assert "--objects-of MODEL and --images PATH go together" in refused(capsys, *argv)
    assert "go together" in refused(capsys, *asked, "--draft-of", vit, "--texts", Path(__file__))
    assert "reads text; give one that fits" in refused(capsys, tiny_bert, "--objects-of", vit, *images)
    assert "into 2x2 patches" in refused(capsys, folders / "coarse", "--objects-of", vit, *images)
    assert "no images" in refused(capsys, vit, "--objects-of", vit, "--images", tiny_bert)
