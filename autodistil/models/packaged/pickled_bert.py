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

from autodistil.data.cache import read_entry
from autodistil.errors import TeacherError, one_line
from autodistil.models.packaged.package import CachedModel, Packages, check_sha256


@dataclass(frozen=True)
class PickledBert(CachedModel):
    """A BERT checkpoint inside a package, with a vocabulary of single characters."""

    weights: str
    """`pytorch_model.bin` inside the package, its config.json beside it."""
    vocabulary: str
    """Tokens, one a line, inside the package."""
    waits = "convert it once: autodistil teachers --convert {name}"

    def folder(self, name: str) -> Path:
        """The converted folder in the cache.

        Raises:
            TeacherError: its package is not installed, or it was not converted yet.
        """
        self.packages.folders(name)
        if read_entry(self._entry(name)) is None:
            raise TeacherError(
                f"teacher {name!r} comes as a pickle, which is not read unasked; convert it to safetensors once with: "
                f"autodistil teachers --convert {name}"
            )
        return super().folder(name)

    def convert(self, name: str) -> Path:
        """The converted folder; converts where it is not there.

        Raises:
            TeacherError: its package is not installed, or the weights are not the expected ones.
            CorpusError: the cache cannot be written.
        """
        return super().folder(name)

    def write(self, name: str, folder: Path) -> None:
        """Read the pickle, if it is the known one, and write the encoder and its tokenizer."""
        (package,) = self.packages.folders(name)
        path = package / self.weights
        check_sha256(name, path, self.sha256, f"{self.packages.install} --force-reinstall")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError) as error:
            reason = one_line(error, 100)
            raise TeacherError(
                f"teacher {name!r}: its pickle holds more than tensors ({reason}); give another"
            ) from error
        fields = json.loads(path.with_name("config.json").read_text(encoding="utf-8"))
        known = BertConfig().to_dict().keys() - {"architectures", "transformers_version"}  # not where it was saved from
        model = BertModel(BertConfig.from_dict({key: value for key, value in fields.items() if key in known}))
        model.load_state_dict({key: state[f"bert.{key}"] for key in model.state_dict()})
        model.save_pretrained(folder)
        character_tokenizer(package / self.vocabulary, model.config).save_pretrained(folder)


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
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    length = config.max_position_embeddings
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, **names)


ANTIBERTY = PickledBert(
    Packages(("antiberty",), "pip install 'autodistil[antiberty]'"),
    weights="trained_models/AntiBERTy_md_smooth/pytorch_model.bin",
    vocabulary="trained_models/vocab.txt",
    sha256="f1ae33eac8cc8784a7d4be5a600141d2fa7bc7d8d5b3f5324d64a6a63bd0f137",
)
