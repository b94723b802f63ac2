"""The explorer on a phone and on a projector, light and dark."""

import pytest
from explorer_reader import CHAPTERS, click, element, show, wait_until

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("chapter", CHAPTERS)
@pytest.mark.parametrize("width", [390, 1400])
def test_no_chapter_is_wider_than_the_screen_and_every_button_can_be_touched(page, chapter, width):
    try:
        phone = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        show(page, chapter, tick=10)
        assert (
            page.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
            == 0
        )
        sizes = page.execute_script(
            "return [...document.querySelectorAll('button')].filter(b => b.offsetParent).map(b => b.offsetHeight)"
        )
        assert min(sizes) >= 34
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_on_a_phone_the_chosen_cell_is_told_inside_the_window(page):
    try:
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        show(page, 2, tick=10)
        page.execute_script("choose('chain', 'u2', 9)")
        box = page.execute_script("return document.getElementById('cell').getBoundingClientRect().toJSON()")
        assert box["top"] >= 0 and box["bottom"] <= 844.5
        click(page, "#cell .close")
        assert not element(page, "#cell").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_theme_follows_the_system_a_button_turns_it_and_the_page_around_a_frame_sets_it(page):
    background = "return getComputedStyle(document.body).backgroundColor"
    light = page.execute_script(background)
    click(page, "#theme")
    dark = page.execute_script(background)
    assert light == "rgb(255, 255, 255)" and dark != light
    dark_system = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.refresh()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark_system)
    assert page.execute_script(background) == dark
    page.execute_script("postMessage({scheme: 'light'}, '*')")
    wait_until(lambda: page.execute_script(background) == light)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def contrast(one, other):
    """The contrast of two colours as WCAG 2 defines it; level AA asks for 4.5."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def test_every_number_reads_on_the_colour_of_its_frame(page):
    for pair in page.execute_script("return FRAME_COLOURS"):
        assert contrast(*pair) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_lines_read_on_their_background(page, scheme):
    names = [
        "--ink",
        "--muted",
        "--line-1",
        "--line-2",
        "--line-3",
        "--bad",
        "--good",
        "--accent",
        "--paper",
        "--panel",
    ]
    colours = page.execute_script(
        "const root = document.documentElement, style = getComputedStyle(root); root.dataset.theme = arguments[0];"
        "return arguments[1].map(name => style.getPropertyValue(name).trim())",
        scheme, names,
    )  # fmt: skip
    *texts, paper, panel = colours
    for colour, background in ((colour, background) for colour in texts for background in (paper, panel)):
        assert contrast(colour, background) >= 4.5, (colour, background)
