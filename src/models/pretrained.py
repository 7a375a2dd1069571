"""Any encoder, decoder or encoder-decoder of transformers (Hugging Face), pretrained or random, and LoRA beside it."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.errors import UserError
from src.metrics.spans import answerable
from src.models.components import finetuning, huggingface, lora
from src.models.components.encoder_decoder import EncoderDecoder
from src.models.components.finetuning import Freeze
from src.models.components.sampling import continuation
from src.models.components.transformer import Cache
from src.runtime.compat import transformers as compat
from src.runtime.ranges import NonNegativeFloat, PositiveInt
from src.spec import DataSpec, TextPairSpec, TextSpec, TokenizedSpec
from src.spec.tokenizer import EOS, PAD, SEP, SPECIAL, Tokenizer
from src.tasks import Task
from src.tasks.abilities import Attended

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

SILENT = -1e4  # logit of a token that is another one's synonym: nothing beside real ones, and no infinity in a mean


class Pretrained(EncoderDecoder):
    """A net of transformers under its own head for tokens, or under a linear one for classes and answers.

    With a `name`, training starts from that folder's weights, and the data reads its texts by that folder's tokenizer;
    a head that the folder lacks starts at random. Without one the net is small, random and of the data's own
    vocabulary, so that all of it works offline. A checkpoint holds settings, weights and tokenizer: it is read without
    the folder.

    Args:
        spec: what the data is.
        task: gives the number of outputs, and which of transformers' heads is taken.
        name: of a folder in the form of Hugging Face (`save_pretrained`), or on the hub; null: random weights.
        architecture: of random weights, such as bert, gpt2 or t5; null: the usual one of the task.
        config: values of its settings that win, in transformers' names: {hidden_size: 128, num_hidden_layers: 4}.
        pooling: of a row for its class: its first position (under the net's pooler, where it has one), its last one, or
            the mean of all that are no padding. `auto`: last of a decoder, first of a pretrained encoder, else mean.
        freeze: see `torchvision`: none; head_only: the net stays as in evaluation; all: its weights stay.
        backbone_lr_factor: learning rate before the head, as a share of the optimizer's.
        lora: `rank` above 0: the net is frozen, and thin matrices beside its `targets` learn; see
            src/models/components/lora.py.
        decode_rows, beam_size, length_penalty: for seq2seq; see `t5`.

    Raises:
        UserError: an unknown folder, architecture, setting or layer; rows longer than the net's positions.
    """

    inputs = (TextSpec, TextPairSpec)
    body: Any  # of transformers: each architecture has members of its own
    theirs: Tensor | None
    synonyms: Tensor | None
    tasks = ("classification", "binary", "masked_lm", "question_answering", "causal_lm", "seq2seq")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        name: str | None = None,
        architecture: str | None = None,
        config: dict | None = None,
        pooling: Literal["auto", "first", "last", "mean"] = "auto",
        freeze: Freeze = "none",
        backbone_lr_factor: float = 1.0,
        lora: dict = {"rank": 0, "alpha": 16, "dropout": 0.0, "targets": "auto"},  # noqa: B006 (read alone)
        decode_rows: PositiveInt | None = None,
        beam_size: PositiveInt = 1,
        length_penalty: NonNegativeFloat = 0.6,
    ) -> None:
        thin = _checked(task, pooling, freeze, backbone_lr_factor, lora)
        super().__init__(spec, task)
        self.name, self.body_lr_factor, self.freeze = name, backbone_lr_factor, freeze  # type: ignore[assignment]
        self.settings = huggingface.settings(name, architecture, config, spec, task.name)
        self.form = huggingface.form(self.settings)
        if task.name not in huggingface.FORMS[self.form]:
            article = "an" if self.form.startswith("e") else "a"
            serves = f"{article} {self.form} serves {', '.join(huggingface.FORMS[self.form])}"
            raise UserError(f"{self.settings.model_type}: {serves}, not {task.name}")
        if self.writes:
            self.plan(decode_rows, beam_size, length_penalty)
        definition = spec.input_as(TokenizedSpec).tokenizer
        theirs = Tokenizer(definition).theirs if definition else None
        self._check_vocabulary(theirs)
        self.register_buffer("theirs", None if theirs is None else torch.tensor(theirs), persistent=False)
        self.register_buffer("synonyms", None if theirs is None else huggingface.synonyms(theirs), persistent=False)
        usual = "last" if self.form == "decoder" else "mean" if name is None else "first"
        self.pooling = usual if pooling == "auto" else pooling
        self._make_net()
        if thin["rank"]:
            self._thin(thin)
        elif freeze != "none":
            self.body.requires_grad_(False)
        self.train()

    def _make_net(self) -> None:
        """The net with random weights, and the head where it is not the net's own."""
        task = self.task
        self.body = huggingface.net(self.settings, task.name)
        self._takes = inspect.signature(self.body.forward).parameters
        self.max_length = self._positions()
        self._check_length()
        pooled = self.pooling == "first" and task.name in ("classification", "binary")
        if not pooled and isinstance(getattr(self.body, "pooler", None), nn.Module):
            self.body.pooler = None
        self._last = self._apart() if task.name == "masked_lm" else None
        self.head = None
        if task.name not in HEADED:
            self.head = nn.Linear(self.settings.hidden_size, task.num_outputs)
            nn.init.normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)

    def _thin(self, options: dict[str, Any]) -> None:
        lora.add(self.body, self.settings.model_type, **options)

    @torch.no_grad()
    def _apart(self) -> str | None:
        """The name of the part that makes logits of the net's last vectors, if that is all it is: it can then be asked
        for some positions alone, which with a large vocabulary is most of the work.
        """
        net, base = self.body.eval(), self.body.base_model
        others = [name for name, part in net.named_children() if part is not base]
        if base is net or len(others) != 1:
            return None
        given = self._read(torch.tensor([[len(SPECIAL), EOS]]))
        try:
            logits = net.get_submodule(others[0])(base(**given).last_hidden_state)
            return others[0] if torch.equal(logits, net(**given).logits) else None
        except (RuntimeError, TypeError, AttributeError):  # it wants more than the vectors
            return None

    # what its options say before it is built ------------------------------------------------------------------------

    @classmethod
    @override
    def supported_tasks(cls, **options: object) -> tuple[str, ...]:
        if options.get("name") is None and options.get("architecture") is None and not options.get("config"):
            return cls.tasks
        made = cls._asked(options)
        return cls.tasks if made is None else huggingface.FORMS[huggingface.form(made)]

    @classmethod
    def pretrained_tokenizer(cls, **options: object) -> str:
        """Definition of the tokenizer in the folder `name`; empty without a name."""
        made = None if options.get("name") is None else cls._asked(options)
        return "" if made is None else huggingface.tokenizer(str(options["name"]), made)

    @staticmethod
    def _asked(options: Mapping[str, Any]) -> PreTrainedConfig | None:
        """Settings as far as they do not depend on the data; None where the task decides."""
        name, architecture, config = (options.get(key) for key in ("name", "architecture", "config"))
        if name is None and architecture is None and not huggingface.complete(config):
            return None
        return huggingface.settings(name, architecture, config, None, "")

    def _check_vocabulary(self, theirs: tuple[int, ...] | None) -> None:
        size, where = self.settings.vocab_size, f"model.name={self.name}"
        if self.name is None:
            return
        if theirs is None:
            raise UserError(f"{where}: the data's tokenizer is another one than that of this folder")
        if max(theirs) >= size:
            raise UserError(f"{where}: its tokenizer has {max(theirs) + 1} tokens, its weights know {size}")

    def _positions(self) -> int:
        """The longest row that can be read; of nets without learned positions what their settings name, or 2^30."""
        longest = getattr(self.settings, "max_position_embeddings", None)
        if not isinstance(longest, int) or longest <= 0:
            return 1 << 30
        for name, module in self.body.named_modules():  # RoBERTa's begin after the id of padding
            if (
                name.endswith(("position_embeddings", "embed_positions"))
                and getattr(module, "padding_idx", None) is not None
            ):
                return longest - module.padding_idx - 1
        return longest

    def _check_length(self) -> None:
        longest = self.spec.input_shape[0] - (self.task.name == "causal_lm")
        if isinstance(self.spec.input, TextPairSpec):
            longest = max(longest, self.spec.input.target_length)
        if longest > self.max_length:
            shorter = f"data.max_tokens={self.max_length}"
            if self.task.name == "causal_lm":
                shorter = f"data.context={self.max_length}, or of rows {shorter}"
            which = f"model.config: {self.settings.model_type}" if self.name is None else f"model.name={self.name}"
            raise UserError(
                f"{which}: the longest row of data={self.spec.name} has {longest} tokens, this net has positions for "
                f"{self.max_length}: {shorter}"
            )
        if self.writes and self.max_length < 1 << 30:
            self.longest_source = self.max_length

    # forward ---------------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, other: Tensor | Cache | None = None, *, places: Tensor | None = None) -> Tensor:
        """Token ids (B, T) to outputs (B, num_outputs), or (B, T, num_outputs) where the task is per token.

        Args:
            x: of pairs, the source (B, S).
            other: of pairs, the target (B, T); of a decoder, the cache that x goes on from.
            places: positions counted row after row (K,), the outputs of which alone are given: (K, num_outputs).
        """
        if isinstance(other, Tensor):
            return self.decode(other, self.encode(x), x != PAD)
        if self.task.name == "causal_lm":
            return self._tokens(self._logits(other, input_ids=self._ids(x)))
        if self.task.name == "masked_lm":
            if places is None or self._last is None:
                logits = self.body(**self._read(x)).logits
                return self._tokens(logits if places is None else logits.flatten(0, 1)[places])
            hidden = self.body.base_model(**self._read(x)).last_hidden_state
            return self._tokens(self.body.get_submodule(self._last)(hidden.flatten(0, 1)[places]))
        found = self.body(**self._read(x))
        hidden = found.last_hidden_state  # (B, T, width)
        assert self.head is not None
        if self.task.name == "question_answering":
            return self.head(hidden).masked_fill(~answerable(x).unsqueeze(2), -math.inf)
        return self.head(self._pooled(found, hidden, x != PAD))

    @override
    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        if self.writes:
            return self(batch["input"], batch["target"][:, :-1])
        return self(batch["input"], places=batch.get("places"))

    def _ids(self, x: Tensor) -> Tensor:
        """Token ids as the net has them."""
        return x if self.theirs is None else self.theirs[x]

    def _tokens(self, logits: Tensor) -> Tensor:
        """Logits (..., V) of the net's tokens as those of the spec's."""
        if self.theirs is None or self.synonyms is None:
            return logits
        return logits[..., self.theirs].masked_fill(self.synonyms, SILENT)

    def _read(self, x: Tensor) -> dict[str, Any]:
        """Arguments of a net that sees whole rows; the second segment begins after the first `[SEP]`."""
        given: dict[str, Any] = {"input_ids": self._ids(x)}
        if self.form != "decoder":  # padding is at the end, where no position of a decoder looks
            given["attention_mask"] = (x != PAD).long()
        if "use_cache" in self._takes:
            given["use_cache"] = False
        if "token_type_ids" in self._takes and (getattr(self.settings, "type_vocab_size", None) or 0) > 1:
            after = (x == SEP).cumsum(1) - (x == SEP).long()
            given["token_type_ids"] = after.clamp(max=1)
        return given

    def _pooled(self, found: object, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, T, width) to (B, width)."""
        if self.pooling == "first":
            pooled = getattr(found, "pooler_output", None)
            return hidden[:, 0] if pooled is None else pooled
        if self.pooling == "last":
            last = mask.sum(1) - 1
            return hidden.gather(1, last.view(-1, 1, 1).expand(-1, 1, hidden.shape[2])).squeeze(1)
        real = mask.unsqueeze(2).to(hidden.dtype)
        return (hidden * real).sum(1) / real.sum(1).clamp(min=1)

    @override
    def train(self, mode: bool = True) -> Pretrained:
        super().train(mode)
        if self.freeze == "head_only":
            self.body.eval()
        return self

    def token_embedding(self) -> nn.Embedding:
        """Table of the vectors of its tokens."""
        return self.body.get_input_embeddings()

    # writing ---------------------------------------------------------------------------------------------------------

    @property
    def context(self) -> int:
        """Most tokens that the next one is predicted from: as many as the data has, or the folder's net can read."""
        return self.spec.input_shape[0] - 1 if self.name is None else min(self.max_length, 4096)

    @property
    def takes_cache(self) -> bool:
        """True where the net continues from a cache of keys and values; one with a state, like Mamba, cannot."""
        return not compat.is_stateful(self.body)

    @override
    def encode(self, source: Tensor) -> Tensor:
        encoder = self.body.get_encoder()
        return encoder(input_ids=self._ids(source), attention_mask=(source != PAD).long()).last_hidden_state

    @override
    def decode(self, target: Tensor, memory: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        encoded = BaseModelOutput(last_hidden_state=memory)
        given = {"decoder_input_ids": self._ids(target), "attention_mask": mask.long()}
        return self._tokens(self._logits(cache, encoder_outputs=encoded, **given))

    def _logits(self, cache: Cache | None, **given: object) -> Tensor:
        """Logits (B, T, V) of the net's own tokens; with a cache, continue from it and extend it."""
        if cache is None:
            return self.body(**given, use_cache=False).logits
        from transformers import EncoderDecoderCache

        own, memories = (cast(Any, huggingface.cache(layers)) for layers in (cache.layers, cache.memories))
        theirs = EncoderDecoderCache(own, memories) if self.form == "encoder-decoder" else own
        name = "cache" if "cache" in self._takes else "past_key_values"  # its name in earlier versions
        outputs = self.body(**given, **{name: theirs}, use_cache=True)
        cache.layers = {i: (layer.keys, layer.values) for i, layer in enumerate(own.layers)}
        cache.memories = {i: (layer.keys, layer.values) for i, layer in enumerate(memories.layers)}
        return outputs.logits

    @override
    def generate_texts(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...] | None:
        if self.task.name == "causal_lm":
            return continuation(self, batch["input"])
        return super().generate_texts(batch)

    # looking inside --------------------------------------------------------------------------------------------------

    def attention(self, batch: Mapping[str, Tensor]) -> dict[str, Attended]:
        """Attention weights of each layer over the tokens (B, T) of raw rows; empty for an encoder-decoder."""
        if self.form == "encoder-decoder":
            return {}
        x = self.task.prepare(batch)["input"]
        fast = compat.attention_implementation(self.settings)
        self.body.set_attn_implementation("eager")  # the only one that keeps its weights
        try:
            found = self.body(**self._read(x), output_attentions=True).attentions
        finally:
            self.body.set_attn_implementation(fast)
        maps = [weights for weights in found or () if weights is not None]
        return {"attention": Attended(torch.stack(maps), x, x)} if maps else {}

    # weights ---------------------------------------------------------------------------------------------------------

    def load_pretrained(self) -> Pretrained:
        """Load the weights of the folder `name`, and return itself; without a name nothing changes."""
        if self.name is None:
            return self
        found = huggingface.weights(self.name, self.settings, self.task.name)
        own = self.body.state_dict()
        plain = {key: lora.plain(key) for key in own}
        taken = {key: found[name] for key, name in plain.items() if name is not None and name in found}
        if not taken:
            raise UserError(f"model.name={self.name}: none of its weights is one of {type(self.body).__name__}")
        self.body.load_state_dict(taken, strict=False)
        return self

    def adapt_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the weights of the same net under another head, where the net's own name stands in theirs or is
        missing, and of a net without LoRA, which has no thin matrices beside them.
        """
        inner, renamed = f"body.{self.body.base_model_prefix}.", {}
        own_plain = {key: key for key in self.state_dict()}
        if not any(".lora_" in key for key in state):
            own_plain = {name: key for key in own_plain if (name := lora.plain(key))}
        for key, tensor in state.items():
            other = key.replace(inner, "body.", 1) if key.startswith(inner) else key.replace("body.", inner, 1)
            renamed[other if key not in own_plain and other in own_plain else key] = tensor
        return {own_plain.get(key, key): tensor for key, tensor in renamed.items()}

    def description(self) -> dict[str, Any]:
        """Config, with all settings of the net, spec and task: when a checkpoint is read, the folder may be gone."""
        described = super().description()
        if "model" in self.config:
            whole = json.loads(self.settings.to_json_string(use_diff=False))
            described["config"] = self.config | {"model": self.config["model"] | {"config": whole}}
        return described


HEADED = ("masked_lm", "causal_lm", "seq2seq")  # tasks whose head is transformers' own


def _checked(
    task: Task, pooling: str, freeze: str, lr_factor: float, given: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Check the options that do not depend on the data, and return those of LoRA."""
    if pooling not in ("auto", "first", "last", "mean"):
        raise UserError(f"model.pooling={pooling}: auto, first, last or mean")
    finetuning.check(freeze, lr_factor)
    options = lora.options(given)
    if options["rank"] and freeze != "none":
        raise UserError(f"model.freeze={freeze}: LoRA (model.lora.rank={options['rank']}) freezes the net by itself")
    for option, given_, default in (("freeze", freeze, "none"), ("backbone_lr_factor", lr_factor, 1.0)):
        if given_ != default and task.name in HEADED:
            raise UserError(f"model.{option}={given_} is for a head of its own; that of {task.name} is part of the net")
    return options
