"""Makes the small SentencePiece models here, the tokenizer.json files like them, and vectors.json.

    python3 make_vectors.py [FOLDER]

Needs the Python package sentencepiece (made with 0.1.97) and node with the npm package tokenizers
(made with 0.23.2) in the folder that NODE_TOKENIZERS names. FOLDER may have
sentencepiece-test.model and sentencepiece-test-ja.model of SentencePiece's own tests: their ids go
into vectors.json, too. Training is deterministic; the texts are made here.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import sentencepiece

HERE = pathlib.Path(__file__).resolve().parent

WORDS = """once upon a time there was little river that ran down from the hills to sea and every
morning baker opened his shop before sun came up so bread would be warm when children walked
past on their way school they said good day she answered with smile because nobody had ever been
unkind here in winter snow lay deep over roofs fields people told stories about dragons ships
lights far away 1 2 3 10 1995 2,000 C++ don't isn't we'll Mr. Smith's U.S.""".split()
OTHER = ["na\u00efve caf\u00e9", "Stra\u00dfe \u00fcber", "\u4e16\u754c\u306f\u5e83\u3044",
         "\u6771\u4eac\u30bf\u30ef\u30fc",
         "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440",
         "\u03b3\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5",
         "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
         "\ud55c\uad6d\uc5b4 \ubb38\uc7a5", "\ufb01ne \ufb02ow", "\u2460\u2461\u2462",
         "\uff46\uff55\uff4c\uff4c \uff57\uff49\uff44\uff54\uff48", "e\u0301a\u0300"]


def corpus():
    rng = random.Random(7)
    lines = []
    for _ in range(3000):
        line = [rng.choice(WORDS) for _ in range(rng.randint(3, 14))]
        if rng.random() < 0.15:
            line.insert(rng.randrange(len(line)), rng.choice(OTHER[:6]))
        lines.append(" ".join(line) + rng.choice([".", "!", "?", "", ","]))
    return lines


def texts():
    rng = random.Random(11)
    result = [
        "", " ", "  ", "\n", "\t a \t", "a", " a", "a ", "  a  b   c  ", "Hello world",
        "hello\nworld\n", "\u3000\u5168\u89d2\u3000\u7a7a\u767d\u3000", "no\u00a0break", "\u2581",
        "a\u2581b", "\u2581a", "a\u2581", "<s>", "</s>", "<unk>", "<pad>", "<mask>",
        "a<s>b </s> <mask>", "<sep>", "a<sep>b", "a <sep> b", "<sep><sep>", " <sep>", "<0x41>",
        "x<0x0A>y", "C++ and C+", "aC++b", "C++++", "foo  bar", "\U0001f600",
        "a\U0001f600\U0001f600b", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u200b",
        "\u200bx\u200b y", "\ufeffa", "\u0001", "a\u0001b", "\u00ad-\u00ad", "e\u0301", "\u00e9",
        "\ufb01 \ufb02 \u2460", "\ufb01\u0301x", "A\u030a\u0327", "\r\n", "a\r\nb",
        "\u00bd \u00bc", "\u210c\U0001d522\U0001d529\U0001d529\U0001d52c",
        "\uff76\uff9e\uff77\uff9e",
        "\uff48\uff45\uff4c\uff4c\uff4f\u3000\uff57\uff4f\uff52\uff4c\uff44",
        "\uac01 \u1100\u1161\u11a8", "\ufdfa",
        "\u543e\u8f29\u306f\u732b\u3067\u3042\u308b\u3002"
        "\u540d\u524d\u306f\u307e\u3060\u7121\u3044\u3002",
        "\u89aa\u8b72\u308a\u306e\u7121\u9244\u7832\u3067"
        "\u5c0f\u4f9b\u306e\u6642"
        "\u304b\u3089\u640d\u3070\u304b\u308a\u3057\u3066\u3044\u308b\u3002",
        "I saw a girl with a telescope.", "The quick brown fox jumps over the lazy dog.",
        "1234567890", "3.14159 2,000 1995", "don't we'll", "http://example.org/?q=1&r=%20",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ababababababab", "the the the the", "THE The tHe",
        "\u043f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440",
        "\u0645\u0631\u062d\u0628\u0627", "\u05e9\u05dc\u05d5\u05dd",
        "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0e44\u0e17\u0e22", "\u0915\u094d\u0937",
        "z" * 200, "\u00e9" * 60, "the " * 120, "\u4e16\u754c" * 60, " " * 50,
        "a" + " " * 30 + "b", "\t" * 5 + "x", "q\u0300\u0301\u0302",
        "\u2013\u2014\u2026\u201cquotes\u201d", "\u2028line\u2029", "\U00020000\U0002a6d6"
    ]
    alphabet = list("abcdefghe  .,'<>") + WORDS + OTHER
    alphabet += ["\u2581", "<sep>", "C++", "\n", "\u3000", "\U0001f642", "\u0436"]
    for _ in range(60):
        parts = [rng.choice(alphabet) + rng.choice(["", " ", " "])
                 for _ in range(rng.randint(1, 12))]
        result.append("".join(parts))
    return result


def train(name, **options):
    """In the current folder: the model would hold its name otherwise."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_prefix=name, num_threads=1, minloglevel=2,
        hard_vocab_limit=False, **options)
    (HERE / (name + ".model")).write_bytes(pathlib.Path(name + ".model").read_bytes())


# A few rules instead of the 240 KB of nmt_nfkc: from, to, as hexadecimal code points.
RULES = """9\t20
A\t20
D\t20
A0\t20
3000\t20
200B\t20
1\t
AD\t
FB01\t66 69
FB02\t66 6C
2460\t31
65 301\tE9
61 300\tE0
BD\t31 2044 32
FF48\t68
FF45\t65
FF4C\t6C
FF4F\t6F
FDFA\t635 20 646
"""


def make_models():
    rules = "rules.tsv"
    pathlib.Path(rules).write_text(RULES)
    train("unigram-bytes", model_type="unigram", vocab_size=520, byte_fallback=True,
          normalization_rule_tsv=rules, user_defined_symbols=["<sep>", "C++", "\ufb01\u0301"],
          control_symbols=["<mask>"], character_coverage=0.99, pad_id=3)
    train("unigram-plain", model_type="unigram", vocab_size=300,
          normalization_rule_name="identity", remove_extra_whitespaces=False,
          add_dummy_prefix=False, character_coverage=0.98)
    train("bpe", model_type="bpe", vocab_size=400, normalization_rule_tsv=rules,
          user_defined_symbols=["<sep>", "C++"], character_coverage=0.99, unk_surface="<?>")
    train("bpe-bytes", model_type="bpe", vocab_size=600, byte_fallback=True,
          normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
          allow_whitespace_only_pieces=True, character_coverage=0.99)


def json_unigram(model, exact, normalizer, pre_tokenizer, specials):
    sp = sentencepiece.SentencePieceProcessor(model_file=str(HERE / model))
    # Scores that no float holds, where `exact` is false.
    factor = 1.0 if exact else 1.0000000123456789
    vocab = [[sp.id_to_piece(i), sp.get_score(i) * factor] for i in range(sp.vocab_size())]
    added = [{"id": sp.piece_to_id(t), "content": t, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False, "special": True} for t in specials]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": None,
            "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always",
                        "split": True},
            "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab,
                      "byte_fallback": model == "unigram-bytes.model"}}


def precompiled(model):
    """The map of a model, in base64: field 2 of field 3 of the protobuf message."""
    import base64

    def varint(data, at):
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value, at

    def fields(data):
        at = 0
        while at < len(data):
            key, at = varint(data, at)
            if key & 7 == 0:
                value, at = varint(data, at)
            elif key & 7 == 5:
                value, at = data[at:at + 4], at + 4
            else:
                size, at = varint(data, at)
                value, at = data[at:at + size], at + size
            yield key >> 3, value

    for number, value in fields((HERE / model).read_bytes()):
        if number == 3:
            for inner, content in fields(value):
                if inner == 2:
                    return base64.b64encode(content).decode()
    raise ValueError(model)


def json_bpe(model):
    """A BPE file like those of Llama: a merge for each way to cut a piece in two pieces."""
    sp = sentencepiece.SentencePieceProcessor(model_file=str(HERE / model))
    vocab = {sp.id_to_piece(i): i for i in range(sp.vocab_size())}
    plain = [i for i in range(sp.vocab_size())
             if not (sp.is_control(i) or sp.is_unknown(i) or sp.is_byte(i))]
    known = {sp.id_to_piece(i) for i in plain}
    merges = []
    for i in sorted(plain, key=lambda i: -sp.get_score(i)):
        piece = sp.id_to_piece(i)
        merges += [[piece[:k], piece[k:]] for k in range(1, len(piece))
                   if piece[:k] in known and piece[k:] in known]
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, t in enumerate(["<unk>", "<s>", "</s>"])]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
            "pre_tokenizer": None, "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>",
                      "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                      "vocab": vocab, "merges": merges}}


def make_json():
    """Hugging Face files: what differs is named in the file's name."""
    meta = {"type": "Metaspace", "replacement": "\u2581", "split": True}
    charsmap = {"type": "Precompiled", "precompiled_charsmap": precompiled("unigram-bytes.model")}
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    made = {
        "hf-always.json": json_unigram(
            "unigram-bytes.model", True, {"type": "Sequence", "normalizers": [charsmap, spaces]},
            dict(meta, prepend_scheme="always"), ["<unk>", "<s>", "</s>", "<pad>", "<mask>"]),
        "hf-first.json": json_unigram(
            "unigram-bytes.model", False, {"type": "Sequence", "normalizers": [
                {"type": "Nmt"}, {"type": "NFKC"},
                {"type": "Strip", "strip_left": True, "strip_right": True}]},
            dict(meta, prepend_scheme="first"), ["<unk>", "<s>", "</s>", "<sep>"]),
        "hf-never.json": json_unigram(
            "unigram-plain.model", False, None, {"type": "Sequence", "pretokenizers": [
                {"type": "WhitespaceSplit"}, dict(meta, prepend_scheme="never", split=False)]},
            ["<unk>", "<s>", "</s>"]),
    }
    made["hf-bpe.json"] = json_bpe("bpe-bytes.model")
    for name, document in made.items():
        text = json.dumps(document, ensure_ascii=True, separators=(",", ":"))
        (HERE / name).write_text(text + "\n")
    return list(made)


NODE = """
const { Tokenizer } = require(process.argv[1] + '/node_modules/tokenizers');
const texts = JSON.parse(require('fs').readFileSync(0, 'utf8'));
(async () => {
  const t = Tokenizer.fromFile(process.argv[2]);
  const ids = [];
  for (const text of texts) ids.push((await t.encode(text)).getIds());
  console.log(JSON.stringify(ids));
})();
"""


def main():
    given = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    start = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_models()
        os.chdir(start)
    all_texts = texts()
    result = {"texts": all_texts, "models": {}}
    models = sorted(HERE.glob("*.model"))
    if given:
        models += sorted(given.glob("sentencepiece-test*.model"))
    for path in models:
        sp = sentencepiece.SentencePieceProcessor(model_file=str(path))
        ids = [sp.encode(t) for t in all_texts]
        result["models"][path.name] = {"ids": ids, "decoded": [sp.decode(i) for i in ids]}
    for name in make_json():
        command = ["node", "-e", NODE, os.environ["NODE_TOKENIZERS"], str(HERE / name)]
        run = subprocess.run(command, input=json.dumps(all_texts), capture_output=True, text=True,
                             check=True)
        result["models"][name] = {"ids": json.loads(run.stdout)}
    lines = ['{"texts": [']
    lines.append(",\n".join(json.dumps(t, ensure_ascii=True) for t in all_texts))
    lines.append('], "models": {')
    lines.append(",\n".join(f"{json.dumps(name)}: {json.dumps(made, separators=(',', ':'))}"
                            for name, made in result["models"].items()))
    lines.append("}}")
    (HERE / "vectors.json").write_text("\n".join(lines) + "\n")


main()
