"""The optimizer's settings, its distance from the serving path, and its documentation."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from domain.environment import PREFIX, read_settings
from domain.optimizer_settings import OptimizerSettings
from optimizer.answers import ANSWERS, STAGES
from optimizer.failures import FAILURES
from optimizer.local_analysts import blocks_of, good_analyst
from optimizer.local_provider import LocalProvider
from optimizer.local_replies import FAULTS
from optimizer.prices import PRICES
from tests.optimizer.asking import KEY, claude_at, request

DOCS = Path(__file__).resolve().parents[2] / "docs"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its two head lines."""
    section = (DOCS / "optimizer-requests.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_a_server_does_not_load_the_sdk():
    code = "import sys, api.app, cli.main; print({'anthropic', 'pydantic', 'optimizer'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "set()"


def test_the_key_is_in_no_message_and_no_repr():
    settings = read_settings(OptimizerSettings, {PREFIX + "ANTHROPIC_API_KEY": KEY})
    assert settings.anthropic_api_key == KEY
    assert KEY not in repr(settings)
    assert "(set)" in repr(settings)
    with pytest.raises(ValueError, match="ANTHROPIC_API_KEY") as caught:
        read_settings(OptimizerSettings, {PREFIX + "ANTHROPIC_API_KEY": f"{KEY} \n"})
    assert KEY not in str(caught.value)


async def test_the_key_and_the_transcript_are_in_no_log(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG), LocalProvider(FAULTS["unauthenticated"]) as local:
        async with claude_at(local.url) as claude:
            await claude.ask(request("c1", ("caller", "a sentence of the caller")))
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("anthropic")]
    assert KEY not in caplog.text
    assert not any("a sentence of the caller" in text for text in ours)


@pytest.mark.parametrize(
    "url", ["http://api.example.com", "ftp://x", "https://", "", "http://127.0.0.1.example.com"]
)
def test_the_key_does_not_travel_in_the_clear(url: str):
    with pytest.raises(ValueError, match="ANTHROPIC_BASE_URL"):
        read_settings(OptimizerSettings, {PREFIX + "ANTHROPIC_BASE_URL": url})


@pytest.mark.parametrize(
    "url", ["https://api.anthropic.com", "http://127.0.0.1:8123", "http://localhost:1/x"]
)
def test_a_gateway_and_this_machine_are_good_addresses(url: str):
    assert read_settings(OptimizerSettings, {PREFIX + "ANTHROPIC_BASE_URL": url}).anthropic_base_url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_COST_USD", "0"),
        ("MAX_TOKENS", "many"),
        ("PRICES", "opus"),
        ("TIMEOUT_S", "0"),
        ("BATCH", "perhaps"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, value: str):
    with pytest.raises(ValueError, match=f"{PREFIX}OPTIMIZER_{name} == '{value}'"):
        read_settings(OptimizerSettings, {f"{PREFIX}OPTIMIZER_{name}": value})


def test_settings_of_others_are_left_alone():
    environment = {PREFIX + "POOL_SIZE": "6", "ANTHROPIC_API_KEY": "somebody-elses", "HOME": "/"}
    assert read_settings(OptimizerSettings, environment) == OptimizerSettings()


def test_every_failure_is_described():
    described = {cells[0].strip("`"): cells[1:] for cells in rows("When no answer comes")}
    assert described == {
        status: [kind.meaning, kind.paid, "yes" if kind.retried else "no", "yes" if kind.ends_run else "no"]
        for status, kind in FAILURES.items()
    }


def test_every_stage_is_described_with_its_model():
    told = {
        cells[0].strip("`"): (cells[1].strip("`"), cells[3].strip("`")) for cells in rows("Four questions")
    }
    assert told == {stage: (OptimizerSettings().model_of(stage), ANSWERS[stage].__name__) for stage in STAGES}


def test_every_price_is_described():
    described = {cells[0].strip("`"): (float(cells[1]), float(cells[2])) for cells in rows("What it costs")}
    assert described == {model: (price.input_usd, price.output_usd) for model, price in PRICES.items()}


def test_the_settings_that_the_text_names_exist():
    text = (DOCS / "optimizer-requests.md").read_text()
    named = {name.lower() for name in re.findall(rf"{PREFIX}([A-Z_]+)", text)}
    assert named
    assert named <= set(OptimizerSettings.__struct_fields__)


async def test_the_fields_that_leave_the_house_are_described():
    """The names of everything in a question about a call."""
    with LocalProvider(good_analyst) as local:
        async with claude_at(local.url) as claude:
            await claude.ask(request())
    (question,) = local.questions
    blocks = blocks_of(question)
    sent = set(blocks["call"]) | set(blocks["prompt"]) | set(blocks["call"]["turns"][0])
    text = (DOCS / "optimizer-requests.md").read_text()
    assert {name for name in sent if f"`{name}`" not in text} == set()
