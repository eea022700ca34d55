"""Image corpora: what is found, decoded, split and kept; what damaged and hostile files are told."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from image_helpers import PROCESSORS, write_images
from PIL import Image

from autodistil.data.images import IMAGES, decode, read_images
from autodistil.data.sources import iter_documents, resolve
from autodistil.errors import CorpusError
from autodistil.models.image_processor import reader_of


@pytest.fixture(scope="module")
def reader():
    return reader_of(*reversed_arguments("vit"))


def reversed_arguments(kind):
    processor, channels = PROCESSORS[kind]()
    return processor, "teacher", channels


def read(sources, reader, cache, min_heldout=8):
    return read_images([str(source) for source in sources], reader, min_heldout=min_heldout, cache_dir=cache)


def everything(corpus):
    parts = (corpus.train, corpus.heldout)
    return [image.tobytes() for part in parts for image in part.take(np.arange(len(part)))]


# ---- what is read


def test_a_folder_is_decoded_resized_and_split_once(tmp_path, reader, monkeypatch):
    folder = write_images(tmp_path / "images", 120)
    corpus = read([folder], reader, tmp_path / "cache", 12)
    assert (len(corpus.train), len(corpus.heldout)) == (108, 12)
    assert corpus.description.endswith("120 images")
    assert corpus.train.take(np.array([3, 5])).shape == (2, 3, 16, 16)
    assert not set(corpus.train.rows) & set(corpus.heldout.rows)
    first = next(iter(sorted(folder.rglob("*.png"))))
    with Image.open(first) as image:
        expected = reader.processor(images=[image], return_tensors="np")["pixel_values"][0]
    ours = [reader.inputs.batch(np.frombuffer(x, np.uint8).reshape(1, 3, 16, 16).copy()) for x in everything(corpus)]
    assert any(np.allclose(batch["pixel_values"][0].numpy(), expected, atol=1e-5) for batch in ours)
    monkeypatch.setattr("autodistil.data.images.decode", None)  # nothing is decoded again
    again = read([folder], reader, tmp_path / "cache", 12)
    assert again.content_hash == corpus.content_hash
    assert everything(again) == everything(corpus)


def test_the_split_is_by_content_and_repeated_images_count_once(tmp_path, reader):
    folder = write_images(tmp_path / "images", 60)
    heldout = set(everything(read([folder], reader, tmp_path / "cache"))[-8:])
    other = tmp_path / "renamed"
    for number, path in enumerate(sorted(folder.rglob("*.*"), reverse=True)):
        if path.is_file():
            other.mkdir(exist_ok=True)
            for copy in range(2):
                (other / f"{number}-{copy}{path.suffix}").write_bytes(path.read_bytes())
    corpus = read([other], reader, tmp_path / "cache")
    assert len(corpus.train) + len(corpus.heldout) == 60
    assert set(everything(corpus)[-8:]) == heldout


def test_no_more_than_a_quarter_is_held_out(tmp_path, reader):
    folder = write_images(tmp_path / "images", 20)
    assert len(read([folder], reader, tmp_path / "cache", 100).heldout) == 5


def test_globs_files_and_other_processors(tmp_path, reader):
    folder = write_images(tmp_path / "images", 40)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    by_glob = read([folder / "*" / "*.*"], reader, tmp_path / "cache")
    by_file = read(files, reader, tmp_path / "cache")
    assert by_glob.content_hash == by_file.content_hash
    grey = reader_of(*reversed_arguments("vit-grey"))
    assert read([folder], grey, tmp_path / "cache").train.take(np.arange(2)).shape == (2, 1, 16, 16)


def test_images_pickle_as_a_path(tmp_path, reader):
    corpus = read([write_images(tmp_path / "images", 20)], reader, tmp_path / "cache")
    pixels = corpus.train.take(np.arange(3))
    content = pickle.dumps(corpus.train)
    assert len(content) < 2000
    assert np.array_equal(pickle.loads(content).take(np.arange(3)), pixels)


@pytest.mark.parametrize("splits", [False, True])
def test_a_data_set_saved_to_disk(tmp_path, reader, splits):
    datasets = pytest.importorskip("datasets")
    folder = write_images(tmp_path / "images", 24)
    files = sorted(str(path) for path in folder.rglob("*.*") if path.is_file())
    rows = {"label": list(range(len(files))), "picture": files}
    table = datasets.Dataset.from_dict(rows).cast_column("picture", datasets.Image())
    table = datasets.DatasetDict({"test": table.select(range(4)), "train": table}) if splits else table
    table.save_to_disk(str(tmp_path / "saved"))
    corpus = read([tmp_path / "saved"], reader, tmp_path / "cache")
    assert sorted(everything(corpus)) == sorted(everything(read([folder], reader, tmp_path / "cache")))


def test_a_data_set_without_images_is_refused(tmp_path, reader):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(CorpusError, match="has no image column; it has the columns text"):
        read([tmp_path / "saved"], reader, tmp_path / "cache")


# ---- modes


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_grey_or_rgb(tmp_path, mode, channels):
    image = Image.new(mode, (6, 5))
    path = tmp_path / ("image.tiff" if mode in ("CMYK", "I", "F") else "image.png")
    image.save(path)
    pixels = np.asarray(decode(path, "image", channels))
    assert pixels.shape == ((5, 6) if channels == 1 else (5, 6, 3))
    assert pixels.dtype == np.uint8


def test_sixteen_bits_become_the_upper_eight(tmp_path):
    Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert set(np.asarray(decode(tmp_path / "deep.png", "deep", 1)).flat) == {128}


def test_photographs_are_turned_as_they_say(tmp_path):
    image = Image.new("RGB", (8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "photo.jpg", exif=exif)
    assert decode(tmp_path / "photo.jpg", "photo", 3).size == (4, 8)


# ---- damaged and hostile files


def png_of(width, height):
    """A PNG that claims to be so large."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def whole(form):
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(stream, form)
    return stream.getvalue()


HOSTILE = {
    "empty.png": (b"", "is no image of a known kind"),
    "text.png": (b"hello, this is text", "is no image of a known kind"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is no image of a known kind"),
    "truncated.png": (whole("PNG")[:3000], "cannot be decoded"),
    "truncated.jpg": (whole("JPEG")[:900], "cannot be decoded"),
    "truncated.webp": (whole("WEBP")[:400], "cannot be decoded|is no image"),
    "flipped.png": (whole("PNG")[:400] + b"?" + whole("PNG")[401:], "cannot be decoded"),
    "bomb.png": (png_of(12_000, 12_000), "may be a decompression bomb"),
    "large-bomb.png": (png_of(2**31 - 1, 2**31 - 1), "may be a decompression bomb"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_damaged_and_hostile_files_are_one_clear_line(tmp_path, reader, name):
    content, message = HOSTILE[name]
    folder = write_images(tmp_path / "images", 8)
    (folder / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        read([folder], reader, tmp_path / "cache")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache" / "images").iterdir())


def test_files_that_are_none(tmp_path, reader):
    (tmp_path / "folder").mkdir()
    with pytest.raises(CorpusError, match="holds no files; this teacher reads images"):
        read([tmp_path / "folder"], reader, tmp_path / "cache")
    with pytest.raises(CorpusError, match="not found; this teacher reads images"):
        read([tmp_path / "nowhere"], reader, tmp_path / "cache")
    with pytest.raises(CorpusError, match="no corpus is given"):
        read([], reader, tmp_path / "cache")


@pytest.mark.parametrize("name", ["", "  ", "x" * 5000, "nul\0byte.png", "*.csv"])
def test_names_that_stand_for_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(write_images(tmp_path / "images", 4))
    with pytest.raises(CorpusError, match=r"^[^\n]*$"):
        resolve([name], IMAGES)


def test_a_single_name_is_no_list_of_letters(tmp_path):
    folder = str(write_images(tmp_path / "images", 4))
    assert [source.name for source in resolve(folder, IMAGES)] == [folder]


def test_too_few_images(tmp_path, reader):
    with pytest.raises(CorpusError, match="has 3 different images; needed: 4 or more"):
        read([write_images(tmp_path / "images", 3)], reader, tmp_path / "cache")


# ---- text where images are expected, and the other way round


def test_text_where_images_are_expected(tmp_path, reader):
    (tmp_path / "text.txt").write_text("some text")
    with pytest.raises(
        CorpusError, match=r"has no images but 1 other files, such as 'text\.txt'; this teacher reads images"
    ):
        read([tmp_path / "text.txt"], reader, tmp_path / "cache")
    with pytest.raises(CorpusError, match="corpus 'python-docs' is text, this teacher reads images"):
        resolve(["python-docs"], IMAGES)


def test_images_where_text_is_expected(tmp_path):
    folder = write_images(tmp_path / "images", 4)
    for source in (folder, next(folder.rglob("*.png"))):
        with pytest.raises(CorpusError, match=r"images.*this teacher reads text") as caught:
            list(iter_documents([str(source)]))
        assert "\n" not in str(caught.value)
