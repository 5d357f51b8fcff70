"""Certificates for the TLS listeners of the tests, made anew for every cluster with openssl."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CONFIG = """
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature, keyAgreement
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """One authority, and a certificate by it for the server and one for clients; all PEM files.

    The server's names are `localhost` and `127.0.0.1`. `client_encrypted_key` is `client_key`
    encrypted with `client_key_password`. `other_ca` is an authority that signed none of them.
    """

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    client_encrypted_key: Path
    client_key_password: str
    other_ca: Path


def make_certificates(folder: Path) -> Certificates:
    """Make all certificates in `folder`, valid for two days."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise RuntimeError("TLS listeners need the program openssl")
    (folder / "openssl.cnf").write_text(_CONFIG)
    maker = _Maker(openssl, folder)
    maker.authority("ca")
    maker.authority("other-ca")
    maker.signed("server")
    maker.signed("client")
    maker.encrypted("client", "client-encrypted", "key password")
    return Certificates(
        ca=folder / "ca.pem",
        server=folder / "server.pem",
        server_key=folder / "server.key",
        client=folder / "client.pem",
        client_key=folder / "client.key",
        client_encrypted_key=folder / "client-encrypted.key",
        client_key_password="key password",
        other_ca=folder / "other-ca.pem",
    )


@dataclass(frozen=True, slots=True)
class _Maker:
    openssl: str
    folder: Path

    def authority(self, name: str) -> None:
        self._run(
            *f"req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 2"
            f" -keyout {name}.key -out {name}.pem -subj /CN=tests-{name}"
            f" -config openssl.cnf -extensions ca".split()
        )

    def signed(self, name: str) -> None:
        self._run(
            *f"req -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -config openssl.cnf"
            f" -keyout {name}.key -out {name}.csr -subj /CN={name}".split()
        )
        self._run(
            *f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
            f" -extfile openssl.cnf -extensions leaf -out {name}.pem".split()
        )

    def encrypted(self, name: str, result: str, password: str) -> None:
        command = f"pkcs8 -topk8 -v2 aes-256-cbc -in {name}.key -out {result}.key".split()
        self._run(*command, "-passout", f"pass:{password}")

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [self.openssl, *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
