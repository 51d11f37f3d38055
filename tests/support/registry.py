"""Permissions that CloudFormation's registry names for the handlers of a resource type, as cfn-lint carries them."""

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# what the handlers of our types need only for features that the templates do not use
UNUSED_SERVICES = {
    *("elasticfilesystem", "elasticloadbalancing", "firehose", "kinesis", "kms", "managed-fleets", "s3files"),
    *("s3tables", "vpc-lattice", "vpce"),
}
UNUSED = {
    "autoscaling": "AttachLoadBalancerTargetGroups AttachLoadBalancers AttachTrafficSources CancelInstanceRefresh "
    "DeleteLifecycleHook DeleteNotificationConfiguration DetachLoadBalancerTargetGroups DetachLoadBalancers "
    "DetachTrafficSources DisableMetricsCollection EnableMetricsCollection PutLifecycleHook "
    "PutNotificationConfiguration ResumeProcesses StartInstanceRefresh SuspendProcesses",
    "cloudwatch": "UntagResource",
    "dynamodb": "AssociateTableReplica BatchWriteItem CreateTableReplica DeleteItem DeleteTable "
    "DescribeContributorInsights DescribeImport DescribeKinesisStreamingDestination DisableKinesisStreamingDestination "
    "EnableKinesisStreamingDestination GetItem GetResourcePolicy ImportTable PutItem PutResourcePolicy Query Scan "
    "UpdateContributorInsights UpdateItem DeleteResourcePolicy UntagResource UpdateKinesisStreamingDestination",
    "ec2": "AssociateSubnetCidrBlock DisassociateSubnetCidrBlock ModifyVpcTenancy AttachVpnGateway "
    "CreateVpcEncryptionControl DescribeVpcEncryptionControls DescribeVpnGateways DetachVpnGateway Get* "
    "ReplaceRouteTableAssociation",
    "events": "ListTagsForResource UntagResource",
    "iam": "AttachGroupPolicy AttachRolePolicy AttachUserPolicy DetachGroupPolicy DetachRolePolicy DetachUserPolicy "
    "GetPolicyVersion UntagRole",
    "lambda": "AssociateRuntimeAlias GetCodeSigningConfig GetFunctionCodeSigningConfig GetFunctionRecursionConfig "
    "GetFunctionScalingConfig GetLayerVersion GetRuntimeManagementConfig ListTags PassCapacityProvider "
    "DeleteFunctionCodeSigningConfig PublishVersion PutFunctionCodeSigningConfig UntagResource "
    "PutFunctionRecursionConfig PutFunctionScalingConfig PutRuntimeManagementConfig",
    "logs": "CreateLogDelivery CreateLogStream DeleteDataProtectionPolicy DescribeIndexPolicies DescribeLogStreams "
    "DescribeResourcePolicies GetDataProtectionPolicy PutBearerTokenAuthentication PutDataProtectionPolicy "
    "PutIndexPolicy PutLogEvents PutResourcePolicy AssociateKmsKey DeleteIndexPolicy DeleteResourcePolicy "
    "DeleteRetentionPolicy DisassociateKmsKey PutLogGroupDeletionProtection UntagResource",
    "s3": "REST.PUT.OBJECT CreateBucketMetadataTableConfiguration DeleteBucket DeleteBucketPolicy DeleteObject "
    "GetAccelerateConfiguration GetAnalyticsConfiguration GetBucketAbac GetBucketAcl GetBucketCORS GetBucketLogging "
    "GetBucketMetadataTableConfiguration GetBucketNotification GetBucketObjectLockConfiguration GetBucketWebsite "
    "GetIntelligentTieringConfiguration GetInventoryConfiguration GetMetricsConfiguration GetObjectMetadata "
    "GetReplicationConfiguration ListTagsForResource PutAccelerateConfiguration PutAnalyticsConfiguration "
    "PutBucketAbac PutBucketCORS PutBucketLogging PutBucketNotification PutBucketObjectLockConfiguration "
    "PutBucketReplication PutBucketWebsite PutIntelligentTieringConfiguration PutInventoryConfiguration "
    "PutMetricsConfiguration PutObjectAcl PutObjectLockConfiguration PutReplicationConfiguration TagResource "
    "GetBucketOwnershipControls GetBucketTagging DeleteBucketAnalyticsConfiguration DeleteBucketCors "
    "DeleteBucketEncryption DeleteBucketLifecycle DeleteBucketMetadataTableConfiguration "
    "DeleteBucketMetricsConfiguration DeleteBucketReplication DeleteBucketWebsite PutBucketAcl UntagResource "
    "UpdateBucketMetadataAnnotationTableConfiguration UpdateBucketMetadataInventoryTableConfiguration "
    "UpdateBucketMetadataJournalTableConfiguration",
    "sns": "GetDataProtectionPolicy ListTagsForResource PutDataProtectionPolicy UntagResource",
    "ssm": "Get*",
}


@cache
def _schemas() -> dict[str, dict[str, dict[str, list[str]]]]:
    spec = find_spec("cfnlint")
    assert spec is not None and spec.origin is not None
    found = {}
    for path in sorted((Path(spec.origin).parent / "data/schemas/resources").glob("*.json")):
        text = path.read_text()
        if '"handlers"' in text:
            schema = json.loads(text)
            found[schema["typeName"]] = schema["handlers"]
    return found


def needed(resource_type: str) -> set[str]:
    """Actions to create, read, change and delete a resource; some end with a wildcard."""
    handlers = _schemas()[resource_type]
    names = ("create", "read", "update", "delete")
    actions = {action for name in names for action in handlers.get(name, {}).get("permissions", [])}
    return {action for action in actions if not _is_unused(*action.split(":", 1))}


def _is_unused(service: str, action: str) -> bool:
    return service in UNUSED_SERVICES or action in UNUSED.get(service, "").split()
