#!/usr/bin/env python3
"""Tries the status page of a running server in headless Chromium.

Reads the figures, sends a prompt and holds the answer against the API's, stops a long one, and looks
at what the page loads. Needs Debian's chromium-driver and python3-selenium.

    tests/serve/status_page.py [URL] [--screenshot FILE]
"""

import argparse
import json
import urllib.request

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

DEADLINE_SECONDS = 60


def browser():
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1100,1500"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)


class Page:
    def __init__(self, driver, url):
        self.driver = driver
        driver.get(url)

    def element(self, name):
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        return self.element(name).text

    def wait(self, what, condition):
        WebDriverWait(self.driver, DEADLINE_SECONDS).until(lambda _: condition(), what)

    def figures(self):
        tiles = self.driver.find_elements(By.CSS_SELECTOR, "#tiles div")
        return {tile.find_element(By.TAG_NAME, "dt").text: tile.find_element(By.TAG_NAME, "dd").text
                for tile in tiles}

    def send(self, prompt, tokens, temperature):
        for name, value in (("prompt", prompt), ("tokens", tokens), ("temperature", temperature)):
            self.element(name).clear()
            self.element(name).send_keys(str(value))
        self.element("send").click()


def number(figure):
    return int(figure.split("\n")[0].replace(",", ""))


def get(url):
    with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as response:
        return json.load(response)


def complete(url, model, prompt, tokens):
    body = dict(model=model, prompt=prompt, max_tokens=tokens, temperature=0)
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return get(request)["choices"][0]["text"]


def check(page, url):
    status = get(url + "/status")
    page.wait("the page says that it serves", lambda: page.text("state") == "serving")
    assert page.text("model") == status["model"], page.text("model")
    assert f"{status['ranks']} ranks" in page.text("what"), page.text("what")

    prompt = "You may copy"
    page.send(prompt, 24, 0)
    page.wait("an answer", lambda: page.text("send") == "Send" and page.text("answer"))
    expected = complete(url, status["model"], prompt, 24)
    shown = page.driver.execute_script("return document.getElementById('answer').textContent")
    assert shown == expected, (shown, expected)

    served = get(url + "/status")["requests"]
    page.wait("the figures follow", lambda: number(page.figures()["Requests"]) >= served)
    figures = page.figures()
    assert figures["First token"][0].isdigit() and figures["Each later token"][0].isdigit(), figures
    ranks = page.driver.find_elements(By.CSS_SELECTOR, "#timeline .rank")
    assert len(ranks) == status["ranks"], len(ranks)
    cells = page.driver.find_elements(By.CSS_SELECTOR, "#experts i")
    assert len(cells) == status["layers"] * status["experts"], len(cells)

    page.send(prompt, 100000, 1)
    page.wait("an error of the server is told", lambda: page.text("told"))

    page.send(prompt, min(400, status["context_tokens"] // 2), 1)
    page.wait("a long answer begins", lambda: page.text("answer"))
    if page.text("send") == "Stop":
        page.element("send").click()
    page.wait("it ends", lambda: page.text("send") == "Send")
    page.wait("nothing runs any more", lambda: get(url + "/status")["running"] == 0)

    loaded = page.driver.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)")
    outside = [name for name in loaded if not name.startswith(url)]
    assert not outside, outside
    errors = [entry for entry in page.driver.get_log("browser")
              if entry["level"] == "SEVERE" and "/v1/completions" not in entry["message"]]
    assert not errors, errors
    return figures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--screenshot")
    options = parser.parse_args()
    driver = browser()
    try:
        page = Page(driver, options.url)
        for name, value in check(page, options.url.rstrip("/")).items():
            print(f"{name}: {value}".replace("\n", ", "))
        if options.screenshot:
            driver.save_screenshot(options.screenshot)
    finally:
        driver.quit()
    print("the page shows what the server says")


if __name__ == "__main__":
    main()
