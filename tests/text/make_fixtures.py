#!/usr/bin/env python3
"""Writes tests/text/fixtures: small tokenizers in the configurations of the field, and what the
tokenizers package makes of texts with them.

    python3 -m venv venv && venv/bin/pip install tokenizers jinja2
    venv/bin/python tests/text/make_fixtures.py
"""
import json
import pathlib
import random

import varied_text
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
CORPUS = varied_text.varied(250_000, seed=11)
VARIED = varied_text.varied(90_000, seed=23).replace("\x1e", "")
SEPARATOR = "\x1e"  # between the sections of varied.txt

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
DEEPSEEK = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
            "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")


def special(*contents):
    return [AddedToken(content, special=True, normalized=False) for content in contents]


def train(tokenizer, size, specials, alphabet):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=alphabet,
                                  limit_alphabet=400, show_progress=False)
    tokenizer.train_from_iterator(CORPUS.split("\n\n"), trainer)


def byte_level(pre_tokenizer, specials, size=1200, normalizer=None, specials_first=False, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, size, specials if specials_first else [], pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_special_tokens(specials)
    return tokenizer


def split(*patterns):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns] +
                                   [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def gpt2():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), special("<|endoftext|>"))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def llama3():
    tokenizer = byte_level(split(LLAMA3), special("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
                           ignore_merges=True)
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A $B",
                                      special_tokens=[("<|begin_of_text|>", begin)])])
    return tokenizer


def qwen2():
    tokenizer = byte_level(split(QWEN2), special("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
                           normalizer=normalizers.NFC())
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def deepseek():
    specials = special("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>")
    tokenizer = byte_level(split(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK), specials, specials_first=True,
                           normalizer=normalizers.Sequence([]))
    tokenizer.add_tokens([AddedToken("<｜User｜>", normalized=False), AddedToken("<｜Assistant｜>", normalized=False)])
    begin = tokenizer.token_to_id("<｜begin▁of▁sentence｜>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<｜begin▁of▁sentence｜> $A", pair="$A $B", special_tokens=[("<｜begin▁of▁sentence｜>", begin)])
    return tokenizer


def sentencepiece(metaspace):
    """Llama 2 and Mixtral: a normalizer in older files, Metaspace in newer ones."""
    specials = special("<unk>", "<s>", "</s>")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    train(tokenizer, 1200 - 256, specials, ["▁"])
    state = json.loads(tokenizer.to_str())
    # Byte tokens stand behind the special ones, as SentencePiece has them.
    order = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    order += [t for t, _ in sorted(state["model"]["vocab"].items(), key=lambda item: item[1]) if t not in order]
    state["model"]["vocab"] = {token: id for id, token in enumerate(order)}
    state["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def case(tokenizer, text):
    ids = tokenizer.encode(text).ids
    return {"text": text, "ids": ids, "ids_plain": tokenizer.encode(text, add_special_tokens=False).ids,
            "decoded": tokenizer.decode(ids), "decoded_all": tokenizer.decode(ids, skip_special_tokens=False)}


def fnv1a(ids):
    value = 0xCBF29CE484222325
    for id in ids:
        for byte in id.to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def texts():
    random_ = random.Random(5)
    fixed = ["", " ", "  ", "\n", "a", " a", "a ", "▁", "▁▁a ▁b", "Hello, world!", "  two  spaces  ", "\t\ttabs\n\n\nlines\r\n",
             "x" * 100, " " * 77 + "end", "\n" * 33, "1234567", "I'll I'LL I'ſ", "<s>a</s><unk>b<s>",
             "<|endoftext|><|im_start|>user\nhi<|im_end|>", "<｜User｜>hi<｜Assistant｜>", "a<think>b</think> c",
             "\x00\x01\x7f", "\ufffd\ufffd", "\U0010ffff\ue000", "e\u0301\u0323 Å\u030a", " \U0001fa75\U0001fae8 \U00031350\U0001f6dc.", "<0xE4><0xB8><0xAD> <0xFF>x"]
    return fixed + [varied_text.varied(40, seed) for seed in range(30)] + [
        "".join(varied_text.odd_bit(random_) for _ in range(3))[:120] for _ in range(20)]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf8")


def decodings(tokenizer):
    """Tokens in any order, as a model may choose them: broken characters among them."""
    random_ = random.Random(9)
    size = tokenizer.get_vocab_size()
    out = []
    for n in [1, 2, 3, 5, 8, 13, 40] * 6:
        ids = [random_.randrange(size if random_.random() < 0.5 else min(size, 300)) for _ in range(n)]
        out.append({"ids": ids, "decoded": tokenizer.decode(ids),
                    "decoded_all": tokenizer.decode(ids, skip_special_tokens=False)})
    return out


def write_tokenizer(name, tokenizer, sections):
    state = json.loads(tokenizer.to_str())
    if name in ("gpt2", "deepseek", "mixtral"):  # how older versions wrote merges
        state["model"]["merges"] = [" ".join(pair) for pair in state["model"]["merges"]]
    write(FIXTURES / name / "tokenizer.json", state)
    hashes = [[len(ids), fnv1a(ids)] for ids in (tokenizer.encode(s, add_special_tokens=False).ids for s in sections)]
    write(FIXTURES / name / "expected.json", {"cases": [case(tokenizer, text) for text in texts()],
                                              "decodings": decodings(tokenizer), "sections": hashes})


def variants(base):
    """Every other component, in place of those of the GPT-2 or Metaspace one."""
    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    pre = [pre_tokenizers.Split(p, b, invert=i) for p in (Regex(r"\s|\d+"), "a") for b in behaviors for i in (False, True)]
    pre += [pre_tokenizers.Digits(True), pre_tokenizers.Digits(False), pre_tokenizers.Whitespace(),
            pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(), pre_tokenizers.Split(Regex(r"a*"), "isolated"),
            pre_tokenizers.Metaspace("_", "never", True), pre_tokenizers.Metaspace("▁", "first", True)]
    pre += [pre_tokenizers.Punctuation(b) for b in behaviors]
    pre += [pre_tokenizers.Split(Regex(p), "isolated") for p in
            (r"[^\r\n]+$", r"^\w+|\W", r"(?<=a)b|[\w\s]{2,}?x|.", r"(?>a+)b|\d{,2}x|\x{61}\u0062|[\d\-\]]++", "(?i)THE|é")]
    pre = [pre_tokenizers.Sequence([p, pre_tokenizers.ByteLevel(add_prefix_space=n % 3 == 0, use_regex=n % 4 == 0)])
           for n, p in enumerate(pre)]
    norm = [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase(),
            normalizers.Strip(), normalizers.Strip(left=True, right=False), normalizers.Prepend("xy "),
            normalizers.Replace(Regex(r"\s+"), " "), normalizers.Replace("th", "ß"),
            normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])]
    decode = [None, decoders.Metaspace(), decoders.Metaspace("Ġ", "never"), decoders.Replace("Ġ", " "),
              decoders.Sequence([decoders.Replace(Regex("Ġ+"), "_"), decoders.Fuse(), decoders.Strip("_", 2, 1)]),
              decoders.Sequence([decoders.Strip("Ġ", 1, 0), decoders.ByteFallback()]),
              decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])]
    added = [AddedToken("The", normalized=True), AddedToken("fox", single_word=True), AddedToken("<m>", lstrip=True),
             AddedToken("<r>", rstrip=True), AddedToken("<lr>", lstrip=True, rstrip=True, special=True),
             AddedToken("  ", normalized=False), AddedToken("<m><r>"), AddedToken("Å", normalized=True)]
    post = [processors.RobertaProcessing(("a", 1), ("b", 2)), processors.BertProcessing(("a", 1), ("b", 2)),
            processors.TemplateProcessing(single="x $A y z", pair="$A $B", special_tokens=[("x", 5), ("y", 6), ("z", 7)])]
    out = []
    add_variants(out, base, "pre_tokenizer", pre)
    add_variants(out, base, "normalizer", norm)
    add_variants(out, base, "decoder", decode)
    add_variants(out, base, "post_processor", post)
    for normalizer in (None, normalizers.Lowercase(), normalizers.NFD()):
        tokenizer = Tokenizer.from_str(base.to_str())
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.add_tokens(added)
        out.append(variant(tokenizer, ["normalizer", "added_tokens"]))
    return out


def add_variants(out, base, field, values):
    for value in values:
        tokenizer = Tokenizer.from_str(base.to_str())
        if value is None:
            state = json.loads(tokenizer.to_str())
            state[field] = None
            tokenizer = Tokenizer.from_str(json.dumps(state))
        else:
            setattr(tokenizer, field, value)
        out.append(variant(tokenizer, [field]))


def variant(tokenizer, fields):
    state = json.loads(tokenizer.to_str())
    samples = ["The quick the fox, foxes fox; ÅngstrÅm Å İSTANBUL ΣΟΦΟΣ 12a345\n6 \u2003x", "  <m>  <r>  fox<lr> <m><r>the aab  _b_▁ ",
               "don't ab3-4]5\r\n\nfoo_bar\u0301baz ½Ⅷ٣ ﬁ e\u0301  ", "a1 x22x THE thé\u00a0É\u180e—«q» $+^`|~ <0x41>"]
    return {"patch": {field: state[field] for field in fields}, "cases": [case(tokenizer, text) for text in samples]}


def main():
    sections = [VARIED[i:i + 1500] for i in range(0, len(VARIED), 1500)]
    FIXTURES.mkdir(exist_ok=True)
    (FIXTURES / "varied.txt").write_text(SEPARATOR.join(sections), encoding="utf8", newline="")
    made = {"gpt2": gpt2(), "llama3": llama3(), "qwen2": qwen2(), "deepseek": deepseek(),
            "mixtral": sentencepiece(False), "metaspace": sentencepiece(True)}
    for name, tokenizer in made.items():
        write_tokenizer(name, tokenizer, sections)
    write(FIXTURES / "variants.json", variants(made["gpt2"]))


if __name__ == "__main__":
    main()
