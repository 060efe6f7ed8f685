# SPDX-License-Identifier: Apache-2.0
"""What a report holds is chosen by name, and no secret is in it, whoever said one."""

from __future__ import annotations

import json

import pytest

from dockstack.deploy.hypervisors.engine_obstacles import EngineFacts
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument
from dockstack.deploy.wanted.cloud_keys import CLOUD_KEYS
from dockstack.doctor import report

pytestmark = pytest.mark.unit

ALL_SECRETS = {key.name: f"hush-{number}-{'x' * 8}" for number, key in enumerate(CLOUD_KEYS) if key.secret}


def test_of_an_engine_only_what_is_named_is_told(healthy):
    info = {"ServerVersion": "26.1.5", "HttpProxy": "http://me:hush-hush@proxy", "Labels": ["token=hush-hush"]}
    file = json.dumps({"proxies": {"http-proxy": "http://me:hush-hush@proxy"}})
    engine = EngineFacts(info=info, flags={"log-opt": "token=hush-hush"}, file=file)
    told = report.of_machine(healthy(machine={"engine": engine}))
    assert told["engine"] == {"ServerVersion": "26.1.5"}
    assert told["engine_file_keys"] == ["proxies"]
    assert told["engine_flags"] == ["log-opt"]
    assert "hush" not in json.dumps(told)


def test_no_secret_of_a_document_is_written_even_if_something_says_it(tmp_path):
    document = CloudDocument([SourceValues("test", ALL_SECRETS)])
    said = {"problem": " ".join(ALL_SECRETS.values()), "url": "amqp://user:word-of-a-url@host/"}
    report.write(tmp_path / "report", said, {"facts": {"log": list(ALL_SECRETS.values())}}, document)
    text = (tmp_path / "report").read_text()
    assert "hush" not in text
    assert "word-of-a-url" not in text
    assert json.loads(text)["cloud_document"]["accounts.nova.password"] == {"value": True, "from": "test"}


def test_a_secret_is_found_as_json_writes_it():
    assert "\\n" not in report.without(json.dumps("-----KEY\nabcdefgh\n"), ["-----KEY\nabcdefgh\n"])


def test_a_report_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(report.DockstackError, match="cannot be written"):
        report.write(tmp_path / "file" / "report", {}, {}, None)
