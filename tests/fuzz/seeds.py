#!/usr/bin/env python3
"""Seeds of the fuzz targets, from the small files that the tests have: seeds.py FOLDER.

Writes FOLDER/TARGET/NUMBER. A target's first byte chooses what the rest is (see its source), so files
get the byte that means "the rest is the file as it is". Standard library only; the same files each time.
"""
import pathlib
import sys

DATA = pathlib.Path(__file__).resolve().parents[1] / "data"
MAX_BYTES = 4096

# target, bytes before the file, files
PLAIN = [
    ("config_fuzz", b"\0", "hf/*/config.json"),
    ("safetensors_fuzz", b"", "hf/*/config.json"),
    ("safetensors_fuzz", b"", "hf/*/*.safetensors"),
    ("safetensors_fuzz", b"", "*.npy"),
    ("torch_fuzz", b"\0", "checkpoints/torch/**/*.pt"),
    ("tokenizer_fuzz", b"\1", "hf/*/tokenizer.json"),
    ("sentencepiece_fuzz", b"", "tokenizers/sentencepiece/*.model"),
    ("ocdbt_fuzz", b"\2", "checkpoints/orbax/**/.zarray"),
    ("text_input_fuzz", b"\0", "*.json"),
]
# What the targets change by themselves, byte for byte, needs only the choice of what to change.
CHOICES = {
    "capi_fuzz": [bytes([kind, 0, 3, 65, 66, 67, 0, 0, 0]) * 6 + bytes([call, 0, 0, 0, 1]) * 8
                  for kind in (0, 2) for call in range(14)],
    "capi_chat_fuzz": [bytes([1, 5, 72, 105, 33, 10, 79, 1, 0, change, 0, 0, 0]) * 6
                       for change in range(8)],
    "dense_fuzz": [bytes([a, b]) * 40 for a in (0, 1, 7) for b in (3, 90, 200)],
    "kernels_fuzz": [bytes([kernel]) + bytes(range(60)) * 3 for kernel in range(10)],
    "loader_fuzz": [bytes([128 + model]) + bytes([9, 1, 0, 4, 1]) * 3 for model in range(5)],
    "session_fuzz": [bytes([choice]) + bytes([16, 0, 0, 1]) * 2
                     for first in (0, 64, 128, 136, 144, 152) for choice in range(first, first + 6)],
    "ocdbt_fuzz": [bytes([5, 0, 40, 1])],
    "torch_fuzz": [bytes([128, 0, 40, 1])],
    "msgpack_fuzz": [bytes([128, 0, 12, 1]), b"\0\x81\xa1a\xc4\x01x"],
    "text_input_fuzz": [b"\1a,b\n1,2\n3.5,-4e3\n", b"\2x\n1,2\n", b'\0{"values": [1, 2]}'],
    "tokenizer_fuzz": [b"\0[^\\r\\n\\p{L}]?\\p{L}+|\\s+(?!\\S)\0some text", b"\2 aaaa \xc3\xa9 \xff"],
    "image_fuzz": [b"\3\3\x89PNG\r\n\x1a\n", b"\3\3P5 4 4 255 0123456789abcdef"],
    "config_fuzz": [b"\x80\4a", b"\x81\4a", b"\0hidden_dim: 16\nnheads: 2\n"],
    "sentencepiece_fuzz": [b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\2"],
}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    seeds = {name: list(contents) for name, contents in CHOICES.items()}
    for target, before, pattern in PLAIN:
        for path in sorted(DATA.glob(pattern)):
            if path.is_file() and path.stat().st_size <= MAX_BYTES:
                seeds.setdefault(target, []).append(before + path.read_bytes())
    for target, contents in seeds.items():
        folder = pathlib.Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            (folder / f"{number:03}").write_bytes(content)


if __name__ == "__main__":
    main()
