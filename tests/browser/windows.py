"""A browser's window that keeps everything that went wrong in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, Response, expect

from tests.people import browser_of

GRAVE = ("serious", "critical")
KEYS = 120  # Tabs until something must have got the focus
HELD = "document.activeElement"


class Window:
    """One person's window. Its page is driven as any of Playwright's; `faults` must be empty in the end.

    A fault is an error in the console (what the Content-Security-Policy forbids is told there), an exception in a
    script, a request to another host, or an answer of 500 and above.
    """

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.address = address
        self.faults: list[str] = []
        self.refused: set[int] = set()  # statuses below 500 that the test wants to see
        self.page: Page = context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(f"{self.page.url} throws {error}"))
        self.page.on("request", self._follow)
        self.page.on("response", self._judge)

    def _hear(self, message: ConsoleMessage) -> None:
        answered = re.search(r"responded with a status of (\d+)", message.text)
        if message.type == "error" and not (answered and int(answered[1]) in self.refused):
            self.faults.append(f"{self.page.url} complains: {message.text} {message.location}")

    def _follow(self, request: Request) -> None:
        asked = urlsplit(request.url)
        if asked.scheme in ("http", "https", "ws", "wss") and asked.netloc != urlsplit(self.address).netloc:
            self.faults.append(f"{self.page.url} asks another host: {request.url}")

    def _judge(self, response: Response) -> None:
        if response.status >= 500:
            self.faults.append(f"{response.url} answers {response.status}")

    # --- going ---------------------------------------------------------------------------------------------------

    def sign_in(self, user: Any) -> None:
        """Be this person from the next page on, as the cookie of a session says."""
        cookie = browser_of(user).cookies["sessionid"].value
        self.page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": self.address}])

    def go(self, path: str) -> None:
        self.page.goto(self.address + path)

    def click(self, name: str, *, role: Any = None) -> None:
        """Click the one link or button of this name in the page's main part."""
        main = self.page.locator("#main")
        kinds = [role] if role else ["link", "button"]
        found = main.get_by_role(kinds[0], name=name, exact=True)
        for kind in kinds[1:]:
            found = found.or_(main.get_by_role(kind, name=name, exact=True))
        found.click()

    def choose_tag(self, field: str, tag: str) -> None:
        """Choose in one of the fields that search as one types."""
        self.page.locator(f"#{field} + .select2 .select2-search__field").click()
        self.page.locator(f"#{field} + .select2 .select2-search__field").fill(tag)
        self.page.get_by_role("option", name=tag, exact=True).click()

    def tab_to(self, selector: str) -> Locator:
        """Press Tab until the element has the focus; fails when the keyboard doesn't get there."""
        wanted = self.page.locator(selector)
        for _ in range(KEYS):
            if wanted.evaluate(f"element => element === {HELD}"):
                return wanted
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{selector} can't be reached with {KEYS} Tabs on {self.page.url}")

    # --- judging -------------------------------------------------------------------------------------------------

    def says(self, text: str, *, within: str = "body") -> None:
        """Wait until the text is shown."""
        expect(self.page.locator(within)).to_contain_text(text)

    def fits(self) -> None:
        """The page isn't wider than the window: nobody scrolls sideways to read."""
        beyond = self.page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if beyond > 0:
            self.faults.append(f"{self.page.url} is {beyond} px wider than its window")

    def is_accessible(self, *rules: str) -> None:
        """axe finds nothing serious or critical, by all of its rules or by these."""
        # Halfway through its fade a text has less contrast than it will have.
        options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
        found = Axe().run(self.page, options=options).response
        for rule in found["violations"]:
            if rule["impact"] in GRAVE:
                nodes = [
                    f"{node['html'][:160]} {node['any'][0]['message'] if node['any'] else ''}" for node in rule["nodes"]
                ]
                self.faults.append(f"{self.page.url}: {rule['id']}, {rule['help']}: {nodes[:3]} ({len(nodes)})")

    def keep_picture(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=file, full_page=True)
