"""Everything at Meta but sending: numbers, accounts, templates, media. Synchronous, one object per token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import requests

from kaanha.lib.backoff import exponential
from kaanha.whatsapp.cloud_api.answers import graph_error, parsed
from kaanha.whatsapp.cloud_api.errors import ErrorClass, Verdict, classify
from kaanha.whatsapp.cloud_api.text import clean

TIMEOUT = timedelta(seconds=30)
NO_END = timedelta(days=1)
NO_ANSWER = "no answer in time"
ANSWER_LIMIT = 32 * 2**20  # a page of a hundred templates has far less
TRIES = 3
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=0.5), timedelta(seconds=5)
PAGE = 100
PAGES_AT_MOST = 1000  # the cursors of a server that never ends
BUSY = (429, 500, 502, 503, 504)  # without an error of Meta's: a gateway in front of it

NUMBER_FIELDS = (
    "id,display_phone_number,verified_name,quality_rating,throughput,whatsapp_business_manager_messaging_limit,status"
)
ACCOUNT_FIELDS = "id,name,owner_business_info"
TEMPLATE_FIELDS = "id,name,language,status,category,parameter_format,components,quality_score,rejected_reason"


class GraphError(Exception):
    """Meta refuses, and says why."""

    def __init__(self, verdict: Verdict, *, http_status: int) -> None:
        super().__init__(f"{verdict.words} Meta says: {verdict.text}" if verdict.text else verdict.words)
        self.verdict = verdict
        self.http_status = http_status


class Unreachable(Exception):
    """No answer, or one that can't be read; what was asked for may have happened all the same."""


class ForeignAnswer(Exception):
    """An answer that isn't Meta's: a wrong address, a proxy, or a stand-in without this endpoint."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Graph:
    """Meta's management calls with one access token.

    Reading is tried three times where the trouble may pass; what changes something is asked for once. All raise
    GraphError, Unreachable or ForeignAnswer; Unreachable also once `at_most` is over, which is for all calls together.
    """

    def __init__(
        self,
        api_url: str,
        token: str,
        *,
        timeout: timedelta = TIMEOUT,
        at_most: timedelta = NO_END,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._timeout = timeout.total_seconds()
        self._until = time.monotonic() + at_most.total_seconds()
        self._pause = pause
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies, no .netrc
        self._session.headers.update({"Authorization": f"Bearer {token}", "Accept": "application/json"})

    def get_phone_number(self, phone_number_id: str) -> dict[str, Any]:
        return self._get(phone_number_id, fields=NUMBER_FIELDS)

    def phone_numbers(self, waba_id: str) -> list[dict[str, Any]]:
        """All numbers of an account."""
        return list(self._pages(f"{waba_id}/phone_numbers", fields=NUMBER_FIELDS))

    def account(self, waba_id: str) -> dict[str, Any]:
        """Id, name and, if the token may see it, `owner_business_info`: the portfolio."""
        try:
            return self._get(waba_id, fields=ACCOUNT_FIELDS)
        except GraphError as error:
            # The owner is a field that not every token may ask for.
            if error.verdict.error_class != ErrorClass.OURS:
                raise
            return self._get(waba_id, fields="id,name")

    def proven_account(self, waba_id: str, proof: str) -> dict[str, Any]:
        """Id and name; refused where `proof` wasn't made with the secret of the token's app ("Securing API calls")."""
        return self._get(waba_id, fields="id,name", appsecret_proof=proof)

    def token(self, token: str) -> dict[str, Any]:
        """What a token is and may do: is_valid, app_id, scopes."""
        found = self._get("debug_token", input_token=token).get("data")
        return found if isinstance(found, dict) else {}

    def subscribed_apps(self, waba_id: str) -> list[dict[str, Any]]:
        """The apps that receive the account's callbacks."""
        return list(self._pages(f"{waba_id}/subscribed_apps"))

    def templates(
        self, waba_id: str, *, name: str | None = None, told: Callable[[int], None] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every template of an account, or those whose name contains `name`; complete unless it raises.

        `told` hears how many each page has, as it comes.
        """
        return self._pages(f"{waba_id}/message_templates", told=told, fields=TEMPLATE_FIELDS, name=name)

    def template(self, template_id: str) -> dict[str, Any]:
        return self._get(template_id, fields=TEMPLATE_FIELDS)

    def subscribe(self, waba_id: str) -> None:
        """Have the token's app receive the account's callbacks: without it none comes."""
        self._repeated("POST", f"{waba_id}/subscribed_apps")

    def create_template(self, waba_id: str, template: Mapping[str, Any]) -> dict[str, Any]:
        """Submit a template to Meta's review; its id, status and the category that Meta gives it."""
        return self._call("POST", f"{waba_id}/message_templates", json=template)

    def delete_template(self, waba_id: str, name: str, *, template_id: str | None = None) -> None:
        """Delete every language of a name, or the one language with this id."""
        self._call("DELETE", f"{waba_id}/message_templates", params={"name": name, "hsm_id": template_id})

    def upload_media(self, phone_number_id: str, content: bytes, *, mime_type: str, file_name: str) -> str:
        """The id of a file that messages of this number may show for thirty days."""
        answer = self._call(
            "POST",
            f"{phone_number_id}/media",
            data={"messaging_product": "whatsapp", "type": mime_type},
            files={"file": (file_name, content, mime_type)},
        )
        return str(answer.get("id") or "")

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._repeated("GET", path, params=params)

    def _pages(
        self, path: str, *, told: Callable[[int], None] | None = None, **params: Any
    ) -> Iterator[dict[str, Any]]:
        """The members of every page. A page may be empty and still have a next; only without one is it the last."""
        after = None
        for _ in range(PAGES_AT_MOST):
            page = self._get(path, **params, limit=PAGE, after=after)
            rows, paging = page.get("data"), page.get("paging")
            if not isinstance(rows, list):
                raise Unreachable("Meta's list has no data.")
            if told is not None:
                told(len(rows))
            yield from (row for row in rows if isinstance(row, dict))
            following = _after(paging)
            if following is None:
                return
            if following == after:
                break
            after = following
        raise Unreachable("Meta's list doesn't end.")

    def _repeated(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """A call that does no harm when made twice."""
        for tries in range(1, TRIES):
            try:
                return self._call(method, path, **request)
            except (GraphError, Unreachable) as error:
                if isinstance(error, GraphError) and error.verdict.error_class != ErrorClass.TRANSIENT:
                    raise
            self._pause(exponential(tries, base=FIRST_PAUSE, ceiling=LONGEST_PAUSE).total_seconds())
        return self._call(method, path, **request)

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            with self._session.request(
                method,
                f"{self._api_url}/{path}",
                timeout=min(self._timeout, self._left()),
                allow_redirects=False,
                stream=True,
                **request,
            ) as response:
                return _answer(response.status_code, self._body(response))
        # ValueError: an address or a token that can't be put into a request
        except (requests.RequestException, ValueError) as error:
            raise Unreachable(_reason(error)) from error

    def _body(self, response: requests.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(2**16):
            body += chunk
            self._left()
            if len(body) > ANSWER_LIMIT:
                raise Unreachable(f"HTTP {response.status_code} with an answer that doesn't end")
        return bytes(body)

    def _left(self) -> float:
        """Seconds that are left for everything."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise Unreachable(NO_ANSWER)
        return left


def _answer(status: int, body: bytes) -> dict[str, Any]:
    answer = parsed(body)
    if error := graph_error(answer):
        raise GraphError(classify(error, http_status=status), http_status=status)
    if status in BUSY:
        raise Unreachable(f"HTTP {status}")
    if 200 <= status < 300 and isinstance(answer, dict):
        return answer
    shown = clean(" ".join(body[:800].decode(errors="replace").split()), 200)
    raise ForeignAnswer(status, f"HTTP {status} that isn't Meta's: {shown or 'empty'}")


def _after(paging: Any) -> str | None:
    """The cursor of the next page, if there is one. Its address isn't used: it may name another host."""
    if not isinstance(paging, dict) or not paging.get("next"):
        return None
    cursors = paging.get("cursors")
    after = cursors.get("after") if isinstance(cursors, dict) else None
    if not isinstance(after, str) or not after:
        raise Unreachable("Meta's list has a next page and no cursor for it.")
    return after


def _reason(error: Exception) -> str:
    """What went wrong, without the address and the nest of errors that it comes in."""
    if isinstance(error, requests.Timeout):
        return NO_ANSWER
    if isinstance(error, requests.exceptions.InvalidHeader):
        return "the access token holds characters that none has"  # its own text would show the token
    return clean(str(error).rpartition(": ")[2].strip("')\" ") or type(error).__name__, 200)
