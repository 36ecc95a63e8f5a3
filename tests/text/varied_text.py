"""Text of many kinds, the same for the same seed: what tokenizers are trained on and compared with."""
import random

SENTENCES = """
The quick brown fox jumps over the lazy dog, doesn't it? I'm sure they'll say we've seen IT'S 'REAL.
Mixture-of-experts models route each token to a few experts; attention stays dense.
It was the best of times, it was the worst of times, it was the age of wisdom...
Der Fluß fließt über die Straße; Äpfel, Öl und Übermut kosten 3,50 €.
L’été dernier, nous étions à l’hôtel « Étoile » — c’était déjà l'œuvre d'un naïf.
El niño comió piñas mañana por la mañana. ¿Qué pasó? ¡Nada!
Быстрая бурая лиса прыгает через ленивую собаку, и это было в 1917 году.
Η γρήγορη αλεπού πηδάει πάνω από το σκυλί. ΟΔΟΣ ΣΟΦΟΣ
混合专家模型将每个词元分配给少数专家。今天天气很好，我们去公园散步吧！价格是１２３元。
機械学習の分野では、トークン化は重要です。カタカナとひらがな、漢字を混ぜて書きます。
한국어 문장을 토큰으로 나누는 것은 쉽지 않다. 대한민국 서울특별시 2024년
نموذج خليط الخبراء يوجه كل رمز إلى عدد قليل من الخبراء. السعر ١٢٣٤ ريال، أليس كذلك؟
מודל שפה גדול מחלק את הטקסט לאסימונים. שָׁלוֹם עוֹלָם
हिन्दी में टोकन बनाना कठिन है। क्षत्रिय ज्ञान श्री १२३
ภาษาไทยไม่มีช่องว่างระหว่างคำ ๑๒๓
Tiếng Việt có nhiều dấu thanh: ắ ằ ẳ ẵ ặ, người, được.
İstanbul'da ılık bir gün; IĞDIR ığdır.
ქართული ანბანი და Հայերեն այբուբեն
👩‍👩‍👧‍👦 family, 👍🏽 thumbs, 🇩🇪🇯🇵 flags, ❤️‍🔥 heart, 🏳️‍🌈, 1️⃣ keycap, 😀😃😄
e\u0301 vs \u00e9, A\u030a vs \u00c5, \u1100\u1161\u11a8 vs \uac01, q\u0307\u0323 z\u0351\u0327\u0301\u0323 \u212b \ufb01 \u2460 \u00bd x\u00b2
𝒜𝓁𝑔𝑒𝒷𝓇𝒶: ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ∑ᵢ₌₁ⁿ i² ≈ n³⁄3
zero\u200bwidth\u200cnon\u200djoiner\ufeff bom\u00adsoft\u2060 \u180e mongolian \u2028line\u2029para\u0085next
def route(x, k=2):\\n    \\"\\"\\"Top-k.\\"\\"\\"\\n    return sorted(range(len(x)), key=lambda i: -x[i])[:k]  # O(n log n)
for (int i = 0; i < n; ++i) { if (a[i] != b[i]) return false; }\\n\\treturn true;\\n}
{"name": "tandem", "version": "0.1.0", "items": [1, 2.5e-3, null, true], "path": "C:\\\\\\\\Users\\\\\\\\x"}
<div class="a-b" id='c_d'><a href="https://example.org/?q=1&r=%20#top">link</a></div><!-- no -->
SELECT `id`, COUNT(*) FROM "t" WHERE x >= 10 AND y LIKE '%z%' GROUP BY 1;\\r\\n\\r\\n-- end
$ git commit -m 'x' && make -j2 || echo "failed: $?" >&2; ls ~/.cache/*.tmp | xargs -0 rm
3.14159265358979 1,000,000 0xDEADBEEF 2026-11-22T17:13:43Z +49 (0)30 1234567 192.168.0.1 ½ ⅷ ٣
"""

SPECIAL = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>",
           "<|eot_id|>", "<think>", "[INST]", "[/INST]", "<|", "|>", "<mask>", "<0x0A>", "<0xE2>", "▁", "Ġ"]


def sentences():
    lines = [line for line in SENTENCES.strip("\n").split("\n")]
    return [line.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t") for line in lines]


def odd_bit(random_):
    """Runs, lone characters and what else tokenizers stumble over."""
    kind = random_.randrange(10)
    if kind == 0:
        return random_.choice(" \n\t\r\u00a0\u3000\u2003") * random_.choice([1, 2, 3, 7, 30, 200])
    if kind == 1:
        return "".join(random_.choice(" \n\t\r") for _ in range(random_.randrange(1, 12)))
    if kind == 2:
        return "".join(random_.choice("0123456789٣५") for _ in range(random_.choice([1, 3, 4, 9, 80])))
    if kind == 3:
        return random_.choice("aZ_-=.,!?#*/あ。éж\u0301") * random_.choice([2, 5, 17, 64, 300])
    if kind == 4:
        return random_.choice(SPECIAL) + random_.choice(["", " ", "  ", "\n", "x"])
    if kind == 5:  # any assigned or unassigned character that is no surrogate
        code = random_.choice([random_.randrange(0x0, 0x250), random_.randrange(0x250, 0x3000),
                               random_.randrange(0x3000, 0xD800), random_.randrange(0xE000, 0x10000),
                               random_.randrange(0x1F000, 0x1FB00), random_.randrange(0x10000, 0x110000)])
        return chr(code) * random_.choice([1, 1, 1, 3])
    if kind == 6:
        return random_.choice(["'s", "'S", "'ll", "'LL", "'ve", "'re", "'d", "'t", "'m", "'ſ", "’s", "'x"])
    if kind == 7:
        return "".join(random_.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(random_.randrange(1, 9)))
    if kind == 8:
        return "".join(random_.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(random_.choice([3, 8, 40])))
    return random_.choice(["👩‍👩‍👧‍👦", "👍🏽", "e\u0301", "\u1100\u1161", "ﬃ", "Å", "\u0344", "ẛ̣", "\U0001f1e9\U0001f1ea"])


def varied(characters, seed):
    random_ = random.Random(seed)
    lines = sentences()
    words = [word for line in lines for word in line.split(" ") if word]
    out, size = [], 0
    while size < characters:
        kind = random_.randrange(10)
        if kind < 4:
            piece = random_.choice(lines)
        elif kind < 7:
            piece = " ".join(random_.choice(words) for _ in range(random_.randrange(1, 20)))
        else:
            piece = odd_bit(random_)
        piece += random_.choice(["", " ", " ", "\n", "\n\n"])
        out.append(piece)
        size += len(piece)
    return "".join(out)
