"""The client in processes of its own: at their end, after a fork, beside nothing but its dependencies."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

from tests.client.servers import NOBODY_LISTENS, HttpServer, acknowledged, assigned

CLIENT = Path(__file__).parents[2] / "client"
ENOUGH_S = 60


def answer(request):
    return assigned(request) if request.path == "/assignments" else acknowledged(request)


def run(script, *arguments):
    """Run `script` in a fresh interpreter where every warning is an error; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=ENOUGH_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_process_that_forgets_to_close_still_delivers():
    script = """
import sys
from promptbandit import Client
Client(sys.argv[1], "key").record("support", "call-1", {"resolved": True})
"""
    with HttpServer(answer) as server:
        run(script, server.url)
        assert server.delivered() == [["call-1"]]


def test_a_process_ends_soon_although_the_server_is_away_and_says_what_is_lost():
    script = """
import sys
from promptbandit import Client
Client(sys.argv[1], "key").record("support", "call-1", {"resolved": True})
"""
    _, errors = run(script, NOBODY_LISTENS)
    assert "closed with 1 undelivered outcomes" in errors


FORK = """
import os, sys, warnings
from promptbandit import Client
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking with threads; people do it
client = Client(sys.argv[1], "key", timeout_s=20)
if sys.argv[2] == "used before":
    client.assign("support", "parent")
    client.record("support", "parent", {"resolved": True})
    assert client.flush(20)
child = os.fork()
name = "child" if child == 0 else "after"
assert client.assign("support", name).source == "server"
client.record("support", name, {"resolved": True})
client.close(20)
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_client_made_before_a_fork_works_in_both_processes():
    with HttpServer(answer) as server:
        run(FORK, server.url, "made before")
    told = sorted(itertools.chain(*server.delivered()))
    assert told == ["after", "child"]


def test_a_client_used_before_a_fork_works_in_both_processes():
    with HttpServer(answer) as server:
        run(FORK, server.url, "used before")
    told = sorted(itertools.chain(*server.delivered()))
    assert told == ["after", "child", "parent"]
    assert sorted(body["unit_id"] for body in server.bodies("/assignments")) == ["after", "child", "parent"]


def test_a_client_may_be_made_and_used_inside_a_running_event_loop():
    script = """
import asyncio, sys
from promptbandit import Client
async def main():
    with Client(sys.argv[1], "key", timeout_s=20) as client:
        print((await asyncio.to_thread(client.assign, "support", "call-1")).source)
        print(client.assign("support", "call-2").source)
asyncio.run(main())
"""
    with HttpServer(answer) as server:
        printed, _ = run(script, server.url)
    assert printed.split() == ["server", "server"]


def test_the_first_call_waits_for_no_import():
    """httpx imports its network backend at its first request: 0.2 s here, most of a call's deadline."""
    script = """
import sys
from promptbandit import Client
with Client(sys.argv[1], "key", {"support": "Kind."}, timeout_s=20) as client:
    before = set(sys.modules)
    assert client.assign("support", "call-1").source == sys.argv[2]
    print(sorted(set(sys.modules) - before))
"""
    with HttpServer(answer) as server:
        assert run(script, server.url, "server")[0].strip() == "[]"
    assert run(script, NOBODY_LISTENS, "fallback")[0].strip() == "[]"


def test_the_client_imports_nothing_of_the_service():
    script = """
import sys
sys.path.insert(0, sys.argv[1])
import promptbandit
ours = {"api", "cli", "domain", "engine", "migrations", "optimizer", "service", "storage", "numpy", "litestar"}
print(sorted(ours & {name.partition(".")[0] for name in sys.modules}))
"""
    printed, _ = run(script, str(CLIENT))
    assert printed.strip() == "[]"


def test_the_example_in_the_readme_is_true():
    """It is run as it stands, with the server's address put in and a talk that always succeeds."""
    (example,) = re.findall(r"```python\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    with HttpServer(answer) as server:
        code = example.replace("http://127.0.0.1:8000", server.url)
        assert code != example
        talk = "def talk(prompt, tools):\n    print(prompt)\n    return True, 12.5\n"
        code = code.replace("client.close()", 'handle("call-1", "billing")\nclient.close()')
        printed, _ = run(talk + code)
    assert printed.strip() == "From the server."
    assert server.bodies("/assignments") == [{"prompt": "support", "unit_id": "call-1", "segment": "billing"}]
    ((outcome,),) = server.bodies("/outcomes")
    assert outcome["metrics"] == {"resolved": True, "duration_s": 12.5}
