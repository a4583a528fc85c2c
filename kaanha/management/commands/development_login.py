"""`manage.py development_login`: a login for trying things out, the same on every start."""

import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model

from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from kaanha.servers import data_folder

EMAIL = "admin@kaanha.test"


class Command(KaanhaCommand):
    help = f"Print the e-mail address and password of {EMAIL}, who may do everything. Makes both if they don't exist."

    def perform(self, **_: Any) -> dict[str, Any]:
        if settings.PRODUCTION:
            raise Refusal("This login is for development. In production use: python manage.py createsuperuser")
        password = _password(data_folder() / "login")
        users = get_user_model()._default_manager
        user = users.filter(email=EMAIL).first() or users.create_superuser(EMAIL, password)
        if not user.check_password(password):  # made by another checkout, or changed and forgotten
            user.set_password(password)
            user.save(update_fields=["password"])
        return {"email": EMAIL, "password": password}


def _password(file: Path) -> str:
    """The password kept in `file`, made at random the first time."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(12) + "\n")
    return file.read_text().strip()
