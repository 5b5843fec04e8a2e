# All images for both platforms: docker buildx bake -f docker-bake.hcl [--push] [all, or TARGET ...]
#
#   REGISTRY, VERSION   tags are REGISTRY/TARGET:VERSION and REGISTRY/TARGET:latest
#   REVISION            the commit, for the label
#   BASE_IMAGE, MODELS  as in docker/Dockerfile
#
# A store of one platform only, as an engine's usually is, takes
# docker buildx bake -f docker-bake.hcl --load --set '*.platform=linux/amd64'

variable "REGISTRY" {
  default = "resnet-service"
}

variable "VERSION" {
  default = "0"
}

variable "REVISION" {
  default = "unknown"
}

variable "BASE_IMAGE" {
  default = "python:3.11-slim-bookworm"
}

variable "MODELS" {
  default = "no"
}

group "default" {
  targets = ["service", "frontend"]
}

group "all" {
  targets = ["service", "service-torch", "service-tensorflow", "service-gpu", "frontend", "training"]
}

target "image" {
  name = item
  matrix = {
    item = ["service", "service-torch", "service-tensorflow", "service-gpu", "frontend", "training"]
  }
  context    = "."
  dockerfile = "docker/Dockerfile"
  target     = item
  platforms  = ["linux/amd64", "linux/arm64"]
  tags       = ["${REGISTRY}/${item}:${VERSION}", "${REGISTRY}/${item}:latest"]
  args = {
    BASE_IMAGE = BASE_IMAGE
    MODELS     = MODELS
    VERSION    = VERSION
    REVISION   = REVISION
  }
}
