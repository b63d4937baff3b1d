variable "bucket" {
  description = "Name of the bucket; recipes say storage: s3://BUCKET/PREFIX."
  type        = string
}

variable "region" {
  description = "Region of the bucket."
  type        = string
  default     = "us-east-1"
}

variable "prefect_api_url" {
  description = "Prefect's API, such as https://prefect.example.org/api."
  type        = string
}

variable "work_pools" {
  description = "Work pools: their type, and how many runs they start at the same time."
  type = map(object({
    type              = string
    concurrency_limit = number
  }))
  default = {
    gristmill = { type = "process", concurrency_limit = 2 }
  }
}
