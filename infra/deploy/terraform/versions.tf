terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60, < 7.0"
    }
    prefect = {
      source  = "prefecthq/prefect"
      version = ">= 2.50, < 3.0"
    }
  }
}

provider "aws" {
  region = var.region
}

# Reads PREFECT_BASIC_AUTH_KEY from the environment, so that the password is in no file.
provider "prefect" {
  endpoint = var.prefect_api_url
}
