"""Entry points of MLflow's plugins, by the scheme of an address. They load on use: importing mlflow must stay cheap."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from receipt_layoutlm.mlflow_store.artifacts import TableArtifacts
    from receipt_layoutlm.mlflow_store.store import TableRegistry, TableStore


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> "TableStore":
    from receipt_layoutlm.mlflow_store.store import TableStore

    return TableStore(store_uri, artifact_uri)


def registry_store(store_uri: str, tracking_uri: str | None = None) -> "TableRegistry":
    from receipt_layoutlm.mlflow_store.store import TableRegistry

    return TableRegistry(store_uri, tracking_uri)


def artifact_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> "TableArtifacts":
    from receipt_layoutlm.mlflow_store.artifacts import TableArtifacts

    return TableArtifacts(artifact_uri, tracking_uri, registry_uri)
