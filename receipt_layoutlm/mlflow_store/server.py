"""MLflow's server and page over one table, in this process."""

import socket
from typing import TYPE_CHECKING, Final

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.mlflow_store.address import TableAddress

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

ASSISTANT: Final = "/ajax-api/3.0/mlflow/assistant"
GRACE_SECONDS: Final = 2  # for open requests at the end


def server_environment(address: TableAddress) -> dict[str, str]:
    """The variables that `mlflow server` sets for its workers; to be set before `serve_page` imports MLflow's app.

    Without its telemetry, and without the programs that it would start for other work than showing runs.
    """
    return {
        "_MLFLOW_SERVER_FILE_STORE": address.uri,
        "_MLFLOW_SERVER_REGISTRY_STORE": address.uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": address.uri,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
        "MLFLOW_ENABLE_WORKSPACES": "false",
    }


class WithoutAssistant:
    """MLflow's app without the assistant of its page, which runs programs on this machine as a model tells it to."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.responses import JSONResponse

        if str(scope.get("path", "")).startswith(ASSISTANT):
            text = "the assistant is off: it would run programs on this machine"
            await JSONResponse({"error_code": "PERMISSION_DENIED", "message": text}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def serve_page(listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM. Raises UserError when the table cannot be opened."""
    import uvicorn
    from mlflow.exceptions import MlflowException
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    try:
        initialize_backend_stores()
    except MlflowException as error:
        raise UserError(error.message) from error
    config = uvicorn.Config(
        WithoutAssistant(app),
        server_header=False,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])
