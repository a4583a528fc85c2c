"""The builder: a sequence is drawn, changed in place, activated and watched on one picture."""

from playwright.sync_api import expect

from sequences import enrolling, tree_nodes, trees
from sequences.models import Sequence, Source
from tests.factories import SequenceFactory, TagFactory


def stored(sequence):
    """The draft's steps by place: what kind each is."""
    draft = Sequence.objects.get(pk=sequence.pk).draft
    return {step.place: step.node.kind.value for step in tree_nodes.flatten(trees.parse(draft))}


def gap(window, words):
    """The + on the line there."""
    return window.page.locator("details.k-gap > summary", has_text=f"Add a step {words}")


def add(window, words, kind):
    gap(window, words).click()
    window.page.locator("details.k-gap[open]").get_by_role("link", name=kind).click()
    expect(window.page.locator(".k-editor form :focus")).to_be_visible()


def saved(window, place):
    """Wait until the form has gone and the step of that place has the focus."""
    expect(window.page.locator(".k-editor form")).to_have_count(0)
    expect(window.page.locator(".k-step:focus small")).to_contain_text(f"Step {place} ·")


def add_message(window, words, place, template="season_greetings"):
    add(window, words, "Message")
    chosen = window.page.get_by_label("Template", exact=False)
    chosen.select_option(label=f"{template} (en_US) · marketing")
    expect(window.page.locator(".k-editor .k-bubble")).to_be_visible()
    window.click("Add the step")
    saved(window, place)


def looks_right(window):
    window.page.mouse.move(0, 0)  # what the mouse is over, or is just leaving, has paler colors
    window.page.wait_for_function("() => document.getAnimations().every(one => one.playState !== 'running')")
    window.fits()
    window.is_accessible()


def test_a_sequence_is_drawn_changed_in_place_activated_and_watched(open_window, product):
    shop = product.shop("Flow store")
    TagFactory(organization=shop.organization, name="vip")
    people = shop.people("newsletter", ["Asha", "Ravi"])
    sequence = SequenceFactory(organization=shop.organization, phone_number=shop.number, name="Welcome")
    user = shop.member()
    window = open_window(user)
    page = window.page
    address = f"/admin/sequences/sequence/{sequence.pk}/change/"

    window.go(address)
    add_message(window, "at the end", "1")
    add(window, "at the end", "Delay")
    page.locator("#id_span_0").fill("99999")
    window.click("Add the step")
    expect(page.locator(".k-editor .k-error")).to_have_text("Give a number from 1 to 36,525 days.")
    expect(page.locator("#id_span_0")).to_be_focused()
    looks_right(window)
    page.locator("#id_span_0").fill("1")
    window.click("Add the step")
    saved(window, "2")
    add(window, "at the end", "Condition")
    page.get_by_label("Does the contact have this tag?").select_option(label="vip")
    window.click("Add the step")
    saved(window, "3")
    add(window, "at the end of the Yes path of step 3", "Delay")
    window.click("Add the step")
    saved(window, "3 yes 1")
    add(window, "at the end of the No path of step 3", "Delay")
    page.locator("#id_span_0").fill("2")
    window.click("Add the step")
    saved(window, "3 no 1")
    assert page.url.endswith(address)  # all on one page
    assert stored(sequence) == {
        "1": "message",
        "2": "delay",
        "3": "condition",
        "3 yes 1": "delay",
        "3 no 1": "delay",
    }

    yes, no = (page.locator(f".k-arm-{way}").bounding_box() for way in ("yes", "no"))
    assert (yes["y"], yes["x"] + yes["width"] <= no["x"] + 1) == (no["y"], True)  # side by side

    window.click("Edit step 2")
    page.locator("#id_span_0").fill("3")
    page.once("dialog", lambda dialog: dialog.accept())
    page.keyboard.press("Escape")
    expect(page.locator(".k-editor form")).to_have_count(0)
    expect(page.get_by_label("Edit step 2", exact=True)).to_be_focused()
    assert Sequence.objects.get(pk=sequence.pk).draft[1]["delay"] == {"days": 1}
    window.click("Edit step 2")
    page.locator("#id_span_0").fill("4")
    window.click("Save the step")
    saved(window, "2")
    window.says("Wait 4 days", within=".k-step:focus")

    page.locator("summary", has_text="Move, copy or delete step 2").click()
    looks_right(window)
    window.click("Into No of step 3")
    saved(window, "2 no 1")
    page.locator("summary", has_text="Move, copy or delete step 2 no 1").click()
    window.click("Move step 2 no 1 up")
    saved(window, "2")
    assert Sequence.objects.get(pk=sequence.pk).draft[1]["delay"] == {"days": 4}

    window.click("Activate …")
    window.click("Activate it")
    window.says("is active")
    sequence.refresh_from_db()
    window.go(address)
    expect(page.locator(".k-at-step").first).to_have_text("0 people yet", use_inner_text=True)
    window.click("Edit step 3 yes 1")
    typed = page.locator("#id_span_0")
    typed.fill("7")
    enrolling.enroll(sequence, [one.pk for one in people], source=Source.API, now=sequence.first_activated_at)
    first = page.locator(".k-step", has_text="Step 1 ·")
    expect(first).to_contain_text("2 passed")
    expect(first).to_contain_text("2 sent")
    expect(page.locator("#standing")).to_contain_text("2Inside")
    expect(typed).to_be_focused()  # the numbers come, and what is being typed stays
    expect(typed).to_have_value("7")
    window.click("Save the step")
    saved(window, "3 yes 1")
    window.says("Changed, not published yet", within=".k-step:focus")
    window.says("unpublished changes", within="#builder")
    looks_right(window)
    for other in (open_window(user, dark=True), open_window(user, phone=True)):
        other.go(address)
        looks_right(other)
        other.click("Edit step 1")
        expect(other.page.locator(".k-editor .k-bubble")).to_be_visible()
        looks_right(other)
    assert product.received("season_greetings", people) == {"Asha": 1, "Ravi": 1}


def test_steps_are_added_moved_and_deleted_by_keyboard_alone(open_window, product):
    shop = product.shop("Typing store")
    TagFactory(organization=shop.organization, name="vip")
    sequence = SequenceFactory(organization=shop.organization, phone_number=shop.number, name="Typed")
    window = open_window(shop.member())
    keys = window.page.keyboard

    def add_by_keys(words, kind, place, *, choose=""):
        window.tab_to(f"details.k-gap > summary:has-text('Add a step {words}')")
        keys.press("Enter")
        window.tab_to(f"details.k-gap[open] a:has-text('{kind}')")
        keys.press("Enter")
        expect(window.page.locator(".k-editor form :focus")).to_be_visible()
        if choose:
            window.tab_to(".k-editor select:visible >> nth=0")
            keys.type(choose)
            expect(window.page.locator(".k-editor select option:checked").first).to_contain_text(choose)
        window.tab_to(".k-editor button[name=_save]")
        keys.press("Enter")
        saved(window, place)

    window.go(f"/admin/sequences/sequence/{sequence.pk}/change/")
    add_by_keys("at the end", "Delay", "1")
    window.tab_to("details.k-gap > summary:has-text('before step 1')")
    keys.press("Enter")
    keys.press("Escape")  # closes it again
    assert window.page.locator("details.k-gap[open]").count() == 0
    window.tab_to("#main a:has-text('Edit')")
    keys.press("Enter")
    expect(window.page.locator(".k-editor form :focus")).to_be_visible()
    window.tab_to("#id_span_0")
    keys.type("5")
    keys.press("Enter")
    saved(window, "1")
    window.says("Wait 5 days", within=".k-step:focus")
    window.tab_to("summary:has-text('Move, copy or delete step 1')")
    keys.press("Enter")
    window.tab_to("button:text-is('Copy')")
    keys.press("Enter")
    saved(window, "1")
    assert stored(sequence) == {"1": "delay", "2": "delay"}
    window.tab_to("summary:has-text('Move, copy or delete step 2')")
    keys.press("Enter")
    window.tab_to("button[aria-label='Move step 2 up']")
    keys.press("Enter")
    saved(window, "1")
    window.tab_to("summary:has-text('Move, copy or delete step 2')")
    keys.press("Enter")
    window.tab_to("button[aria-label='Delete step 2']")
    keys.press("Enter")
    saved(window, "1")
    assert stored(sequence) == {"1": "delay"}

    add_by_keys("before step 1", "Message", "1", choose="season_greetings")
    add_by_keys("at the end", "Condition", "3", choose="vip")
    window.tab_to("summary:has-text('Move, copy or delete step 2')")
    keys.press("Enter")
    window.tab_to("a[aria-label='Move step 2 to another place']")
    keys.press("Enter")
    expect(window.page.locator(".k-step-moves")).to_be_focused()
    window.tab_to("button[aria-label='Put it at the end of the No path of step 3']")
    keys.press("Enter")
    saved(window, "2 no 1")
    assert stored(sequence) == {"1": "message", "2": "condition", "2 no 1": "delay"}
