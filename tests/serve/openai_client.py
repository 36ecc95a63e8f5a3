#!/usr/bin/env python3
"""Checks a running server with the openai package, which is what most clients are made with.

    tests/serve/openai_client.py URL MODEL      URL without /v1; TANDEM_API_KEY where it has a key
"""
import os
import sys

import openai

url, model = sys.argv[1], sys.argv[2]
client = openai.OpenAI(base_url=url + "/v1", api_key=os.environ.get("TANDEM_API_KEY", "none"),
                       max_retries=0, timeout=600)
checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"openai_client.py: {what}")


def refused(kind, what, **arguments):
    try:
        client.completions.create(**{"model": model, "prompt": "a", **arguments})
    except kind as error:
        check(error.body["message"], f"{what}: no message")
        return error
    sys.exit(f"openai_client.py: {what}: was not refused")


check(model in [entry.id for entry in client.models.list()], "the model is not in the list")
check(client.models.retrieve(model).id == model, "the model by its name")

fixed = {"model": model, "prompt": "Hello there", "max_tokens": 24, "seed": 3, "temperature": 0.8}
whole = client.completions.create(**fixed, n=2)
check(len(whole.choices) == 2, "n=2 gives two choices")
check(whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, "usage")
again = client.completions.create(**fixed, n=2)
check([c.text for c in again.choices] == [c.text for c in whole.choices], "a seed gives the same again")

text, usage = "", None
for chunk in client.completions.create(**fixed, stream=True, stream_options={"include_usage": True}):
    text += chunk.choices[0].text if chunk.choices else ""
    usage = chunk.usage or usage
check(text == whole.choices[0].text, "a stream adds up to the whole")
check(usage is not None and usage.completion_tokens <= 24, "a stream tells its usage")

logprobs = client.completions.create(**fixed, logprobs=2).choices[0].logprobs
check(len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs), "logprobs")
both = client.completions.create(**{**fixed, "prompt": ["Hello there", "a"]})
check(both.choices[0].text == whole.choices[0].text, "a list of prompts")
stop = client.completions.create(**{**fixed, "stop": [whole.choices[0].text[-2:]]})
check(stop.choices[0].finish_reason == "stop", "a stop text")

messages = [{"role": "user", "content": "Hello"}]
try:
    chat = client.chat.completions.create(model=model, messages=messages, max_completion_tokens=16,
                                          seed=1, logprobs=True, top_logprobs=2)
    check(chat.choices[0].message.role == "assistant", "a chat answers as assistant")
    check(chat.choices[0].logprobs.content[0].top_logprobs, "a chat's logprobs")
    text = ""
    for chunk in client.chat.completions.create(model=model, messages=messages, stream=True,
                                                max_completion_tokens=16, seed=1):
        text += chunk.choices[0].delta.content or ""
    check(text == chat.choices[0].message.content, "a chat's stream adds up to the whole")
except openai.BadRequestError as error:
    check(error.code == "no_chat_template", f"chat: {error}")
    print("the model has no chat template: chats are not checked")

check(refused(openai.NotFoundError, "an unknown model", model="nobody").code == "model_not_found", "code")
check(refused(openai.BadRequestError, "a temperature", temperature=-1).param == "temperature", "param")
check(refused(openai.BadRequestError, "a long answer", max_tokens=10**6).code ==
      "context_length_exceeded", "context")

# A stream that is let go, and the server still answers.
stream = client.completions.create(model=model, prompt="a", max_tokens=200, stream=True)
next(iter(stream))
stream.close()
check(client.completions.create(model=model, prompt="a", max_tokens=1).choices, "after a cancel")
print(f"{checks} checks passed")
