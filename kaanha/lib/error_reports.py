"""What Django's error pages, for development, and its mails of errors show of the settings."""

from __future__ import annotations

import re

from django.views.debug import SafeExceptionReporterFilter


class Discreet(SafeExceptionReporterFilter):
    """Leaves out addresses too, which may hold a password."""

    hidden_settings = re.compile(
        "API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|COOKIE|CREDENTIAL|DATABASE|REDIS|BROKER|BACKEND|LOCAL_URLS|DSN", re.I
    )
