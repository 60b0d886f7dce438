"""Nothing personal that is said in a call goes to the provider, or stands anywhere after a run about it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from domain.outcomes import Turn
from optimizer.local_analysts import blocks_of, good_analyst
from optimizer.local_provider import LocalProvider
from optimizer.local_replies import Reply
from storage.database import Database
from tests.api.test_transcripts import TOLD, left_in
from tests.optimizer.dumps import dump, file_of
from tests.optimizer.shop_calls import Call, open_shop, run, runs_of

FAILING, GOOD = 48, 12
EACH = 18  # strings a call, so that each is said in four calls or so


def personal_calls() -> list[Call]:
    """Callers who tell everything about themselves, and an agent who repeats it and does not know."""
    return [
        (f"call-{number:03}", "returns", 0.1 if number < FAILING else 0.9, _turns(number))
        for number in range(FAILING + GOOD)
    ]


def _turns(number: int) -> list[Turn]:
    said = [TOLD[(number * EACH + place) % len(TOLD)] for place in range(EACH)]
    return [
        *(Turn(role="caller", content=told.sentence) for told in said),
        Turn(role="agent", content=f"Sorry, I don't know. You said: {said[0].sentence}", name="agent"),
        Turn(role="tool", content=json.dumps({"noted": [told.sentence for told in said]})),
    ]


def parrot(body: Mapping[str, Any]) -> Reply:
    """Writes into its answer what it was sent."""
    reply = good_analyst(body)
    call = blocks_of(body).get("call")
    if call is None:
        return reply
    document = json.loads(reply.body)
    answer = json.loads(document["content"][0]["text"])
    for note in answer["notes"]:
        note["root_cause"] = " ".join(turn.get("content") or "" for turn in call["turns"])[:3_000]
    document["content"][0]["text"] = json.dumps(answer, ensure_ascii=False)
    return Reply(body=json.dumps(document, ensure_ascii=False).encode(), headers=reply.headers)


async def test_nothing_personal_is_sent_to_the_provider_or_stays_of_a_run(
    database: Database, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level("DEBUG")
    calls = personal_calls()
    await open_shop(database, calls)
    with LocalProvider(parrot) as local:
        ended = await run(database, local.url)
    assert ended.status == "done", ended
    (row,) = await runs_of(database)
    read = {
        item["unit_id"] for item in [*row.sample["failing"], *row.sample["good"]] if item["half"] == "read"
    }
    spoken = " ".join(str(turn.content) for unit, _, _, turns in calls if unit in read for turn in turns)
    assert len({told.text for told in TOLD if told.text in spoken}) >= 200
    sent = json.dumps([item.body for item in local.asked], ensure_ascii=False)
    assert "<PHONE_1>" in sent
    assert left_in(sent) == []
    assert [left_in(text) for text in (await dump(database)).values()] == [[]] * len(await dump(database))
    assert left_in(file_of(database)) == []
    out, err = capfd.readouterr()
    assert left_in(caplog.text + out + err) == []
