"""`promptbandit serve`."""

import click
import uvicorn

from api.settings import load_settings
from service.transcripts import load_redactor


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
    load_redactor(load_settings().redactor)  # what is wrong is one sentence here, a traceback in every worker
    uvicorn.run(
        "api.app:create_app",
        factory=True,
        host=host,
        port=port,
        workers=workers if workers > 1 else None,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=10,
        server_header=False,
    )
