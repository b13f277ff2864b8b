"""The dashboard's page: it holds no data, so it is served to everybody, by the gateway itself."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, RedirectResponse, Response

_PAGE = Path(__file__).parents[1] / "dashboard"
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
#: The page's files by address; nothing else in that folder is served.
_ASSETS = sorted(file.name for file in _PAGE.iterdir() if file.suffix in (".js", ".css", ".svg"))
FILES = {"": "index.html"} | {name: name for name in _ASSETS}

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # the browser keeps it, and asks whether it is still the same
}


def page_routes() -> APIRouter:
    """The page's files, without a key."""
    routes = APIRouter()

    @routes.get("/lifecycle")
    async def to_page() -> RedirectResponse:
        return RedirectResponse("lifecycle/", 307)

    def add(address: str, name: str) -> None:
        async def file() -> Response:
            return FileResponse(_PAGE / name, media_type=_KINDS[Path(name).suffix], headers=_HEADERS)

        routes.add_api_route(f"/lifecycle/{address}", file, methods=["GET"])

    for address, name in FILES.items():
        add(address, name)
    return routes
