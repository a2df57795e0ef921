"""Expressions of the ListOps task of Long Range Arena, made by its published rules.

    python listops.py --count 2000 --seed 20261125 > listops-test.jsonl

One JSON object a line: "text", the expression in words, and "label", its value.  The same count and seed give the
same file with every version of Python.  The rules: an argument is an operator with probability 1/4 above depth 10,
else a digit; an operator has 2 to 10 arguments; of all expressions those of 501 to 1999 words are kept, brackets
counted as one word each.  MED is the median rounded down, SM the sum modulo 10.
"""
import argparse
import json
import random

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
WORDS = tuple("0123456789") + OPERATORS + ("X",)        # ids 4 ...; X stands for the closing bracket
SPECIAL = ("unk", "pad", "bos", "eos")                  # ids 0 ... 3
FIRST, PAD, CLOSE = len(SPECIAL), 1, len(WORDS) - 1     # PAD is an id, CLOSE an index of WORDS
OPERATOR_CHANCE, MAX_DEPTH, MAX_ARGUMENTS = 0.25, 10, 10
SHORTEST, LONGEST = 501, 1999


def apply(operator, values):
    if operator == 0:
        return min(values)
    if operator == 1:
        return max(values)
    if operator == 3:
        return sum(values) % 10
    ordered, n = sorted(values), len(values)
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) // 2


class TooLong(Exception):
    pass


def operation(draw, depth, words, values):
    """Appends one operator with its arguments to `words` (indices of WORDS), and to `values` what each word stands
    for: a digit itself, an operator and its closing bracket the value between them.  Returns that value."""
    start = len(words)
    words.append(10)
    values.append(0)
    count = 2 + int(draw() * (MAX_ARGUMENTS - 1))
    arguments = []
    for _ in range(count):
        if depth + 1 < MAX_DEPTH and draw() <= OPERATOR_CHANCE:
            arguments.append(operation(draw, depth + 1, words, values))
        else:
            digit = int(draw() * 10)
            words.append(digit)
            values.append(digit)
            arguments.append(digit)
    if len(words) >= LONGEST:
        raise TooLong
    operator = int(draw() * len(OPERATORS))
    value = apply(operator, arguments)
    words[start] = 10 + operator
    words.append(CLOSE)
    values[start] = value
    values.append(value)
    return value


def expression(rng):
    """(words, values, result) of one expression of the wanted length."""
    while True:
        words, values = [], []
        try:
            result = operation(rng.random, 1, words, values)
        except TooLong:
            continue
        if SHORTEST <= len(words) <= LONGEST:
            return words, values, result


def tokenizer():
    """The tokenizer file of the folder form."""
    words = [*(f"<{name}>" for name in SPECIAL), *WORDS]
    return {"tokens": {word: i for i, word in enumerate(words)}, "special_tokens": {n: f"<{n}>" for n in SPECIAL}}


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("--count", type=int, default=2000)
    a.add_argument("--seed", type=int, required=True)
    a = a.parse_args()
    rng = random.Random(a.seed)
    for _ in range(a.count):
        words, _, result = expression(rng)
        text = " ".join("]" if w == CLOSE else WORDS[w] for w in words)
        print(json.dumps({"text": text, "label": str(result)}))


if __name__ == "__main__":
    main()
