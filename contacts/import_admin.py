"""Imports in the admin: a file is uploaded, a worker takes its rows, and a page tells what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextInputWidget

from contacts import tasks, uploads
from contacts.models import Import, ImportFile, ImportRemark
from kaanha.lib import phone, spreadsheets
from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.organizations.access import Area
from kaanha.organizations.models import Organization
from kaanha.organizations.owned_admin import Lesson, ReadOnlyAdmin, chip, moment

SHOWN = 50  # remarks of an import
UPLOAD_MB = 50  # a larger file is imported by command


class UploadForm(forms.Form):
    file = forms.FileField(
        label="CSV file",
        widget=UnfoldAdminFileFieldWidget(),
        help_text="The columns phone, name, email, tags and optedIn, named in the first line; "
        f"others become attributes. At most {UPLOAD_MB} MB.",
    )
    default_country = forms.CharField(
        required=False,
        max_length=2,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Two letters, such as IN: the country of numbers that are written without it.",
    )

    def clean_file(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["file"]
        if (file.size or 0) > UPLOAD_MB * 1024 * 1024:
            raise ValidationError(f"The file is larger than {UPLOAD_MB} MB: import it with manage.py import_contacts.")
        return file

    def clean_default_country(self) -> str | None:
        country: str = self.cleaned_data["default_country"].strip().upper()
        if country and not phone.is_country(country):
            raise ValidationError(f"There is no country {country}. Give its two letters, such as IN for India.")
        return country or None


@admin.register(Import)
class ImportAdmin(ReadOnlyAdmin):
    """Uploads, with what became of their rows."""

    area = Area.CONTACTS
    empty = Lesson(
        "No imports yet",
        "Upload a CSV file of contacts. Here you see afterwards what became of each of its rows.",
        adds="Import contacts",
    )
    addable = True
    list_display = ("file_name", "standing", "started", "total", "created", "updated", "unchanged", "rejected", "by")
    list_select_related = ("by",)
    ordering = ("-id",)

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            "progress": ("<path:object_id>/progress/", self.progress_view),
            "rejected": ("<path:object_id>/rejected/", self.rejected_view),  # type: ignore[dict-item]
            "import_checked": ("<path:object_id>/import-checked/", self.import_checked_view),
            "stop": ("<path:object_id>/stop/", self.stop_view),
        }

    # --- upload --------------------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        current = self.require(request)
        if elsewhere := self.choose_first(request):
            return elsewhere
        form = UploadForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            upload = self._keep(request, current.organization, form)  # type: ignore[arg-type]
            if upload is not None:
                return redirect(self.url("change", upload.pk))
        return self.page(request, "kaanha/upload.html", title="Import contacts", form=form, back=self.url("changelist"))

    def _keep(self, request: HttpRequest, organization: Organization, form: UploadForm) -> Import | None:
        """The import of the uploaded file, or None with the reason at its field."""
        file: UploadedFile = form.cleaned_data["file"]
        by: Any = request.user
        try:
            upload = uploads.keep(
                organization,
                file.name or "contacts.csv",
                file.chunks(),
                by=by,
                at=timezone.now(),
                default_country=form.cleaned_data["default_country"],
                dry_run="_check" in request.POST,
            )
        except Refusal as refusal:
            form.add_error("file", str(refusal))
            return None
        tasks.poke(upload.pk)
        return upload

    # --- one import ----------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        self.require(request, change=False)
        upload = self.found(request, object_id)
        return self.page(request, "kaanha/import.html", title=upload.file_name, **self._state(request, upload))

    def progress_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The part of the page that changes while rows are taken. Two queries; three once it has ended."""
        self.require(request, change=False)
        return render(request, "kaanha/import_progress.html", self._state(request, self.found(request, object_id)))

    def _state(self, request: HttpRequest, upload: Import) -> dict[str, Any]:
        file = ImportFile.objects.filter(upload=upload).first()
        if file is None and upload.finished_at is None:
            upload.refresh_from_db()  # ended since it was read, and the file gone with it: or a command takes its rows
        remarks = ImportRemark.objects.filter(upload=upload).order_by("-rejected", "line")
        ended = upload.finished_at is not None
        return {
            "original": upload,
            "chip": _standing(upload, kept=file is not None),
            "running": file is not None and not ended,
            "done": 100 if ended and not upload.problem else round(100 * file.read / max(file.size, 1)) if file else 0,
            "counts": [(name, getattr(upload, name)) for name in COUNTS],
            "remarks": list(remarks[:SHOWN]) if ended or file is None else [],
            "shown": SHOWN,
            "started": moment(upload.started_at),
            "may_import": bool(ended and upload.dry_run and not upload.problem and file) and self._may_act(request),
            "may_stop": not ended and file is not None and self._may_act(request),
        }

    def _may_act(self, request: HttpRequest) -> bool:
        return self.has_act_permission(request)

    def rejected_view(self, request: HttpRequest, object_id: str) -> HttpResponse | StreamingHttpResponse:
        """The rejected rows as they came, with the reasons: to be mended and uploaded again."""
        self.require(request, change=False)
        upload = self.found(request, object_id)
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        audit.record("export.downloaded", upload, what="rejected rows")
        name = f"rejected-{upload.public_id}.csv"
        return spreadsheets.download(name, uploads.rejected_header(upload), uploads.rejected(upload))

    def import_checked_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        check = self.found(request, object_id)
        made: list[Import] = []
        by: Any = request.user

        def act() -> str:
            made.append(uploads.again(check, by=by, at=timezone.now()))
            tasks.poke(made[0].pk)
            return f"{check.file_name} is being imported."

        sentences = [f"The {check.total:,} rows of {check.file_name} are imported as they were checked."]
        if request.method == "POST":
            self.attempt(request, act, row=check)
            return redirect(self.url("change", made[0].pk if made else check.pk))
        return self.confirmed(request, check, act, title="Import", sentences=sentences, button="Import")

    def stop_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        upload = self.found(request, object_id)

        def act() -> str:
            uploads.stop(upload, at=timezone.now())
            return "The import is stopped."

        sentences = [f"{upload.total:,} rows are taken so far and stay. The rest of the file isn't taken."]
        return self.confirmed(request, upload, act, title="Stop the import", sentences=sentences, button="Stop")

    # --- list ----------------------------------------------------------------------------------------------------

    @display(description="Status")
    def standing(self, upload: Import) -> SafeString:
        return _standing(upload, kept=True)

    @display(description="Started", ordering="started_at")
    def started(self, upload: Import) -> str:
        return moment(upload.started_at)


COUNTS = ("created", "updated", "unchanged", "rejected", "warnings")


def _standing(upload: Import, *, kept: bool) -> SafeString:
    """Where it stands, as a chip. Without a kept file it is a command that takes the rows, for as long as it lives."""
    if upload.problem:
        return chip("stopped", "danger")
    if upload.finished_at is None:
        return chip("running" if kept else "by command", "info" if kept else "")
    return chip("checked", "") if upload.dry_run else chip("done", "success")
