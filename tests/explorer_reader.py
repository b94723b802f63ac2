"""A reader of the explorer's page: what the tests do with it, and see on it."""

import time

from selenium.webdriver.common.by import By

CHAPTERS = range(1, 9)
LIVE, LABORATORY = 7, 8


def element(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def text(page, selector):
    return element(page, selector).text


def click(page, selector):
    element(page, selector).click()


def cell(page, rule, unit, tick):
    return element(page, f"figure[data-rule={rule}] [data-unit={unit}][data-tick='{tick}']")


def show(page, chapter, **settings):
    """Open a chapter with other settings than those with which it begins."""
    page.execute_script("open(arguments[0], arguments[1])", chapter, settings)


def state(page):
    return page.execute_script("return state")


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
