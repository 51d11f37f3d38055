"""Deletion of a fleet's table and bucket with all contents: nothing restores them."""

from typing import TYPE_CHECKING, Final

from receipt_layoutlm.fleet.stack_errors import explain_refusals

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef


_MISSING: Final = "NoSuchBucket"


def erase_table(client: "DynamoDBClient", name: str) -> None:
    """Delete a table, protected or not, if it exists. AWS keeps its last backup for 35 days. Raises StackError."""
    with explain_refusals(f"of table {name}"):
        try:
            client.update_table(TableName=name, DeletionProtectionEnabled=False)
            client.delete_table(TableName=name)
        except client.exceptions.ResourceNotFoundException:
            return
        client.get_waiter("table_not_exists").wait(TableName=name)


def erase_bucket(client: "S3Client", name: str) -> int:
    """Delete every version of every object, and the bucket, if it exists; returns their number. Raises StackError."""
    erased = 0
    with explain_refusals(f"of bucket {name}"):
        try:
            for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
                found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                objects: list[ObjectIdentifierTypeDef] = [
                    {"Key": each["Key"], "VersionId": each["VersionId"]} for each in found
                ]
                if objects:
                    client.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True})
                    erased += len(objects)
            for uploads in client.get_paginator("list_multipart_uploads").paginate(Bucket=name):
                for each in uploads.get("Uploads", []):
                    client.abort_multipart_upload(Bucket=name, Key=each["Key"], UploadId=each["UploadId"])
            client.delete_bucket(Bucket=name)
        except client.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") != _MISSING:
                raise
    return erased
