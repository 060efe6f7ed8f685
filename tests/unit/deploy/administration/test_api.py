# SPDX-License-Identifier: Apache-2.0
"""Which cloud is administered, and what its APIs refuse."""

from __future__ import annotations

import pytest

from dockstack.deploy.administration import api, hosts
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


def test_a_person_names_the_cloud_or_sources_an_openrc(fake, monkeypatch):
    assert api.choose("other", fake.keystone) == "other"
    monkeypatch.setenv("OS_AUTH_URL", "http://elsewhere:5000/v3")
    assert api.choose(None, fake.keystone) == api.FROM_ENVIRONMENT


def test_our_own_cloud_is_taken_unnamed_only_if_nodes_join_that_one(fake):
    assert api.choose(None, fake.keystone) == "dockstack"
    assert api.choose(None, "http://192.0.2.1:5000/v3") is None
    assert [api.is_ours(url) for url in (fake.keystone, "http://192.0.2.1:5000/v3")] == [True, False]


def test_without_clouds_yaml_there_are_no_credentials(monkeypatch, tmp_path):
    monkeypatch.delenv("OS_AUTH_URL", raising=False)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert api.choose(None, "http://192.0.2.1:5000/v3") is None


def test_credentials_of_somebody_else_are_refused(fake):
    fake.administrator = False
    with pytest.raises(DockstackError, match="no administrator's"):
        api.connect("dockstack")


def test_a_cloud_that_is_not_there_is_named(fake):
    with pytest.raises(DockstackError, match="'nowhere' cannot be used"):
        api.connect("nowhere")


def test_refusals_have_their_types(fake, cloud):
    fake.add_host("one")
    fake.add_server("web", "one")
    with pytest.raises(api.ConflictError, match="hosting instances"):
        hosts.delete(cloud, hosts.required(cloud, "one"))
    with pytest.raises(api.NotThereError):
        cloud.compute.call("GET", "/servers/none")
    assert hosts.server(cloud, "none") is None
    with pytest.raises(DockstackError, match="knows no compute host two"):
        hosts.required(cloud, "two")


def test_an_api_that_is_away_is_an_error_of_ours(fake, cloud, monkeypatch):
    monkeypatch.setattr(api, "RETRIES", 0)
    for each in fake.catalogue:
        each["endpoints"][0]["url"] = "http://127.0.0.1:1/"
    with pytest.raises(api.ApiError, match="does not answer") as refused:
        api.connect("dockstack")
    assert refused.value.status == 0
