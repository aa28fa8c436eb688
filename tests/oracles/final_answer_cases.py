"""Writes tests/evaluation/fixtures/final_answers.json: the final answers of texts by regular expressions
and Python's Decimal and Fraction, and what lm-evaluation-harness's task gsm8k makes of the same
texts by its own expressions (lm_eval/tasks/gsm8k/gsm8k.yaml and its RegexFilter).

Run: .venv/bin/python tests/oracles/final_answer_cases.py
"""
import json
import pathlib
import random
import re
from decimal import Decimal, getcontext
from fractions import Fraction

OUT = pathlib.Path(__file__).parent.parent / "evaluation" / "fixtures" / "final_answers.json"
getcontext().prec = 2000
NUMBER = re.compile(r"""
    (?:(?<![0-9)])(?P<sign>[-+−])\$?)?
    (?: (?P<groups>[0-9]{1,3}(?:\.[0-9]{3}){2,}(?!\.?[0-9]))
      | (?<!/)(?P<over>(?!0+/)[0-9]{1,18})/(?P<under>(?!0+(?![0-9]))[0-9]{1,18})(?![0-9]|[/.,][0-9])
      | (?P<number>[0-9](?:[0-9]|,(?=[0-9]))*(?:\.[0-9]+)?)(?P<power>[eE][-+−]?[0-9]{1,3}(?!\w|\.[0-9]))?
      | (?P<point>(?:(?<=[-+−$])|(?<![\w.]))\.[0-9]+)(?P<power2>[eE][-+−]?[0-9]{1,3}(?!\w|\.[0-9]))?
    )""", re.VERBOSE)


def plain(match):
    sign = "-" if match["sign"] in ("-", "−") else ""
    if match["over"]:
        return sign + str(Fraction(int(match["over"]), int(match["under"])))
    body = match["groups"] or match["number"] or match["point"]
    body = body.replace(".", "") if match["groups"] else body.replace(",", "")
    power = (match["power"] or match["power2"] or "").replace("−", "-")
    text = format(Decimal(sign + body + power), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def final_answer(text):
    before, mark, after = text.partition("####")
    searched = after if mark else text
    matches = list(NUMBER.finditer(searched))
    if not matches:
        return searched.strip(" \t\r\n")
    return plain(matches[0] if mark else matches[-1])


def extract(expression, text, group):
    """RegexFilter.apply, then take_first."""
    found = re.findall(expression, text)
    if not found:
        return "[invalid]"
    match = found[group]
    if isinstance(match, tuple):
        match = [part for part in match if part][0]
    return match.strip()


def generated(text):
    """What the harness's generation is of this text: it ends at the task's `until`."""
    for stop in ("Question:", "</s>", "<|im_end|>"):
        text = text.split(stop)[0]
    return text


def strict(text):
    return extract(r"#### (\-?[0-9\.\,]+)", generated(text), 0)


def flexible(text):
    return extract(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", generated(text), -1)


def is_match(prediction, reference):
    """exact_match_hf_evaluate with the task's regexes_to_ignore and ignore_case."""
    for expression in (",", r"\$", r"(?s).*#### ", r"\.$"):
        prediction = re.sub(expression, "", prediction)
        reference = re.sub(expression, "", reference)
    return prediction.lower() == reference.lower()


TEXTS = [
    "The total is 18.\n#### 18", "#### 1,234", "#### -5 apples", "#### $12.50 and 3 more",
    "She has 3 and buys 4, so 7 in all.", "so 5\n\nQuestion: foo?\nAnswer: 4\n#### 5", "It costs $1,234.50.", "x = 10-4 = 6", "5-3",
    "answer: -0", "0007.500", "no number here", "  padded text \n", "#### none", "", "####",
    "a-12b", "(3)-4", "1,2,3", "3,000,000 and", "ends with 12.", "version 1.2.3", "-$7", "½ and 5",
    "first #### 3 then #### 4", "#### 72\nmore 99", "100%", "#### 50%", "#### ", "####5", "#### 5.",
    "The total is 72 clips, altogether.", "so 2 - 3 = -1", "it is 1/2", "The result is 3.14.",
    "#### 0.50", "about 1e3", "1e5", "#### −5", "temperature is −5", "#### +7", ".5", "-.5", "−.5",
    "#### 18\nQuestion: next one\nAnswer: ... #### 99", "#### 1.000.000", "x = 10-3",
    "\\boxed{42}", "#### 5 apples and 3 pears", "6/8 of it", "4/2", "-1/3", "−3/6", "1/0", "0/5",
    "on 10/3/2020", "3/4.5", "1/2/3", "24/7", "1.5e-3", "2.5E+2 m", "-1e2", "1e−2", "12e",
    "3e4f", "1e1000", "1e999", "7.e2", "0.000e5", "1.000.00", "12.345.678", "1234.567.890",
    "1.234.567.89", "1.000", "v1.2.3.4", "$-5", "US$ 3,50", "1,234,56", "£5", "5 − 3", "5−3",
    "So the answer is 42. Question: 2 + 2", "Answer: #### 12,\n", "#### 12.0", "#### 12.",
    "#### $1,200", "$.50", "...", "a, b.", "so 9.", "value -.", "costs $", "1 1/2", "3-", "--4",
    "+-4", "#### -$3", "#### Answer: 3", "##### 4", "#### #### 8", "He said 5</s> 6",
]


def random_texts(count):
    rng = random.Random(11)
    parts = list("0123456789.,-+/$eE %") + ["#### ", "####", "−", "\n", "Question:", "12", "1.000",
                                             "a", ". "]
    return ["".join(rng.choice(parts) for _ in range(rng.randint(1, 14))) for _ in range(count)]


def row(text):
    return {"text": text, "answer": final_answer(text), "strict": strict(text),
            "flexible": flexible(text)}


def pairs():
    references = ["48/2 = 24\n#### 72", "#### 1,200", "#### 0.5", "none", "#### 12."]
    return [{"extracted": extracted, "reference": reference,
             "match": is_match(extracted, reference)}
            for reference in references
            for extracted in ("72", "72.", "$72", "1200", "1,200.", "0.5", ".5", "[invalid]", "NONE",
                              "12", "12..", "")]


def main():
    OUT.write_text(json.dumps({"answers": [row(text) for text in TEXTS + random_texts(250)],
                               "pairs": pairs()}, indent=0, ensure_ascii=False) + "\n")
    print(OUT, OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
