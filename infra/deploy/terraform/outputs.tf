output "storage" {
  description = "The storage of recipes."
  value       = "s3://${aws_s3_bucket.store.bucket}/data"
}

output "policy_arn" {
  description = "The policy to attach to those who use the store."
  value       = aws_iam_policy.store.arn
}
