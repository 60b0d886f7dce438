"""`promptbandit serve`."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import click
import uvicorn

from api.log import LIBRARIES
from api.settings import load_settings
from cli.workers import see_death_at_once
from service.transcripts import load_redactor

# The supervisor of several workers replaces one that has died, at once, and one that does not answer it for so
# long. uvicorn's 5 s would end workers that only have to wait for a busy machine.
FROZEN_S = 30
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # as in api.metrics, which must not be imported before it is set


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65_535), help="Port; 0: any free."
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes.")
def serve(host: str, port: int, workers: int) -> None:
    """Serve the HTTP API; creates the tables of an empty database.

    Example: promptbandit serve --port 8000 --workers 2
    """
    settings = load_settings()  # a wrong setting is one sentence here, a traceback in every worker
    load_redactor(settings.redactor)
    see_death_at_once()
    with _shared_metrics(workers):
        uvicorn.run(
            "api.app:create_app",
            factory=True,
            host=host,
            port=port,
            workers=workers if workers > 1 else None,
            access_log=False,
            log_config=LIBRARIES,
            log_level="warning",
            timeout_graceful_shutdown=10,
            timeout_worker_healthcheck=FROZEN_S,
            server_header=False,
            # By default uvicorn believes X-Forwarded-For of whoever connects from this machine.
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=settings.trusted_proxies,
        )


@contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """A new folder in which the workers keep what they count; it goes with the server."""
    # One that the environment names holds the numbers of some other program.
    os.environ.pop(SHARED_FOLDER, None)
    if workers == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="promptbandit-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder
        yield
