# SPDX-License-Identifier: Apache-2.0
"""Whom the key of an encrypted volume is asked for as."""

from __future__ import annotations

import nova.context
import pytest
from castellan.common.exception import Forbidden, KeyManagerError, ManagedObjectNotFoundError
from castellan.common.objects.symmetric_key import SymmetricKey
from cinderclient.exceptions import ClientException
from keystoneauth1.exceptions import ConnectFailure
from nova import exception
from nova.volume import cinder

from dockstack.compute.nova_api import keys

SAID = {"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256, "encryption_key_id": "the-key"}


class Manager:
    """A key manager that gives a key to some."""

    def __init__(self, allowed):
        self.allowed, self.asked = allowed, []
        self.refusal = KeyManagerError(reason="Forbidden")

    def get(self, context, key_id):
        who = "user" if context.auth_token else "nova"
        self.asked.append((who, key_id))
        if who not in self.allowed:
            raise self.refusal
        return SymmetricKey("aes", 256, bytes(range(32)))


@pytest.fixture(autouse=True)
def options():
    keys.CONF([], project="nova", default_config_files=[])
    yield
    keys.CONF.reset()


@pytest.fixture
def manager(monkeypatch):
    found = Manager({"user", "nova"})
    monkeypatch.setattr(keys.key_manager, "API", lambda _configuration: found)
    monkeypatch.setattr(cinder.API, "get_volume_encryption_metadata", lambda _self, _context, _volume: SAID)
    monkeypatch.setattr(keys.loading, "load_auth_from_conf_options", lambda _configuration, _group: object())
    return found


@pytest.fixture
def user(monkeypatch):
    context = nova.context.RequestContext("user", "project", auth_token="token", overwrite=False)
    monkeypatch.setattr(keys.oslo_context, "get_current", lambda: context)


@pytest.mark.usefixtures("user")
def test_whoever_asked_nova_is_asked_for_first(manager):
    found = keys.read_encryption("volume")
    assert found.key == bytes(range(32)).hex().encode()
    assert (found.provider, found.cipher, found.bits) == ("luks", "aes-xts-plain64", 256)
    assert manager.asked == [("user", "the-key")]


@pytest.mark.usefixtures("user")
def test_an_administrator_starts_servers_of_others(manager):
    manager.allowed = {"nova"}
    assert keys.read_encryption("volume").key
    assert manager.asked == [("user", "the-key"), ("nova", "the-key")]


def test_after_a_reboot_of_the_host_nobody_asked(manager, monkeypatch):
    monkeypatch.setattr(keys.oslo_context, "get_current", lambda: None)
    assert keys.read_encryption("volume").key
    assert manager.asked == [("nova", "the-key")]


@pytest.mark.usefixtures("user")
def test_a_refusal_says_whose_it_is(manager):
    manager.allowed = set()
    with pytest.raises(keys.NoKey, match=r"does not give the key of volume volume: .*Forbidden"):
        keys.read_encryption("volume")


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    "refusal", [Forbidden(), ManagedObjectNotFoundError(uuid="the-key"), ConnectFailure("nobody listens")]
)
def test_whatever_the_refusal_the_next_one_is_asked_for(manager, refusal):
    manager.refusal, manager.allowed = refusal, {"nova"}
    assert keys.read_encryption("volume").key
    manager.allowed = set()
    with pytest.raises(keys.NoKey, match="does not give the key"):
        keys.read_encryption("volume")


class TestAKeyManagerThatIsStillStarting:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch):
        """Let it answer when the third pause is over."""
        self.pauses, self.now = 0, 1000.0

        def sleep(seconds):
            self.pauses, self.now = self.pauses + 1, self.now + seconds

        monkeypatch.setattr(keys.time, "sleep", sleep)
        monkeypatch.setattr(keys.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(keys, "_patience", keys.Patience())

    @pytest.fixture(params=["silent", "behind a proxy"])
    def failure(self, request):
        if request.param == "silent":
            return ConnectFailure("nobody listens")
        refused = Exception("503 nobody listens")  # as barbicanclient's HTTPServerError
        refused.status_code = 503
        return refused

    @pytest.fixture
    def starting(self, manager, failure, monkeypatch):
        give = manager.get

        def get(context, key_id):
            if self.pauses < 3:
                told = KeyManagerError(reason="nobody listens")
                told.__context__ = failure  # as castellan has it
                raise told
            return give(context, key_id)

        manager.get = get
        monkeypatch.setattr(keys.oslo_context, "get_current", lambda: None)

    @pytest.mark.usefixtures("starting")
    def test_is_waited_for(self):
        assert keys.read_encryption("volume").key
        assert self.pauses == 3

    @pytest.mark.usefixtures("starting")
    def test_is_waited_for_from_the_first_question_on(self):
        self.now += 300
        assert keys.read_encryption("volume").key
        assert self.pauses == 3

    @pytest.mark.usefixtures("starting")
    def test_is_not_waited_for_when_nova_compute_has_been_there_for_long(self):
        self.now += 700
        with pytest.raises(keys.NoKey, match="nobody listens"):
            keys.read_encryption("volume")
        assert self.pauses == 0

    @pytest.mark.usefixtures("starting", "user")
    def test_keeps_no_user_waiting(self):
        with pytest.raises(keys.NoKey, match="nobody listens"):
            keys.read_encryption("volume")
        assert self.pauses == 0

    def test_is_not_one_that_refuses(self, manager):
        manager.allowed = set()
        with pytest.raises(keys.NoKey, match="Forbidden"):
            keys.read_encryption("volume")
        assert self.pauses == 0

    @pytest.mark.parametrize(
        "failure",
        [exception.CinderConnectionFailed(reason="refused"), ClientException(503)],
        ids=["silent", "behind a proxy"],
    )
    def test_and_so_is_cinder_waited_for(self, manager, monkeypatch, failure):
        def answer(_self, _context, _volume):
            if self.pauses < 2:
                raise failure
            return SAID

        monkeypatch.setattr(cinder.API, "get_volume_encryption_metadata", answer)
        monkeypatch.setattr(keys.oslo_context, "get_current", lambda: None)
        assert keys.read_encryption("volume").key
        assert self.pauses == 2


def test_a_class_of_os_brick_is_a_provider(manager, monkeypatch):
    said = {**SAID, "provider": "os_brick.encryptors.cryptsetup.CryptsetupEncryptor"}
    monkeypatch.setattr(cinder.API, "get_volume_encryption_metadata", lambda _self, _context, _volume: said)
    assert keys.read_encryption("volume").provider == "plain"
