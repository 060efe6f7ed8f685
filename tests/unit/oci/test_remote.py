# SPDX-License-Identifier: Apache-2.0
"""The client for registries: what it fetches, and where it does not go."""

from __future__ import annotations

import datetime as dt
import io
import ipaddress
import json
import socket
import ssl
import tarfile
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dockstack.oci.documents import Descriptor, Digest, ImageRejected, Platform
from dockstack.oci.normalise import ImageLimits, normalise
from dockstack.oci.remote import pull
from dockstack.oci.remote.addresses import Allowed, Origin, RegistryError, is_public
from dockstack.oci.remote.blobs import KeptBlobs
from dockstack.oci.remote.repository import Credentials, Repository
from dockstack.oci.remote.session import Broken, Session
from image_archives import config, descriptor, sample_layer, sha256
from small_registry import serving

pytestmark = pytest.mark.unit

HERE = Platform("linux", "amd64")
NOTHING_KEPT = KeptBlobs(Path("/nowhere"), 0)
LAYERS = [sample_layer("one"), sample_layer("two")]


@pytest.fixture
def registry():
    with serving() as registry:
        yield registry


def reach(registry, credentials=None, *others, seconds=30.0) -> Repository:
    origin = Origin.of(f"http://{registry.name}")
    allowed = Allowed(frozenset({origin, *(Origin.of(f"http://{other.name}") for other in others)}))
    return Repository(Session(allowed, seconds), origin, "team/app", credentials)


def fetch(repository, digest, wanted=HERE, kept=NOTHING_KEPT) -> bytes:
    return b"".join(pull.archive(repository, pull.find(repository, Digest.parse(digest), wanted), kept))


def test_an_image_comes_as_an_archive_that_passes_the_usual_check(registry, tmp_path):
    digest = registry.image(LAYERS, "latest")
    data = fetch(reach(registry), digest)
    with normalise([data], architecture="x86_64", limits=ImageLimits(), workspace=tmp_path) as found:
        assert found.engine_id == f"sha256:{sha256(config(LAYERS))}"


def test_a_tag_is_what_its_manifest_says(registry):
    digest = registry.image(LAYERS, "latest")
    assert str(Digest.of(reach(registry).manifest("latest"))) == digest
    with pytest.raises(ImageRejected, match="has no image 'other'"):
        reach(registry).manifest("other")


def test_the_platform_is_chosen_from_an_index(registry):
    images = {name: registry.image(LAYERS, architecture=name) for name in ("arm64", "amd64", "386")}
    index = Digest.parse(registry.index(images))
    for name, digest in images.items():
        assert str(pull.find(reach(registry), index, Platform("linux", name)).digest) == digest
    with pytest.raises(ImageRejected, match="linux/riscv64 was wanted"):
        pull.find(reach(registry), index, Platform("linux", "riscv64"))


@pytest.mark.parametrize(("text", "wanted"), [("", HERE), ("arm64", Platform("linux", "arm64"))])
def test_a_platform_is_read(text, wanted):
    assert pull.wanted_platform(text, "x86_64") == wanted
    assert pull.wanted_platform("linux/arm/v7", "x86_64") == Platform("linux", "arm", "v7")
    with pytest.raises(ImageRejected, match="not a platform"):
        pull.wanted_platform("windows/amd64", "x86_64")


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(registry):
    digest = registry.image(LAYERS)
    registry.manifests[digest] += b" "
    with pytest.raises(ImageRejected, match="sends something else"):
        pull.find(reach(registry), Digest.parse(digest), HERE)


@pytest.mark.parametrize("change", [lambda data: data + b"x", lambda data: data[:-1]])
def test_a_blob_of_another_size_is_refused(registry, change):
    digest = registry.image(LAYERS)
    for name in registry.blobs:
        registry.blobs[name] = change(registry.blobs[name])
    with pytest.raises(ImageRejected, match="another number of bytes"):
        fetch(reach(registry), digest)


def test_what_is_no_image_is_refused_before_it_is_fetched(registry):
    data = b"{}"
    registry.blob(data)
    chart = {"config": descriptor(data, "x") | {"mediaType": "application/vnd.cncf.helm.config.v1+json"}, "layers": []}
    with pytest.raises(ImageRejected, match="no container image, but"):
        pull.find(reach(registry), Digest.parse(registry.manifest(chart)), HERE)
    assert registry.count("blobs") == 0


def test_a_manifest_without_end_is_not_read_to_it(registry):
    registry.manifests["huge"] = bytes(5 << 20)
    with pytest.raises(ImageRejected, match="more than"):
        reach(registry).manifest("huge")


def test_a_broken_transfer_goes_on_where_it_broke(registry):
    data = bytes(range(256)) * 100
    digest = Digest.parse(registry.blob(data))
    registry.breaks = [1000, 2000]
    assert b"".join(reach(registry).blob(digest, len(data))) == data
    assert registry.count("blobs") == 3


def test_a_transfer_that_does_not_get_on_ends(registry):
    digest = Digest.parse(registry.blob(bytes(100)))
    registry.breaks = [0] * 100
    with pytest.raises(Broken, match="ended early"):
        b"".join(reach(registry).blob(digest, 100))
    assert registry.count("blobs") == 4


def test_bytes_that_drip_do_not_hold_anybody_for_ever(registry):
    digest = Digest.parse(registry.blob(bytes(10_000)))
    registry.drips = True
    begun = time.monotonic()
    with pytest.raises(Broken):
        b"".join(reach(registry, seconds=0.5).blob(digest, 10_000))
    assert time.monotonic() - begun < 100


@pytest.mark.parametrize("tokens", [True, False])
def test_a_login(registry, tokens):
    registry.users, registry.tokens = {"robot": "secret"}, tokens
    digest = registry.image(LAYERS)
    fetch(reach(registry, Credentials("robot", "secret", own=False)), digest)
    for wrong in (None, Credentials("robot", "wrong", own=False)):
        with pytest.raises(RegistryError, match="does not let us read"):
            fetch(reach(registry, wrong), digest)


def test_a_secret_is_in_no_representation():
    assert "secret" not in repr(Credentials("robot", "secret"))


def test_a_user_s_token_goes_to_nobody_but_the_registry(registry):
    with serving() as thief:
        registry.users = {"token": "keystone"}
        registry.realm = f"http://{thief.name}/token"
        with pytest.raises(RegistryError, match="wants its users' tokens sent to"):
            reach(registry, Credentials("token", "keystone"), thief).manifest("latest")
        assert thief.requests == []


def test_credentials_do_not_follow_a_redirect(registry):
    digest = registry.image(LAYERS)
    registry.users = {"robot": "secret"}
    with serving() as store:
        store.blobs = registry.blobs
        registry.elsewhere = f"http://{store.name}"
        fetch(reach(registry, Credentials("robot", "secret", own=False), store), digest)
        assert set(store.authorizations) == {""}
        assert len(store.requests) == 3


def test_who_the_registry_leads_to_is_told_no_credentials_when_it_asks_for_some(registry):
    digest = registry.image(LAYERS)
    with serving() as store:
        store.users = {"robot": "secret"}
        store.realm = f"http://{store.name}/token"
        registry.elsewhere = f"http://{store.name}"
        with pytest.raises(RegistryError):
            fetch(reach(registry, Credentials("robot", "secret", own=False), store), digest)
        assert store.requests
        assert set(store.authorizations) == {""}


def test_a_redirect_without_end_ends(registry):
    registry.elsewhere = f"http://{registry.name}/v2/team/app/blobs/sha256:{'0' * 64}#"
    digest = Digest.parse(registry.blob(b"x"))
    registry.blobs[f"sha256:{'0' * 64}"] = b""
    with pytest.raises(RegistryError, match="without end"):
        b"".join(reach(registry).blob(digest, 1))


class TestPrivateAddresses:
    """The machine that pulls stands in the middle of the cloud: nobody may choose whom it speaks to there."""

    def test_a_redirect_or_a_realm_leads_to_none(self, registry, monkeypatch):
        with serving() as inner:
            for address in (f"https://{inner.name}", "https://inner.example", "https://[::ffff:127.0.0.1]"):
                monkeypatch.setattr(socket, "getaddrinfo", named({"inner.example": "10.0.0.5"}))
                digest = Digest.parse(registry.blob(b"x"))
                registry.elsewhere = address
                with pytest.raises(RegistryError, match="no public address"):
                    b"".join(reach(registry).blob(digest, 1))
                registry.elsewhere, registry.users, registry.realm = "", {"robot": "secret"}, f"{address}/token"
                with pytest.raises(RegistryError, match="no public address"):
                    reach(registry, Credentials("robot", "secret", own=False)).manifest("latest")
                registry.users = {}
            assert inner.requests == []

    def test_nor_in_clear_to_anybody_else(self, registry):
        registry.elsewhere = "http://203.0.113.9"
        digest = Digest.parse(registry.blob(b"x"))
        with pytest.raises(RegistryError, match="without TLS"):
            b"".join(reach(registry).blob(digest, 1))

    def test_nor_to_another_port_of_a_listed_host(self, registry):
        with serving() as other:
            registry.elsewhere = f"https://{other.name}"
            digest = Digest.parse(registry.blob(b"x"))
            with pytest.raises(RegistryError, match="no public address"):
                b"".join(reach(registry).blob(digest, 1))

    def test_a_name_is_resolved_once(self, registry, monkeypatch):
        """A name server that answers with a public address first and a private one then gains nothing."""
        asked = []
        real = socket.getaddrinfo

        def resolve(host, *arguments, **named):
            asked.append(host)
            return real("127.0.0.1" if host == "rebound.example" else host, *arguments, **named)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with pytest.raises(RegistryError, match="no public address"):
            Session(Allowed(), 5).get("https://rebound.example/v2/", {})
        assert asked == ["rebound.example"]
        registry.image(LAYERS, "latest")
        reach(registry).manifest("latest")
        assert [host for host in asked[1:] if host != "127.0.0.1"] == []

    @pytest.mark.parametrize(
        ("address", "public"),
        [
            *((public, True) for public in ("93.184.216.34", "2606:2800:220:1::1", "2002:5db8:d822::1")),
            *(
                (private, False)
                for private in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254")
            ),
            *((private, False) for private in ("100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1")),
            *((private, False) for private in ("::1", "::", "fe80::1%eth0", "fd00::1", "fec0::1", "ff02::1")),
            *((private, False) for private in ("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "2001:db8::1")),
            *((private, False) for private in ("::127.0.0.1", "2001:0:a00:1::1")),
        ],
    )
    def test_which_are_public(self, address, public):
        assert is_public(address) is public


def named(addresses):
    real = socket.getaddrinfo

    def resolve(host, *arguments, **more):
        return real(addresses.get(host, host), *arguments, **more)

    return resolve


@pytest.mark.parametrize("url", ["ftp://a/", "https:///x", "https://user@host/", "http://[::1", "https://a:b/", "x"])
def test_what_is_no_address_of_the_web(url):
    with pytest.raises(RegistryError, match="no address of the web"):
        Origin.of(url)


def test_the_archive_holds_what_the_manifest_names_once(registry):
    digest = registry.image([LAYERS[0], LAYERS[0]])
    with tarfile.open(fileobj=io.BytesIO(fetch(reach(registry), digest))) as archive:
        names = archive.getnames()
        index = json.load(archive.extractfile("index.json"))
    assert len(names) == len(set(names)) == 5
    assert [item["digest"] for item in index["manifests"]] == [digest]


class TestKeptLayers:
    @pytest.fixture
    def kept(self, tmp_path):
        return KeptBlobs(tmp_path / "layers", 1 << 20)

    def test_layers_that_images_share_are_fetched_once(self, registry, kept):
        base = sample_layer("base")
        one, two = registry.image([base, LAYERS[0]]), registry.image([base, LAYERS[1]])
        first = fetch(reach(registry), one, kept=kept)
        before = registry.count("blobs")
        fetch(reach(registry), two, kept=kept)
        assert registry.count("blobs") - before == 2, "its configuration and its own layer"
        assert fetch(reach(registry), one, kept=kept) == first

    def test_nobody_gets_one_whom_the_registry_does_not_give_it(self, registry, kept):
        digest = registry.image(LAYERS)
        manifest = registry.manifests[digest]
        fetch(reach(registry), digest, kept=kept)
        registry.blobs.clear()
        with pytest.raises(ImageRejected, match="lacks a part"):
            fetch(reach(registry), digest, kept=kept)
        with serving() as other:
            other.manifests[digest] = manifest
            with pytest.raises(ImageRejected, match="lacks a part"):
                fetch(reach(other), digest, kept=kept)

    def test_a_damaged_one_is_fetched_again(self, registry, kept, tmp_path):
        digest = registry.image(LAYERS)
        whole = fetch(reach(registry), digest, kept=kept)
        for path in (tmp_path / "layers").iterdir():
            path.write_bytes(bytes(path.stat().st_size))
        for _ in range(3):
            with pytest.raises(Broken, match="was damaged"):
                fetch(reach(registry), digest, kept=kept)
        assert fetch(reach(registry), digest, kept=kept) == whole

    def test_a_broken_transfer_leaves_nothing(self, registry, kept, tmp_path):
        digest = Digest.parse(registry.blob(bytes(1000)))
        chunks = kept.read(reach(registry), Descriptor("", digest, 1000))
        next(chunks)
        chunks.close()
        assert list((tmp_path / "layers").iterdir()) == []

    def test_what_was_asked_for_longest_ago_goes(self, registry, tmp_path):
        kept = KeptBlobs(tmp_path, 1000)
        for letter in b"abc":
            data = bytes([letter]) * 400
            b"".join(kept.read(reach(registry), Descriptor("", Digest.parse(registry.blob(data)), 400)))
        assert {path.read_bytes()[:1] for path in tmp_path.iterdir()} == {b"b", b"c"}

    def test_a_full_disk_disturbs_nobody(self, registry, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        kept = KeptBlobs(tmp_path / "file", 1 << 20)
        assert fetch(reach(registry), registry.image(LAYERS), kept=kept)


class TestTls:
    """A registry with a certificate of an authority that only its operator knows."""

    @pytest.fixture
    def encrypted(self, tmp_path):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = (
            builder.serial_number(1).not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
        )
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        (tmp_path / "ca").write_bytes(certificate.public_bytes(pem))
        (tmp_path / "both").write_bytes(
            certificate.public_bytes(pem) + key.private_bytes(pem, form, serialization.NoEncryption())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "both")
        with serving(tls=context) as registry:
            yield registry

    def repository(self, registry, ca_file):
        origin = Origin.of(f"https://{registry.name}")
        return Repository(Session(Allowed(frozenset({origin}), ca_file), 30), origin, "team/app")

    def test_it_is_known_by_the_operators_file(self, encrypted, tmp_path):
        encrypted.image(LAYERS, "latest")
        self.repository(encrypted, str(tmp_path / "ca")).manifest("latest")
        with pytest.raises(RegistryError, match="counts for nothing on this host"):
            self.repository(encrypted, None).manifest("latest")
        with pytest.raises(RegistryError, match=r"authority .* cannot be read"):
            self.repository(encrypted, "/nowhere").manifest("latest")

    def test_a_handshake_without_end_ends(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            origin = Origin.of(f"https://127.0.0.1:{silent.getsockname()[1]}")
            with pytest.raises(Broken):
                Session(Allowed(frozenset({origin})), 1).get(f"{origin}/v2/", {})
