"""Keys of a state folder, without which its engines refuse every request.

keys.json                 the pair that AWS clients sign with
seaweedfs/security.toml   keys and certificate of SeaweedFS' servers for each other; their HTTPS and gRPC ask for it
seaweedfs/door.pem        that certificate with its key
"""

import secrets
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import BaseModel, ConfigDict, Field

from receipt_layoutlm.local.state import LocalAwsError
from receipt_layoutlm.paths import private

KEYS = "keys.json"
SECURITY = "security.toml"  # read by SeaweedFS in its working directory
CERTIFICATE = "door.pem"
SERVERS = ("volume", "master", "filer", "s3", "msg_broker", "msg_agent", "admin", "worker", "mq")
HTTPS_SERVERS = ("volume", "master", "filer", "admin")
JWT_SECTIONS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
VALID = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)  # whatever this machine's clock says


class LocalKeys(BaseModel):
    """An access key and its secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    access_key: str
    secret_key: str = Field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}


def load_keys(folder: Path) -> LocalKeys | None:
    """None before the first start, and for a folder of an earlier version. Raises LocalAwsError."""
    try:
        return LocalKeys.model_validate_json((folder / KEYS).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise LocalAwsError(
            f"{folder / KEYS} is damaged: run `layoutlm-cli local down`, delete it, and new keys are made"
        ) from error


def make_keys(folder: Path) -> LocalKeys:
    """Draw a pair and store it. The caller holds the folder's lock, and no engine runs with other keys."""
    keys = LocalKeys(access_key=f"local{secrets.token_hex(8)}", secret_key=secrets.token_urlsafe(30))
    scratch = folder / f"{KEYS}.new"
    with open(scratch, "w", opener=private) as file:
        file.write(keys.model_dump_json())
    scratch.replace(folder / KEYS)
    return keys


def write_security(data_dir: Path) -> None:
    """Write SeaweedFS' keys and certificate, unless they are there."""
    if (data_dir / SECURITY).exists():
        return
    with open(data_dir / CERTIFICATE, "wb", opener=private) as file:
        file.write(_certificate())
    with open(data_dir / f"{SECURITY}.new", "w", opener=private) as text:
        text.write(_security(data_dir / CERTIFICATE))
    (data_dir / f"{SECURITY}.new").replace(data_dir / SECURITY)


def _certificate() -> bytes:
    """A key and its self-signed certificate, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "layoutlm-local")])
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID[0])
        .not_valid_after(VALID[1])
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    return key.private_bytes(pem, *form) + certificate.public_bytes(pem)


def _security(pem: Path) -> str:
    pair, authority = f'cert = "{pem}"\nkey = "{pem}"\n', f'ca = "{pem}"\n'
    return "\n".join(
        [
            *(f'[{section}]\nkey = "{secrets.token_hex(24)}"\n' for section in JWT_SECTIONS),
            f"[grpc]\n{authority}",
            *(f"[grpc.{server}]\n{pair}" for server in (*SERVERS, "client")),
            *(f"[https.{server}]\n{pair}{authority}" for server in HTTPS_SERVERS),
            f"[https.client]\nenabled = true\n{pair}{authority}insecure_skip_verify = true\n",  # its name is no host's
        ]
    )


def door_context(data_dir: Path) -> ssl.SSLContext:
    """For a client of SeaweedFS' own servers."""
    context = ssl.create_default_context(cafile=str(data_dir / CERTIFICATE))
    context.load_cert_chain(data_dir / CERTIFICATE)
    context.check_hostname = False  # the certificate names no host
    return context
