"""The page in a real browser: clicks, keys, and no request."""

import json

import pytest
from html_document import Document

pytestmark = pytest.mark.slow


def test_clicks_keys_and_no_request(browser, written):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def every(selector):
        return browser.find_elements(By.CSS_SELECTOR, selector)

    for kind in ("performance", "browser"):
        browser.get_log(kind)  # of other tests' pages
    browser.set_window_size(1200, 900)
    browser.get(written.as_uri())
    data = json.loads(Document(written.read_text()).all("script")[0]["text"])

    cell = every(".matrix td.wrong[data-cell]")[0]
    gallery = every(".gallery")[0]
    assert not gallery.is_displayed()
    cell.click()
    assert gallery.is_displayed()
    chosen = data["cells"][cell.get_attribute("data-cell")]
    files = [e.text for e in every(".gallery .file")]
    assert files == [data["images"][number][1] for number in chosen]
    assert all(browser.execute_script("return arguments[0].naturalWidth", image) for image in every(".gallery img"))
    names = data["names"]
    row, column = map(int, cell.get_attribute("data-cell").split(","))
    assert every(".gallery .title")[0].text.startswith(f"{names[row]} predicted {names[column]}: ")

    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert browser.switch_to.active_element == cell
    cell.send_keys(Keys.CONTROL, Keys.HOME)
    first = browser.switch_to.active_element
    assert first == every(".matrix tbody td")[0]
    first.send_keys(Keys.ARROW_DOWN)
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    second = browser.switch_to.active_element
    second.send_keys(Keys.ENTER)
    assert second.get_attribute("data-cell") == "1,1"
    assert len(every(".gallery .card")) == len(data["cells"]["1,1"])

    def column_of(place):
        return [float(e.get_attribute("data-value")) for e in every(f"#run0-classes tbody td:nth-child({place})")]

    recall = every("#run0-classes thead th")[2]
    before = column_of(3)
    button = recall.find_element(By.TAG_NAME, "button")
    button.click()
    assert recall.get_attribute("aria-sort") == "descending"
    assert column_of(3) == sorted(before, reverse=True)
    button.send_keys(Keys.ENTER)
    assert recall.get_attribute("aria-sort") == "ascending"
    assert column_of(3) == sorted(before)

    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in addresses if not url.startswith("data:")] == [written.as_uri()]
    assert browser.get_log("browser") == [], "no error, and nothing that the policy refuses"

    browser.set_window_size(500, 900)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_axe_finds_nothing(browser, written, axe):
    browser.set_window_size(1200, 900)
    browser.get(written.as_uri())
    browser.find_element("css selector", ".matrix td.wrong[data-cell]").click()  # which opens the gallery
    assert axe() == []
