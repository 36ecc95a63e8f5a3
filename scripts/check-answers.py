#!/usr/bin/env python3
"""Answers of a busy server are those that it gives alone.

Asks each of some questions alone, then lets many clients ask them at once for a while, half of them
streaming and some hanging up in the middle. Exit status 1 where an answer is missing, an error, or
another one. Needs nothing but Python.

    python3 scripts/check-answers.py [--url http://127.0.0.1:8000] [--clients 64] [--seconds 120]
"""

import argparse
import http.client
import json
import random
import sys
import threading
import time
import urllib.parse


def questions(count):
    """Of different lengths, some greedy and some sampled with a seed."""
    draw = random.Random(7)
    asked = []
    for i in range(count):
        words = " ".join(draw.choice(["the", "a", "work", "may", "you", "copy", "of", "this"])
                         for _ in range(draw.randint(1, 120)))
        asked.append(dict(prompt=words, max_tokens=draw.randint(1, 48),
                          temperature=draw.choice([0, 0.8]), seed=i))
    return asked


class Client:
    def __init__(self, url, model):
        self.host = urllib.parse.urlparse(url).netloc
        self.model = model

    def post(self, question):
        connection = http.client.HTTPConnection(self.host, timeout=300)
        connection.request("POST", "/v1/completions", json.dumps(dict(question, model=self.model)),
                           {"Content-Type": "application/json"})
        return connection, connection.getresponse()

    def ask(self, question):
        connection, response = self.post(question)
        body = json.loads(response.read())
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {body}")
        return body["choices"][0]["text"]

    def ask_streaming(self, question, hang_up_after=None):
        connection, response = self.post(dict(question, stream=True))
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {response.read()}")
        text, pieces = "", 0
        for line in response:
            if not line.startswith(b"data: "):
                continue
            if line.strip() == b"data: [DONE]":
                break
            piece = json.loads(line[6:])
            if "error" in piece:
                raise RuntimeError(str(piece))
            for choice in piece["choices"]:
                text += choice["text"]
            pieces += 1
            if hang_up_after is not None and pieces > hang_up_after:
                text = None
                break
        connection.close()
        return text


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", default="http://127.0.0.1:8000")
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--seconds", type=float, default=120)
    options.add_argument("--questions", type=int, default=48)
    o = options.parse_args()

    connection = http.client.HTTPConnection(urllib.parse.urlparse(o.url).netloc, timeout=60)
    connection.request("GET", "/v1/models")
    client = Client(o.url, json.loads(connection.getresponse().read())["data"][0]["id"])
    asked = questions(o.questions)
    alone = [client.ask(question) for question in asked]

    counts = dict(answers=0, hung_up=0)
    wrong = []
    lock = threading.Lock()
    until = time.monotonic() + o.seconds

    def work(number):
        draw = random.Random(number)
        while time.monotonic() < until:
            which = draw.randrange(len(asked))
            try:
                if number % 2 == 0:
                    answer = client.ask(asked[which])
                else:
                    answer = client.ask_streaming(
                        asked[which], draw.randint(0, 5) if draw.random() < 0.1 else None)
            except Exception as error:  # whatever it is: the answer is missing
                answer = error
            with lock:
                if answer is None:
                    counts["hung_up"] += 1
                    continue
                counts["answers"] += 1
                if answer != alone[which]:
                    wrong.append((asked[which], alone[which], answer))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(o.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for question, expected, answer in wrong[:3]:
        print(f"asked {question}\n  alone {expected!r}\n  here  {answer!r}", file=sys.stderr)
    print(f"{counts['answers']} answers to {o.clients} clients in {o.seconds:.0f} s, "
          f"{counts['hung_up']} hung up; {len(wrong)} not as alone")
    sys.exit(1 if wrong or not counts["answers"] else 0)


if __name__ == "__main__":
    main()
