"""Where a person chooses: what the page knows, and each control in a headless browser."""

import re
from dataclasses import replace

import numpy as np
import pytest
from browser_helpers import browser, needs_browser, opened, settled
from hypothesis import given
from hypothesis import strategies as st
from report_helpers import EVIL, hostile_report, many, noisy, report_of, usual_report, with_candidates, with_latency

from autodistil.costs.budget import Budget
from autodistil.report import choose
from autodistil.report.front import front_figure
from autodistil.report.page import page, write_html
from autodistil.report.rows import by_rank
from autodistil.space.files import load_space


@pytest.fixture(scope="module")
def usual():
    return usual_report()


# ---- what the browser gets to know


def test_the_first_choice_is_the_best_and_only_scored_students_can_be_chosen(usual):
    facts = choose.facts(usual)
    ids = usual.candidates["id"]
    assert ids[facts["order"][0]] == ids[facts["best"]] == usual.best
    assert set(facts["order"]) == set(usual.candidates.index[usual.candidates["loss"].notna()])
    assert set(facts["front"]) == set(usual.candidates.index[usual.candidates["pareto"]])


def test_refined_losses_reorder_the_choice_where_they_are_better(usual):
    second = by_rank(usual).index[1]
    refined = np.where(usual.candidates.index == second, 0.1, np.nan)
    facts = choose.facts(with_candidates(usual, usual.candidates.assign(refined_loss=refined)))
    assert facts["order"][0] == second
    assert facts["more"]["refined_loss"][second] == 0.1


def test_scores_decide_where_a_task_ranks(usual):
    scored = usual.candidates.loc[usual.candidates["loss"].notna(), "id"]
    tasked = report_of(load_space("minilm-l6-h384").candidates, tasked=list(scored[::3]))
    assert choose.facts(tasked)["order"] == by_rank(tasked).index.tolist()
    assert choose.facts(tasked)["measure"]["column"] == "score"


@given(st.lists(st.integers(1, 10**9), max_size=4))
def test_a_dial_starts_at_the_tightest_budget_of_its_cost(limits):
    budgets = tuple(Budget("flops", limit, None, str(limit)) for limit in limits)
    flops, params, _ = choose.dials(replace(report_of(many(1)), budgets=budgets))
    assert flops.limit == (min(limits) if limits else None)
    assert params.limit is None


def test_latencies_get_dials_of_their_own(usual):
    dial = choose.dials(with_latency(usual))[-1]
    assert (dial.column, dial.name, dial.unit, dial.limit) == ("ms@laptop", "Latency on laptop", "ms", None)
    assert len(choose.facts(with_latency(usual))["more"]["ms@laptop"]) == len(usual.candidates)


def test_the_command_is_cut_where_the_pick_stands(usual):
    assert choose.facts(usual)["command"] == ["autodistil export --run runs/x", "--to y"]
    assert choose.facts(hostile_report())["command"] is None


def test_nothing_is_chosen_where_nobody_was_scored():
    data = report_of(load_space("smoke").candidates, limit=1e5, training=False)
    body = page(data).split("<script>")[0]
    assert 'id="choose"' not in body
    assert 'id="comparison"' not in body


def test_points_look_the_same_whether_plotly_takes_them_for_selected(usual):
    for trace in choose.never_dimmed(front_figure(usual, "flops"))["data"]:
        if "marker" in trace:
            assert trace["unselected"]["marker"]["opacity"] == trace["marker"].get("opacity", 1)


def test_every_control_has_a_label_and_every_id_is_there_once(usual):
    html = page(with_latency(usual)).split("<script>")[0]
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    labelled = set(re.findall(r'<label for="([^"]+)"', html)) | set(
        re.findall(r'<label>[^<]*<(?:input|select)[^>]*\sid="([^"]+)"', html)
    )
    controls = set(re.findall(r'<(?:input|select)[^>]*\sid="([^"]+)"', html))
    assert controls == labelled != set()


# ---- in a browser


@pytest.fixture(scope="module")
def driver():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    kinds = {
        "usual": with_latency(usual_report()),
        "hostile": hostile_report(),
        "big": noisy(5000),
    }
    return {name: write_html(data, folder / f"{name}.html") for name, data in kinds.items()}


@pytest.fixture
def usual_page(driver, pages):
    yield opened(driver, pages["usual"])
    assert driver.get_log("browser") == []


def text(driver, name):
    settled(driver)
    return driver.execute_script("return document.getElementById(arguments[0]).textContent", name)


def chosen(driver):
    settled(driver)
    return driver.find_element("id", "pick-chosen").get_attribute("value")


def slide(driver, number, share):
    """Move a slider to a share of its way, as a pointer does."""
    driver.execute_script(
        "const dial = document.getElementById(`dial-${arguments[0]}`);"
        "dial.value = Math.floor(dial.max * arguments[1]);"
        "dial.dispatchEvent(new Event('input', { bubbles: true }));",
        number,
        share,
    )


def best_of(data, rows):
    scored = data.candidates[rows & data.candidates["loss"].notna()]
    return scored.loc[scored["loss"].idxmin(), "id"]


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(("number", "column"), list(enumerate(["flops", "params", "size_mb", "ms@laptop"])))
def test_each_slider_finds_the_best_student_within_it(usual_page, usual, number, column):
    data = with_latency(usual)
    slide(usual_page, number, 0.5)
    costs = np.unique(data.candidates.loc[data.candidates["loss"].notna(), column])
    best = best_of(data, data.candidates[column] <= costs[(len(costs) - 1) // 2])
    assert chosen(usual_page) == best != data.best
    assert text(usual_page, "choice").startswith(f"{best} is the best within the limits: loss ")
    assert text(usual_page, "export-command") == f"autodistil export --run runs/x --pick {best} --to y"
    assert usual_page.find_element("id", f"dial-{number}").get_attribute("aria-valuetext").startswith("at most ")


@needs_browser
@pytest.mark.slow
def test_sliders_hold_together_and_go_back_to_the_budgets(usual_page, usual):
    slide(usual_page, 0, 0.7)
    slide(usual_page, 1, 0.0)
    cheapest = usual.candidates.loc[usual.candidates["loss"].notna(), "params"].min()
    assert chosen(usual_page) == best_of(usual, usual.candidates["params"] <= cheapest)
    usual_page.find_element("id", "reset").click()
    assert chosen(usual_page) == usual.best
    assert "--pick best" in text(usual_page, "export-command")


@needs_browser
@pytest.mark.slow
def test_a_slider_moves_by_keys_student_by_student(usual_page, usual):
    usual_page.find_element("id", "dial-0").send_keys("\ue012")  # arrow to the left
    flops = np.unique(usual.candidates.loc[usual.candidates["loss"].notna(), "flops"])
    assert chosen(usual_page) == best_of(usual, usual.candidates["flops"] <= flops[-2])


@needs_browser
@pytest.mark.slow
def test_tab_goes_through_the_controls_in_order(usual_page):
    order = []
    usual_page.execute_script("document.getElementById('dial-0').focus()")
    for _ in range(11):
        order.append(usual_page.execute_script("return document.activeElement.id"))
        usual_page.switch_to.active_element.send_keys("\ue004")  # tab
    dials = [f"dial-{i}" for i in range(4)]
    assert order == [*dials, "brush-cost", "brush-from", "brush-to", "reset", "pick-chosen", "pick-held", "hold"]


@needs_browser
@pytest.mark.slow
def test_a_typed_brush_narrows_the_choice_and_is_cleared(usual_page, usual):
    usual_page.find_element("id", "brush-from").send_keys("100")
    usual_page.find_element("id", "brush-to").send_keys("200")
    assert chosen(usual_page) == best_of(usual, usual.candidates["flops"].between(1e8, 2e8))
    assert "and the brush" in text(usual_page, "choice")
    assert len(usual_page.find_elements("css selector", ".marks .brush-box")) == 1
    usual_page.find_element("id", "brush-clear").click()
    assert chosen(usual_page) == usual.best
    assert usual_page.find_elements("css selector", ".marks .brush-box") == []


@needs_browser
@pytest.mark.slow
def test_a_dragged_brush_chooses_the_best_inside(usual_page, usual):
    from selenium.webdriver import ActionChains

    plot = usual_page.find_element("css selector", '[data-figure="flops"]')
    usual_page.execute_script("arguments[0].scrollIntoView({ block: 'center' })", plot)
    mouse = ActionChains(usual_page).move_to_element_with_offset(plot, -250, -190)
    mouse.click_and_hold().move_by_offset(150, 150).move_by_offset(100, 150).release().perform()
    low, high = (
        float(usual_page.find_element("id", f"brush-{end}").get_attribute("value")) * 1e6 for end in ("from", "to")
    )
    assert low < high
    assert chosen(usual_page) == best_of(usual, usual.candidates["flops"].between(low * 0.999, high * 1.001))
    assert chosen(usual_page) != usual.best


@needs_browser
@pytest.mark.slow
def test_names_in_the_table_and_typed_names_choose(usual_page, usual):
    other = usual.candidates.loc[usual.candidates["pareto"], "id"].iloc[0]
    usual_page.execute_script(
        "[...document.querySelectorAll('.pick')].find((it) => it.textContent === arguments[0]).click()", other
    )
    assert chosen(usual_page) == other
    assert "is your choice" in text(usual_page, "choice")
    field = usual_page.find_element("id", "pick-chosen")
    field.clear()
    field.send_keys("no such student\ue007")
    assert field.get_attribute("aria-invalid") == "true"
    field.clear()
    field.send_keys(usual.best + "\ue007")
    assert chosen(usual_page) == usual.best
    assert len(usual_page.find_elements("css selector", "#pick-names option")) <= 20


@needs_browser
@pytest.mark.slow
def test_a_clicked_point_is_chosen(usual_page, usual):
    from selenium.webdriver import ActionChains

    knee = usual_page.find_element("css selector", '[data-figure="flops"] .marks .held')
    usual_page.execute_script("arguments[0].scrollIntoView({ block: 'center' })", knee)
    ActionChains(usual_page).move_to_element(knee).click().perform()
    flops = usual.candidates.set_index("id")["flops"]
    assert flops[chosen(usual_page)] == pytest.approx(flops[usual.knee], rel=0.05)  # students lie on one another


@needs_browser
@pytest.mark.slow
def test_two_students_stand_side_by_side(usual_page, usual):
    rows = {
        cells[0].text: [cell.text for cell in cells[1:]]
        for line in usual_page.find_elements("css selector", "#comparison tbody tr")
        if (cells := line.find_elements("css selector", "th, td"))
    }
    table = usual.candidates.set_index("id")
    best, knee = table.loc[usual.best], table.loc[usual.knee]
    assert rows["Layers"][:2] == [str(best["num_layers"]), str(knee["num_layers"])]
    assert rows["Held-out loss"][2] == f"−{knee['loss'] - best['loss']:.4f}"
    assert "% of teacher" in rows["FLOPs"][0]
    for name, row in (("chosen", best), ("held", knee)):
        cells = usual_page.find_elements("css selector", f"#sketch-{name} .heads")
        assert len(cells) == row["num_layers"] * row["num_heads"]
    usual_page.find_element("id", "hold").click()
    settled(usual_page)
    assert usual_page.find_element("id", "pick-held").get_attribute("value") == usual.best


@needs_browser
@pytest.mark.slow
def test_copy_takes_the_command_of_the_choice(usual_page, usual):
    slide(usual_page, 0, 0.4)
    settled(usual_page)
    usual_page.execute_script(
        "Object.defineProperty(navigator, 'clipboard', { configurable: true, value: "
        "{ writeText: (words) => { window.copied = words; return Promise.resolve(); } } })"
    )
    usual_page.find_element("css selector", "[data-copy]").click()
    settled(usual_page)
    assert usual_page.execute_script("return window.copied") == text(usual_page, "export-command")
    assert chosen(usual_page) in text(usual_page, "export-command")


@needs_browser
@pytest.mark.slow
def test_an_empty_brush_says_so_and_offers_no_command(usual_page):
    usual_page.find_element("id", "brush-from").send_keys("999999")
    assert text(usual_page, "choice").startswith("No scored student is that cheap")
    assert text(usual_page, "export-command") == ""
    assert not usual_page.find_element("css selector", "[data-copy]").is_enabled()


@needs_browser
@pytest.mark.slow
def test_the_dark_scheme_keeps_the_choice_and_recolours_the_figures(usual_page):
    slide(usual_page, 0, 0.4)
    before = chosen(usual_page)
    ink = "return getComputedStyle(document.querySelector('[data-figure=\"flops\"] .xtick text')).fill"
    light = usual_page.execute_script(ink)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    usual_page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    settled(usual_page)
    assert chosen(usual_page) == before
    assert usual_page.execute_script(ink) != light
    assert len(usual_page.find_elements("css selector", '[data-figure="flops"] .marks .chosen')) == 1
    usual_page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@needs_browser
@pytest.mark.slow
def test_a_narrow_screen_scrolls_one_way_only(usual_page):
    from selenium.webdriver.support.ui import WebDriverWait

    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    usual_page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    width = "return document.documentElement.scrollWidth"
    WebDriverWait(usual_page, 60).until(lambda page: page.execute_script(width) <= 360)
    usual_page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@needs_browser
@pytest.mark.slow
def test_hostile_names_are_shown_as_text_wherever_they_are_chosen(driver, pages):
    opened(driver, pages["hostile"])
    assert chosen(driver) == EVIL
    assert text(driver, "choice").startswith(EVIL)
    assert EVIL in text(driver, "sketch-chosen")
    assert text(driver, "export-command") == EVIL
    slide(driver, 0, 0.5)
    assert chosen(driver) != EVIL
    assert driver.execute_script("return document.images.length + document.querySelectorAll('script').length") == 3
    assert driver.get_log("browser") == []


_MOVE = """
const [share, done] = arguments;
let changes = 0;
const watch = new MutationObserver((list) => { changes += list.length; });
watch.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
const dial = document.getElementById("dial-0");
dial.value = Math.floor(dial.max * share);
dial.dispatchEvent(new Event("input", { bubbles: true }));
requestAnimationFrame(() => requestAnimationFrame(() => { watch.disconnect(); done(changes); }));
"""


@needs_browser
@pytest.mark.slow
def test_with_thousands_of_students_a_move_touches_few_elements(driver, pages):
    opened(driver, pages["big"])
    assert len(driver.find_elements("css selector", '[data-figure="flops"] .point')) >= 5000
    before = chosen(driver)
    changes = [driver.execute_async_script(_MOVE, share) for share in (0.8, 0.5, 0.2)]
    assert max(changes) < 30
    assert chosen(driver) != before
    nodes = driver.execute_script("return document.querySelectorAll('*').length")
    driver.execute_async_script(_MOVE, 0.9)
    assert abs(driver.execute_script("return document.querySelectorAll('*').length") - nodes) < 2000
    assert driver.execute_script("return document.getElementById('pick-names').childElementCount") <= 20
    assert driver.get_log("browser") == []
