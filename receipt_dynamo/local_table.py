"""The embedded table of `layoutlm-cli --local`: its address, from the state folder that the command keeps."""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import botocore.session

from receipt_dynamo.errors import StoreUnavailable

# as receipt_layoutlm.paths and receipt_layoutlm.local.state write them; this package imports nothing of the product
STATE_VARIABLE: Final = "LAYOUTLM_STATE_DIR"
RECORDS: Final = "engines.json"
KEYS: Final = "keys.json"
TABLE: Final = "layoutlm-local"
REGION: Final = "us-east-1"
CONNECT_SECONDS: Final = 1.0


class LocalTable(NamedTuple):
    """Name, region and endpoint of a table on this machine."""

    name: str
    region: str
    endpoint_url: str
    access_key: str
    secret_key: str


def find_local_table(environ: Mapping[str, str]) -> LocalTable:
    """The running embedded table. Raises StoreUnavailable, with the command that starts it."""
    import platformdirs  # which the scaler's archive lacks

    given = environ.get(STATE_VARIABLE)
    folder = Path(given).expanduser() if given else platformdirs.user_data_path("layoutlm")
    try:
        records = json.loads((folder / RECORDS).read_bytes())
        port = int(records["engines"][records["chosen"]["dynamodb"]]["ports"][0])
        keys = json.loads((folder / KEYS).read_bytes())
        pair = str(keys["access_key"]), str(keys["secret_key"])
        socket.create_connection(("127.0.0.1", port), CONNECT_SECONDS).close()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreUnavailable(
            f"the embedded table of {folder} is not running: start it with 'layoutlm-cli local up', or name "
            f"another folder with {STATE_VARIABLE}"
        ) from error
    return LocalTable(TABLE, REGION, f"http://127.0.0.1:{port}", *pair)


def local_session(table: LocalTable) -> botocore.session.Session:
    """A session that ignores the user's AWS, with the keys of the state folder."""
    fixed = {"profile": None, "config_file": os.devnull, "credentials_file": os.devnull}
    session = botocore.session.Session(session_vars={name: (None, None, value, None) for name, value in fixed.items()})
    session.set_credentials(table.access_key, table.secret_key)
    return session
