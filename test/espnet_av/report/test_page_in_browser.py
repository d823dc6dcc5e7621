# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Reports in a real browser: players play when they are clicked, no network is asked, nothing complains."""

import shutil

import pytest
from headless_browser import Browser, find_browser

from espnet_av.report.compare_page import write_comparison
from espnet_av.report.page import ReportOptions, write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium: apt-get install chromium"),
]
PLACE = """(() => {{
  const player = document.querySelectorAll("audio, video")[{0}];
  player.scrollIntoView({{block: "center", behavior: "instant"}});
  const box = player.getBoundingClientRect();
  return [box.left, box.top, box.width, box.height, player.tagName, player.duration];
}})()"""
STATE = """(() => {{
  const player = document.querySelectorAll("audio, video")[{0}];
  return [player.paused && !player.ended, player.currentTime, player.error && player.error.message];
}})()"""


@pytest.fixture
def browser(tmp_path):
    with Browser(tmp_path / "profile") as started:
        yield started


def play(browser, number):
    """Click a player's own button and wait until it has played a little."""
    left, top, width, height, tag, duration = browser.run(PLACE.format(number))
    assert duration > 0 and width > 50, (number, tag, duration, width)
    browser.wait(0.2)
    if tag == "AUDIO":  # the button stands at the left end of the controls
        browser.click(left + min(20, width / 8), top + height / 2)
    else:  # a click into the picture of small videos toggles them
        browser.click(left + width / 2, top + height / 3)
    browser.until(f"(() => {{ const [paused, at] = {STATE.format(number)}; return at > 0.01; }})()", seconds=60)
    assert browser.run(STATE.format(number))[2] is None


def check_page(browser, path, num_players):
    browser.open(path)
    count = browser.run("document.querySelectorAll('audio, video').length")
    assert count == num_players
    browser.until("Array.from(document.querySelectorAll('audio, video')).every(p => p.readyState > 0)", seconds=120)
    for number in range(count):
        play(browser, number)
    playing = "Array.from(document.querySelectorAll('audio, video')).filter(p => !p.paused && !p.ended).length"
    assert browser.run(playing) <= 1  # one at a time
    broken = "Array.from(document.images).filter(i => i.complete && !i.naturalWidth).map(i => i.alt)"
    assert browser.run(broken) == []
    for width in (1280, 400):
        browser.resize(width, 900)
        browser.wait(0.3)
        assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.problems == [] and browser.requests == []


def test_separation(separated, browser, tmp_path):
    options = ReportOptions(num_typical=1, num_worst=0)
    path = write_report(separated.exp_dir, separated.dump_dir, tmp_path / "page.html", options)
    players = path.read_text().count("<audio ") + path.read_text().count("<video ")
    assert players > 6
    check_page(browser, path, players)


def test_recognition_and_its_tables(experiment, browser, tmp_path):
    path = write_report(experiment.exp_dir, experiment.dump_dir, tmp_path / "page.html", ReportOptions(alignment=False))
    text = path.read_text()
    check_page(browser, path, text.count("<audio ") + text.count("<video "))
    browser.resize(1280, 900)
    rows = "Array.from(document.querySelector('table.sortable').tBodies[0].rows).map(r => r.cells[0].textContent)"
    before = browser.run(rows)
    for _ in range(2):  # a click into the heading sorts, another one the other way
        box = browser.run(
            "(() => { const b = document.querySelector('table.sortable th button'); "
            "b.scrollIntoView({block: 'center', behavior: 'instant'}); const r = b.getBoundingClientRect(); "
            "return [r.left + 5, r.top + r.height / 2]; })()"
        )
        browser.click(*box)
    assert browser.run(rows) == sorted(before, reverse=True)


def test_comparison(separated, browser, tmp_path):
    other = tmp_path / "other" / "exp"
    shutil.copytree(separated.exp_dir, other)
    separated.write_config(seed=18)
    write_comparison([separated.exp_dir, other], tmp_path / "both.html")
    check_page(browser, tmp_path / "both.html", 0)
    assert "Likeliest cause: seed" in browser.run("document.body.textContent")


def test_the_browser_notices_errors_and_requests(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('oh'); nothing();</script>")
    browser.open(page)
    browser.wait(0.5)
    assert browser.requests == ["http://127.0.0.1:9/x.png"] and len(browser.problems) >= 2
