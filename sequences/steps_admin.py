"""The page of a sequence in the admin: its steps as a tree with their numbers, and the form of one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from kaanha.lib.errors import Refusal
from kaanha.organizations.owned_admin import OwnedAdmin, chip
from sequences import drafting, live_page, pictures, publishing, step_numbers, trees
from sequences.drafting import Gap
from sequences.models import Revision, Sequence, Status
from sequences.step_forms import FORMS, Draft, StepForm
from sequences.steps_shown import ICONS
from sequences.trees import Flat, Kind, Node

STATUS_COLORS = {
    Status.DRAFT: "",
    Status.ACTIVE: "success",
    Status.PAUSED: "warning",
    Status.ARCHIVED: "danger",
}
# How often a page asks for new numbers, in seconds. Those of an ended sequence move for a while.
EVERY, EVERY_REASONS = 5, 20
STILL_MOVING = timedelta(minutes=30)
REVISIONS_SHOWN = 6


@dataclass(frozen=True)
class Edited:
    """The step that a form is about: one of the draft, or a new one for a gap."""

    kind: Kind
    key: str
    nodes: tuple[Node, ...]
    gap: Gap | None = None
    seen: str = ""

    @property
    def flat(self) -> Flat:
        return next(step for step in trees.flatten(self.nodes) if step.key == self.key)


class StepsPages(OwnedAdmin):
    """The pages of the draft. Stands before OwnedAdmin in SequenceAdmin."""

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            **super().own_pages(),
            "step": ("<path:object_id>/step/", self.step_view),
            "step_message": ("<path:object_id>/step-message/", self.step_message_view),
            "step_numbers": ("<path:object_id>/step-numbers/", self.step_numbers_view),
            "reasons": ("<path:object_id>/reasons/", self.reasons_view),
            "remove": ("<path:object_id>/remove/", self.remove_view),
        }

    # --- the tree ------------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The steps as they are being edited with their live numbers, and what the sequence is doing.

        `?revision=2` shows those of a published revision instead. POST: one edit, named by `act`. For htmx it is the
        part that edits change.
        """
        self.require(request, change=request.method == "POST")
        sequence = self.found(request, object_id)
        if request.method == "POST":
            return self._act(request, sequence)
        if revision := _named_revision(sequence, request.GET.get("revision", "")):
            return self._published(request, sequence, revision)
        moving = request.GET.get("move", "") if self._may_edit(request, sequence) else ""
        return self._picture(request, sequence, focus=moving, moving=moving)

    def _may_edit(self, request: HttpRequest, sequence: Sequence) -> bool:
        return self.has_change_permission(request) and sequence.status != Status.ARCHIVED

    def _picture(self, request: HttpRequest, sequence: Sequence, *, focus: str = "", moving: str = "") -> HttpResponse:
        """The draft, as a page or for htmx in the place of the one that is shown; then step `focus` gets the focus."""
        newest = sequence.revision
        context = {
            **self._head(request, sequence, newest),
            "may_edit": self._may_edit(request, sequence),
            "focus": focus,
            **pictures.of_draft(sequence, newest, moving=moving),
        }
        if not _swaps(request):
            return self._page(request, sequence, context)
        response = render(request, "kaanha/sequence_builder.html", {**context, "swapped": True})
        return _instead(response, "#builder")

    def _published(self, request: HttpRequest, sequence: Sequence, revision: Revision) -> HttpResponse:
        """A published revision, which nobody edits."""
        context = {**self._head(request, sequence, sequence.revision), **pictures.of_revision(sequence, revision)}
        return self._page(request, sequence, {**context, "shown": revision})

    def _head(self, request: HttpRequest, sequence: Sequence, newest: Revision | None) -> dict[str, Any]:
        """What stands above the steps: of one that was activated, its people, too."""
        return {
            "original": sequence,
            "newest": newest,
            "status_chip": chip(sequence.get_status_display(), STATUS_COLORS[Status(sequence.status)]),
            **(live_page.standing(sequence) if sequence.status != Status.DRAFT else {}),
            "every": every(sequence, EVERY) if newest else 0,
            "known": newest.number if newest else "",
        }

    def _page(self, request: HttpRequest, sequence: Sequence, context: dict[str, Any]) -> HttpResponse:
        """The picture with what stands below it: its revisions, why people left, and its settings."""
        listed = live_page.revisions(sequence, context.get("shown"))
        around = {
            **live_page.reasons(sequence),
            "every_reasons": every(sequence, EVERY_REASONS),
            "revisions": listed[:REVISIONS_SHOWN],
            "older_revisions": listed[REVISIONS_SHOWN:],
            "older_shown": any(one.shown for one in listed[REVISIONS_SHOWN:]),
            "elsewhere": sum(one.inside for one in listed if not one.newest),
            "late": live_page.late_words(sequence),
            "may_move": self._may_edit(request, sequence),
        }
        return self.page(request, "kaanha/sequence_steps.html", title=sequence.name, **context, **around)

    def step_numbers_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The numbers at the steps that are shown, each for its own place: asked for often, so it is cheap.

        `?revision=2&status=active` is what the page knows, `&of=1` the revision that it shows in place of the draft.
        """
        self.require(request, change=False)
        sequence = self.found(request, object_id)
        newest = sequence.revision
        known, shown = request.GET.get("revision", ""), _named_revision(sequence, request.GET.get("of", ""))
        numbered = shown or newest
        found = step_numbers.by_step(sequence, numbered) if numbered else {}
        keys = set(found) if shown else {spot.step["id"] for spot in drafting.spots(sequence.draft)}
        context = {
            **self._head(request, sequence, newest),
            "shown": shown,
            "may_edit": self._may_edit(request, sequence) and shown is None,
            "steps": [(key, counts) for key, counts in found.items() if key in keys],
            "known": known,
            "republished": newest is not None and shown is None and str(newest.number) != known,
            "turned": sequence.status != request.GET.get("status"),
            "unpublished": newest is not None and publishing.unpublished(sequence, newest),
        }
        return render(request, "kaanha/sequence_step_numbers.html", context)

    def reasons_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Who left or wasn't enrolled, by reason: counted from the rows, so asked for less often."""
        self.require(request, change=False)
        sequence = self.found(request, object_id)
        context = {**live_page.reasons(sequence), "every_reasons": every(sequence, EVERY_REASONS), "original": sequence}
        return render(request, "kaanha/sequence_reasons.html", context)

    def _act(self, request: HttpRequest, sequence: Sequence) -> HttpResponse:
        name, _, rest = request.POST.get("act", "").partition(":")
        key, _, where = rest.partition(":")
        if name not in _ACTS:
            raise Http404
        change, said = _ACTS[name]
        if name == "remove" and _count_inside(sequence, key):
            return _leave(request, f"{self.url('remove', sequence.pk)}?{urlencode({'step': key})}")

        def act() -> str:
            drafting.edit(sequence, lambda tree: change(tree, key, where))
            return said

        near = _before(sequence.draft, key) if name == "remove" else key.partition(".")[0]
        self.attempt(request, act, row=sequence)
        return self._to_step(request, sequence, near)

    def _to_step(self, request: HttpRequest, sequence: Sequence, key: str = "") -> HttpResponse:
        if _swaps(request):
            return self._picture(request, sequence, focus=key)
        return redirect(self._at_step(sequence, key))

    def _at_step(self, sequence: Sequence, key: str) -> str:
        return self.url("change", sequence.pk) + (f"#step-{quote(key)}" if key else "")

    # --- one step ------------------------------------------------------------------------------------------------

    def step_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The form of a step: `?step=ID`, or `?kind=message&before=ID` or `&end=ID.yes` for a new one.

        For htmx it is the form alone, which stands in the step's card, and once it is saved the tree.
        """
        self.require(request)
        sequence = self.found(request, object_id)
        try:
            edited = _edited(request, sequence)
        except Refusal as refusal:
            messages.error(request, str(refusal))
            return self._to_step(request, sequence)
        form = _form(request, sequence, edited)
        save = request.method == "POST" and "_show" not in request.POST
        if save and form.is_valid() and self._save(request, sequence, edited, form):
            return self._to_step(request, sequence, edited.key)
        context = self._around(request, sequence, edited, form)
        if _swaps(request):
            return render(request, "kaanha/sequence_step_form.html", {**context, "in_place": True})
        return self.page(request, "kaanha/sequence_step.html", **context)

    def _save(self, request: HttpRequest, sequence: Sequence, edited: Edited, form: StepForm) -> bool:
        def change(tree: drafting.Tree) -> drafting.Tree:
            if edited.gap is None:
                return drafting.replace(tree, edited.key, form.step(), seen=edited.seen)
            return drafting.insert(tree, {**form.step(), "id": edited.key}, edited.gap)

        def act() -> str:
            drafting.edit(sequence, change)
            return f"The {edited.kind} is {'added' if edited.gap else 'saved'}."

        return self.attempt(request, act, row=sequence)

    def _around(self, request: HttpRequest, sequence: Sequence, edited: Edited, form: StepForm) -> dict[str, Any]:
        title = f"New {edited.kind}" if edited.gap else f"Step {edited.flat.place}: {edited.kind}"
        anchor = edited.gap.before or edited.gap.end.partition(".")[0] if edited.gap else edited.key
        context = {
            "title": title,
            "subtitle": str(sequence),
            "original": sequence,
            "form": form,
            "kind": edited.kind.value,
            "place": edited.flat.place,
            "is_new": edited.gap is not None,
            "kind_icon": ICONS[edited.kind],
            "hidden": [("id", edited.key), ("seen", edited.seen)],
            "published": sequence.status != Status.DRAFT,
            "back": self._at_step(sequence, anchor),
            "here": f"{request.path}?{request.GET.urlencode()}",
        }
        if edited.kind == Kind.MESSAGE:
            context |= form.message() | {"message_url": self._message_url(request, sequence)}  # type: ignore[attr-defined]
        return context

    def _message_url(self, request: HttpRequest, sequence: Sequence) -> str:
        return f"{self.url('step_message', sequence.pk)}?{request.GET.urlencode()}"

    def step_message_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The rows for variables and the preview, for what the form of a message step holds at the moment."""
        self.require(request)
        sequence = self.found(request, object_id)
        try:
            edited = _edited(request, sequence)
        except Refusal as refusal:
            return HttpResponse(str(refusal), status=409)
        form: Any = _form(request, sequence, edited)
        if edited.kind != Kind.MESSAGE:
            raise Http404
        context = {**form.message(), "message_url": self._message_url(request, sequence)}
        return render(request, "kaanha/sequence_message.html", context)

    # --- removing a condition with everything in it --------------------------------------------------------------

    def remove_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks before steps go that can't be seen on the button."""
        self.require(request)
        sequence = self.found(request, object_id)
        key = request.GET.get("step", "")
        try:
            drafting.find(sequence.draft, key)
        except Refusal as refusal:
            messages.error(request, str(refusal))
            return self._to_step(request, sequence)

        def remove(inside: int) -> str:
            drafting.edit(sequence, lambda tree: drafting.remove(tree, key, least=inside))
            return "The step is removed."

        return self.confirmed(
            request,
            sequence,
            remove,
            title="Remove a step",
            sentences=_removed(sequence, key),
            button="Remove it",
            danger=True,
            form=_Inside(request.POST or None, initial={"inside": _count_inside(sequence, key)}),
            back=self._at_step(sequence, key),
        )


class _Inside(forms.Form):
    """How many steps somebody was told that go with the condition."""

    inside = forms.IntegerField(min_value=0, widget=forms.HiddenInput)


_ACTS: dict[str, tuple[Callable[[drafting.Tree, str, str], drafting.Tree], str]] = {
    "up": (lambda tree, key, _: drafting.shift(tree, key, -1), "The step is moved up."),
    "down": (lambda tree, key, _: drafting.shift(tree, key, 1), "The step is moved down."),
    "copy": (lambda tree, key, _: drafting.duplicate(tree, key), "The copy stands below its original."),
    "remove": (lambda tree, key, _: drafting.remove(tree, key), "The step is removed."),
    "straight": (lambda tree, key, _: drafting.straighten(tree, *_of(key)), "That path goes straight on."),
    "move": (lambda tree, key, where: drafting.move(tree, key, _gap(where)), "The step is moved."),
}


def _swaps(request: HttpRequest) -> bool:
    """Whether htmx asks, which puts the answer into the page that is shown."""
    return "HX-Request" in request.headers


def _instead(response: HttpResponse, of: str) -> HttpResponse:
    """The answer, for htmx to put in the place of that part of the page, whatever was to be replaced."""
    response.headers["HX-Retarget"], response.headers["HX-Reswap"] = of, "outerHTML"
    return response


def _leave(request: HttpRequest, url: str) -> HttpResponse:
    """On to another page, also where htmx asked."""
    return HttpResponse(headers={"HX-Redirect": url}) if _swaps(request) else redirect(url)


def every(sequence: Sequence, seconds: int) -> int:
    """Seconds until the page asks again; 0 for never."""
    ended = sequence.archived_at
    return 0 if ended and timezone.now() - ended > STILL_MOVING else seconds


def _named_revision(sequence: Sequence, number: str) -> Revision | None:
    """The revision that the address names. 404 for one that isn't there."""
    if not number:
        return None
    known = int(number) if number.isascii() and number.isdecimal() and len(number) < 10 else 0
    found: Revision | None = (
        sequence.revisions.select_related("trigger_tag", "phone_number").filter(number=known).first()
    )
    if found is None:
        raise Http404
    return found


def _edited(request: HttpRequest, sequence: Sequence) -> Edited:
    """What the query names. 404 for nonsense, Refusal where the step or its place is gone."""
    if sequence.status == Status.ARCHIVED:
        raise Refusal(f"Sequence {sequence.name!r} is archived: its steps stay as they are.", code="wrong_status")
    query = request.GET
    if key := query.get("step"):
        step = drafting.find(sequence.draft, key).step
        seen = request.POST.get("seen") or drafting.fingerprint(step)
        return Edited(Kind(step["type"]), key, _nodes(sequence, sequence.draft), seen=seen)
    if query.get("kind") not in set(Kind):
        raise Http404
    gap = Gap(before=query.get("before", ""), end=query.get("end", ""))
    key = request.POST.get("id") or drafting.new_id()
    placeholder = {"id": key, "type": Kind.DELAY.value, "delay": {"days": 1}}
    tree = drafting.insert(sequence.draft, placeholder, gap)
    return Edited(Kind(query["kind"]), key, _nodes(sequence, tree), gap=gap)


def _nodes(sequence: Sequence, tree: drafting.Tree) -> tuple[Node, ...]:
    return trees.parse(trees.read(tree, sequence.organization))


def _form(request: HttpRequest, sequence: Sequence, edited: Edited) -> StepForm:
    earlier = {}
    if edited.kind == Kind.CONDITION:
        called = trees.names(edited.nodes, sequence.organization)
        earlier = {message.key: called[message.key] for message in trees.earlier_messages(edited.nodes, edited.key)}
    node = None if edited.gap else edited.flat.node
    data = request.POST if request.method == "POST" else None
    return FORMS[edited.kind](data, draft=Draft(sequence, earlier), node=node)


def _of(path: str) -> tuple[str, str]:
    """The condition and the name of its path, of what `Gap.end` says."""
    key, _, name = path.partition(".")
    return key, name


def _gap(query: str) -> Gap:
    name, _, value = query.partition("=")
    return Gap(before=value) if name == "before" else Gap(end=value)


def _before(tree: drafting.Tree, key: str) -> str:
    """The step that is read before it, to look at when it is gone."""
    keys = ["", *(spot.step["id"] for spot in drafting.spots(tree))]
    return keys[keys.index(key) - 1] if key in keys[1:] else ""


def _count_inside(sequence: Sequence, key: str) -> int:
    return sum(drafting.inside(spot.step) for spot in drafting.spots(sequence.draft) if spot.step["id"] == key)


def _removed(sequence: Sequence, key: str) -> list[str]:
    """What goes with the step, and who asks about it."""
    nodes = trees.parse(trees.read(sequence.draft, sequence.organization))
    steps = {step.key: step for step in trees.flatten(nodes)}
    named = trees.names(nodes, sequence.organization)
    gone = {spot.step["id"] for spot in drafting.spots([drafting.find(sequence.draft, key).step])}
    sentences = [f"Step {steps[key].place}, “{trees.words(steps[key].node, named)}”, is removed."]
    if len(gone) > 1:
        many = len(gone) - 1
        sentences.append(f"The {many} steps on its paths go with it." if many > 1 else "So is the step on its path.")
    asking = [
        step.place
        for step in steps.values()
        if step.key not in gone and getattr(getattr(step.node, "test", None), "step", "") in gone
    ]
    if asking:
        sentences.append(f"What asks about its messages needs another question afterward: step {', '.join(asking)}.")
    return sentences
