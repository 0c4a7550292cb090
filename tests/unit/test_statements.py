"""The numbered statements: complete, well-formed, shipped, and shown in the documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from netpoll.backends import NAMES
from netpoll.testing.statements import EVIDENCE, OTHERS, UNDECIDED, Statement, load, parse

ROOT = Path(__file__).resolve().parents[2]

FAMILIES = {
    "PORT": 30,
    "ASSOC": 16,
    "MODE": 9,
    "OVL": 18,
    "APC": 5,
    "THR": 3,
    "XFER": 9,
    "RECV": 20,
    "SEND": 9,
    "UDP": 12,
    "CLOSE": 9,
    "ACC": 17,
    "CON": 11,
    "DIS": 4,
    "TXF": 6,
    "CAN": 15,
    "PIPE": 5,
    "FILE": 2,
    "WAIT": 3,
    "LIB": 9,
    "EMU": 35,
}


def entry(name: str = "RECV-05", evidence: str = '["windows"]', text: str = "It resets.") -> str:
    return f'[section.statements.{name}]\nevidence = {evidence}\ntext = """{text}"""\n'


def section(*entries: str) -> str:
    return "\n".join(['[[section]]\ntitle = "Stream receive"', *entries])


def test_every_family_is_complete() -> None:
    statements = load()
    assert Counter(statement.family for statement in statements.values()) == FAMILIES
    assert len(statements) == 247
    for family, count in FAMILIES.items():
        assert [f"{family}-{number:02}" for number in range(1, count + 1)] == [
            name for name in statements if name.startswith(f"{family}-")
        ]


def test_every_statement_can_be_read() -> None:
    for name, statement in load().items():
        assert statement.id == name
        assert statement.section
        assert statement.text.endswith("."), name
        assert 20 < len(statement.text) < 400, name
        assert "\n" not in statement.text + statement.wine
        assert set(statement.evidence) <= set(EVIDENCE)
        # Only its own rules rest on nothing that Windows does.
        assert ("emulation" in statement.evidence) == (statement.family == "EMU")
        if "windows-not-wine" in statement.evidence:
            assert statement.wine, f"{name}: say how Wine differs"


def test_no_statement_is_written_twice() -> None:
    texts = Counter(statement.text for statement in load().values())
    assert max(texts.values()) == 1


def test_a_suite_may_bring_its_own() -> None:
    statements = parse(section(entry(), entry("RECV-06", text="One\n  paragraph.")))
    assert list(statements) == ["RECV-05", "RECV-06"]
    assert statements["RECV-06"].text == "One paragraph."
    assert statements["RECV-05"].section == "Stream receive"
    assert statements["RECV-05"].wine == ""
    assert parse("") == {}


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (section(entry("recv-5")), "not an id"),
        (section(entry("RECV-5")), "not an id"),
        (section(entry()) + section(entry()), "twice"),
        (section(entry(), entry()), "RECV-05|overwrite"),
        (section(entry(evidence='["hearsay"]')), "hearsay"),
        (section(entry(evidence="[]")), "evidence"),
        (section(entry(text=" ")), "says nothing"),
        ("not toml", "Expected"),
    ],
)
def test_what_is_wrong_is_named(source: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(source)


def test_the_page_in_the_documentation_is_fresh() -> None:
    script = ROOT / "tools" / "statements_doc.py"
    if not script.exists():
        pytest.skip("the tools are not part of what is installed here")
    ran = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


# -- verdicts --------------------------------------------------------------------------------------

SUITE = ROOT / "tests" / "conformance"


def marked() -> set[str]:
    """The ids that the marks of the suite name."""
    marks = re.compile(r"statement\(([^)]*)\)")
    texts = [path.read_text(encoding="utf-8") for path in SUITE.glob("test_*.py")]
    named = " ".join(mark for text in texts for mark in marks.findall(text))
    return set(re.findall(r"[A-Z]+-\d\d", named))


@pytest.mark.parametrize("backend", NAMES)
def test_each_statement_has_a_test_or_a_reason_on_each_backend(backend: str) -> None:
    without = {name for name, each in load().items() if each.reason(backend) is not None}
    silent = set(load()) - marked() - without
    assert not silent, f"on {backend} neither a test nor a reason: {sorted(silent)}"


def test_no_statement_is_marked_that_no_backend_decides() -> None:
    nowhere = {name for name, each in load().items() if all(map(each.reason, NAMES))}
    assert marked() & nowhere == set()


def test_a_part_without_a_test_is_one_of_a_statement_with_tests() -> None:
    partly = {name for name, each in load().items() if each.rest is not None}
    assert partly
    assert partly <= marked()


def test_most_of_what_windows_does_with_sockets_is_decided() -> None:
    core = [name for name, each in load().items() if each.core]
    assert len(core) == 193
    assert len(marked() & set(core)) >= 0.85 * len(core)


def test_a_reason_is_one_of_few() -> None:
    assert load()["LIB-03"].undecided[OTHERS].kind in UNDECIDED
    with pytest.raises(ValueError, match="platform cannot"):
        parse(section(entry().replace("text", 'undecided = "too hard"\nwhy = "it is"\ntext')))
    with pytest.raises(ValueError, match="with a why"):
        parse(section(entry().replace("text", 'undecided = "platform cannot"\ntext')))


def with_lines(*lines: str) -> Statement:
    """A statement with these lines of TOML as well."""
    return parse(section(entry().replace("text", "\n".join([*lines, "text"]))))["RECV-05"]


def test_a_reason_may_be_one_of_a_single_backend() -> None:
    statement = with_lines('undecided.iocp = "needs real Windows"', 'why.iocp = "Wine is old"')
    assert str(statement.reason("iocp")) == "needs real Windows: Wine is old"
    assert statement.reason("iocp (Wine 8.0)") == statement.reason("iocp")
    assert statement.reason("io_uring") is statement.reason("selectors-epoll") is None


def test_the_others_are_those_that_are_not_named() -> None:
    statement = with_lines(
        'undecided = { io_uring = "cannot be observed", others = "platform cannot" }',
        'why = { io_uring = "a hint", others = "there is no such call" }',
    )
    assert str(statement.reason("io_uring")) == "cannot be observed: a hint"
    for column in ("selectors-poll", "selectors-select (Wine 8.0)", "iocp"):
        assert str(statement.reason(column)) == "platform cannot: there is no such call"


def test_a_part_may_have_a_reason() -> None:
    statement = with_lines('rest = "needs a second machine"', 'why = "a router"')
    assert str(statement.rest) == "needs a second machine: a router"
    assert statement.reason("iocp") is None


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (['undecided.kqueue = "platform cannot"', 'why.kqueue = "no"'], "no backend is called"),
        (['undecided.iocp = "platform cannot"', 'why.io_uring = "no"'], "with a why"),
        (['rest = "too hard"', 'why = "it is"'], "rest is one of"),
        (['why = "nobody knows"'], "one of undecided and rest"),
        (['rest = "platform cannot"', 'undecided = "platform cannot"', 'why = "no"'], "one of"),
    ],
)
def test_a_reason_that_is_none_is_named(lines: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        with_lines(*lines)
