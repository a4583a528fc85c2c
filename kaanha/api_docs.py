"""The API's own description: the OpenAPI document, and the page on which people read and try it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kaanha.lib import openapi

PATTERNS = "kaanha.urls"


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of everything under /api/."""
    return openapi.document(PATTERNS)


class DocumentAPI(APIView):
    """`GET /api/openapi.json`, for everybody: it says nothing of any organization."""

    authentication_classes = []
    permission_classes = []

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        return Response(document())


class DocsView(SpectacularSwaggerSplitView):
    """`GET /api/docs`: Swagger UI from our own static files, without inline scripts."""

    content_negotiation_class = DefaultContentNegotiation
    url_name = "openapi"
    title = "Kaanha API"
