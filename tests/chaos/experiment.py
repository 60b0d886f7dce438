"""What a run begins with: one prompt, three versions, one experiment."""

import time
from typing import Any

import httpx

from tests.chaos.agents import PROMPT
from tests.chaos.service import Service

PATIENCE_S = 60.0
EXPERIMENT = "chaos"
TEXTS = {"a": "Say hello.", "b": "Say good day.", "c": "Say welcome."}


def manage(service: Service, key: str, method: str, path: str, body: Any = None) -> Any:
    """Ask the server as a manager, past the agents' network."""
    headers = {"Authorization": f"Bearer {key}"}
    url, until = service.url + path, time.monotonic() + PATIENCE_S
    while True:
        answer = httpx.request(method, url, json=body, headers=headers, timeout=60.0, verify=False)
        if answer.status_code != 503 or time.monotonic() > until:
            break
        time.sleep(0.5)  # nothing was stored: so it says
    if answer.status_code not in (200, 201):
        raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
    return answer.json()


def start_experiment(service: Service, key: str) -> None:
    """Three variants under a policy that moves its split when it is told to, and not by itself."""
    variants = [
        {
            "key": variant,
            "version_id": manage(service, key, "POST", "/prompts", {"name": PROMPT, "system_prompt": text})[
                "id"
            ],
        }
        for variant, text in TEXTS.items()
    ]
    policy = {"name": "thompson", "burn_in": 0, "every_s": 86_400.0}
    body = {"key": EXPERIMENT, "prompt": PROMPT, "control": "a", "variants": variants, "policy": policy}
    manage(service, key, "POST", "/experiments", body)
