"""Tests of the commands that create, list, revoke and check static tokens, and that sign URLs."""

import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result

from durable_streams_server.access.signed_urls import verify_url
from durable_streams_server.access.static_tokens import StaticTokens, parse_token
from durable_streams_server.access.token_file import load
from durable_streams_server.cli.settings.environment import Environment
from durable_streams_server.cli.tokens import TOKEN_VARIABLE, token
from durable_streams_server.protocol.permissions import VERBS, TokenLimits, grant_of
from durable_streams_server.protocol.units import SECOND
from tests.process import run

CHAT = "read,append:/v1/stream/chat/*"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a token file that does not exist yet."""
    return tmp_path / "tokens.json"


def call(*arguments: str | Path, text: str = "", variable: str | None = None) -> Result:
    """Runs a command, and returns its exit code and its output.

    Args:
        arguments: the words after `token`.
        text: the standard input.
        variable: the value of the environment variable for the token.
    """
    environment = {TOKEN_VARIABLE: variable}
    return CliRunner().invoke(token, list(map(str, arguments)), input=text, env=environment)


def create(path: Path, *more: str) -> str:
    """Creates a token with the command, and returns its text."""
    done = call("create", "--file", path, "--allow", CHAT, *more)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def id_of(text: str) -> str:
    return text.split("_")[1]


def test_create_prints_the_token_once_and_stores_its_hash(path: Path) -> None:
    done = call("create", "--file", path, "--allow", CHAT)
    text = done.stdout.strip()
    presented = parse_token(text)
    assert presented is not None
    assert done.stdout == f"{text}\n"
    assert (
        done.stderr
        == f"token {presented.id} is in {path}; send the server SIGHUP so that it reads the file\n"
    )
    assert text.split("_", 2)[2] not in path.read_text() + done.stderr
    (stored,) = load(path)
    assert (stored.id, stored.hash) == presented
    assert stored.grants == (grant_of(["read", "append"], ["/v1/stream/chat/*"]),)
    assert (stored.name, stored.expires_at, stored.limits) == ("", None, TokenLimits())
    assert abs(stored.created_at - time.time() * SECOND) < 60 * SECOND


def test_create_takes_grants_a_name_an_expiry_and_limits(path: Path) -> None:
    flags = [
        f"--{name.replace('_', '-')}={n}" for n, name in enumerate(TokenLimits.__struct_fields__, 1)
    ]
    create(path, "--allow", "admin:/**", "--name", "chat app", "--expires", "30d", *flags)
    (stored,) = load(path)
    assert [text for grant in stored.grants for text in grant.texts] == [
        "append,read:/v1/stream/chat/*",
        "admin:/**",
    ]
    assert stored.name == "chat app"
    assert stored.expires_at == stored.created_at + 30 * 24 * 3600 * SECOND
    assert stored.limits == TokenLimits(1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "Missing option '--allow'"),
        (["--allow", "write:/a"], "there is no such verb; the verbs are create"),
        (["--allow", "/a"], "a grant is verbs, a colon and a path"),
        (["--allow", CHAT, "--expires", "soon"], "is not a time such as 90s, 5m, 12h or 30d"),
        (["--allow", CHAT, "--expires", "0d"], "is not between 1s and"),
        (["--allow", CHAT, "--live-readers", "0"], "Invalid value for '--live-readers'"),
        (["--allow", CHAT, "--name", "a\tb"], "printable characters"),
        (["--allow", CHAT, "--name", "a" * 201], "at most 200 printable characters"),
        (["--allow", CHAT] * 65, "--allow: the grants of a token have at most 64 paths"),
    ],
)
def test_create_with_bad_flag_exits_2_and_writes_nothing(
    path: Path, flags: list[str], said: str
) -> None:
    done = call("create", "--file", path, *flags)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not path.exists()


def test_list_shows_every_token_and_no_secret(path: Path) -> None:
    texts = [
        create(path),
        create(path, "--name", "späm", "--expires", "1d", "--live-readers", "5"),
    ]
    done = call("list", "--file", path)
    assert done.exit_code == 0
    first, second = (line.split("\t") for line in done.stdout.splitlines())
    assert first[0] == id_of(texts[0])
    assert first[1].startswith("created 20")
    assert first[2:] == ["never expires", "", "append,read:/v1/stream/chat/*"]
    assert second[0] == id_of(texts[1])
    assert second[2].startswith("expires 20")
    assert second[3:] == ["späm", "append,read:/v1/stream/chat/*", "live_readers=5"]
    for text in texts:
        assert text.split("_", 2)[2] not in done.output


def test_list_marks_expired_tokens_and_escapes_names(path: Path) -> None:
    create(path, "--expires", "1d")
    document = json.loads(path.read_text())
    document["tokens"][0] |= {"expires": "2001-01-01T00:00:00Z", "name": "a\x1b[31m"}
    path.write_text(json.dumps(document))
    columns = call("list", "--file", path).stdout.split("\t")
    assert columns[2:4] == ["expired 2001-01-01T00:00:00+00:00", "a\\x1b[31m"]


def test_revoke_removes_one_token(path: Path) -> None:
    first, second = create(path), create(path)
    done = call("revoke", "--file", path, id_of(first))
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"token {id_of(first)} is revoked; send the server SIGHUP" in done.stderr
    assert [stored.id for stored in load(path)] == [id_of(second)]
    again = call("revoke", "--file", path, id_of(first))
    assert again.exit_code == 1
    assert again.stderr == f"durable-streams-server: there is no token {id_of(first)}\n"


@pytest.mark.parametrize("command", ["revoke", "check"])
def test_whole_token_as_argument_is_refused_without_repeating_it(path: Path, command: str) -> None:
    text = create(path)
    more = [] if command == "revoke" else ["read", "/a"]
    done = call(command, "--file", path, text, *more)
    assert done.exit_code == 2
    assert "never pass a whole token" in done.stderr
    assert text not in done.output


@pytest.mark.parametrize("from_stdin", [True, False])
@pytest.mark.parametrize(
    ("verb", "target", "code", "said"),
    [
        ("read", "/v1/stream/chat/a", 0, "yes: the token allows read on /v1/stream/chat/*\n"),
        ("read", "/v1/stream/b", 1, "no: the token allows read only on /v1/stream/chat/*\n"),
        (
            "close",
            "/v1/stream/chat/a",
            1,
            "no: the token allows only append, read on this path\n",
        ),
        ("admin", "/v1/stream/b", 1, "no: the token allows admin nowhere\n"),
    ],
)
def test_check_tells_what_a_token_may_do_and_why(
    path: Path, from_stdin: bool, verb: str, target: str, code: int, said: str
) -> None:
    text = create(path)
    if from_stdin:
        done = call("check", "--file", path, "--token-stdin", verb, target, text=f"{text}\n")
    else:
        done = call("check", "--file", path, id_of(text), verb, target)
    assert (done.exit_code, done.output) == (code, said)


def test_check_of_an_expired_token_says_so(path: Path) -> None:
    text = create(path, "--expires", "1s")
    document = json.loads(path.read_text())
    document["tokens"][0]["expires"] = "2001-01-01T00:00:00Z"
    path.write_text(json.dumps(document))
    done = call("check", "--file", path, id_of(text), "read", "/v1/stream/chat/a")
    assert (done.exit_code, done.output) == (1, "no: the token has expired\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no: this is not a static token"),
        ("a.b.c", "no: this is not a static token"),
        ("dst_000000000000_" + "A" * 43, "no: the file has no such token"),
    ],
)
def test_check_of_another_token_from_stdin_exits_1(path: Path, text: str, said: str) -> None:
    create(path)
    done = call("check", "--file", path, "--token-stdin", "read", "/a", text=text)
    assert done.exit_code == 1
    assert said in done.stderr


def test_check_of_a_known_id_with_a_wrong_secret_exits_1(path: Path) -> None:
    wrong = f"dst_{id_of(create(path))}_{'A' * 43}"
    done = call("check", "--file", path, "--token-stdin", "read", "/a", text=wrong)
    assert done.exit_code == 1
    assert "the file has no such token" in done.stderr
    assert wrong not in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["read", "/a"], "give ID, VERB and PATH"),
        (["--token-stdin", "000000000000", "read", "/a"], "give ID, VERB and PATH"),
        (["000000000000", "write", "/a"], f"VERB must be one of {', '.join(VERBS)}"),
        (["000000000000", "read", "a"], "PATH: the path must begin with a slash"),
        (["000000000000", "read", "/a//b"], "PATH: the path has an empty segment"),
    ],
)
def test_check_with_bad_arguments_exits_2(path: Path, words: list[str], said: str) -> None:
    create(path)
    done = call("check", "--file", path, *words)
    assert done.exit_code == 2
    assert said in done.stderr


def test_check_of_an_unknown_id_exits_1(path: Path) -> None:
    create(path)
    done = call("check", "--file", path, "0" * 12, "read", "/a")
    assert (done.exit_code, done.stderr) == (
        1,
        "durable-streams-server: no: there is no token 000000000000\n",
    )


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["revoke", "0" * 12],
        ["check", "0" * 12, "read", "/a"],
        ["create", "--allow", CHAT],
    ],
)
def test_file_that_cannot_be_used_prints_one_line_and_exits_4(path: Path, words: list[str]) -> None:
    command, *more = words
    path.write_text('{"version": 1, "tokens": [7]}')
    done = call(command, "--file", path, *more)
    assert (done.exit_code, done.stdout) == (4, "")
    said = f"durable-streams-server: {path}: at $.tokens[0]: expected object, got int\n"
    assert done.stderr == said
    missing = path.parent / "missing" / "t.json"
    done = call(command, "--file", missing, *more)
    assert (done.exit_code, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1
    assert "No such file or directory" in done.stderr


URL = "https://host/v1/stream/chat/a?offset=-1"


@pytest.mark.parametrize("way", ["stdin", "environment"])
def test_sign_url_prints_a_url_that_the_server_accepts(path: Path, way: str) -> None:
    text = create(path)
    given = {"text": f"{text}\n"} if way == "stdin" else {"variable": text}
    done = call("sign-url", "--url", URL, **given)
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{URL}&token_id={id_of(text)}&expires=")
    assert text not in done.output
    query = urlsplit(done.stdout.strip()).query
    now = int(time.time() * SECOND)
    claims = verify_url(StaticTokens(load(path)), "/v1/stream/chat/a", query.encode(), now)
    assert claims is not None
    assert claims.expires_at is not None
    assert 240 * SECOND < claims.expires_at - now <= 300 * SECOND


def test_sign_url_takes_a_time_and_a_mount(path: Path) -> None:
    text = create(path)
    flags = ("--expires-in", "1d", "--mount", "/api")
    done = call("sign-url", "--url", "https://h/api/v1/stream/chat/a", *flags, variable=text)
    query = urlsplit(done.stdout.strip()).query
    assert int(parse_qs(query)["expires"][0]) > time.time() + 86_000
    now = int(time.time() * SECOND)
    assert verify_url(StaticTokens(load(path)), "/v1/stream/chat/a", query.encode(), now)


@pytest.mark.parametrize(
    ("flags", "text", "code", "said"),
    [
        (["--url", "/v1/stream/a"], "dst_000000000000_" + "A" * 43, 1, "must begin with https://"),
        (["--url", URL], "hush", 1, "the token is not a static token"),
        (["--url", URL], "", 1, "the token is not a static token"),
        (["--url", URL, "--expires-in", "2d"], "hush", 2, "is not between 1s and 86400s"),
        ([], "hush", 2, "Missing option '--url'"),
    ],
)
def test_sign_url_refuses_what_cannot_be_signed(
    flags: list[str], text: str, code: int, said: str
) -> None:
    done = call("sign-url", *flags, text=text)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert "hush" not in done.output
    assert not text or text not in done.output


def test_variable_of_the_token_is_no_setting_of_the_server() -> None:
    assert TOKEN_VARIABLE == "DURABLE_STREAMS_TOKEN"
    Environment({TOKEN_VARIABLE: "x"}).refuse_unknown([])


def test_every_command_documents_its_exit_codes() -> None:
    for name in ("create", "list", "revoke", "check", "sign-url"):
        assert "Exit codes: 0" in call(name, "--help").stdout


def test_token_commands_belong_to_the_program(path: Path) -> None:
    done = run("token", "create", "--file", str(path), "--allow", CHAT)
    assert done.returncode == 0
    assert [stored.id for stored in load(path)] == [id_of(done.stdout)]


def test_lost_output_of_create_exits_1_and_leaves_a_token_that_can_be_revoked(path: Path) -> None:
    words = ("token", "create", "--file", str(path), "--allow", CHAT)
    command = [sys.executable, "-m", "durable_streams_server", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "what was printed is lost" in done.stderr
    (stored,) = load(path)
    assert call("revoke", "--file", path, stored.id).exit_code == 0
