"""The code that the scaler's function runs, compared with the archive that was deployed."""

import base64
from typing import Any, Final

from receipt_layoutlm.fleet.stack import StackState
from receipt_layoutlm.fleet.stack_errors import StackError, explain_refusals

_PARAMETERS: Final = ("BucketName", "ScalerSha256")  # of workers.yaml


class ForeignCode(StackError):
    """The function runs other code than was deployed."""


def restore_code(client: Any, workers: StackState) -> bool:
    """Give the function the deployed archive again if it runs another one; whether it did. Raises ForeignCode.

    CloudFormation compares the names of archives only, and knows nothing of a change that was made beside it.
    """
    name = workers.outputs["ScalerName"]
    bucket, sha256 = (workers.parameters[key] for key in _PARAMETERS)
    expected = base64.b64encode(bytes.fromhex(sha256)).decode()
    with explain_refusals(name):
        if client.get_function_configuration(FunctionName=name)["CodeSha256"] == expected:
            return False
        found = client.update_function_code(FunctionName=name, S3Bucket=bucket, S3Key=f"wheels/{sha256}.zip")
    if found["CodeSha256"] != expected:
        raise ForeignCode(
            f"function {name} runs other code than was deployed, and s3://{bucket}/wheels/{sha256}.zip is not the "
            "archive of that name: remove from others the right to write below wheels/, then deploy again"
        )
    return True
