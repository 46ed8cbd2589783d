"""The key ring: checked with advice and without a word of a key, and taken up when its file changes."""

import base64
import json
import os
import threading
import traceback
from pathlib import Path
from unittest import mock

import pytest
from pydantic import BaseModel, SecretStr, ValidationError
from typer.testing import CliRunner

from ai_admin.cli import app
from ai_admin.config import SECRET_NAME, ConfigError, load_settings, readings
from ai_admin.vault.ciphertext import Context, VaultError
from ai_admin.vault.keyring import Key, KeyRing, KeyRingInvalid, new_key_entry
from ai_admin.vault.mounted import INTERVAL, MountedKeyRing, load_key_ring
from tests.conftest import write_mount
from tests.keyrings import entry, logged, ring_of, text_of

KEY = b"canary-key-canary-key-canary-key"
BASE64 = base64.b64encode(KEY).decode()
FIRST = entry("2026-11", KEY, "primary")
SECOND = entry("2026-12", b"2" * 32)
SECRET = {"PG_HOST": "db.example", "CURSOR_KEY": base64.b64encode(b"curs" * 8).decode()}
PLACE = f"It is read from /secrets/<namespace>/{SECRET_NAME}/VAULT_KEYS."
CONTEXT = Context("t", "c", "r")


def fault(text: str) -> str:
    """What is wrong with a text, after asserting that neither message nor crash report shows anything of the key."""
    with pytest.raises(KeyRingInvalid) as caught:
        KeyRing.parse(SecretStr(text))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None, "Pydantic's error holds the text"
    ours = traceback.TracebackException(KeyRingInvalid, caught.value, caught.tb.tb_next, capture_locals=True)
    for shown in (str(caught.value), "".join(ours.format())):
        assert "canary" not in shown
        assert not any(BASE64[at : at + 6] in shown for at in range(len(BASE64) - 6))
    return str(caught.value)


def test_a_good_ring() -> None:
    """Ids, states and the one that seals."""
    ring = ring_of(SECOND, FIRST, entry("2026.10_b", b"3" * 32, "retired"))
    assert [(key.id, key.state) for key in ring.keys] == [
        ("2026-12", "active"), ("2026-11", "primary"), ("2026.10_b", "retired")]  # fmt: skip
    assert (ring.primary.id, ring.primary.key.get_secret_value()) == ("2026-11", KEY)
    assert ring.find("2026-12") is ring.keys[0]
    assert ring.find("2027-01") is None


def test_digests_differ_by_key_and_purpose() -> None:
    """A digest is found again after the primary key has changed, and never by another value or for another purpose."""
    before, after = ring_of(FIRST, SECOND), ring_of(FIRST | {"state": "retired"}, SECOND | {"state": "primary"})
    digests = before.digests(b"value", b"a")
    assert after.digests(b"value", b"a") == digests[::-1]
    assert not set(digests) & {*before.digests(b"value", b"b"), *before.digests(b"other", b"a")}
    assert len(set(digests)) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Invalid JSON: EOF while parsing a value at line 1 column 0; write it as {"),
        (f"2026-11: {BASE64}", "Invalid JSON: trailing characters at line 1 column 5; write it as {"),
        (BASE64, "Invalid JSON: expected value at line 1 column 1; write it as {"),
        (json.dumps(BASE64), "Input should be an object; write it as {"),
        (json.dumps([FIRST]), "Input should be an object; write it as {"),
        ("{}", "keys is missing; add it"),
        (json.dumps({BASE64: "primary"}), "keys is missing; add it; the ring has a member that does not belong there"),
        (json.dumps({"keys": {"2026-11": BASE64}}), "keys: Input should be a valid array"),
        (json.dumps({"keys": [BASE64]}), "keys[0]: Input should be an object; write it as {"),
        (text_of(), "no key is primary; make the one that is to seal primary"),
        (text_of(entry("a", KEY)), "no key is primary"),
        (text_of(entry("a", KEY, "retired")), "no key is primary"),
        (text_of(FIRST, SECOND | {"state": "primary"}), "2026-11 and 2026-12 are primary; leave one, and make the oth"),
        (text_of(FIRST, SECOND | {"id": "2026-11"}), "the id 2026-11 stands twice; give each key an id of its own"),
        (text_of(FIRST, SECOND | {"key": BASE64}), "2026-11 and 2026-12 are the same key; make a new one for each id"),
        (text_of(FIRST | {"state": "Primary"}), "keys[0].state must be primary, active or retired"),
        (text_of(FIRST | {"state": BASE64}), "keys[0].state must be primary, active or retired"),
        (text_of(FIRST | {BASE64: "x"}), "keys[0] has a member that does not belong there; take it out"),
        (text_of(SECOND, entry("b", KEY[1:])), "keys[1].key: must be 32 bytes in base64, not 31"),
        (text_of(entry("a", KEY + b"y")), "keys[0].key: must be 32 bytes in base64, not 33"),
        (text_of(FIRST | {"key": ""}), "keys[0].key: must be 32 bytes in base64, not 0"),
        (text_of(FIRST | {"key": KEY.decode()}), "keys[0].key: must be base64"),
        (text_of(FIRST | {"key": BASE64[:-1]}), "keys[0].key: must be base64"),
        (text_of(FIRST | {"key": BASE64 + "\n"}), "keys[0].key: must be base64"),
        (text_of(FIRST | {"key": BASE64 + "\u00e9"}), "keys[0].key: must be base64"),
        (json.dumps({"keys": [FIRST | {"key": 5}]}), "keys[0].key: must be base64 in quotes"),
        (json.dumps({"keys": [FIRST | {"key": [BASE64]}]}), "keys[0].key: must be base64 in quotes"),
        (json.dumps({"keys": [{"id": "a"}]}), "keys[0].key is missing; add it; keys[0].state is missing; add it"),
        (json.dumps({"keys": [FIRST | {"id": 2026}]}), "keys[0].id: Input should be a valid string"),
    ],
)  # fmt: skip
def test_faults_are_told_with_what_to_do(text: str, told: str) -> None:
    """The operator mends the ring by the message alone, which may end in anyone's log."""
    assert told in fault(text)


@pytest.mark.parametrize("key_id", ["", "A", "-a", ".a", "a b", "a/b", "\u00e9", "a" * 33, "a\n", "a\\b", BASE64])
def test_ids_of_another_form(key_id: str) -> None:
    """An id stands in ciphertexts, indexes and logs. One that is a key by mistake is not repeated."""
    assert "keys[0].id: must be 1 to 32 of a-z" in fault(text_of(FIRST | {"id": key_id}))
    with pytest.raises(ValueError, match="must be 1 to 32 of a-z"):
        new_key_entry(key_id)


def test_a_ring_cut_anywhere_is_refused_in_silence() -> None:
    """A file that was half written, or half copied, is told of without what stands in it."""
    text = text_of(SECOND, FIRST)
    for length in range(len(text)):
        fault(text[:length])
        fault(text[length + 1 :])


@pytest.mark.parametrize("model", [KeyRing, Key])
def test_whoever_validates_without_parse_shows_no_key(model: type[BaseModel]) -> None:
    """Pydantic quotes what is wrong, unless it is told not to."""
    for fields in (FIRST | {"key": KEY.decode()}, FIRST | {"state": KEY.decode()}):
        with pytest.raises(ValidationError) as caught:
            model.model_validate({"keys": [fields]} if model is KeyRing else fields)
        assert "canary" not in str(caught.value)


def test_a_retired_key_neither_seals_nor_opens_until_it_is_active_again() -> None:
    """Retiring is a way back: no value is lost while the key stands in the ring."""
    ciphertext = ring_of(FIRST).seal(b"value", CONTEXT)
    retired = ring_of(FIRST | {"state": "retired"}, SECOND | {"state": "primary"})
    with pytest.raises(VaultError):
        retired.open(ciphertext, CONTEXT)
    again = ring_of(FIRST | {"state": "active"}, SECOND | {"state": "primary"})
    assert again.open(ciphertext, CONTEXT) == b"value"


def test_a_new_key_is_added_as_it_is() -> None:
    """Made with the system's random numbers, and active: nothing is sealed with it before everyone has it."""
    made = [new_key_entry(f"k{number}") for number in range(100)]
    ring = ring_of(FIRST, *made)
    assert {key.state for key in ring.keys[1:]} == {"active"}
    assert len({entry["key"] for entry in made}) == 100


# In the Secret


def test_a_ring_in_the_secret(tmp_path: Path) -> None:
    """The setting is required, checked at start, and masked."""
    with pytest.raises(ConfigError, match="VAULT_KEYS: is missing; add the key"):
        load_settings(write_mount(tmp_path, SECRET, {}))
    root = write_mount(tmp_path, {"VAULT_KEYS": text_of(FIRST) + "\n"}, {})
    assert "canary" not in repr(load_settings(root))
    (reading,) = [reading for reading in readings(root) if reading.key == "VAULT_KEYS"]
    assert (reading.shown, reading.fault) == ("********", None)
    assert load_key_ring(root) == ring_of(FIRST)


def test_a_bad_ring_stops_the_start(tmp_path: Path) -> None:
    """A service without its keys says so when it starts, as `config check` does, and not at the first credential."""
    root = write_mount(tmp_path, SECRET | {"VAULT_KEYS": text_of(FIRST | {"key": BASE64[4:]})}, {})
    with pytest.raises(ConfigError) as caught:
        load_settings(root)
    told = "keys[0].key: must be 32 bytes in base64, not 29"
    assert str(caught.value) == f"VAULT_KEYS: Value error, {told}. {PLACE}"
    result = CliRunner().invoke(app, ["config", "check", "--root", str(root)])
    assert result.exit_code == 1
    assert told in " ".join(result.output.split())
    assert BASE64[4:] not in result.output
    with pytest.raises(ConfigError) as caught:
        load_key_ring(root)
    assert str(caught.value) == f"VAULT_KEYS: {told}. {PLACE}"


@pytest.mark.parametrize("content", [None, b"", b"\n"])
def test_without_a_ring_there_is_no_vault(tmp_path: Path, content: bytes | None) -> None:
    """Whoever needs the vault is told what is missing and where it belongs."""
    root = write_mount(tmp_path, SECRET, {})
    if content is not None:
        (root / "secrets" / "default" / SECRET_NAME / "VAULT_KEYS").write_bytes(content)
    for load in (load_key_ring, MountedKeyRing):
        with pytest.raises(ConfigError) as caught:
            load(root)
        assert str(caught.value) == f"VAULT_KEYS: is missing; add the key. {PLACE}"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Told with the reason; Python's own error of a text that is not UTF-8 holds the whole text."""
    file = write_mount(tmp_path, SECRET, {}) / "secrets" / "default" / SECRET_NAME / "VAULT_KEYS"
    file.write_bytes(KEY + b"\xff")
    with pytest.raises(ConfigError, match="VAULT_KEYS: is not UTF-8; write it as JSON") as caught:
        load_key_ring(tmp_path)
    assert caught.value.__context__ is None
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match="VAULT_KEYS: cannot be read: Is a directory"):
        load_key_ring(tmp_path)


# Changed under a running process


class Pod:
    """A mounted Secret that is swapped as the kubelet does it, and a clock that is set by hand."""

    def __init__(self, root: Path, text: str) -> None:
        self.now = 0.0
        self._root = root
        self._folder = root / "secrets" / "default" / SECRET_NAME
        self._folder.mkdir(parents=True)
        self._revisions = 0
        self.swap(text)
        self.file = self._folder / "VAULT_KEYS"
        self.file.symlink_to("..data/VAULT_KEYS")

    def swap(self, text: str) -> None:
        """A new folder, then the link to it renamed over the old one."""
        self._revisions += 1
        revision = self._folder / f"..revision-{self._revisions}"
        revision.mkdir()
        (revision / "VAULT_KEYS").write_text(text)
        link = self._folder / "..data_tmp"
        link.symlink_to(revision.name)
        link.rename(self._folder / "..data")

    def ring(self) -> MountedKeyRing:
        """The ring by this pod's clock."""
        return MountedKeyRing(self._root, lambda: self.now)

    def a_second_later(self) -> None:
        """Time for the next look."""
        self.now += INTERVAL


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """A pod with one key."""
    return Pod(tmp_path, text_of(FIRST))


def ids(ring: MountedKeyRing) -> list[str]:
    """The ids of the ring in force."""
    return [key.id for key in ring.current().keys]


def test_a_swapped_secret_is_taken_up(pod: Pod) -> None:
    """A key is added without a restart, and the log says when this process has it."""
    ring = pod.ring()
    before = ring.current()
    pod.swap(text_of(FIRST, SECOND))
    pod.a_second_later()
    with logged() as lines:
        assert ids(ring) == ["2026-11", "2026-12"]
    line = json.loads(lines.getvalue())
    assert (line["event"], line["level"]) == ("the key ring changed", "INFO")
    assert line["keys"] == {"2026-11": "primary", "2026-12": "active"}
    assert [key.id for key in before.keys] == ["2026-11"], "work in hand keeps the ring that it began with"


def test_a_file_that_is_written_over_is_taken_up(pod: Pod) -> None:
    """Not every file is a link: in a local run somebody edits it, and the length may be the same."""
    ring = pod.ring()
    pod.file.write_text(text_of(FIRST | {"id": "2026-99"}))
    os.utime(pod.file, ns=(1, 1))
    pod.a_second_later()
    assert ids(ring) == ["2026-99"]


def test_a_swap_that_only_the_inode_shows_is_taken_up(pod: Pod) -> None:
    """Two revisions of one length may bear one time stamp, as where a tool sets it."""
    os.utime(pod.file, ns=(1, 1))
    ring = pod.ring()
    pod.swap(text_of(FIRST | {"id": "2026-99"}))
    os.utime(pod.file, ns=(1, 1))
    pod.a_second_later()
    assert ids(ring) == ["2026-99"]


def test_the_file_is_looked_at_once_a_second(pod: Pod) -> None:
    """Sealing and opening wait for no file: in between the ring is at hand."""
    ring = pod.ring()
    pod.swap(text_of(FIRST, SECOND))
    pod.now += INTERVAL * 0.99
    assert ids(ring) == ["2026-11"]
    pod.now += INTERVAL * 0.02
    assert ids(ring) == ["2026-11", "2026-12"]
    pod.swap(text_of(FIRST))
    pod.now += INTERVAL * 0.99
    assert ids(ring) == ["2026-11", "2026-12"]


def test_an_unchanged_file_is_not_read(pod: Pod) -> None:
    """A look costs a stat: the same ring stays, and nothing is logged."""
    ring = pod.ring()
    before = ring.current()
    with logged() as lines:
        for _ in range(3):
            pod.a_second_later()
            assert ring.current() is before
    assert lines.getvalue() == ""


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (text_of(FIRST | {"key": SECOND["key"]}), "2026-11: another key had this id; give a new key a new id"),
        (text_of(FIRST | {"key": BASE64[4:]}), "keys[0].key: must be 32 bytes in base64, not 29"),
        (text_of(FIRST)[:-9], "Invalid JSON"),
        ("", "is missing; add the key"),
        (None, "is missing; add the key"),
    ],
)
def test_a_wrong_ring_changes_nothing_and_is_logged_once(pod: Pod, broken: str | None, told: str) -> None:
    """A typing error in a running deployment loses no request; the log says it, once and without the key."""
    ring = pod.ring()
    before = ring.current()
    if broken is None:
        pod.file.unlink()
    else:
        pod.swap(broken)
    with logged() as lines:
        for _ in range(3):
            pod.a_second_later()
            assert ring.current() is before
    (line,) = map(json.loads, lines.getvalue().splitlines())
    assert line["level"] == "ERROR"
    assert told in line["event"]
    assert "canary" not in lines.getvalue()
    assert BASE64[4:] not in lines.getvalue()


def test_each_wrong_change_is_logged_and_the_right_one_taken_up(pod: Pod) -> None:
    """The operator who tries again sees each try fail or succeed."""
    ring = pod.ring()
    with logged() as lines:
        for text in ("{", "[]", text_of(FIRST, SECOND), "3", text_of(SECOND | {"state": "primary"})):
            pod.swap(text)
            pod.a_second_later()
            ring.current()
            pod.a_second_later()
            ring.current()
    levels = [json.loads(line)["level"] for line in lines.getvalue().splitlines()]
    assert levels == ["ERROR", "ERROR", "INFO", "ERROR", "INFO"]
    assert ids(ring) == ["2026-12"]


def test_a_file_that_was_read_half_written_is_read_again(pod: Pod) -> None:
    """Whoever writes in place is caught in the middle, and both halves may bear one time stamp and length."""
    ring = pod.ring()
    whole = text_of(FIRST, SECOND)
    pod.file.write_text(whole[:90].ljust(len(whole)))
    os.utime(pod.file, ns=(1, 1))
    pod.a_second_later()
    assert ids(ring) == ["2026-11"]
    pod.file.write_text(whole)
    os.utime(pod.file, ns=(1, 1))
    pod.a_second_later()
    assert ids(ring) == ["2026-11", "2026-12"]


def follow(pod: Pod, ring: MountedKeyRing, *changes: str) -> tuple[list[bool], list[float]]:
    """What a thread that follows the file tells after each change, and how long it rests before each look."""
    told: list[bool] = []
    rests: list[float] = []
    left = list(changes)

    def pause(seconds: float) -> bool:
        rests.append(seconds)
        if not left:
            return True
        pod.swap(left.pop(0))
        return False

    ring.follow(told.append, pause)
    return told, rests


def test_follow_without_any_use_takes_up_a_changed_ring(pod: Pod) -> None:
    """A process without requests has the new key before another one seals with it, and its log says so in time."""
    ring = pod.ring()
    with logged() as lines:
        told, rests = follow(pod, ring, text_of(FIRST, SECOND))
    assert json.loads(lines.getvalue())["keys"] == {"2026-11": "primary", "2026-12": "active"}
    # No clock has moved: nothing but the thread has looked.
    assert ids(ring) == ["2026-11", "2026-12"]
    assert told == [False]
    assert all(0 < rest < INTERVAL for rest in rests)


def test_follow_with_a_wrong_ring_tells_until_it_is_mended(pod: Pod) -> None:
    """The operator learns of the mistake before anybody's request does, and the good ring serves meanwhile."""
    ring = pod.ring()
    with logged() as lines:
        told, _ = follow(pod, ring, "{", text_of(FIRST | {"key": SECOND["key"]}), text_of(FIRST))
    assert told == [True, True, False]
    assert [json.loads(line)["level"] for line in lines.getvalue().splitlines()] == ["ERROR", "ERROR", "INFO"]
    assert ids(ring) == ["2026-11"]


def test_follow_after_an_unexpected_error_goes_on(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that had ended would leave the process with its old ring, unnoticed."""
    ring = pod.ring()
    monkeypatch.setattr(ring, "_look", mock.Mock(side_effect=[OSError("disk"), None]))
    with logged() as lines:
        told, _ = follow(pod, ring, text_of(FIRST), text_of(FIRST, SECOND))
    assert "could not be looked at" in lines.getvalue()
    assert len(told) == 1


def test_threads_share_a_ring(pod: Pod) -> None:
    """Whoever asks while another thread reads the file gets a whole ring, the old or the new."""
    ring = pod.ring()
    seen: set[tuple[str, ...]] = set()
    failed: list[BaseException] = []
    stop = threading.Event()

    def ask() -> None:
        try:
            while not stop.is_set():
                pod.a_second_later()
                seen.add(tuple(ids(ring)))
        except BaseException as error:  # noqa: BLE001  whatever it is, the test reports it
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(50):
        pod.swap(text_of(FIRST, SECOND) if number % 2 else text_of(FIRST))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert seen <= {("2026-11",), ("2026-11", "2026-12")}
    pod.a_second_later()
    assert ids(ring) == ["2026-11", "2026-12"]
