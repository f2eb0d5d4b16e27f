"""What a person sees: the report in a real Chromium, opened from disk."""

import base64
import json
import math
import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from bus import (
    AttemptInfo,
    DecisionApplied,
    MessageLogged,
    MetricsLogged,
    RunEnded,
    RunStarted,
    SystemMetricsLogged,
)
from runtime.report import write_report

pytestmark = pytest.mark.slow

START = 1_795_233_363.0
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --window-size=1200,1000"
)
HOSTILE = "<img src=x onerror='window.stolen=1'></script><script>window.stolen=1</script>"


@pytest.fixture
def driver(tmp_path):
    """A Chromium of its own that keeps its console and its network requests."""
    browser, helper = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or helper is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium and chromedriver must be installed where CI=true")
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(helper))
    try:
        yield started
    finally:
        started.quit()


@pytest.fixture
def report(record_run):
    """A run of two attempts, the second resumed at step 1000 of 2000, with hostile strings."""

    def logged(first, last, start):
        for step in range(first, last + 1):
            loss = math.exp(-step / 500) + (step % 7) / 50
            metrics = {"train/loss": loss, "lr": 1e-3 / step, HOSTILE: step}
            yield MetricsLogged(step=step, time=start + step / 10, metrics=metrics)

    first = [
        RunStarted(time=START, name=HOSTILE, run_id="r", attempt=1),
        *logged(1, 1500, START),
        MessageLogged(time=START, text=HOSTILE),
    ]
    second = [
        RunStarted(time=START + 200, name=HOSTILE, run_id="r", attempt=2, resumed_from_step=1000),
        *logged(1001, 2000, START + 100),
        *(SystemMetricsLogged(time=START + 200 + i, metrics={"cpu": i}) for i in range(100)),
        DecisionApplied(
            step=2000, time=START + 300, request={"type": "stop"}, by=HOSTILE, reason="enough"
        ),
        RunEnded(time=START + 301, outcome="stopped", reason="enough"),
    ]
    attempts = [
        AttemptInfo(number=1, pid=1, host="elsewhere", started=START),
        AttemptInfo(number=2, pid=2, host="elsewhere", started=START + 200, outcome="stopped"),
    ]
    return write_report(record_run(attempts, first, second, name=HOSTILE), points=200)


@pytest.fixture
def page(driver, report):
    """The opened report once its first plots are drawn."""
    driver.get(report.as_uri())
    wait_for(driver, lambda: len(driver.find_elements(By.CSS_SELECTOR, ".plot canvas")) >= 2)
    return driver


def wait_for(driver, condition):
    return WebDriverWait(driver, 20, poll_frequency=0.05).until(lambda _: condition())


def card(driver, metric):
    return driver.find_element(By.CSS_SELECTOR, f'.plot[data-metric="{metric}"]')


def window(driver, metric):
    element = card(driver, metric)
    return float(element.get_attribute("data-from")), float(element.get_attribute("data-to"))


def over(driver, metric):
    """The plotting area of a metric, scrolled to and drawn."""
    found = card(driver, metric)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    return wait_for(driver, lambda: found.find_elements(By.CSS_SELECTOR, ".u-over"))[0]


def box(driver, element):
    """A rectangle in pixels of the screenshot, whose scale is 1."""
    script = (
        "const r = arguments[0].getBoundingClientRect(); return [r.left, r.top, r.width, r.height]"
    )
    return driver.execute_script(script, element)


def drag(driver, element, start, end):
    """Draw the pressed mouse over an element, from one fraction of its width to another."""
    width = element.size["width"]
    actions = ActionChains(driver, duration=50).move_to_element(element)
    actions.move_by_offset(round((start - 0.5) * width), 0).click_and_hold()
    for _ in range(4):
        actions.move_by_offset(round((end - start) * width / 4), 0)
    actions.release().perform()


def press(driver, choice):
    driver.find_element(By.CSS_SELECTOR, f'[data-choice="{choice}"]').click()


def test_is_quiet_and_stays_at_home(page):
    """No console message, no request beyond the file itself, no hostile string executed."""
    page.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    wait_for(page, lambda: page.find_elements(By.CSS_SELECTOR, "footer"))

    assert page.get_log("browser") == []
    messages = (json.loads(entry["message"])["message"] for entry in page.get_log("performance"))
    requested = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
        and message["params"]["documentURL"] == page.current_url
    ]
    assert [url for url in requested if not url.startswith("data:")] == [page.current_url]
    assert page.execute_script("return window.stolen") is None
    assert page.find_element(By.TAG_NAME, "h1").text == HOSTILE
    assert page.title.startswith("<img src=x")
    assert not page.find_elements(By.TAG_NAME, "img")


def test_each_attempt_stands_as_a_line_in_the_picture(page, decode_png):
    """On the screen: full-height lines in the mark's colour at the steps of both attempts."""
    element = over(page, "train/loss")
    low, high = window(page, "train/loss")
    left, top, width, height = box(page, element)
    rows = decode_png(base64.b64decode(page.get_screenshot_as_base64()))

    colour = (0xD0, 0x00, 0xA8)
    inside = rows[math.ceil(top) : math.floor(top + height)]
    columns = range(math.floor(left) - 2, math.ceil(left + width) + 2)
    lit = [
        column
        for column in columns
        if sum(row[column] == colour for row in inside) > 0.9 * len(inside)
    ]

    expected = [left + (step - low) / (high - low) * width for step in (0, 1000)]
    assert lit == pytest.approx(expected, abs=1.5)


def test_dragging_zooms_every_plot_and_a_double_click_resets(page):
    """The window narrows to what was drawn over, with finer points, and comes back whole."""
    whole = window(page, "train/loss")
    coarse = int(card(page, "train/loss").get_attribute("data-points"))
    element = over(page, "train/loss")

    drag(page, element, 0.25, 0.5)
    wait_for(page, lambda: window(page, "train/loss") != whole)

    span = whole[1] - whole[0]
    quarter = (whole[0] + span / 4, whole[0] + span / 2)
    assert window(page, "train/loss") == pytest.approx(quarter, abs=span / 50)
    assert window(page, "lr") == window(page, "train/loss")
    wait_for(page, lambda: int(card(page, "train/loss").get_attribute("data-points")) > coarse / 2)

    ActionChains(page).double_click(element).perform()
    wait_for(page, lambda: window(page, "train/loss") == whole)


def test_a_finger_zooms_sideways(page):
    """On a phone, where there is no mouse, a sideways swipe over a plot narrows the window."""
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    whole = window(page, "train/loss")
    left, top, width, height = box(page, over(page, "train/loss"))
    fractions = (0.2, 0.4, 0.6, 0.8)

    for kind, at in (("touchStart", 0.2), *(("touchMove", at) for at in fractions)):
        finger = {"x": left + at * width, "y": top + height / 2}
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [finger]})
    page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    wait_for(page, lambda: window(page, "train/loss") != whole)
    low, high = window(page, "train/loss")
    assert high - low == pytest.approx(0.6 * (whole[1] - whole[0]), rel=0.05)


def test_the_axes_toggle(page):
    """Time instead of steps moves every plot to seconds; the logarithm leaves out a zero."""
    assert window(page, "train/loss")[1] == pytest.approx(2000, rel=0.02)

    press(page, "time")
    wait_for(page, lambda: window(page, "train/loss")[1] < 400)
    assert window(page, "train/loss")[1] == pytest.approx(300, rel=0.02)

    press(page, "log")
    over(page, "system/cpu")
    remark = "zero and negative values are not on the logarithmic axis"
    wait_for(page, lambda: remark in card(page, "system/cpu").text)
    pressed = page.find_elements(By.CSS_SELECTOR, '.switch [aria-pressed="true"]')
    assert [button.text for button in pressed] == ["Time", "Log"]
    assert page.get_log("browser") == []


def test_the_cursor_reads_values_and_explains_marks(page):
    """Pointing at attempt 2 shows values of both attempts and what the mark is."""
    element = over(page, "train/loss")
    low, high = window(page, "train/loss")
    width = element.size["width"]

    def point_at(step):
        offset = round(((step - low) / (high - low) - 0.5) * width)
        ActionChains(page).move_to_element_with_offset(element, offset, 0).perform()

    point_at(1000)
    tip = card(page, "train/loss").find_element(By.CSS_SELECTOR, ".tip")
    wait_for(page, tip.is_displayed)
    assert tip.text == "attempt 2: resumed from step 1,000"

    point_at(1300)
    readout = card(page, "train/loss").find_element(By.CSS_SELECTOR, ".readout")
    wait_for(page, lambda: "superseded" in readout.text)
    assert "attempt 2" in readout.text
    assert not tip.is_displayed()


def test_the_filter_leaves_matching_metrics(page):
    """Typing part of a name hides the others; nonsense says that nothing matches."""
    field = page.find_element(By.CSS_SELECTOR, "input[type=search]")

    def shown():
        cards = page.find_elements(By.CSS_SELECTOR, ".plot")
        return [each.get_attribute("data-metric") for each in cards if each.is_displayed()]

    field.send_keys("LOSS")
    assert shown() == ["train/loss"]
    field.send_keys("nonsense")
    assert shown() == []
    assert page.find_element(By.ID, "none-found").is_displayed()


@pytest.mark.parametrize("width", [390, 1200])
def test_fits_the_screen_light_and_dark(page, width):
    """Nothing sticks out sideways, and the colours follow the system while the page is open."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width

    seen = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        seen.append(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert seen == ["rgb(246, 246, 244)", "rgb(16, 18, 22)"]
    assert page.get_log("browser") == []


def test_a_run_without_anything_says_so(driver, record_run):
    """An empty run has a page with sentences, not an empty screen."""
    driver.get(write_report(record_run([], [])).as_uri())

    text = driver.find_element(By.TAG_NAME, "body").text
    assert "No metrics were logged." in text
    assert "No messages were logged." in text
    assert "No attempt left a trace." in text
    assert driver.get_log("browser") == []
