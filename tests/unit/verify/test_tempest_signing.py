# SPDX-License-Identifier: Apache-2.0
"""The signed image of Tempest's test: what Nova will make of it, for whom it is, and what is left of it."""

from __future__ import annotations

import base64
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from openstack import exceptions as sdk_errors
from test_tempest_set_up import FACTS, TESTS

from dockstack.verify.tempest import signing
from dockstack.verify.tempest.configuration import build, of_signed_image
from dockstack.verify.tempest.model import SignedImage
from dockstack.verify.tempest.selection import SIGNED, Choice, select
from dockstack.verify.tempest.workspace import Workspace

pytestmark = pytest.mark.unit

(TEST,) = SIGNED
KEY = rsa.generate_private_key(65537, 2048)


class Cloud:
    """Keystone, Neutron, Glance and Barbican, as far as they are asked; who asked stands before each line."""

    def __init__(self, user="admin", log=None):
        self.user, self.log = user, [] if log is None else log
        self.identity = self.network = self.image = self.key_manager = self

    def connect_as(self, **auth):
        return Cloud(f"{auth['username']} in {auth['project_name']}", self.log)

    def find_role(self, name, ignore_missing):
        return name

    def assign_project_role_to_user(self, project, user, role):
        self.log.append((self.user, "role", f"{user.name} is {role} of {project.name}"))

    def delete_secret(self, secret):
        self.log.append((self.user, "delete_secret", secret))

    def __getattr__(self, name):
        kind = name.removeprefix("create_")

        def make(*names, **attributes):
            attributes |= {"name": names[0]} if names else {}
            self.log.append((self.user, name, attributes))
            return SimpleNamespace(id=f"{kind}-id", secret_id="secret-id", **attributes)

        return make

    def made(self, what):
        return [(user, details) for user, did, details in self.log if did == what]


@pytest.fixture
def facts(tmp_path):
    file = tmp_path / "image.tar.zst"
    file.write_bytes(b"an image")
    return replace(FACTS, services=FACTS.services | {"key-manager"}, image_file=file)


def test_it_is_signed_by_a_certificate_that_its_project_may_read(facts, tmp_path):
    cloud = Cloud()
    with signing.signed_image(cloud, facts, tmp_path, print) as signed:
        assert (signed.image, signed.certificate) == ("image-id", "secret-id")
    ((owner, secret),), ((uploader, image),) = cloud.made("create_secret"), cloud.made("create_image")
    assert owner == uploader
    assert owner.endswith(f" in {image['name']}")
    kept = x509.load_pem_x509_certificate(base64.b64decode(secret["payload"]))
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    kept.public_key().verify(base64.b64decode(image["img_signature"]), b"an image", scheme, hashes.SHA256())
    with pytest.raises(InvalidSignature):
        kept.public_key().verify(base64.b64decode(image["img_signature"]), b"another", scheme, hashes.SHA256())
    assert image["img_signature_certificate_uuid"] == "secret-id"
    assert cloud.made("delete_secret") == [(owner, "secret-id")]


def test_what_a_killed_run_leaves_is_swept_or_ends_by_itself(facts, tmp_path):
    cloud = Cloud()
    with pytest.raises(KeyboardInterrupt), signing.signed_image(cloud, facts, tmp_path, print):
        raise KeyboardInterrupt
    for kind in ("project", "user", "network", "image"):
        assert all(made["name"].startswith("tempest-") for _, made in cloud.made(f"create_{kind}")), kind
    (_, secret), *_ = cloud.made("create_secret")
    assert secret["expiration"]
    assert len(cloud.made("delete_secret")) == 1


@pytest.mark.parametrize("refused", ["create_secret", "create_image"])
def test_a_cloud_that_refuses_it_has_the_other_tests_run_and_nothing_of_it_stays(facts, tmp_path, monkeypatch, refused):
    cloud, said = Cloud(), []

    def refuse(*_names, **_attributes):
        raise sdk_errors.BadRequestException("Unable to load PEM file")

    monkeypatch.setattr(Cloud, refused, refuse, raising=False)
    with signing.signed_image(cloud, facts, tmp_path, said.append) as signed:
        assert signed is None
        assert len(cloud.made("delete_secret")) == len(cloud.made("create_secret"))
    assert len(cloud.made("delete_secret")) == (refused == "create_image")
    assert ["Tempest skips its test" in each and "PEM" in each for each in said] == [True]


def test_a_secret_that_cannot_be_removed_does_not_cost_the_report(facts, tmp_path, monkeypatch):
    said = []

    def refuse(*_):
        raise sdk_errors.HttpException("503: Service Unavailable")

    monkeypatch.setattr(Cloud, "delete_secret", refuse)
    with signing.signed_image(Cloud(), facts, tmp_path, said.append) as signed:
        assert signed
    assert ["secret-id" in each and "503" in each for each in said] == [True]


def test_tempest_has_a_member_and_a_reader_of_one_project(facts, tmp_path):
    taken = tmp_path / "locks/test_accounts/hash"
    taken.parent.mkdir(parents=True)
    taken.touch()
    with signing.signed_image(Cloud(), facts, tmp_path, print) as signed:
        accounts = yaml.safe_load(signed.accounts.read_text())
    assert [each["roles"] for each in accounts] == [["member"], ["reader"]]
    assert len({each["project_name"] for each in accounts}) == 1
    assert signed.accounts.stat().st_mode & 0o777 == 0o600
    assert not taken.exists(), "a killed run has them for ever"


def test_where_no_key_manager_is_there_is_none_and_tempest_says_so(tmp_path):
    cloud = Cloud()
    with signing.signed_image(cloud, FACTS, tmp_path, print) as signed:
        assert signed is None
    assert cloud.log == []
    settings = build(FACTS, {}, tmp_path)
    assert of_signed_image(settings, None) == settings


def test_its_certificate_is_one_that_nova_trusts():
    made = x509.load_pem_x509_certificate(signing.certificate(KEY, "x"))
    made.verify_directly_issued_by(made)
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert made.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_the_test_has_a_round_and_a_configuration_of_its_own(tmp_path):
    selection = select((f"{TEST}[id-9]", *TESTS), Choice(), {})
    assert selection.signed
    assert selection.rounds == (TESTS, (f"{TEST}[id-9]",))
    assert not select(TESTS, Choice(), {}).signed
    settings = build(FACTS, {}, tmp_path)
    found = of_signed_image(settings, SignedImage("image", "certificate", tmp_path / "accounts.yaml"))
    assert (found["auth"]["use_dynamic_credentials"], settings["auth"]["use_dynamic_credentials"]) == ("false", "true")
    assert found["compute"]["certified_image_trusted_certs"] == "certificate"
    workspace = Workspace(tmp_path)
    assert workspace.of_signed_images.variables()["TEMPEST_CONFIG"] == "signed-images.conf"
    assert workspace.variables()["TEMPEST_CONFIG"] == "tempest.conf"
