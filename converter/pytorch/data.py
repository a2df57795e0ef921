"""Text files to token streams.

A corpus is one or more text files (plain or .xz).  Documents end with a line `<|endoftext|>`; the text of a document
keeps the newline before that line, the newline after it belongs to nothing.
"""
import concurrent.futures
import json
import lzma
import os

import numpy as np

SEPARATOR = "<|endoftext|>"
# The pre-tokenizer of GPT-2: contractions, words, numbers, punctuation, white space.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def read_text(path):
    with (lzma.open(path, "rb") if path.endswith(".xz") else open(path, "rb")) as f:
        return f.read().decode("utf-8")


def split_documents(text):
    """Documents of one file; text after the last separator is a document too."""
    docs, lines = [], []
    for line in text.splitlines(keepends=True):
        if line.rstrip("\n") == SEPARATOR:
            docs.append("".join(lines))
            lines = []
        else:
            lines.append(line)
    docs.append("".join(lines))
    return [d for d in docs if d]


def read_documents(paths):
    with concurrent.futures.ThreadPoolExecutor() as pool:       # lzma lets go of the interpreter lock
        return [d for text in pool.map(read_text, paths) for d in split_documents(text)]


def train_tokenizer(docs, vocab_size, path):
    """Byte-level BPE: any text can be encoded, so there is no unknown token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(docs, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[SEPARATOR], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    tok.save(path)


class BytePairTokenizer:
    """Small reader of tokenizer.json (byte-level BPE), for machines without the `tokenizers` package."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            spec = json.load(f)
        self.vocab = spec["model"]["vocab"]
        merges = (m.split(" ") if isinstance(m, str) else m for m in spec["model"]["merges"])
        self.rank = {tuple(m): i for i, m in enumerate(merges)}
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        rest = [b for b in range(256) if b not in plain]
        self.letter = {b: chr(b) for b in plain}
        self.letter.update({b: chr(256 + i) for i, b in enumerate(rest)})
        byte = {c: b for b, c in self.letter.items()}
        special = {t["content"]: t["id"] for t in spec["added_tokens"]}
        self.eot = special[SEPARATOR]
        self.bytes_of = {i: bytes(byte[c] for c in piece) for piece, i in self.vocab.items() if piece not in special}
        self.bytes_of[self.eot] = SEPARATOR.encode()
        self.cache = {}
        import regex
        self.pattern = regex.compile(PATTERN)

    def word(self, text):
        if text not in self.cache:
            parts = [self.letter[b] for b in text.encode("utf-8")]
            while len(parts) > 1:
                rank, i = min((self.rank.get(pair, 1 << 30), i) for i, pair in enumerate(zip(parts, parts[1:])))
                if rank == 1 << 30:
                    break
                parts[i:i + 2] = [parts[i] + parts[i + 1]]
            self.cache[text] = [self.vocab[p] for p in parts]
        return self.cache[text]

    def encode(self, text):
        return [i for piece in self.pattern.findall(text) for i in self.word(piece)]

    def decode(self, ids):
        return b"".join(self.bytes_of[int(i)] for i in ids).decode("utf-8", errors="replace")


class ByteTokenizer:
    """The 256 bytes plus the separator: for tests and tiny models."""
    eot = 256

    def encode(self, text):
        return list(text.encode("utf-8"))

    def decode(self, ids):
        return bytes(int(i) for i in ids if i < 256).decode("utf-8", errors="replace")


def encode_all(tokenizer_path, docs):
    """Token ids (uint16) of each document and the separator's id."""
    if tokenizer_path is None:
        return [np.array(ByteTokenizer().encode(d), dtype=np.uint16) for d in docs], ByteTokenizer.eot
    try:
        from tokenizers import Tokenizer
    except ImportError:
        tok = BytePairTokenizer(tokenizer_path)
        return [np.array(tok.encode(d), dtype=np.uint16) for d in docs], tok.eot
    tok = Tokenizer.from_file(tokenizer_path)
    # Long documents are cut for the thread pool where the pre-tokenizer cuts as well: after a newline that stands
    # alone between visible characters.  (Longer white space is split differently when more text follows.)
    pieces, owner = [], []
    for n, d in enumerate(docs):
        start = 0
        while start < len(d):
            end = d.find("\n", start + 50000) + 1
            while end and end < len(d) and (d[end].isspace() or d[end - 2].isspace()):
                end = d.find("\n", end) + 1
            end = end or len(d)
            pieces.append(d[start:end])
            owner.append(n)
            start = end
    ids = [[] for _ in docs]
    for n, e in zip(owner, tok.encode_batch(pieces)):
        ids[n].append(np.array(e.ids, dtype=np.uint16))
    return [np.concatenate(x) for x in ids], tok.token_to_id(SEPARATOR)


class StreamLoader:
    """Batches for truncated backpropagation through time.

    Each of `batch` rows reads one document after another, window by window, so that the state carried from batch to
    batch is the state of the text before.  A document always starts at a window's start (its last window is padded),
    which keeps "forget everything" a matter of whole rows.  Documents are drawn in a new order every epoch.
    Long documents start at a random place near their beginning in half of the draws, so that windows fall
    differently each time, and a row forgets on purpose now and then (`forget`), so that reading from an empty
    state is practised as well.
    """

    def __init__(self, ids, eot, batch, length, seed, forget=0.0):
        # [eot] doc [eot] doc [eot] ...: document i is the inputs start[i] ... start[i] + count[i] - 1.
        self.flat = np.concatenate([[np.uint16(eot)]] + [np.append(d, np.uint16(eot)) for d in ids]).astype(np.uint16)
        self.count = np.array([len(d) + 1 for d in ids])
        self.start = np.concatenate([[0], np.cumsum(self.count)[:-1]])
        self.batch, self.length, self.forget = batch, length, forget
        self.rng = np.random.default_rng(seed)
        self.queue, self.tokens = [], 0
        self.at, self.left, self.fresh = (np.zeros(batch, dtype=np.int64) for _ in range(3))

    def next_document(self, row):
        if not self.queue:
            self.queue = self.rng.permutation(len(self.count)).tolist()
        doc = self.queue.pop()
        skip = 0
        if self.count[doc] > 4 * self.length and self.rng.random() < 0.5:
            skip = int(self.rng.integers(self.length))
        self.at[row], self.left[row], self.fresh[row] = self.start[doc] + skip, self.count[doc] - skip, 1

    def next(self):
        """(first input of each row, valid tokens of each row, rows that start from an empty state)."""
        self.fresh[:] = self.rng.random(self.batch) < self.forget
        for row in np.nonzero(self.left <= 0)[0]:
            self.next_document(row)
        at, valid, fresh = self.at.copy(), np.minimum(self.left, self.length), self.fresh.astype(bool)
        self.at += valid
        self.left -= valid
        self.tokens += int(valid.sum())
        return at, valid, fresh

    def state_dict(self):
        return {"rng": self.rng.bit_generator.state, "queue": list(self.queue), "tokens": self.tokens,
                "at": self.at.copy(), "left": self.left.copy()}

    def load_state_dict(self, s):
        self.rng.bit_generator.state = s["rng"]
        self.queue, self.tokens = list(s["queue"]), s["tokens"]
        self.at, self.left = s["at"].copy(), s["left"].copy()


def load_corpus(paths, tokenizer_path, cache):
    """Ids of all documents, encoded once and kept in `cache` (an .npz file) if that is given."""
    if cache and os.path.exists(cache):
        z = np.load(cache)
        return np.split(z["ids"], np.cumsum(z["count"])[:-1]), int(z["eot"]), int(z["bytes"])
    docs = read_documents(paths)
    ids, eot = encode_all(tokenizer_path, docs)
    size = sum(len(d.encode("utf-8")) for d in docs)
    if cache:
        part = f"{cache}.{os.getpid()}.npz"                 # two runs may fill the same cache at once
        np.savez(part, ids=np.concatenate(ids), count=np.array([len(d) for d in ids]), eot=eot, bytes=size)
        os.replace(part, cache)
    return ids, eot, size
