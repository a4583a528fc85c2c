"""Settings, each an environment variable with a default that is safe for development.

`KAANHA_ENV=production` refuses to start while a secret is missing or still the development default.
`docs/settings.md` lists them all.
"""

from datetime import timedelta
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from kombu import Exchange, Queue

from kaanha import environment, servers
from kaanha.environment import LOG_LEVELS, env
from kaanha.unfold_settings import UNFOLD  # noqa: F401 — how the admin looks

BASE_DIR = Path(__file__).resolve().parent.parent
if (BASE_DIR / ".env").exists():
    env.read_env(BASE_DIR / ".env")

SHORTEST_KEY = 32  # letters: 24 random bytes as secrets.token_urlsafe writes them
PRODUCTION = environment.choice("KAANHA_ENV", ("development", "production"), default="development") == "production"


def secret(name: str, development: str) -> str:
    """The secret `name`: from the environment, in development also its published default."""
    value = env.str(name, default="" if PRODUCTION else development)
    if PRODUCTION and value in {"", development}:
        raise ImproperlyConfigured(
            f"{name} is missing or still the development default. Set it to a random value "
            "(python -c 'import secrets; print(secrets.token_urlsafe(48))') before starting in production."
        )
    return value


def encryption_keys() -> list[str]:
    """The keys by commas, blanks around them left out. A development default may be there to be rotated away from."""
    default = "development-only-encryption-key"
    keys = [key.strip() for key in secret("ENCRYPTION_KEYS", default).split(",")]
    if "" in keys:
        raise ImproperlyConfigured("ENCRYPTION_KEYS holds an empty key: put one comma between two keys, and none else.")
    if PRODUCTION and (keys[0] == default or len(keys[0]) < SHORTEST_KEY):
        raise ImproperlyConfigured(
            f"The first of ENCRYPTION_KEYS is the development default, or shorter than {SHORTEST_KEY} letters. Put a "
            "random one in front (python -c 'import secrets; print(secrets.token_urlsafe(48))')."
        )
    return keys


# --- secrets -----------------------------------------------------------------------------------------------------

SECRET_KEY = secret("SECRET_KEY", "development-only-secret-key-of-kaanha-never-for-production")
# The keys that encrypt tokens and secrets in the database: the first encrypts, all of them decrypt.
ENCRYPTION_KEYS = encryption_keys()
# The key behind public ids. Changing it changes every id that other systems have stored: it stays for ever.
PUBLIC_ID_KEY = secret("PUBLIC_ID_KEY", "development-only-public-id-key")

# --- web ---------------------------------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=False)
if PRODUCTION and DEBUG:
    raise ImproperlyConfigured("DEBUG shows everybody who meets an error what is inside: it is for development alone.")
DEFAULT_EXCEPTION_REPORTER_FILTER = "kaanha.lib.error_reports.Discreet"
ALLOWED_HOSTS = env.list(
    "ALLOWED_HOSTS", default=[] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]", "testserver"]
)
# Where Meta and browsers reach this installation.
PUBLIC_URL = environment.web("PUBLIC_URL", default="http://127.0.0.1:8000")
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[PUBLIC_URL])
if PRODUCTION and not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS is missing. Set it to the host names of this installation, by commas.")

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
# Lax: a link in an e-mail finds its reader signed in.
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
if PRODUCTION:  # browsers take such a name over TLS alone, and from no other host of the domain
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=PRODUCTION)
SECURE_REDIRECT_EXEMPT = [r"^health$"]  # load balancers ask without TLS
SECURE_HSTS_SECONDS = environment.whole("SECURE_HSTS_SECONDS", default=31_536_000 if PRODUCTION else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
# Behind a proxy its word is taken for the scheme and for the browser's address; without one anybody could write them.
BEHIND_PROXY = env.bool("BEHIND_PROXY", default=False)
PROXY_COUNT = environment.whole("PROXY_COUNT", default=1, least=1)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"

# Of a page's form. Files have limits of their own: kaanha.request_limits.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2_000
DATA_UPLOAD_MAX_NUMBER_FILES = 2

ROOT_URLCONF = "kaanha.urls"
WSGI_APPLICATION = "kaanha.wsgi.application"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AUTH_USER_MODEL = "organizations.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "kaanha.admin_site.Unfold",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.forms",  # for the templates of its widgets
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "django_celery_beat",
    "axes",
    "kaanha",
    "kaanha.operations",
    "kaanha.organizations",
    "kaanha.whatsapp",
    "kaanha.webhooks",
    "contacts",
    "templates_app",
    "kaanha.messaging",
    "broadcasts",
    "sequences",
    "kaanha.inbound",
    "kaanha.simulator",
]

MIDDLEWARE = [
    "kaanha.lib.request_ids.RequestIds",  # first: what the others answer and log has the id, too
    "kaanha.lib.doors.Doors",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "kaanha.browser_rules.BrowserRules",
    "kaanha.request_limits.RequestLimits",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "kaanha.organizations.middleware.SecondFactorGate",
    "axes.middleware.AxesMiddleware",  # last: it answers for whatever found the sign-in locked
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "kaanha" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Widgets from the same templates as pages, so that kaanha/templates comes first for them, too.
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

STATIC_URL = "/static/"
# Development serves static files straight from the packages; production from what collectstatic gathered.
STATIC_ROOT = env.str("STATIC_ROOT", default=str(BASE_DIR / "staticfiles")) if PRODUCTION else None
STATICFILES_DIRS = [BASE_DIR / "kaanha" / "static"]
WHITENOISE_USE_FINDERS = not PRODUCTION
if PRODUCTION:
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }

PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# Nothing of ours is cached. The admin's search would be, by person: found in one organization, shown in the next.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}

# --- signing in --------------------------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# From signing in, whatever is done meanwhile.
SESSION_COOKIE_AGE = int(timedelta(hours=24).total_seconds())
# django-axes counts in PostgreSQL. The numbers, and who is locked by what, stand in kaanha.organizations.lockout.
AXES_HANDLER = "kaanha.organizations.lockout.Handler"
AXES_CLIENT_IP_CALLABLE = "kaanha.organizations.lockout.address_of"
AXES_LOCKOUT_CALLABLE = "kaanha.organizations.views.locked"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_FORM_FIELD = "username"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=30)
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
# What is typed is kept nowhere: neither in its rows nor in the log.
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "password", "code", "csrfmiddlewaretoken"]
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

LANGUAGE_CODE = "en-us"
LANGUAGES = [("en-us", "English")]  # each page of the admin asks for the names of all of them
TIME_ZONE = "UTC"
USE_TZ = True
USE_THOUSAND_SEPARATOR = True

# --- PostgreSQL and Redis ----------------------------------------------------------------------------------------

# Without an address: the servers that `manage.py servers start` runs for this checkout.
LOCAL_URLS = servers.local_urls()
DATABASES = {"default": environment.database("DATABASE_URL", default=LOCAL_URLS["DATABASE_URL"])}
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"].setdefault("OPTIONS", {})
DATABASE_POOL_SIZE = environment.whole("DATABASE_POOL_SIZE", default=20)
if DATABASE_POOL_SIZE:
    DATABASES["default"]["CONN_MAX_AGE"] = 0
    DATABASES["default"]["OPTIONS"]["pool"] = {
        "min_size": 0,
        "max_size": DATABASE_POOL_SIZE,
        "timeout": 10,
        "reconnect_timeout": 5,
    }

REDIS_URL = environment.redis("REDIS_URL", default=LOCAL_URLS["REDIS_URL"])

# --- Celery ------------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
# Named, so that a worker without -Q serves all lanes. Each has its own exchange, or one message would reach all three.
CELERY_TASK_QUEUES = [Queue(lane, Exchange(lane), routing_key=lane) for lane in ("default", "callbacks", "send")]
# Sending is waiting, and the pool of database connections lives in one process.
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = environment.whole("WORKER_CONCURRENCY", default=16, least=1)
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A worker tries for as long as Redis is away; kaanha.worker says how often.
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 1,
    "socket_timeout": 2,
    "socket_keepalive": True,
    # A worker whose connection is gone without a word sees it after about three times this.
    "health_check_interval": 5,
    # Publishing: one attempt.
    "max_retries": 0,
    "connect_retries_timeout": 1,
}
# A poke that can't be sent at once isn't sent: a sweep does its work a second later.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_WORKER_CONSUMER = "kaanha.worker:Consumer"
# Beside its lanes each worker reads a queue of its own, by which it hears whether it hears.
CELERY_WORKER_DIRECT = True
WORKER_DEAF_AFTER = environment.seconds("WORKER_DEAF_AFTER_SECONDS", default=60)
CELERY_BEAT_SCHEDULER = "kaanha.beat:Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 1
CELERY_TIMEZONE = "UTC"
CELERY_TASK_ROUTES = {
    "kaanha.messaging.tasks.send_slice": {"queue": "send"},
    "kaanha.inbound.tasks.*": {"queue": "callbacks"},
}
# Each entry expires after its interval, so that a worker that was away finds one poke and not an hour of them.
CELERY_BEAT_SCHEDULE = {
    name: {"task": task, "schedule": seconds, "options": {"expires": seconds}}
    for name, task, seconds in (
        ("broadcasts: due, queued, finished", "broadcasts.tasks.sweep", 1.0),
        ("sequences: triggers, timers, fates", "sequences.tasks.sweep", 1.0),
        ("messaging: wake the senders", "kaanha.messaging.tasks.wake_senders", 1.0),
        ("messaging: leases, cancellations, receipts that waited", "kaanha.messaging.tasks.sweep", 2.0),
        ("contacts: imports that wait", "contacts.tasks.sweep", 5.0),
        ("contacts: bulk changes", "contacts.tasks.change_in_bulk", 1.0),
        ("contacts: fold their counts", "contacts.tasks.fold_counts", 60.0),
        ("inbound: callbacks not yet applied", "kaanha.inbound.tasks.apply_callbacks", 1.0),
        ("templates: syncs asked for", "templates_app.tasks.sweep", 1.0),
        ("webhooks: deliver", "kaanha.webhooks.tasks.deliver", 1.0),
        ("organizations: drop kept answers", "kaanha.organizations.tasks.drop_kept_answers", 3600.0),
        ("organizations: drop ended sessions", "kaanha.organizations.tasks.drop_ended_sessions", 86400.0),
        ("webhooks: drop old events", "kaanha.webhooks.tasks.drop_old", 3600.0),
        ("inbound: drop old callbacks", "kaanha.inbound.tasks.drop_old_callbacks", 3600.0),
    )
}

# --- WhatsApp ----------------------------------------------------------------------------------------------------

# Meta's address with the version of its API; the simulator's while rehearsing.
WHATSAPP_API_URL = environment.web("WHATSAPP_API_URL", default="https://graph.facebook.com/v25.0")
WHATSAPP_TIMEOUT = timedelta(seconds=environment.seconds("WHATSAPP_TIMEOUT_SECONDS", default=30))
# Source: Webhooks, "up to 3 MB".
CALLBACK_MAX_BYTES = 3 * 1024 * 1024
# A process that hasn't applied by then the callbacks that it took is gone: another one applies them.
CALLBACK_LEASE = timedelta(seconds=environment.seconds("CALLBACK_LEASE_SECONDS", default=60))
# Two-letter countries to which Meta delivers no MARKETING. Source: Cloud API, "Per-user marketing template limits".
MARKETING_BLOCKED_COUNTRIES = env.list("MARKETING_BLOCKED_COUNTRIES", default=["US"])

# --- sending -----------------------------------------------------------------------------------------------------

# A process that hasn't settled what it claimed by then is gone. Longer than the HTTP timeout by what settling takes.
SEND_LEASE = timedelta(seconds=environment.seconds("SEND_LEASE_SECONDS", default=60))
if not timedelta(0) < WHATSAPP_TIMEOUT <= SEND_LEASE - timedelta(seconds=2):
    raise ImproperlyConfigured(
        "WHATSAPP_TIMEOUT_SECONDS must be at least 2 s shorter than SEND_LEASE_SECONDS, and above 0."
    )
# How many processes may send for one phone number at the same time.
SEND_SLOTS = environment.whole("SEND_SLOTS", default=2, least=1)

# --- sequences ---------------------------------------------------------------------------------------------------

# The shortest delay between two steps; demonstrations and rehearsals make it shorter.
SEQUENCE_MIN_DELAY = timedelta(seconds=environment.seconds("SEQUENCE_MIN_DELAY_SECONDS", default=60))

# --- webhooks to customers ---------------------------------------------------------------------------------------

# Webhooks may go to this machine, and without TLS: for development alone.
WEBHOOKS_ALLOW_LOOPBACK = env.bool("WEBHOOKS_ALLOW_LOOPBACK", default=False)
if PRODUCTION and WEBHOOKS_ALLOW_LOOPBACK:
    raise ImproperlyConfigured(
        "WEBHOOKS_ALLOW_LOOPBACK is for development: it lets customers reach what listens on this machine. Remove it."
    )

# Events, with what became of their deliveries, are kept for so long.
WEBHOOKS_KEEP = timedelta(days=environment.whole("WEBHOOKS_KEEP_DAYS", default=30, least=1))

# --- e-mail ------------------------------------------------------------------------------------------------------

# Invitations go out by it. Without one, whoever invites passes the link on by hand.
_MAIL = environment.email("EMAIL_URL", default="dummymail://" if PRODUCTION else "consolemail://")
EMAIL_BACKEND, EMAIL_FILE_PATH = _MAIL["EMAIL_BACKEND"], _MAIL["EMAIL_FILE_PATH"]
EMAIL_HOST, EMAIL_PORT = _MAIL["EMAIL_HOST"], _MAIL["EMAIL_PORT"]
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _MAIL["EMAIL_HOST_USER"] or "", _MAIL["EMAIL_HOST_PASSWORD"] or ""
EMAIL_USE_TLS, EMAIL_USE_SSL = _MAIL.get("EMAIL_USE_TLS", False), _MAIL.get("EMAIL_USE_SSL", False)
# Whether what is mailed leaves this machine.
EMAIL_LEAVES = EMAIL_BACKEND.endswith(".smtp.EmailBackend")
EMAIL_TIMEOUT = environment.seconds("EMAIL_TIMEOUT_SECONDS", default=10) or None
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="kaanha@localhost")

# --- logs --------------------------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request": {"()": "kaanha.lib.request_ids.Filter"}},
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(request_id)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request"]}},
    "loggers": {"axes": {"level": "WARNING"}},  # failures and locks; not three lines for each who comes in
    "root": {"handlers": ["console"], "level": environment.choice("LOG_LEVEL", LOG_LEVELS, default="INFO")},
}

# --- API ---------------------------------------------------------------------------------------------------------

# Nobody comes in here by default: kaanha.organizations.api.OwnedAPI, the base of the views, knows keys and roles.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["kaanha.lib.api_json.JSON"],
    "DEFAULT_RENDERER_CLASSES": ["kaanha.lib.api_json.Renderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "kaanha.lib.api_json.Negotiation",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "kaanha.lib.api_errors.answer",
    "URL_FORMAT_OVERRIDE": None,
    "DATETIME_FORMAT": None,  # the renderer writes times
    "DEFAULT_SCHEMA_CLASS": "kaanha.lib.openapi.Schema",
}
# How many requests a key may make, such as 600/minute or 20/second. Source of the notation: the library "limits".
API_RATE_LIMIT = env.str("API_RATE_LIMIT", default="1200/minute")
SPECTACULAR_SETTINGS = {
    "TITLE": "Kaanha",
    "DESCRIPTION": "Contacts, consent, broadcasts and sequences on WhatsApp.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "PREPROCESSING_HOOKS": ["kaanha.lib.openapi.without_last_slash"],
    "POSTPROCESSING_HOOKS": [],
    "COMPONENT_SPLIT_PATCH": False,
    "ENFORCE_NON_BLANK_FIELDS": True,
    "SCHEMA_PATH_PREFIX": "/api",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "persistAuthorization": False, "displayRequestDuration": True},
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer", "description": "An API key of the organization."}
        }
    },
}
