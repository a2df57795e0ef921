"""config.json of a model folder, key for key; converter/README.md says what the keys mean."""
import dataclasses
from typing import Optional

CAUSAL = ("latte_causal", "macchiato", "window", "standard_causal")
SEES_AHEAD = ("latte_bid", "linformer")
POOLED = ("classifier", "pair", "embedding")


@dataclasses.dataclass
class LatteConfig:
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_latents: int                            # over all heads; linformer: rank per head
    block_type: str = "rms_swiglu"              # transformer | glu | rms_swiglu
    mixer: str = "macchiato"
    prenorm: bool = True
    norm: str = ""                              # layernorm | rmsnorm; "": rmsnorm in rms_swiglu, else layernorm
    intermediate_size: int = 0
    hidden_act: str = ""                        # silu | gelu_tanh; "": silu in rms_swiglu, else gelu_tanh
    norm_eps: float = 1e-6
    unit_offset: bool = False
    final_norm: Optional[bool] = None           # None: with prenorm, unless the head is classifier or pair
    positions: str = "none"                     # none | sinusoidal
    max_position_embeddings: int = 1024
    positions_fp32_angles: bool = False
    window: int = 128
    window_extent: str = "w"                    # w | w+1
    rope_theta: Optional[float] = 10000.0
    rope_style: str = "half"                    # half | interleaved
    local_scale: Optional[float] = None         # None: 1 / sqrt(head width)
    logit_softcap: float = 0.0
    score_scale: float = 1.0
    key_eps: float = 0.0
    latent_scope: str = "all"
    recurrent: str = "none"                     # none | conv
    recurrent_feeds: str = "qk"                 # qk | qkv
    local_input: str = "x"                      # x | recurrent
    shared_layers: Optional[list] = None        # entry i: the layer whose weights layer i uses
    num_memory_layers: int = 0                  # above 0: an encoder of that many blocks, read by every layer
    memory_mixer: str = "latte_bid"             # latte_bid | latte_causal
    input: str = "tokens"                       # tokens | values | pixels | pixels_conv
    num_features: int = 0                       # values: numbers per step
    input_mean: object = None                   # values: lists; pixels*: numbers.  The model reads
    input_deviation: object = None              # (number - mean) / deviation
    image_size: Optional[list] = None           # [width, height]
    head: str = "language"                      # language | classifier | pair | regression | embedding | none
    num_labels: int = 0
    labels: Optional[list] = None
    pooling: str = "mean"                       # mean | last | first
    unit_length: bool = False                   # embedding: divided by its norm
    num_outputs: int = 0                        # regression: a row of numbers is
    quantiles: Optional[list] = None            # [forecast_steps][num_outputs][quantiles or 1]
    forecast_steps: int = 1
    output_mean: Optional[list] = None          # value = mean + deviation * number
    output_deviation: Optional[list] = None
    tie_word_embeddings: bool = True
    head_bias: bool = False
    bos_token_id: Optional[int] = None
    eos_token_id: Optional[int] = None
    pad_token_id: Optional[int] = None
    torch_dtype: str = "float32"
    model_type: str = "latte"
    architectures: tuple = ("LatteModel",)

    CHOICES = {"block_type": ("transformer", "glu", "rms_swiglu"), "mixer": CAUSAL + SEES_AHEAD,
               "norm": ("layernorm", "rmsnorm"), "hidden_act": ("silu", "gelu_tanh"),
               "positions": ("none", "sinusoidal"), "window_extent": ("w", "w+1"), "latent_scope": ("all",),
               "rope_style": ("half", "interleaved"), "recurrent": ("none", "conv"), "recurrent_feeds": ("qk", "qkv"),
               "local_input": ("x", "recurrent"), "model_type": ("latte",),
               "memory_mixer": ("latte_bid", "latte_causal"),
               "input": ("tokens", "values", "pixels", "pixels_conv"), "pooling": ("mean", "last", "first"),
               "head": ("language", "classifier", "pair", "regression", "embedding", "none")}

    def __post_init__(self):
        d, rms = self.hidden_size, self.block_type == "rms_swiglu"
        self.norm = self.norm or ("rmsnorm" if rms else "layernorm")
        self.hidden_act = self.hidden_act or ("silu" if rms else "gelu_tanh")
        if not self.intermediate_size:
            self.intermediate_size = {"transformer": 4 * d, "glu": d}.get(self.block_type, 8 * d // 3)
        if self.final_norm is None:
            self.final_norm = self.prenorm and self.head not in ("classifier", "pair")
        if self.input != "tokens":
            self.vocab_size = 0
        if self.input in ("pixels", "pixels_conv"):
            self.input_mean, self.input_deviation = self.input_mean or 0.0, self.input_deviation or 1.0
        if self.input == "values":
            self.input_mean = self.input_mean or [0.0] * self.num_features
            self.input_deviation = self.input_deviation or [1.0] * self.num_features
        if self.head == "regression":
            self.output_mean = self.output_mean or [0.0] * self.num_outputs
            self.output_deviation = self.output_deviation or [1.0] * self.num_outputs
        if self.head != "language":
            self.tie_word_embeddings = self.head_bias = False
        self.check()

    def check(self):
        def need(truth, message):
            if not truth:
                raise ValueError("config: " + message)
        for key, allowed in self.CHOICES.items():
            need(getattr(self, key) in allowed, f"{key} is {getattr(self, key)!r}, expected one of {allowed}")
        heads, rms = self.num_attention_heads, self.block_type == "rms_swiglu"
        need(self.hidden_size % heads == 0, "hidden_size must be a multiple of num_attention_heads")
        need(self.num_latents % heads == 0 or self.mixer == "linformer",
             "num_latents must be a multiple of num_attention_heads")
        need(not rms or (self.norm == "rmsnorm" and self.prenorm), "rms_swiglu blocks use rmsnorm before each part")
        need(rms or self.hidden_act == "gelu_tanh", "transformer and glu blocks use gelu_tanh")
        fixed = {"transformer": 4 * self.hidden_size, "glu": self.hidden_size}.get(self.block_type)
        need(fixed in (None, self.intermediate_size), "intermediate_size is fixed for this block_type")
        ahead = self.mixer in SEES_AHEAD
        need(not ahead or self.head != "language", f"a language model with {self.mixer} sees its own labels")
        need(self.recurrent == "none" or (self.mixer in ("latte_causal", "macchiato") and not self.num_memory_layers),
             "recurrent needs latte_causal or macchiato, and no memory encoder")
        owners = self.shared_layers
        need(owners is None or (len(owners) == self.num_hidden_layers and
                                all(o <= i and owners[o] == o for i, o in enumerate(owners))),
             "shared_layers names for each layer itself or an earlier layer that has weights of its own")
        need(self.input != "values" or self.num_features > 0, "values need num_features")
        need(self.input != "values" or (len(self.input_mean) == len(self.input_deviation) == self.num_features),
             "input_mean and input_deviation have num_features entries")
        need(self.input == "tokens" or self.head != "language", "a language head needs tokens")
        need(self.head not in ("classifier", "pair") or self.num_labels > 0, "this head needs num_labels")
        need(self.labels is None or len(self.labels) == self.num_labels, "labels must be num_labels names")
        need(self.head != "regression" or self.num_outputs > 0, "regression needs num_outputs")

    @property
    def numbers_per_row(self):
        """Of a regression head."""
        return self.forecast_steps * self.num_outputs * max(1, len(self.quantiles or ()))

    @classmethod
    def from_dict(cls, values):
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"config: unknown keys {unknown}")
        names = tuple(values.get("architectures", cls.architectures))
        return cls(**{"vocab_size": 0, **values, "architectures": names})

    def to_dict(self):
        """Without the keys that have no meaning for this model."""
        out = {**dataclasses.asdict(self), "architectures": list(self.architectures)}
        drop = [k for k in ("shared_layers", "labels", "quantiles", "image_size", "input_mean", "input_deviation",
                            "output_mean", "output_deviation") if out[k] is None]
        if not self.num_memory_layers:
            drop += ["num_memory_layers", "memory_mixer"]
        if self.input != "values":
            drop += ["num_features"]
        if self.input != "tokens":
            drop += ["vocab_size"]
        if self.head not in POOLED:
            drop += ["pooling"]
        if self.head != "embedding":
            drop += ["unit_length"]
        if self.head not in ("classifier", "pair"):
            drop += ["num_labels"]
        if self.head != "regression":
            drop += ["num_outputs", "forecast_steps"]
        if self.head != "language":
            drop += ["tie_word_embeddings", "head_bias"]
        return {k: v for k, v in out.items() if k not in drop}
