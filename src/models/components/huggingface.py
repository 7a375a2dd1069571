"""Networks in the form of Hugging Face (Wolf et al. 2019, arXiv:1910.03771): a folder's settings, weights, tokenizer.

transformers is imported when a function is called and not before.
"""

from __future__ import annotations

import difflib
import json
import logging
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from src.errors import UserError, suggest
from src.runtime import optional
from src.runtime.format import first_line
from src.spec import DataSpec, TextPairSpec, TokenizedSpec
from src.spec.tokenizer import BOS, EOS, OWNERS, PAD, SPECIAL, adopted_definition

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedConfig

VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
REACHABLE = 5  # seconds that the hub has for an answer

# tasks of each form, and the architecture that each task has where none is named
FORMS: dict[str, tuple[str, ...]] = {
    "encoder": ("classification", "binary", "masked_lm", "question_answering"),
    "decoder": ("classification", "binary", "causal_lm"),
    "encoder-decoder": ("seq2seq",),
}
USUAL = {"causal_lm": "gpt2", "seq2seq": "t5"}  # bert for all others

# of a net without a name, in the names that architectures share; with these it learns something on a CPU
SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    # names of single ones: T5, ALBERT and ELECTRA, DistilBERT, BART, Llama
    "num_decoder_layers": 2,
    "d_ff": 256,
    "embedding_size": 64,
    "hidden_dim": 256,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "decoder_ffn_dim": 256,
    "ffn_dim": 256,
}


def require(package: str, what: str) -> None:
    """Raise a UserError where an optional package is not installed."""
    optional.require(package, optional.extra("hf"), for_=what)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars, warnings and tables of what was loaded."""
    from transformers.utils import logging as theirs

    before, hub = theirs.get_verbosity(), logging.getLogger("huggingface_hub")
    level, bars = hub.level, theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    hub.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        theirs.set_verbosity(before)
        hub.setLevel(level)
        if bars:
            theirs.enable_progress_bar()


# folders --------------------------------------------------------------------------------------------------------------


def folder(name: str) -> Path:
    """Path of a model's files: a folder of the user's own, or the hub's cache, filled where there is a network.

    Raises:
        UserError: no such folder, or a name on the hub that is neither in the cache nor to be had.
    """
    require("transformers", "model=pretrained")
    place = Path(name).expanduser()
    if place.is_dir():
        return place.absolute()
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UserError(f"model.name={name}: there is no such folder")
    return fetched(name, "model.name", ["*.json", "*.safetensors", "*.txt", "*.model"])


def fetched(name: str, option: str, patterns: list[str] | None = None, kind: str = "model") -> Path:
    """Path of the cached copy of a repository on the hub, downloaded if need be: all files, or those of patterns.

    Raises:
        UserError: there is none, and it cannot be had.
    """
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(snapshot_download(name, repo_type=kind, local_files_only=True))
    except Exception:  # noqa: BLE001 (not in the cache, or no name at all, which the next try says)
        pass
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=REACHABLE).close()
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{option}={name}: no such folder, not in the cache of Hugging Face, and {constants.ENDPOINT} "
            f"cannot be reached ({reason}): put its files into a folder and give {option}=FOLDER"
        ) from None
    try:
        with quiet():
            return Path(snapshot_download(name, repo_type=kind, allow_patterns=patterns))
    except Exception as error:  # noqa: BLE001 (any error of the library is the answer to the user)
        raise UserError(f"{option}={name}: {first_line(error).rstrip('.')}; or give {option}=FOLDER") from None


# settings -------------------------------------------------------------------------------------------------------------


def complete(config: Mapping[str, Any] | None) -> bool:
    """True where these settings are all that a net has, as a checkpoint keeps them."""
    return config is not None and "transformers_version" in config


def settings(
    name: str | None, architecture: str | None, config: Mapping[str, Any] | None, spec: DataSpec | None, task: str
) -> PreTrainedConfig:
    """The configuration of a net, as transformers has it.

    Args:
        name: of a folder or on the hub; None: a small net of this architecture.
        architecture: such as bert; None: the usual one of the task.
        config: values that win, in the architecture's own names or the common ones; or all there are.
        spec: of a small net, gives its vocabulary and positions.

    Raises:
        UserError: no such folder, architecture or value.
    """
    require("transformers", "model=pretrained")
    from transformers import AutoConfig

    config = dict(config or {})
    if complete(config):
        with quiet():
            return AutoConfig.for_model(config.pop("model_type"), **config)
    if name is not None:
        if architecture is not None:
            raise UserError(f"model.architecture={architecture} is for random weights; model.name={name} has its own")
        return _with(_read(name), config)
    return _small(architecture or USUAL.get(task, "bert"), config, spec)


def _read(name: str) -> PreTrainedConfig:
    from transformers import AutoConfig

    place = folder(name)
    if not (place / "config.json").is_file():
        raise UserError(f"model.name={name}: {place} has no config.json, which a model's folder has")
    try:
        with quiet():
            return AutoConfig.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 (any error of the library is the answer to the user)
        reason = first_line(error).rstrip(".")
        raise UserError(f"model.name={name}: {place}/config.json cannot be used ({reason})") from None


def _small(architecture: str, config: dict[str, Any], spec: DataSpec | None) -> PreTrainedConfig:
    from transformers import AutoConfig

    known = architectures()
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, n=3, cutoff=0.6)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else "such as bert, roberta, distilbert, gpt2, llama, t5, bart"
        )
        raise UserError(f"model.architecture={architecture} is none of transformers for texts ({hint})")
    with quiet():
        made = AutoConfig.for_model(architecture)
        common = getattr(type(made), "attribute_map", {})
        values = {k: v for k, v in SMALL.items() if hasattr(made, k) and k not in common.values()}
        if spec is not None:
            longest = spec.input_shape[0]
            if isinstance(spec.input, TextPairSpec):
                longest = max(longest, spec.input.target_length)
            longest += 4  # some architectures begin at the second or later
            values |= {"vocab_size": len(spec.input_as(TokenizedSpec).token_counts)}
            if (getattr(made, "max_position_embeddings", None) or 0) > 0:
                values["max_position_embeddings"] = longest
        values |= {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "decoder_start_token_id": BOS}
        heads, width = (
            config.get(k, config.get(common.get(k, k), SMALL[k])) for k in ("num_attention_heads", "hidden_size")
        )
        if isinstance(heads, int) and isinstance(width, int) and heads > 0:  # else it is refused below
            follows = {"num_key_value_heads": heads, "head_dim": width // heads, "d_kv": width // heads}
            values |= {k: v for k, v in follows.items() if hasattr(made, k) and k not in common}
        values = {k: v for k, v in values.items() if k not in config and common.get(k, k) not in config}
        return _with(made, values | config, given=config)


def _with(
    made: PreTrainedConfig, values: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> PreTrainedConfig:
    """Build a configuration with other values, each of which it has to have; derived values are computed again."""
    given = values if given is None else given
    common = getattr(type(made), "attribute_map", {})
    own = made.to_dict()
    for key in given:
        if key not in own and key not in common:
            raise UserError(f"model.config.{key}: {made.model_type} has no such value{suggest(key, [*own, *common])}")
    changed = {common.get(key, key): value for key, value in values.items()}
    if not changed:
        return made
    kept = {key: value for key, value in own.items() if key not in ("model_type", "transformers_version", "dtype")}
    if "num_hidden_layers" in values or "num_layers" in values:
        kept.pop("layer_types", None)  # one for each layer
    try:
        with quiet():
            return type(made)(**(kept | changed))
    except Exception as error:  # noqa: BLE001 (any error of the library is the answer to the user)
        raise UserError(f"model.config: {made.model_type} cannot be made of it ({_short(error)})") from None


def _short(error: BaseException) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())[:160]


def architectures() -> list[str]:
    """Names of all architectures of transformers that serve a task here."""
    from transformers.models.auto import modeling_auto as auto

    mappings = (
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )
    return sorted({name for mapping in mappings for name in mapping})


def form(made: PreTrainedConfig) -> str:
    """Form of a net with these settings: `encoder`, `decoder` or `encoder-decoder`.

    Raises:
        UserError: it is none for texts.
    """
    from transformers.models.auto import modeling_auto as auto

    kind = made.model_type
    if made.is_encoder_decoder and kind in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return "encoder-decoder"
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "encoder"
    if kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "decoder"
    raise UserError(f"model=pretrained: {kind} is no architecture for texts")


# nets -----------------------------------------------------------------------------------------------------------------


class NetFactory(Protocol):
    """An `Auto` class of transformers: makes the net of the architecture that a configuration names."""

    def from_config(self, config: PreTrainedConfig, **options: object) -> nn.Module:
        """The net with random weights."""
        ...

    def from_pretrained(self, folder: Path, **options: object) -> tuple[nn.Module, dict[str, Any]]:
        """The net with a folder's weights, and what was missing; with `output_loading_info=True`."""
        ...


def family(task: str) -> NetFactory:
    """The class of transformers that makes nets for a task."""
    import transformers

    names = {
        "masked_lm": "AutoModelForMaskedLM",
        "causal_lm": "AutoModelForCausalLM",
        "seq2seq": "AutoModelForSeq2SeqLM",
    }
    return getattr(transformers, names.get(task, "AutoModel"))


def net(made: PreTrainedConfig, task: str) -> nn.Module:
    """A net of these settings with random weights, for a task.

    Raises:
        UserError: none can be made of them.
    """
    try:
        with quiet():
            return family(task).from_config(made, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 (any error of the library is the answer to the user)
        raise UserError(f"model.config: no {made.model_type} can be made of it ({_short(error)})") from None


def weights(name: str, made: PreTrainedConfig, task: str) -> dict[str, Tensor]:
    """Weights that a folder has for the net of a task, by name; those that it lacks, such as a head's, are left out.

    Raises:
        UserError: no weights, or none that fit these settings.
    """
    place = folder(name)
    if not any((place / file).is_file() for file in WEIGHTS):
        raise UserError(f"model.name={name}: {place} has no weights ({WEIGHTS[0]}), which a model's folder has")
    try:
        with quiet():
            loaded, info = family(task).from_pretrained(
                place, config=made, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
            )
    except Exception as error:  # noqa: BLE001 (any error of the library is the answer to the user)
        raise UserError(f"model.name={name}: the weights in {place} cannot be used ({_short(error)})") from None
    missing = set(info["missing_keys"])
    return {key: tensor for key, tensor in loaded.state_dict().items() if key not in missing}


def cache(layers: Mapping[int, tuple[Tensor, Tensor]]) -> DynamicCache:
    """Cache of transformers that holds the keys and values (B, heads, T, size) of each layer."""
    from transformers import DynamicCache

    filled = DynamicCache()
    for i, (key, value) in sorted(layers.items()):
        filled.update(key, value, i)
    return filled


# tokenizers -----------------------------------------------------------------------------------------------------------


def tokenizer(name: str, made: PreTrainedConfig) -> str:
    """Definition of a `Tokenizer` that reads texts as the one in a model's folder does.

    A special token that it lacks is the nearest one: `[EOS]` is the separator, `[BOS]` the class token, or of an
    encoder and decoder what the decoder starts from; a decoder has one token for all.

    Raises:
        UserError: there is none, or none that can be used.
    """
    place = folder(name)
    if not any((place / file).is_file() for file in VOCABULARIES):
        raise UserError(f"model.name={name}: {place} has no tokenizer (tokenizer.json), which its weights need")
    from transformers import AutoTokenizer

    try:
        with quiet():
            found = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        definition = found.backend_tokenizer.to_str()
    except Exception as error:  # noqa: BLE001 (any error of the library is the answer to the user)
        raise UserError(f"model.name={name}: the tokenizer in {place} cannot be used ({_short(error)})") from None
    ids = {key: getattr(found, f"{key}_token_id", None) for key in ("pad", "unk", "bos", "cls", "eos", "sep", "mask")}
    end = next((ids[key] for key in ("eos", "sep", "unk", "pad") if ids[key] is not None), None)
    if end is None:
        raise UserError(f"model.name={name}: the tokenizer in {place} has no token that ends a text (eos_token)")
    start = _first(ids["cls"], ids["bos"], other=end)
    if made.is_encoder_decoder:
        start = _first(getattr(made, "decoder_start_token_id", None), other=start)
    pad, unknown = _first(ids["pad"], other=end), _first(ids["unk"], other=end)
    special = (pad, unknown, start, end, _first(ids["mask"], other=unknown), _first(ids["sep"], other=end))
    return adopted_definition(json.dumps(json.loads(definition)), special)


def synonyms(theirs: tuple[int, ...]) -> Tensor:
    """Mask (V,) of the tokens that share their id with another one, which is written in their place: bool."""
    owned = {theirs[i]: i for i in reversed(OWNERS)}
    return torch.tensor([i < len(SPECIAL) and owned[token] != i for i, token in enumerate(theirs)])


def _first(*ids: int | None, other: int) -> int:
    return next((i for i in ids if i is not None), other)
